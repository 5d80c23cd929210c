package director

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// gates are the admission controls of the pools that were asked for.
type gates struct {
	mu sync.RWMutex
	// guarded by mu, under which nothing of a Controller or of the embedder is called
	make   makeOptions // nil: there are none
	pools  map[types.NamespacedName]*gate
	closed bool
}

// makeOptions makes the options of a pool; nil: it has no admission control.
type makeOptions = func(pool types.NamespacedName) *admission.Options

// gate is the admission control of one pool.
type gate struct {
	// controller is there from the start, so that it hears of endpoints and whoever asks
	// for it while its options are made need not wait. It lets everything in where the pool
	// has no admission control.
	controller *admission.Controller
	made       chan struct{} // closed once there is a state
	state      atomic.Pointer[gateState]

	// guarded by gates.mu
	next   makeOptions // of options that are to be put in force; nil: they are
	making bool        // somebody puts options in force
}

// gateState is what came of putting options in force.
type gateState struct {
	controller *admission.Controller // nil: the pool has no admission control
	err        error                 // its options are wrong
}

// SetAdmission changes the admission control of all pools, as Options.Admission has it.
// What waits goes on waiting by the new options, or is let in where there is no admission
// control any more. An error names the pool; then nothing is changed. If another call of
// SetAdmission is under way, that one puts this one's options in force, after its own.
func (d *Director) SetAdmission(options func(pool types.NamespacedName) *admission.Options) error {
	next := map[types.NamespacedName]*admission.Options{}
	missing, known := d.gates.set(d.o.Store.Snapshot(), options, next)
	for len(missing) > 0 { // as long as there are pools that were not asked for
		for _, pool := range missing {
			var o *admission.Options
			err := guard.Try("Options.Admission", func() error {
				if o = options(pool); o == nil {
					return nil
				}
				return o.Validate()
			})
			if err != nil {
				return fmt.Errorf("director: pool %v: %w", pool, err)
			}
			next[pool] = o
		}
		missing, known = d.gates.set(d.o.Store.Snapshot(), options, next)
	}
	for pool, one := range known {
		d.putInForce(pool, one)
	}
	return nil
}

// set makes options those of all pools, of which next are for those that are known, and
// returns the gates whose options are to be put in force. If next lacks pools it returns
// those, and nothing is changed.
func (g *gates) set(now *datastore.Snapshot, options makeOptions, next map[types.NamespacedName]*admission.Options) (missing []types.NamespacedName, known map[types.NamespacedName]*gate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if options != nil {
		missing = slices.Collect(maps.Keys(g.pools))
		for _, p := range now.Pools() {
			if g.pools[p.Name()] == nil {
				missing = append(missing, p.Name())
			}
		}
		missing = slices.DeleteFunc(missing, func(pool types.NamespacedName) bool { _, ok := next[pool]; return ok })
		if len(missing) > 0 {
			return missing, nil
		}
	}
	g.make = options
	for pool, one := range g.pools {
		one.next = func(types.NamespacedName) *admission.Options { return next[pool] }
	}
	return nil, maps.Clone(g.pools)
}

// putInForce puts the options of a gate in force, and those that come meanwhile, unless
// somebody does already.
func (d *Director) putInForce(pool types.NamespacedName, one *gate) {
	for {
		options := d.gates.begin(one)
		if options == nil {
			return
		}
		controller, err := d.configure(pool, one.controller, options)
		if d.gates.end(pool, one, &gateState{controller, err}) {
			one.controller.Close()
		}
	}
}

// begin returns what makes the options that are to be put in force, nil if there is nothing
// to be done.
func (g *gates) begin(one *gate) makeOptions {
	g.mu.Lock()
	defer g.mu.Unlock()
	if one.making {
		return nil
	}
	options := one.next
	one.next, one.making = nil, options != nil
	return options
}

// end takes what came of it, unless there are newer options, and reports whether the gate
// is of no use any more.
func (g *gates) end(pool types.NamespacedName, one *gate, state *gateState) (over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if one.making = false; one.next != nil {
		return false
	}
	before := one.state.Swap(state)
	if before == nil {
		close(one.made)
	}
	takenAway := before != nil && before.controller != nil && state.controller == nil
	if (state.err != nil || takenAway) && g.pools[pool] == one {
		delete(g.pools, pool) // asked for anew, so that nothing is kept of what was
	}
	return g.closed || state.err != nil
}

// configure asks for the options of a pool and puts them in force. It returns nil if the
// pool has no admission control: then everything is let in, what waits for a first endpoint
// too.
func (d *Director) configure(pool types.NamespacedName, c *admission.Controller, options makeOptions) (_ *admission.Controller, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("director: pool %v: Options.Admission: %w", pool, &scheduling.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	o, in := options(pool), c
	if o == nil {
		o, in = open(), nil
	}
	if err := c.Configure(*o); err != nil {
		return nil, fmt.Errorf("director: pool %v: %w", pool, err)
	}
	d.follow(c, pool)
	return in, nil
}

// open are options by which every request is let in.
func open() *admission.Options {
	return &admission.Options{Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { return 0 })}
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
	if state := one.state.Load(); state != nil {
		return state.controller, state.err
	}
	return one.controller, nil // Options.Admission itself may be asking
}

// wait returns the admission control once its options are in force, nil if there is none.
func (one *gate) wait(ctx context.Context) (*admission.Controller, error) {
	state := one.state.Load()
	if state == nil {
		select {
		case <-one.made:
			state = one.state.Load()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return state.controller, state.err
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
		d.putInForce(pool, one)
		g.forget(d.o.Store.Snapshot(), pool)
	}
	return one
}

// add adds a gate that the caller is to put in force, unless there is one or there are to
// be none.
func (g *gates) add(pool types.NamespacedName) (one *gate, mine bool) {
	c, err := admission.New(*open())
	g.mu.Lock()
	defer g.mu.Unlock()
	if one := g.pools[pool]; one != nil || g.make == nil || g.closed || err != nil {
		return one, false
	}
	if g.pools == nil {
		g.pools = map[types.NamespacedName]*gate{}
	}
	one = &gate{controller: c, made: make(chan struct{}), next: g.make}
	g.pools[pool] = one
	return one, true
}

// forget drops what there is of pools that have gone, but for one.
func (g *gates) forget(now *datastore.Snapshot, but types.NamespacedName) {
	var gone []*admission.Controller
	g.mu.Lock()
	for pool, one := range g.pools {
		if pool != but && one.state.Load() != nil && now.Pool(pool) == nil {
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

// controllers returns those that there are, or will be.
func (g *gates) controllers() map[types.NamespacedName]*admission.Controller {
	g.mu.RLock()
	defer g.mu.RUnlock()
	all := make(map[types.NamespacedName]*admission.Controller, len(g.pools))
	for pool, one := range g.pools {
		if state := one.state.Load(); state == nil || state.controller != nil {
			all[pool] = one.controller
		}
	}
	return all
}

// of returns that of a pool, nil if it was not asked for.
func (g *gates) of(pool types.NamespacedName) *admission.Controller {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if one := g.pools[pool]; one != nil {
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
