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

// ModelServed is a Filter that removes endpoints that are known not to serve the request's target
// model if others are known to: a server answers 404 for a model that it does not have. An endpoint
// serves the models that it lists (types.Endpoint.Models) and the adapters that its metrics report.
// Endpoints whose Models are unknown are kept. If none lists the target all are kept, since it may
// be a name that servers do not list.
//
// The zero value is ready to use; wire a pointer to it. It caches which lists contain the most
// recently used targets, so that lists are not searched at every decision as long as they stay the
// same slices. It may be used by several Schedulers.
type ModelServed struct {
	seed         sync.Once
	hash         maphash.Seed
	fingerprints [1 << 10]atomic.Uint32 // of requested targets
	uses         atomic.Uint64
	mu           sync.RWMutex
	targets      map[string]*servedTarget // guarded by mu
}

// servedTargets bounds the number of cached targets.
const servedTargets = 64

// servedTarget caches which lists contain a target, by the Slot of the endpoint. A list is
// identified by the address of its last name.
type servedTarget struct {
	name  string        // of the constraint
	used  atomic.Uint64 // ModelServed.uses at its last use
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

// Constraint implements scheduling.Constrainer. There is none if all candidates may serve the
// target.
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

// serves reports whether ep is known to serve target. t may be nil.
func (t *servedTarget) serves(req *types.Request, ep *types.Endpoint, target string) bool {
	return t.lists(ep, target) || hasAdapter(req, ep, target)
}

// lists reports whether target is among the models of ep.
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

// targetOf returns the cache of a target, nil at its first use, since clients may invent names.
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
	if t == nil && !f.requestedBefore(target) {
		return nil
	}
	return f.addTarget(target, size)
}

// requestedBefore reports whether target is known to have been requested before.
func (f *ModelServed) requestedBefore(target string) bool {
	f.seed.Do(func() { f.hash = maphash.MakeSeed() })
	h := maphash.String(f.hash, target)
	return f.fingerprints[h%uint64(len(f.fingerprints))].Swap(uint32(h>>32)|1) == uint32(h>>32)|1
}

// addTarget adds a target to the cache, for endpoints with slots below size, replacing the least
// recently used one.
func (f *ModelServed) addTarget(target string, size int) *servedTarget {
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
