package scrape

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// Store is where endpoints come from and readings go: a *datastore.Store. If it is a
// ModelStore too, so do the names of the models that servers serve.
type Store interface {
	// Watch calls fn for each endpoint that is there, as Added, and for each
	// change after that, in order and one at a time. After stop has returned, fn
	// is not called any more.
	Watch(fn func(datastore.Event)) (stop func())
	// UpdateMetrics stores a reading. It returns false if the endpoint has gone.
	// It may call fn.
	UpdateMetrics(l *types.Load, m types.Metrics) bool
}

// Scraper reads the metrics of all endpoints of a store into it, and what they serve.
type Scraper struct {
	store    Store
	opt      Options
	settings *settings // of pools without any of their own
	pools    atomic.Pointer[map[types.NamespacedName]*settings]
	pool     bufferPool

	mu      sync.Mutex
	running bool
}

// ErrRunning is the error of Run of a Scraper that is running.
var ErrRunning = errors.New("scrape: the scraper is running")

// New returns a Scraper for the endpoints of store. It does nothing until Run.
// It fails if an option is out of its limits or an engine is not well formed.
func New(store Store, o Options) (*Scraper, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	t, err := newTable(o.Engines)
	if err != nil {
		return nil, err
	}
	s := &Scraper{store: store, opt: o, settings: &settings{table: t}}
	s.pools.Store(&map[types.NamespacedName]*settings{})
	return s, nil
}

// Run scrapes the endpoints of the store, those that come later included, until
// ctx is done. It returns when all its goroutines have ended and its connections
// are closed: nil, or ErrRunning if another Run has not returned.
//
// A failing endpoint is not an error of Run: its last reading stays in the store
// and grows old, which makes it unknown to a scheduler after a while. See
// Options.OnScrape and Options.Logger.
func (s *Scraper) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return ErrRunning
	}
	s.running = true
	s.mu.Unlock()

	r := &run{Scraper: s, ctx: ctx, targets: map[*types.Load]*target{}}
	stop := s.store.Watch(r.event)
	<-ctx.Done()
	stop()
	r.wg.Wait()

	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	return nil
}

// run is what lives as long as one call of Run.
type run struct {
	*Scraper
	ctx context.Context
	wg  sync.WaitGroup // targets

	// Only event uses these, and the store calls it one at a time.
	targets map[*types.Load]*target
}

// event starts and stops targets. It waits for nothing: the goroutine of a
// target may be the one that calls.
func (r *run) event(ev datastore.Event) {
	load := ev.Endpoint.Load
	old := r.targets[load]
	switch ev.Kind {
	case datastore.Removed:
		if old != nil {
			old.cancel()
			delete(r.targets, load)
		}
	case datastore.Restarted:
		if old != nil {
			old.restart()
		}
	default: // Added, Changed
		told := addressOf(r.settingsOf(ev.Pool).options.fill(ev.Spec))
		if old != nil && old.told == told {
			return
		}
		var after <-chan struct{}
		if old != nil {
			old.cancel()
			delete(r.targets, load)
			after = old.done
		}
		if ev.Spec.NoMetrics {
			return
		}
		t := r.newTarget(ev, told)
		r.targets[load] = t
		r.wg.Go(func() {
			// One reading at a time: what the old address said last must not come
			// after what the new one says.
			if after != nil {
				<-after
			}
			t.loop()
		})
	}
}

var (
	_ Store      = (*datastore.Store)(nil)
	_ ModelStore = (*datastore.Store)(nil)
)
