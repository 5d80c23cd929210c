package kvevents

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"sync"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// plan is all that a target depends on: another plan, another target.
type plan struct {
	name    string
	pool    types.NamespacedName
	server  string // scheme://host:port
	address string // host:port
	rank    types.Rank
	engine  string
	sources []Source
	ask     bool // the engine where it publishes
}

// planOf returns the plan for an endpoint. Of a function of the user's that panics it has the default.
func (r run) planOf(ev datastore.Event) (p plan) {
	spec, ep := ev.Spec, ev.Endpoint
	p = plan{pool: ev.Pool, name: ep.ID, server: "http://" + ep.Address, address: ep.Address, rank: ep.Rank, engine: engineOf(spec), ask: true}
	if spec.MetricsScheme != "" && (spec.MetricsAddress == "" || spec.MetricsAddress == ep.Address) {
		p.server = spec.MetricsScheme + "://" + ep.Address
	}
	defer r.recovered(Failure{Pool: p.pool, Endpoint: p.name, URL: p.server})
	p.name = r.opt.Name(ev.Pool, ep)
	if r.opt.Sources != nil {
		p.sources = r.opt.Sources(ev.Pool, ep)
		p.ask = p.sources == nil
	}
	return p
}

func engineOf(spec datastore.EndpointSpec) string {
	for _, name := range []string{spec.Engine, spec.Labels[datastore.EngineLabel], spec.Labels["llm-d.ai/engine-type"]} {
		if name != "" {
			return name
		}
	}
	return ""
}

// target listens to one endpoint: a goroutine that finds out where to, and one for each source.
type target struct {
	run
	plan   plan
	ctx    context.Context // ends before that of the run, if the endpoint goes
	reborn chan struct{}   // the engine has started anew
	sink   sync.Mutex      // held for each call of the Sink

	arrivals []chan arrival // by rank: connections that the engine makes to us

	sources []rankSource // that are listened to
	stop    func()       // stops that, and forgets the endpoint
}

// Restart makes the target forget what it knows of the engine. It may be called by any goroutine.
func (t *target) Restart() {
	select {
	case t.reborn <- struct{}{}:
	default:
	}
}

// Run finds out where the engine publishes, from time to time, and listens there.
func (t *target) Run() {
	defer t.listen(nil)
	h := t.newHealth(t.plan.rank.Index, t.plan.server)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-t.reborn:
			t.listen(nil)
		case <-timer.C:
		}
		t.expect(true)
		var sources []rankSource
		_, err := h.try(func() (err error) {
			sources, err = t.find()
			return err
		})
		if t.ctx.Err() != nil {
			return
		}
		if err != nil { // what is listened to may go on, whatever it is that does not answer
			timer.Reset(h.failed(discoveryError, err))
			continue
		}
		h.works()
		t.listen(sources)
		timer.Stop()
		if t.plan.ask {
			timer.Reset(t.opt.DiscoverInterval)
		}
	}
}

// find returns the sources of the endpoint, none if it has none.
func (t *target) find() ([]rankSource, error) {
	sources := t.plan.sources
	if t.plan.ask {
		var err error
		if sources, err = t.discover(); err != nil {
			return nil, err
		}
	}
	host, _, _ := net.SplitHostPort(t.plan.address)
	var all []rankSource
	told := map[int]bool{} // ranks that have events
	for _, s := range sources {
		ranks, err := s.expand(host, t.plan.ask)
		if err != nil {
			return nil, err
		}
		for _, r := range ranks {
			if r.events == "" && r.poll == "" {
				continue
			}
			if told[r.rank] {
				return nil, fmt.Errorf("kvevents: two sources of the events of rank %d, want one", r.rank)
			}
			told[r.rank] = true
		}
		all = append(all, ranks...)
	}
	if t.plan.rank.IsSet() {
		var err error
		if all, err = ofRank(all, t.plan.rank.Index); err != nil {
			return nil, err
		}
	}
	if len(t.arrivals) > 0 {
		all = t.comingIn(all)
	}
	return all[:min(len(all), t.opt.MaxRanks)], nil
}

// ofRank returns the sources of one rank of a server whose ranks are endpoints of their own.
func ofRank(all []rankSource, rank int) (own []rankSource, err error) {
	for _, s := range all {
		if s.poll != "" {
			return nil, fmt.Errorf("kvevents: %s has the events of all ranks, and can be asked by one endpoint alone: want the server to be one", s.poll)
		}
		if s.rank == rank {
			own = append(own, s)
		}
	}
	if len(own) == 0 && len(all) > 0 {
		return nil, fmt.Errorf("kvevents: %d sources, and none of rank %d, which the endpoint is", len(all), rank)
	}
	return own, nil
}

// listen makes the sources those that are listened to. If they are others than before, the
// endpoint is forgotten, unless Run ends.
func (t *target) listen(sources []rankSource) {
	if reflect.DeepEqual(sources, t.sources) {
		return
	}
	if t.stop != nil {
		t.stop()
		t.stop = nil
	}
	t.sources = sources
	if len(sources) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(t.ctx)
	var wg sync.WaitGroup
	for _, s := range sources {
		if (s.events != "" || s.inbound) && t.opt.Sink != nil {
			wg.Go(func() { t.panics.Loop(ctx, "a stream", func() { t.newStream(s).loop(ctx) }) })
		}
		if s.poll != "" && t.opt.Sink != nil {
			wg.Go(func() { t.panics.Loop(ctx, "a poller", func() { t.newPoller(s).loop(ctx) }) })
		}
		if s.load != "" && t.opt.OnLoad != nil {
			wg.Go(func() { t.panics.Loop(ctx, "a stream of loads", func() { t.newLoadStream(s).loop(ctx) }) })
		}
	}
	t.stop = func() {
		cancel()
		wg.Wait()
		if t.run.ctx.Err() == nil && t.opt.Sink != nil {
			t.call(t.failure(t.plan.rank.Index, t.plan.server), func() { t.opt.Sink.Remove(t.plan.name) })
		}
	}
}

// call calls the Sink, one call at a time. It reports whether that did not panic.
func (t *target) call(f Failure, fn func()) (fine bool) {
	defer t.recovered(f)
	t.sink.Lock()
	defer t.sink.Unlock()
	fn()
	return true
}
