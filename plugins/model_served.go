package plugins

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// ModelServed is a Filter that strikes out endpoints that are known not to serve the
// request's target model, where others are known to: a server answers 404 for a model that
// it does not have. An endpoint serves the models that it lists (types.Endpoint.Models) and
// the adapters that its metrics report. Endpoints whose Models are not known are kept, and
// if none lists the target all are: then the name may be one that servers do not list.
//
// The zero value is ready; wire a pointer to it. It remembers which lists hold the targets
// asked for most, at most servedTargets of them, so that lists are not searched at every
// decision as long as they stay the same slices. Safe for use by several Schedulers.
type ModelServed struct {
	seed    sync.Once
	hash    maphash.Seed
	seen    [1 << 10]atomic.Uint32 // fingerprints of targets that were asked for
	uses    atomic.Uint64
	mu      sync.RWMutex
	targets map[string]*servedTarget // guarded by mu
}

// servedTargets bounds how many targets are remembered.
const servedTargets = 64

// servedTarget is in which lists one target is, by the Slot of the endpoint. A list is known
// by the address of its last name.
type servedTarget struct {
	name  string        // of the constraint
	used  atomic.Uint64 // ModelServed.uses when it was asked for last
	slots []servedSlot
}

type servedSlot struct{ in, notIn atomic.Pointer[string] }

// Filter implements scheduling.Filter.
func (f *ModelServed) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	if !anyListed(eps) {
		return nil
	}
	target := req.Target()
	t, found := f.targetOf(target, eps), false
	for i, ep := range eps {
		serves := t.serves(req, ep, target)
		found = found || serves
		keep[i] = serves || ep.Models == nil
	}
	if !found {
		keepAll(keep)
	}
	return nil
}

// Screen implements scheduling.Screener.
func (f *ModelServed) Screen(_ *types.Request, o *scheduling.Overview) bool { return !o.ModelsKnown }

// Constraint implements scheduling.Constrainer. There is none while all candidates may
// serve the target.
func (f *ModelServed) Constraint(req *types.Request, eps []*types.Endpoint) scheduling.Constraint {
	if !anyListed(eps) {
		return scheduling.Constraint{}
	}
	target := req.Target()
	t, found, lacking := f.targetOf(target, eps), false, false
	for _, ep := range eps {
		serves := t.serves(req, ep, target)
		found = found || serves
		lacking = lacking || !serves && ep.Models != nil
	}
	if !found || !lacking {
		return scheduling.Constraint{}
	}
	name, staleBefore := "model "+target, req.StaleBefore
	if t != nil {
		name = t.name
	}
	return scheduling.Constraint{Name: name, Match: func(ep *types.Endpoint) bool {
		return ep.Models == nil || t.serves(&types.Request{StaleBefore: staleBefore}, ep, target)
	}}
}

// Describe implements scheduling.Describer.
func (f *ModelServed) Describe(req *types.Request, ep *types.Endpoint) string {
	var t *servedTarget
	switch {
	case t.serves(req, ep, req.Target()):
		return "serves the model"
	case ep.Models == nil:
		return "models not known"
	}
	return "does not list the model"
}

// anyListed reports whether the models of any endpoint are known.
func anyListed(eps []*types.Endpoint) bool {
	for _, ep := range eps {
		if ep.Models != nil {
			return true
		}
	}
	return false
}

// serves reports whether ep is known to serve the target. t may be nil.
func (t *servedTarget) serves(req *types.Request, ep *types.Endpoint, target string) bool {
	return t.lists(ep, target) || hasAdapter(req, ep, target)
}

// lists reports whether the target is among the models of ep.
func (t *servedTarget) lists(ep *types.Endpoint, target string) bool {
	if len(ep.Models) == 0 {
		return false
	}
	if t == nil || uint(ep.Slot) >= uint(len(t.slots)) {
		return slices.Contains(ep.Models, target)
	}
	s, list := &t.slots[ep.Slot], &ep.Models[len(ep.Models)-1]
	switch list {
	case s.in.Load():
		return true
	case s.notIn.Load():
		return false
	}
	if slices.Contains(ep.Models, target) {
		s.in.Store(list)
		return true
	}
	s.notIn.Store(list)
	return false
}

// targetOf returns what is remembered of a target: nil for one that was asked for the
// first time, for names may be the client's to invent.
func (f *ModelServed) targetOf(target string, eps []*types.Endpoint) *servedTarget {
	most := uint32(0)
	for _, ep := range eps {
		most = max(most, ep.Slot)
	}
	size := int(min(most, maxSlots-1)) + 1
	f.mu.RLock()
	t := f.targets[target]
	f.mu.RUnlock()
	if t != nil && size <= len(t.slots) {
		t.used.Store(f.uses.Add(1))
		return t
	}
	if t == nil && !f.askedBefore(target) {
		return nil
	}
	return f.remember(target, size)
}

// askedBefore reports whether the target was asked for before, as far as is known.
func (f *ModelServed) askedBefore(target string) bool {
	f.seed.Do(func() { f.hash = maphash.MakeSeed() })
	h := maphash.String(f.hash, target)
	return f.seen[h%uint64(len(f.seen))].Swap(uint32(h>>32)|1) == uint32(h>>32)|1
}

// remember begins to remember a target for endpoints of so many slots, in place of the one
// that was not asked for for longest.
func (f *ModelServed) remember(target string, size int) *servedTarget {
	t := &servedTarget{name: "model " + target, slots: make([]servedSlot, size+size/4)}
	t.used.Store(f.uses.Add(1))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.targets == nil {
		f.targets = map[string]*servedTarget{}
	}
	if _, ok := f.targets[target]; !ok && len(f.targets) >= servedTargets {
		var oldest string
		least := ^uint64(0)
		for name, other := range f.targets {
			if u := other.used.Load(); u < least {
				oldest, least = name, u
			}
		}
		delete(f.targets, oldest)
	}
	f.targets[target] = t
	return t
}

var (
	_ scheduling.Filter      = (*ModelServed)(nil)
	_ scheduling.Describer   = (*ModelServed)(nil)
	_ scheduling.Constrainer = (*ModelServed)(nil)
)
