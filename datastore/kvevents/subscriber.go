package kvevents

import (
	"context"
	"errors"
	"reflect"
	"sync"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// Store is where endpoints come from: a *datastore.Store.
type Store interface {
	// Watch calls fn for each endpoint that is there, as Added, and for each change after that,
	// in order and one at a time. After stop has returned, fn is not called any more.
	Watch(fn func(datastore.Event)) (stop func())
}

// Subscriber listens to the engines of all endpoints of a store, and tells a Sink what they hold.
type Subscriber struct {
	store   Store
	opt     Options
	counts  counters
	replays chan struct{} // has a value for each replay that is under way

	mu      sync.Mutex
	running bool
}

// ErrRunning is the error of Run of a Subscriber that is running.
var ErrRunning = errors.New("kvevents: the subscriber is running")

// New returns a Subscriber for the endpoints of store. It does nothing until Run. It fails if an
// option is out of its limits.
func New(store Store, o Options) (*Subscriber, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Subscriber{store: store, opt: o, replays: make(chan struct{}, o.Replays)}, nil
}

// Run listens to the endpoints of the store, those that come later included, until ctx is done.
// It returns when all its goroutines have ended and its connections are closed: nil, or ErrRunning
// if another Run has not returned. What the Sink was told stays with it, and is Unsynced then.
//
// An engine that cannot be listened to is not an error of Run: see Options.OnFailure and
// Options.Logger.
func (s *Subscriber) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return ErrRunning
	}
	s.running = true
	s.mu.Unlock()

	r := &run{Subscriber: s, ctx: ctx, targets: map[*types.Load]*target{}, newest: map[string]<-chan struct{}{}}
	stop := s.store.Watch(r.event)
	<-ctx.Done()
	stop()
	r.wg.Wait()
	if t, ok := s.opt.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}

	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	return nil
}

// run is what lives as long as one call of Run.
type run struct {
	*Subscriber
	ctx context.Context
	wg  sync.WaitGroup // targets

	// Only event uses these, and the store calls it one at a time.
	targets map[*types.Load]*target
	newest  map[string]<-chan struct{} // by name: closed once the last target of that name has ended
}

// event starts and stops targets. It waits for nothing.
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
		p := r.planOf(ev)
		if old != nil && reflect.DeepEqual(old.plan, p) {
			return
		}
		if old != nil {
			old.cancel()
		}
		r.start(load, r.newTarget(p))
	}
}

// start starts a target once the one before it with its name has ended: the Sink must not hear of
// both at once.
func (r *run) start(load *types.Load, t *target) {
	after := r.newest[t.plan.name]
	r.targets[load], r.newest[t.plan.name] = t, t.done
	r.wg.Go(func() {
		defer close(t.done)
		if after != nil {
			<-after
		}
		t.loop()
	})
	if len(r.newest) > 2*len(r.targets)+16 {
		for name, done := range r.newest {
			select {
			case <-done:
				delete(r.newest, name)
			default:
			}
		}
	}
}

var _ Store = (*datastore.Store)(nil)
