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

	r := &run{Subscriber: s, ctx: ctx, targets: map[*types.Load]*target{}}
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
	ctx   context.Context
	wg    sync.WaitGroup // targets
	names turns          // the Sink is not to hear of two targets of one name at once

	// Only event uses this, and the store calls it one at a time.
	targets map[*types.Load]*target
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
		t := r.newTarget(p)
		r.targets[load] = t
		r.wg.Go(func() {
			defer t.cancel()
			if leave, ok := r.names.take(t.ctx, p.name); ok {
				defer leave()
				t.loop()
			}
		})
	}
}

var _ Store = (*datastore.Store)(nil)
