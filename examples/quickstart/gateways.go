package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
	"github.com/inferpick/inferpick/types"
)

const maxGateways = 8

// rolloutInterval is how often a rollout looks at the world: a page shows what follows.
const rolloutInterval = 250 * time.Millisecond

// crew is what the gateways of a fleet have in common.
type crew struct {
	ctx   context.Context // of all that they start
	cfg   config
	fleet *fleet
	key   []byte   // by which they know each other
	peers []string // where they find each other; none: they share nothing
}

// instance is one of the gateways of a fleet. Each has a scheduler, a port and a mesh of its own. All but the
// first, which has the page, may be stopped and started again.
type instance struct {
	*crew
	name    string
	address string       // where peers find it
	mesh    net.Listener // on that, for the first time

	now  atomic.Pointer[running] // nil: it is stopped
	turn sync.Mutex              // held while it is started or stopped
	// guarded by turn
	front *front
	api   string // where clients find it; it does not change once it serves
}

// running is a gateway that runs.
type running struct {
	*gateway.Gateway
	wire        *wire // to its peers; nil: there are none
	unsubscribe func()
	stopping    atomic.Bool
}

// hire makes the gateways of a fleet. None is open yet.
func (f *fleet) hire(ctx context.Context, cfg config) error {
	c := &crew{ctx: ctx, cfg: cfg, fleet: f, key: make([]byte, 32)}
	rand.Read(c.key) // it has no error
	for i := range max(cfg.gateways, 1) {
		g := &instance{crew: c, name: fmt.Sprintf("gateway-%d", i+1)}
		f.gateways = append(f.gateways, g)
		if cfg.gateways < 2 || !cfg.share {
			continue
		}
		var err error
		if g.mesh, err = listen("127.0.0.1:0"); err != nil {
			return err
		}
		g.address = g.mesh.Addr().String()
		c.peers = append(c.peers, g.address)
	}
	return nil
}

// open makes the gateway: what it knows, how it decides, and how requests pass.
func (g *instance) open(p policy) (err error) {
	f, r := g.fleet, new(running)
	sink, _ := plugins.KVSinkOf(p.profile, plugins.KVOptions{}) // nil: the policy does not ask what is cached
	o := gateway.Options{
		Profile: p.profile, Pool: pool(),
		Store:  datastore.Options{UnknownModels: datastore.Refuse, StickySessions: true},
		Scrape: scrape.Options{Seed: g.cfg.seed},
		Director: director.Options{
			RestoreModel: true, Seed: g.cfg.seed, OnRefused: f.log.refused, Families: g.cfg.families,
			EngineSessions:      func(types.NamespacedName) bool { return sink != nil },
			TrustRequestHeaders: true, // the gateway has made sure of them: see identify
		},
	}
	o.Rollouts = &rollout.Options{Loader: f.loaders.VLLM(), Name: g.name, Interval: rolloutInterval, OnEvent: f.rolled}
	o.Profile.Hooks = f.log.hooks(g.name)
	o.Profile.Seed = cmp.Or(p.profile.Seed, g.cfg.seed)
	if f.policy.admission != nil {
		o.Admission = func() *admission.Options {
			a := f.policy.admission()
			a.Hooks = f.log.admissionHooks()
			return a
		}
	}
	o.Autoscale = g.scaling()
	if len(g.peers) > 0 {
		if r.wire, err = g.connect(); err != nil {
			return err
		}
		o.Sharing = &sharing.Options{Name: g.name, Transport: r.wire}
	}
	if r.Gateway, err = gateway.New(o); err != nil {
		return fmt.Errorf("policy %s: %w", p.name, err)
	}
	r.Transport.NameEndpoint, r.Transport.Explain = true, true
	r.Transport.Incoming = identify
	r.Transport.OnRoute = func(_ *http.Request, route *director.Route) { f.log.routed(route, r.Sharing) }
	if err := r.Store.Apply(f.objects...); err != nil {
		return err
	}
	go r.Run(g.ctx)
	if sink != nil {
		if err := r.subscribe(g.ctx, sink, g.cfg.seed); err != nil {
			return err
		}
	}
	g.now.Store(r)
	if err := r.SetServers(f.specs()); err != nil {
		return err
	}
	return f.rolls.join(r)
}

// subscribe has the gateway hear what servers tell that they hold.
func (r *running) subscribe(ctx context.Context, sink *plugins.KVSink, seed uint64) error {
	events, err := kvevents.New(r.Store, kvevents.Options{Sink: sink, Seed: seed})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		events.Run(ctx)
	}()
	r.unsubscribe = func() { stop(); <-done }
	return nil
}

// close ends everything that open started.
func (r *running) close() {
	if r.unsubscribe != nil {
		r.unsubscribe()
	}
	r.Gateway.Close()
}

// serve serves clients on ln, and pages, if there are any.
func (g *instance) serve(ln net.Listener, pages http.Handler) {
	g.turn.Lock()
	defer g.turn.Unlock()
	g.api = dialable(ln.Addr())
	g.front = startFront(g.now.Load().Gateway, ln, pages)
}

// stopTime is how long requests may go on at a gateway that is stopped.
const stopTime = 10 * time.Second

// stop lets requests finish, until ctx is done, and ends the gateway, as a rolling update does.
func (g *instance) stop(ctx context.Context) {
	g.turn.Lock()
	defer g.turn.Unlock()
	r := g.now.Load()
	if r == nil {
		return
	}
	r.stopping.Store(true)
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	sleep(ctx, 100*time.Millisecond) // requests are on their way to it
	g.front.shutdown(ctx)
	g.now.Store(nil)
	r.close()
}

// start starts it again where it was, unless ctx is done. It knows nothing of what it did before.
func (g *instance) start(ctx context.Context) error {
	g.turn.Lock()
	defer g.turn.Unlock()
	if g.now.Load() != nil || ctx.Err() != nil {
		return nil
	}
	p, err := loadPolicy(g.fleet.policy.arg)
	if err != nil {
		return err
	}
	ln, err := listen(g.api)
	if err != nil {
		return err
	}
	if err := g.open(p); err != nil {
		ln.Close()
		return err
	}
	g.front = startFront(g.now.Load().Gateway, ln, nil)
	return nil
}

// shutdown ends what serves clients, as front.shutdown does.
func (g *instance) shutdown(ctx context.Context) {
	g.turn.Lock()
	defer g.turn.Unlock()
	if g.now.Load() != nil {
		g.front.shutdown(ctx)
	}
}

// cut cuts the gateway off from its peers, or ends that.
func (g *instance) cut(off bool) {
	if r := g.now.Load(); r != nil && r.wire != nil {
		r.wire.cut.Store(off)
	}
}

// wire is a mesh that can be cut.
type wire struct {
	sharing.Transport
	cut atomic.Bool
}

func (g *instance) connect() (*wire, error) {
	t, err := mesh.New(mesh.Options{Listener: g.mesh, Listen: g.address, Peers: g.peers, Key: g.key})
	g.mesh = nil // it is the mesh's from now on
	return &wire{Transport: t}, err
}

// Broadcast implements sharing.Transport.
func (w *wire) Broadcast(ctx context.Context, msg []byte) error {
	if w.cut.Load() {
		return nil
	}
	return w.Transport.Broadcast(ctx, msg)
}

// Receive implements sharing.Transport.
func (w *wire) Receive(handle func(from string, msg []byte)) {
	w.Transport.Receive(func(from string, msg []byte) {
		if !w.cut.Load() {
			handle(from, msg)
		}
	})
}

// next returns where the next request goes: to all gateways that run, in turn.
func (f *fleet) next() string {
	for range f.gateways {
		g := f.gateways[f.turn.Add(1)%uint64(len(f.gateways))]
		if r := g.now.Load(); r != nil && !r.stopping.Load() {
			return "http://" + g.api
		}
	}
	return "http://" + f.gateways[0].api
}

// gatewayView is one gateway of a fleet in a view.
type gatewayView struct {
	Name     string     `json:"name"`
	Address  string     `json:"address"`
	State    string     `json:"state"` // running, cut off, stopping, stopped
	InFlight int64      `json:"inFlight"`
	Peers    []peerView `json:"peers"`
}

// peerView is what a gateway knows of another one.
type peerView struct {
	Name     string  `json:"name"`
	Alive    bool    `json:"alive"`
	Age      float64 `json:"ageMs"`
	InFlight int64   `json:"inFlight"`
}

func (g *instance) view(now time.Time) gatewayView {
	v := gatewayView{Name: g.name, Address: g.api, State: "stopped", Peers: []peerView{}}
	r := g.now.Load()
	if r == nil {
		return v
	}
	v.State = "running"
	switch {
	case r.stopping.Load():
		v.State = "stopping"
	case r.wire != nil && r.wire.cut.Load():
		v.State = "cut off"
	}
	for _, ep := range r.endpoints() {
		v.InFlight += ep.Load.Requests()
	}
	for _, p := range r.Sharing.Stats(now).Peers {
		v.Peers = append(v.Peers, peerView{p.Name, p.Alive, milliseconds(p.Age), p.Held.Requests})
	}
	return v
}

// endpoints returns the latest readings.
func (r *running) endpoints() []*types.Endpoint {
	return r.Store.Snapshot().Pool(pool()).Endpoints()
}

// running returns the gateways that run.
func (f *fleet) running() (all []*running) {
	for _, g := range f.gateways {
		if r := g.now.Load(); r != nil {
			all = append(all, r)
		}
	}
	return all
}
