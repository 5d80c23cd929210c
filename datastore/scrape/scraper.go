package scrape

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/internal/follow"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
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
	running  atomic.Bool
	panics   *guard.Teller
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
	s := &Scraper{store: store, opt: o, settings: &settings{table: t}, panics: guardlog.Teller(o.Logger, "scrape")}
	if o.Now != nil {
		s.opt.Now = s.panics.Clock("Options.Now", o.Now)
	} else {
		s.opt.Now = time.Now
	}
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
	if !s.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer s.running.Store(false)
	follow.Run(ctx, s.store, work{s, &servers{}}, s.panics)
	return nil
}

// work is what is done for each endpoint.
type work struct {
	*Scraper
	servers *servers
}

// Plan implements follow.Work. One reading of an endpoint at a time: what the old address said last
// must not come after what the new one says. Endpoints that are ranks of one server have one turn, as
// one page is for all of them.
func (w work) Plan(ev datastore.Event) (to address, turn any, work bool) {
	to, turn = addressOf(w.settingsOf(ev.Pool).options.fill(ev.Spec)), ev.Endpoint.Load
	if ev.Endpoint.Rank.IsSet() {
		turn = serverKey{ev.Pool, to}
	}
	return to, turn, !ev.Spec.NoMetrics
}

// Worker implements follow.Work.
func (w work) Worker(ctx context.Context, ev datastore.Event, to address) follow.Worker {
	t := w.newTarget(ctx, ev)
	if ev.Endpoint.Rank.IsSet() {
		t.server = w.servers.join(ctx, serverKey{ev.Pool, to}, memberOf(ev))
	}
	return t
}

var (
	_ Store      = (*datastore.Store)(nil)
	_ ModelStore = (*datastore.Store)(nil)
)
