package director

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// gates are the admission controls of the pools that were asked for.
type gates struct {
	mu sync.RWMutex
	// guarded by mu
	make    func(types.NamespacedName) *admission.Options  // nil: there are none
	version uint64                                         // of make
	pools   map[types.NamespacedName]*admission.Controller // nil for one that has none
	closed  bool
}

// SetAdmission changes the admission control of all pools, as Options.Admission has it.
// What waits goes on waiting by the new options, or is let in where there is no admission
// control any more. An error names the pool; then nothing is changed.
func (d *Director) SetAdmission(options func(pool types.NamespacedName) *admission.Options) error {
	g := &d.gates
	next := map[types.NamespacedName]*admission.Options{}
	if options != nil { // which is asked without the lock
		g.mu.RLock()
		known := slices.Collect(maps.Keys(g.pools))
		g.mu.RUnlock()
		for _, p := range d.o.Store.Snapshot().Pools() {
			known = append(known, p.Name())
		}
		for _, pool := range known {
			if next[pool] != nil {
				continue // asked for, and in the store
			}
			o := options(pool)
			if o == nil {
				continue
			}
			if err := o.Validate(); err != nil {
				return fmt.Errorf("director: pool %v: %w", pool, err)
			}
			next[pool] = o
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for pool, c := range g.pools {
		switch o := next[pool]; {
		case c == nil:
			delete(g.pools, pool) // asked for anew
		case o == nil:
			_ = c.Configure(admission.Options{Detector: admission.DetectorFunc(neverFull)}) // valid
			c.SetEndpoints(endpointsOf(d.o.Store.Snapshot(), pool))                         // what waits for the first one hears of no other
			delete(g.pools, pool)
		default:
			_ = c.Configure(*o) // valid
		}
	}
	g.make = options
	g.version++
	return nil
}

func endpointsOf(now *datastore.Snapshot, pool types.NamespacedName) []*types.Endpoint {
	if p := now.Pool(pool); p != nil {
		return p.Endpoints()
	}
	return nil
}

func neverFull(admission.Query, *types.Endpoint) float64 { return 0 }

// Admission returns the admission control of a pool, nil if it has none. Asking for it
// makes it. An empty namespace is types.DefaultNamespace.
func (d *Director) Admission(pool types.NamespacedName) (*admission.Controller, error) {
	if pool.Namespace == "" {
		pool.Namespace = types.DefaultNamespace
	}
	g := &d.gates
	g.mu.RLock()
	c, ok := g.pools[pool]
	options, version := g.make, g.version
	g.mu.RUnlock()
	if ok || options == nil {
		return c, nil
	}
	if o := options(pool); o != nil { // which is asked without the lock, for it may ask us
		var err error
		if c, err = admission.New(*o); err != nil {
			return nil, fmt.Errorf("director: pool %v: %w", pool, err)
		}
	}
	g.mu.Lock()
	if known, ok := g.pools[pool]; ok || g.version != version {
		g.mu.Unlock()
		if c != nil {
			c.Close()
		}
		if ok {
			return known, nil
		}
		return d.Admission(pool) // by other options
	}
	defer g.mu.Unlock()
	if g.closed && c != nil {
		c.Close()
		return nil, nil
	}
	g.forget(d.o.Store.Snapshot())
	if g.pools == nil {
		g.pools = map[types.NamespacedName]*admission.Controller{}
	}
	g.pools[pool] = c
	if c != nil {
		c.SetEndpoints(endpointsOf(d.o.Store.Snapshot(), pool))
	}
	return c, nil
}

// forget drops what there is of pools that have gone. Caller must hold g.mu.
func (g *gates) forget(now *datastore.Snapshot) {
	for pool, c := range g.pools {
		if now.Pool(pool) == nil {
			if c != nil {
				c.Close()
			}
			delete(g.pools, pool)
		}
	}
}

// Admissions are the admission controls of the pools that were asked for, by name.
func (d *Director) Admissions() iter.Seq2[types.NamespacedName, *admission.Controller] {
	return func(yield func(types.NamespacedName, *admission.Controller) bool) {
		g := &d.gates
		g.mu.RLock()
		pools := maps.Clone(g.pools)
		g.mu.RUnlock()
		for _, pool := range slices.SortedFunc(maps.Keys(pools), types.NamespacedName.Compare) {
			if c := pools[pool]; c != nil && !yield(pool, c) {
				return
			}
		}
	}
}

func (g *gates) of(pool types.NamespacedName) *admission.Controller {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.pools[pool]
}

// reading is told of every new reading.
func (g *gates) reading(pool types.NamespacedName, ep *types.Endpoint) {
	if c := g.of(pool); c != nil {
		c.Update(ep)
	}
}

// event is told of endpoints that come and go.
func (g *gates) event(e datastore.Event) {
	c := g.of(e.Pool)
	switch {
	case c == nil:
	case e.Kind == datastore.Removed:
		c.Remove(e.Endpoint)
	default:
		c.Put(e.Endpoint)
	}
}

func (g *gates) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, c := range g.pools {
		if c != nil {
			c.Close()
		}
	}
}

// admit waits until the request may be scheduled, and returns the endpoints it may go to
// then.
func (d *Director) admit(ctx context.Context, r *Route, candidates []*types.Endpoint, in Incoming) ([]*types.Endpoint, error) {
	if !r.computes {
		return candidates, nil // it takes no place at a server
	}
	c, err := d.Admission(r.Pool)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return candidates, nil
	}
	a, err := d.arrival(r, candidates, in)
	if err != nil {
		return nil, err
	}
	if in.Explain {
		report := c.Explain(a)
		r.Admission = &report
	}
	r.ticket, r.Waited, err = c.Admit(ctx, a)
	if err != nil {
		return nil, err
	}
	r.Request.Admitted = true
	if r.Waited > 0 {
		candidates = d.candidatesNow(r)
	}
	return withPlace(r.ticket, a.Match, candidates), nil
}

// withPlace returns those of the candidates that have a place for the request. Those that
// its filters will strike out do not count: only they may have one.
func withPlace(t *admission.Ticket, match func(*types.Endpoint) bool, candidates []*types.Endpoint) []*types.Endpoint {
	if match == nil {
		return t.Candidates(nil, candidates)
	}
	var may []*types.Endpoint
	for _, ep := range candidates {
		if match(ep) {
			may = append(may, ep)
		}
	}
	if have := t.Candidates(nil, may); len(have) < len(may) {
		return have
	}
	return candidates
}

// arrival is the request as admission control sees it.
func (d *Director) arrival(r *Route, candidates []*types.Endpoint, in Incoming) (admission.Arrival, error) {
	a := admission.Arrival{Request: &r.Request}
	if r.scheduler.Constrains() {
		c := r.scheduler.Constraint(&r.Request, candidates)
		a.Candidates, a.Match, a.Preferred = c.Name, c.Match, c.Preferred
	}
	if s := r.subset; s != nil {
		a.Preferred = false // a subset is what the gateway allows
		a.Candidates += "\x00subset " + s.name()
		if match := a.Match; match != nil {
			a.Match = func(ep *types.Endpoint) bool { return match(ep) && s.has(ep) }
		} else {
			a.Match = s.has
		}
	}
	if !d.o.TrustRequestHeaders {
		return a, nil
	}
	var err error
	a.MaxWait, err = millis(in.Header, HeaderMaxWait)
	return a, err
}

// candidatesNow returns the endpoints that may serve a request that has waited.
func (d *Director) candidatesNow(r *Route) []*types.Endpoint {
	eps := endpointsOf(d.o.Store.Snapshot(), r.Pool)
	if r.subset != nil {
		return r.subset.of(eps)
	}
	return eps
}

// ExplainAdmission returns what admission control would do with a request now, and why,
// and whether its pool has one. The error is an *Error.
func (d *Director) ExplainAdmission(in Incoming) (admission.Report, bool, error) {
	r := &Route{director: d}
	candidates, err := d.prepare(r, in)
	if err != nil {
		return admission.Report{}, false, d.translate(err, r)
	}
	c, err := d.Admission(r.Pool)
	if c == nil && err == nil {
		return admission.Report{}, false, nil
	}
	var a admission.Arrival
	if err == nil {
		a, err = d.arrival(r, candidates, in)
	}
	if err != nil {
		return admission.Report{}, false, d.translate(err, r)
	}
	return c.Explain(a), true, nil
}
