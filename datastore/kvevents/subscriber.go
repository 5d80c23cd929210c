package kvevents

import (
	"context"
	"errors"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/internal/follow"
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
	runner  follow.Runner
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
	if !follow.Run(ctx, &s.runner, s.store, run{s, ctx}) {
		return ErrRunning
	}
	if t, ok := s.opt.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
	return nil
}

// run is what lives as long as one call of Run.
type run struct {
	*Subscriber
	ctx context.Context
}

// Plan implements follow.Work. The Sink is not to hear of two targets of one name at once.
func (r run) Plan(ev datastore.Event) (p plan, turn any, work bool) {
	p = r.planOf(ev)
	return p, p.name, true
}

// Worker implements follow.Work.
func (r run) Worker(ctx context.Context, _ datastore.Event, p plan) follow.Worker {
	return &target{run: r, plan: p, ctx: ctx, reborn: make(chan struct{}, 1)}
}

var _ Store = (*datastore.Store)(nil)
