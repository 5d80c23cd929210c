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
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/types"
)

// Source keeps a datastore.Store in sync with a cluster. Its methods are safe for concurrent
// use. Create one with New.
type Source struct {
	opt     Options
	panics  *guard.Teller
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
		opt: o, panics: guardlog.Teller(o.Logger, "kubernetes"), client: c,
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
	r.wait.Go(func() { s.panics.Loop(ctx, "what asks which kinds there are", r.discover) })
	s.panics.Loop(ctx, "what brings changes to the store", r.follow)
	return nil
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

// follow brings changes to the store until the context is done.
func (r *runner) follow() {
	signal(r.wake) // something may be left of before a panic
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.wake:
		}
		if !sleep(r.ctx, r.opt.Debounce) {
			return
		}
		select { // what has come meanwhile is part of it
		case <-r.wake:
		default:
		}
		r.reconcile()
	}
}

// reconcile brings the store to what is known of the cluster.
func (r *runner) reconcile() {
	r.committer.restore(r.takeLost())
	r.mu.Lock()
	audit := r.state.audit
	r.state.audit = false
	r.mu.Unlock()
	var again []types.NamespacedName
	if audit {
		again = r.committer.audit()
	}

	want, endpoints := r.plan(again)
	r.committer.commit(want, endpoints)
	fresh := r.report()
	signal(r.changed)
	for what, why := range fresh {
		r.opt.Logger.Warn("an object of the cluster is not in force", slog.String("object", what), slog.String("error", why))
	}
}

// plan returns what there is to be in the store. again are pools of which the store may lack something.
func (r *runner) plan(again []types.NamespacedName) (want map[objectKey]*manifest, endpoints map[types.NamespacedName][]datastore.EndpointSpec) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, pool := range again {
		r.state.dirtyPools[pool] = true
	}
	r.state.plan(r)
	return r.state.inForce, r.state.endpoints(r.shape) // the former is never changed in place
}

// report takes over what became of it, and returns what is new to be told.
func (r *runner) report() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.state.report(r.committer.problems(), r.committer.overlaps)
	if r.state.ready() {
		r.state.markSynced(r.synced)
	}
	return fresh
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
	again := retry{min: r.opt.MinRetry, max: r.opt.MaxRetry, away: probeEvery}
	failing := false
	var told []string // kinds that are missing
	for {
		served, err := r.ask()
		if r.ctx.Err() != nil {
			return
		}
		pause := r.opt.Refresh
		switch {
		case err == nil:
			again.succeeded()
			if failing {
				r.opt.Logger.Info("the API server says again which kinds it has")
			}
		default:
			pause = again.failed(err)
			if !failing {
				r.opt.Logger.Warn("cannot ask the API server which kinds it has; what is known stays in force", slog.Any("error", err))
			}
		}
		missing := r.discovered(served, err, failing && err == nil)
		if !slices.Equal(missing, told) {
			told = missing
			r.tellMissing(missing)
		}
		failing = err != nil
		signal(r.wake)
		if !r.sleepOrProbe(pause) {
			return
		}
	}
}

// discovered takes over which kinds there are, and returns those that are missing. back: the server is there again.
func (r *runner) discovered(served []resource, err error, back bool) (missing []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.discovered(served, err)
	if back {
		r.state.hurry()
	}
	return r.state.missingKinds()
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
