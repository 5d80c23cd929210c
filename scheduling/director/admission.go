package director

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// gates are the admission controls of the pools that were asked for.
type gates struct {
	mu sync.RWMutex
	// guarded by mu, under which nothing of a Controller or of the embedder is called
	make    func(types.NamespacedName) *admission.Options // nil: there are none
	version int                                           // of make
	pools   map[types.NamespacedName]*gate
	closed  bool
	changes []func() // to Controllers, to be made in this order
	making  bool     // somebody is making them
}

// gate is the admission control of one pool.
type gate struct {
	// controller is there from the start, so that it hears of endpoints and whoever asks
	// for it while its options are made need not wait.
	controller *admission.Controller
	made       chan struct{} // closed once its options are in force

	// Written before made is closed, under gates.mu.
	ready bool
	none  bool  // the pool has no admission control
	err   error // its options are wrong
}

// SetAdmission changes the admission control of all pools, as Options.Admission has it.
// What waits goes on waiting by the new options, or is let in where there is no admission
// control any more. An error names the pool; then nothing is changed. If another call of
// SetAdmission is under way, that one puts this one's options in force, after its own.
func (d *Director) SetAdmission(options func(pool types.NamespacedName) *admission.Options) error {
	g := &d.gates
	next := map[types.NamespacedName]*admission.Options{}
	for !g.set(d, options, next) { // as long as there are pools that were not asked for
		for _, pool := range g.known(d.o.Store.Snapshot()) {
			if _, ok := next[pool]; ok {
				continue
			}
			o := options(pool)
			if o != nil {
				if err := o.Validate(); err != nil {
					return fmt.Errorf("director: pool %v: %w", pool, err)
				}
			}
			next[pool] = o
		}
	}
	g.change()
	return nil
}

// known returns the pools that there are.
func (g *gates) known(now *datastore.Snapshot) []types.NamespacedName {
	g.mu.RLock()
	defer g.mu.RUnlock()
	known := slices.Collect(maps.Keys(g.pools))
	for _, p := range now.Pools() {
		known = append(known, p.Name())
	}
	return known
}

// set makes options those of all pools, of which next are for those that are known. It
// reports whether next has them all; else nothing is changed.
func (g *gates) set(d *Director, options func(types.NamespacedName) *admission.Options, next map[types.NamespacedName]*admission.Options) bool {
	now := d.o.Store.Snapshot()
	g.mu.Lock()
	defer g.mu.Unlock()
	if options != nil {
		for pool := range g.pools {
			if _, ok := next[pool]; !ok {
				return false
			}
		}
		for _, p := range now.Pools() {
			if _, ok := next[p.Name()]; !ok {
				return false
			}
		}
	}
	for pool, one := range g.pools {
		c, o := one.controller, next[pool]
		switch {
		case !one.ready: // who makes it sees that make is another
		case one.none:
			delete(g.pools, pool) // asked for anew
		case o == nil:
			delete(g.pools, pool)
			g.changes = append(g.changes, func() {
				_ = c.Configure(open())                                 // valid
				c.SetEndpoints(endpointsOf(d.o.Store.Snapshot(), pool)) // what waits for the first one hears of no other
			})
		default:
			g.changes = append(g.changes, func() { _ = c.Configure(*o) }) // valid
		}
	}
	g.make, g.version = options, g.version+1
	return true
}

// change makes the changes, unless another call does.
func (g *gates) change() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.making {
		return
	}
	g.making = true
	defer func() { g.making = false }()
	for len(g.changes) > 0 {
		one := g.changes[0]
		g.changes = g.changes[1:]
		func() {
			g.mu.Unlock()
			defer g.mu.Lock()
			one()
		}()
	}
}

// open are options by which every request is let in.
func open() admission.Options {
	return admission.Options{Detector: admission.DetectorFunc(neverFull)}
}

func neverFull(admission.Query, *types.Endpoint) float64 { return 0 }

func endpointsOf(now *datastore.Snapshot, pool types.NamespacedName) []*types.Endpoint {
	if p := now.Pool(pool); p != nil {
		return p.Endpoints()
	}
	return nil
}

// Admission returns the admission control of a pool, nil if it has none. Asking for it
// makes it; while its options are made it lets everything in. An empty namespace is
// types.DefaultNamespace.
func (d *Director) Admission(pool types.NamespacedName) (*admission.Controller, error) {
	one := d.gate(pool)
	if one == nil {
		return nil, nil
	}
	select {
	case <-one.made:
		return one.result()
	default: // Options.Admission itself may be asking
		return one.controller, nil
	}
}

// wait returns when it is made, or with the error of ctx.
func (one *gate) wait(ctx context.Context) error {
	select {
	case <-one.made:
		return nil
	default:
	}
	select {
	case <-one.made:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// result returns what came of making it.
func (one *gate) result() (*admission.Controller, error) {
	if one.none || one.err != nil {
		return nil, one.err
	}
	return one.controller, nil
}

// gate returns that of a pool, and makes it if it is new. It returns nil if there are none.
func (d *Director) gate(pool types.NamespacedName) *gate {
	if pool.Namespace == "" {
		pool.Namespace = types.DefaultNamespace
	}
	g := &d.gates
	g.mu.RLock()
	one, none := g.pools[pool], g.make == nil
	g.mu.RUnlock()
	if one != nil || none {
		return one
	}
	one, mine := g.add(pool)
	if mine {
		d.makeGate(pool, one)
	}
	return one
}

// add adds a gate that the caller is to make, unless there is one or there are to be none.
func (g *gates) add(pool types.NamespacedName) (one *gate, mine bool) {
	c, err := admission.New(open())
	g.mu.Lock()
	defer g.mu.Unlock()
	if one := g.pools[pool]; one != nil || g.make == nil || g.closed || err != nil {
		return one, false
	}
	if g.pools == nil {
		g.pools = map[types.NamespacedName]*gate{}
	}
	one = &gate{controller: c, made: make(chan struct{})}
	g.pools[pool] = one
	return one, true
}

// makeGate puts the options of a gate in force.
func (d *Director) makeGate(pool types.NamespacedName, one *gate) {
	g := &d.gates
	defer close(one.made) // whatever happens
	for ready := false; !ready; {
		g.mu.RLock()
		options, version := g.make, g.version
		g.mu.RUnlock()
		none, err := configure(one.controller, pool, options)
		if !none && err == nil {
			d.follow(one.controller, pool)
		}
		g.mu.Lock()
		if ready = g.version == version; ready {
			one.ready, one.none, one.err = true, none, err
			if err != nil {
				delete(g.pools, pool) // asked for anew
			}
		}
		closed := g.closed
		g.mu.Unlock()
		if closed || ready && (none || err != nil) {
			one.controller.Close()
		}
	}
	g.forget(d.o.Store.Snapshot(), pool)
}

// configure asks for the options of a pool and puts them in force. none: it has none.
func configure(c *admission.Controller, pool types.NamespacedName, options func(types.NamespacedName) *admission.Options) (none bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("director: pool %v: Options.Admission: %w", pool, &scheduling.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	if options == nil {
		return true, nil
	}
	o := options(pool)
	if o == nil {
		return true, nil
	}
	if err := c.Configure(*o); err != nil {
		return false, fmt.Errorf("director: pool %v: %w", pool, err)
	}
	return false, nil
}

// follow gives a Controller that hears of events the endpoints that there are. An event
// may come before the list of an earlier moment, so that it looks again.
func (d *Director) follow(c *admission.Controller, pool types.NamespacedName) {
	for now := endpointsOf(d.o.Store.Snapshot(), pool); ; {
		c.SetEndpoints(now)
		then := endpointsOf(d.o.Store.Snapshot(), pool)
		if slices.EqualFunc(now, then, func(a, b *types.Endpoint) bool { return a.Load == b.Load }) {
			return
		}
		now = then
	}
}

// forget drops what there is of pools that have gone, but for one.
func (g *gates) forget(now *datastore.Snapshot, but types.NamespacedName) {
	var gone []*admission.Controller
	g.mu.Lock()
	for pool, one := range g.pools {
		if pool != but && one.ready && now.Pool(pool) == nil {
			gone = append(gone, one.controller)
			delete(g.pools, pool)
		}
	}
	g.mu.Unlock()
	for _, c := range gone {
		c.Close()
	}
}

// Admissions are the admission controls of the pools that were asked for, by name.
func (d *Director) Admissions() iter.Seq2[types.NamespacedName, *admission.Controller] {
	return func(yield func(types.NamespacedName, *admission.Controller) bool) {
		pools := d.gates.controllers()
		for _, pool := range slices.SortedFunc(maps.Keys(pools), types.NamespacedName.Compare) {
			if !yield(pool, pools[pool]) {
				return
			}
		}
	}
}

func (g *gates) controllers() map[types.NamespacedName]*admission.Controller {
	g.mu.RLock()
	defer g.mu.RUnlock()
	all := make(map[types.NamespacedName]*admission.Controller, len(g.pools))
	for pool, one := range g.pools {
		if !one.none {
			all[pool] = one.controller
		}
	}
	return all
}

func (g *gates) of(pool types.NamespacedName) *admission.Controller {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if one := g.pools[pool]; one != nil && !one.none {
		return one.controller
	}
	return nil
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
	g.closed = true
	g.mu.Unlock()
	for _, c := range g.controllers() {
		c.Close()
	}
}

// admit waits until the request may be scheduled, and returns the endpoints it may go to
// then.
func (d *Director) admit(ctx context.Context, r *Route, candidates []*types.Endpoint, in *Incoming) ([]*types.Endpoint, error) {
	one := d.gate(r.Pool)
	if one == nil {
		return candidates, nil
	}
	if err := one.wait(ctx); err != nil {
		return nil, err
	}
	c, err := one.result()
	if c == nil {
		return candidates, err
	}
	a := arrival(r, candidates, in)
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
	have := withPlace(r.ticket, a.Match, candidates)
	if len(have) < len(candidates) {
		r.Request.Reserve = without(candidates, have)
	}
	return have, nil
}

// without returns those of all that are not in some, a part of it in the same order.
func without(all, some []*types.Endpoint) []*types.Endpoint {
	others := make([]*types.Endpoint, 0, len(all)-len(some))
	for _, ep := range all {
		if len(some) > 0 && ep == some[0] {
			some = some[1:]
		} else {
			others = append(others, ep)
		}
	}
	return others
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
func arrival(r *Route, candidates []*types.Endpoint, in *Incoming) admission.Arrival {
	a := admission.Arrival{Request: &r.Request, MaxWait: in.MaxWait}
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
	return a
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
	candidates, err := d.prepare(r, &in)
	if err != nil {
		return admission.Report{}, false, d.translate(err, r)
	}
	c, err := d.Admission(r.Pool)
	switch {
	case err != nil:
		return admission.Report{}, false, d.translate(err, r)
	case c == nil || !r.generates:
		return admission.Report{}, false, nil
	}
	return c.Explain(arrival(r, candidates, &in)), true, nil
}
