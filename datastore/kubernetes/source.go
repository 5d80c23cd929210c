package kubernetes

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// Source keeps a datastore.Store in sync with a cluster. Its methods are safe for concurrent
// use. Create one with New.
type Source struct {
	opt     Options
	client  *client
	filter  filter
	shape   shape
	started atomic.Bool
	synced  chan struct{}
	changed chan struct{}
	wake    chan struct{} // what state says is not in the store

	mu    sync.Mutex
	state state
}

// New returns a source for the cluster of config, or an error that lists all invalid options.
// It does nothing until Run is called.
//
// The default of 5 requests per second in config is raised; another value stays.
func New(config *rest.Config, o Options) (*Source, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	c, err := newClient(config)
	if err != nil {
		return nil, err
	}
	s := &Source{
		opt: o, client: c,
		filter:  filter{names: o.Pools},
		shape:   shape{cluster: o.Cluster, template: o.Template, metricsPort: o.MetricsPort},
		synced:  make(chan struct{}),
		changed: make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
	}
	if o.PoolSelector != "" {
		s.filter.selector, _ = labels.Parse(o.PoolSelector) // checked by complete
	}
	s.state.init(s)
	return s, nil
}

// Synced returns a channel that is closed once the pools, of those CRDs that are installed, and
// their pods are in the store.
func (s *Source) Synced() <-chan struct{} { return s.synced }

// Changed returns a channel that receives a value whenever Objects or the statuses in the store
// may have changed. It is for one receiver.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// Run keeps store in sync until ctx is done, and then returns nil. What it has put into the
// store stays there. It can be called once.
func (s *Source) Run(ctx context.Context, store *datastore.Store) error {
	if s.started.Swap(true) {
		return errors.New("kubernetes: Run was called before")
	}
	ctx, cancel := context.WithCancel(ctx)
	// client-go logs what it finds remarkable, at levels below debug for the most part.
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(s.opt.Logger.Handler()))
	r := &runner{Source: s, ctx: ctx, committer: newCommitter(store, s.opt.Cluster), lost: make(map[types.NamespacedName]bool), probe: make(chan struct{}, 1)}
	stop := store.WatchPools(r.poolEvent)
	defer r.wait.Wait()
	defer cancel()
	defer stop()
	r.wait.Go(r.discover)
	again := retry{away: probeEvery}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		if !sleep(ctx, s.opt.Debounce) {
			return nil
		}
		select { // what has come meanwhile is part of it
		case <-s.wake:
		default:
		}
		if err := guarded(r.reconcile); err == nil {
			again.succeeded()
		} else if !r.afterPanic(again.failed(err), err) {
			return nil
		}
	}
}

// afterPanic has everything looked at again, after a while. It reports false if ctx is done before.
func (r *runner) afterPanic(wait time.Duration, err error) bool {
	tell(r.opt.Logger, slog.LevelError, "what is known of the cluster could not be put in force; it is tried again", err)
	r.locked(func() {
		r.state.audit, r.state.dirty = true, true
		for name := range r.state.byName {
			r.state.dirtyPools[name] = true
		}
	})
	signal(r.wake)
	return sleep(r.ctx, wait)
}

// locked calls f with the lock of what is known.
func (r *runner) locked(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock() // also if there is a panic
	f()
}

// runner is a Source at work.
type runner struct {
	*Source
	ctx       context.Context
	wait      sync.WaitGroup
	probe     chan struct{} // whether the server is away is to be found out
	committer *committer

	lostMu sync.Mutex
	lost   map[types.NamespacedName]bool // pools that were deleted from the store
}

// reconcile brings the store to what is known of the cluster.
func (r *runner) reconcile() error {
	r.committer.restore(r.takeLost())
	var audit bool
	r.locked(func() { audit, r.state.audit = r.state.audit, false })
	var again []types.NamespacedName
	if audit {
		again = r.committer.audit()
	}

	var want map[objectKey]*manifest
	var endpoints map[types.NamespacedName][]datastore.EndpointSpec
	r.locked(func() {
		for _, pool := range again {
			r.state.dirtyPools[pool] = true
		}
		r.state.plan(r)
		endpoints = r.state.endpoints(r.shape)
		want = r.state.inForce // never changed in place
	})

	r.committer.commit(want, endpoints)

	var fresh map[string]string
	r.locked(func() {
		fresh = r.state.report(r.committer.problems(), r.committer.overlaps)
		if r.state.ready() {
			r.state.markSynced(r.synced)
		}
	})
	signal(r.changed)
	for what, why := range fresh {
		r.opt.Logger.Warn("an object of the cluster is not in force", slog.String("object", what), slog.String("error", why))
	}
	return nil
}

func (r *runner) takeLost() []types.NamespacedName {
	r.lostMu.Lock()
	defer r.lostMu.Unlock()
	lost := slices.Collect(maps.Keys(r.lost))
	clear(r.lost)
	return lost
}

// poolEvent notes pools that somebody has deleted from the store.
func (r *runner) poolEvent(ev datastore.PoolEvent) {
	if ev.Kind != datastore.Removed {
		return
	}
	r.lostMu.Lock()
	r.lost[ev.Pool] = true
	r.lostMu.Unlock()
	signal(r.wake)
}

// discover asks the server again and again which kinds it has. It also finds out, at once when a
// watch fails, that the server is away, and then when it is back: one that asks often does for
// all watches, which wait longer and longer.
func (r *runner) discover() {
	d := discovery{runner: r, again: retry{min: r.opt.MinRetry, max: r.opt.MaxRetry, away: probeEvery}}
	for {
		pause := probeEvery
		if err := guarded(func() error { pause = d.step(); return nil }); err != nil {
			tell(r.opt.Logger, slog.LevelError, "which kinds the API server has could not be found out; it is tried again", err)
		}
		if !r.sleepOrProbe(pause) {
			return
		}
	}
}

// discovery is what discover knows from one time to the next.
type discovery struct {
	*runner
	again   retry
	failing bool
	told    []string // kinds that are missing
}

// step asks once, and returns how long to wait until the next time.
func (d *discovery) step() (pause time.Duration) {
	var served []resource
	err := guarded(func() (err error) { served, err = d.ask(); return err }) // its transport may be the user's
	if d.ctx.Err() != nil {
		return 0
	}
	failing := d.failing
	d.failing = err != nil
	pause = d.opt.Refresh
	if err == nil {
		d.again.succeeded()
	} else {
		pause = d.again.failed(err)
	}
	var missing []string
	d.locked(func() {
		d.state.discovered(served, err)
		if failing && err == nil {
			d.state.hurry()
		}
		missing = d.state.missingKinds()
	})
	signal(d.wake)
	switch {
	case failing && err == nil:
		d.opt.Logger.Info("the API server says again which kinds it has")
	case !failing && err != nil:
		tell(d.opt.Logger, slog.LevelWarn, "cannot ask the API server which kinds it has; what is known stays in force", err)
	}
	if !slices.Equal(missing, d.told) {
		d.told = missing
		d.tellMissing(missing)
	}
	return pause
}

// tellMissing logs which kinds the cluster does not have. Without pools nothing is served.
func (r *runner) tellMissing(kinds []string) {
	if len(kinds) == 0 {
		r.opt.Logger.Info("the cluster serves all kinds now")
		return
	}
	level := slog.LevelInfo
	if slices.Contains(kinds, kindPool) && len(r.opt.Declared) == 0 {
		level = slog.LevelWarn
	}
	r.opt.Logger.Log(r.ctx, level, "kinds that the cluster does not serve, as their CRDs are not installed; they are noticed when they come",
		slog.Any("kinds", kinds))
}

// ask returns what the server has. Where it must not be asked that is a guess, and an error.
func (r *runner) ask() ([]resource, error) {
	served, err := r.client.served(r.ctx)
	if err != nil && classify(err) == forbidden {
		return assumed(), err // whether they are there is seen when they are listed
	}
	if err == nil {
		err = r.client.absent(r.ctx, r.missing(served))
	}
	if err != nil {
		return nil, err
	}
	return served, nil
}

// probeEvery is how long a server that is away is left alone.
const probeEvery = 5 * time.Second

// sleepOrProbe is sleep that ends early if a watch fails.
func (r *runner) sleepOrProbe(d time.Duration) bool {
	if !sleep(r.ctx, min(d, probeEvery)) {
		return false
	}
	rest := time.NewTimer(d - probeEvery)
	defer rest.Stop()
	select {
	case <-r.ctx.Done():
		return false
	case <-r.probe:
	case <-rest.C:
	}
	return true
}

// missing returns the resources that were served and are not in an answer.
func (r *runner) missing(answer []resource) []resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.presence.missing(answer)
}

// signal puts a value into a channel of capacity 1, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sleep reports whether so much time has passed before ctx was done.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
