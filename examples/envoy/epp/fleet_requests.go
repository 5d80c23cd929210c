package epp

import (
	"net/netip"
	"slices"
	"weak"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// This file is what a fleet is asked for requests, and of them.

// of returns what a pool has, nil if it has gone.
func (f *fleet) of(pool types.NamespacedName) *member {
	if m := (*f.members.Load())[pool]; m != nil {
		return m
	}
	if f.store.Snapshot().Pool(pool) == nil {
		return nil
	}
	f.settle() // it has just come
	return (*f.members.Load())[pool]
}

// scheduler is for director.Options.NewScheduler.
func (f *fleet) scheduler(p *datastore.Pool) (*scheduling.Scheduler, error) {
	m := f.of(p.Name())
	if m != nil && m.manifest != p.Manifest() {
		f.settle() // it has just changed
		m = f.of(p.Name())
	}
	if m == nil {
		return nil, datastore.ErrNoPool
	}
	return m.scheduler, nil
}

// admission is for director.Options.Admission.
func (f *fleet) admission(pool types.NamespacedName) *admission.Options {
	if m := f.of(pool); m != nil {
		return m.admission
	}
	return nil
}

// admissions are what the admission controls are like now.
func (f *fleet) admissions(yield func(types.NamespacedName, admission.Stats) bool) {
	f.mu.Lock()
	d := f.director
	f.mu.Unlock()
	if d == nil {
		return
	}
	for pool, c := range d.Admissions() {
		if !yield(pool, c.Stats()) {
			return
		}
	}
}

// open returns how many requests are booked, also with schedulers that were replaced.
func (f *fleet) open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.openLocked()
}

// openLocked forgets replaced schedulers that have none, too. Caller must hold f.mu.
func (f *fleet) openLocked() (n int) {
	for _, m := range *f.members.Load() {
		n += m.scheduler.Open()
	}
	f.retired = slices.DeleteFunc(f.retired, func(p weak.Pointer[scheduling.Scheduler]) bool {
		s := p.Value()
		if s == nil {
			return true
		}
		open := s.Open()
		n += open
		return open == 0
	})
	return n
}

// checkAddress sees to it that Envoy can use what it is told: numbers, not names.
func checkAddress(s datastore.EndpointSpec) error {
	if _, err := netip.ParseAddrPort(s.Address); err != nil {
		return &check.Error{Field: "address", Value: s.Address, Want: "ip:port, which is all that Envoy takes", Err: err}
	}
	return nil
}

// report returns what Envoy is to be told of the usage of a pool's request: numbers by name,
// by namespace.
func (f *fleet) report(pool types.NamespacedName, u types.Usage) map[string]map[string]any {
	m := f.of(pool)
	if m == nil {
		return nil
	}
	var told map[string]map[string]any
	for _, r := range m.policy.Reports() {
		v, ok := r.Value(u)
		if !ok {
			continue
		}
		if told == nil {
			told = make(map[string]map[string]any)
		}
		if told[r.Namespace] == nil {
			told[r.Namespace] = make(map[string]any)
		}
		told[r.Namespace][r.Name] = v
	}
	return told
}

// passes reports whether the bodies of a pool's requests are not to be looked at.
func (f *fleet) passes(pool types.NamespacedName) bool {
	m := f.of(pool)
	return m != nil && m.policy.Passthrough()
}
