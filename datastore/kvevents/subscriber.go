package kvevents

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/internal/follow"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
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
	running atomic.Bool
	panics  *guard.Teller
	inbound atomic.Pointer[inbound] // of Run; nil: nobody connects to us
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
	return &Subscriber{store: store, opt: o, replays: make(chan struct{}, o.Replays), panics: guardlog.Teller(o.Logger, "kvevents")}, nil
}

// Run listens to the endpoints of the store, those that come later included, until ctx is done.
// It returns when all its goroutines have ended and its connections are closed: nil, or ErrRunning
// if another Run has not returned, or at once that an address of Options.Listen cannot be had. What the
// Sink was told stays with it, and is Unsynced then.
//
// An engine that cannot be listened to is not an error of Run: see Options.OnFailure and
// Options.Logger.
func (s *Subscriber) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer s.running.Store(false)
	r := run{s, ctx}
	in, err := r.listenIn()
	if err != nil {
		return err
	}
	s.inbound.Store(in)
	defer s.inbound.Store(nil)
	defer in.wg.Wait()
	follow.Run(ctx, s.store, r, s.panics)
	if t, ok := s.opt.Transport.(interface{ CloseIdleConnections() }); ok {
		s.panics.Call("Options.Transport", t.CloseIdleConnections)
	}
	return nil
}

// Addrs returns where Run listens, in the order of Options.Listen; nothing while it does not run.
func (s *Subscriber) Addrs() (addrs []net.Addr) {
	if in := s.inbound.Load(); in != nil {
		for _, l := range in.listeners {
			addrs = append(addrs, l.Addr())
		}
	}
	return addrs
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
	t := &target{run: r, plan: p, ctx: ctx, reborn: make(chan struct{}, 1)}
	for range r.opt.Listen {
		t.arrivals = append(t.arrivals, make(chan arrival))
	}
	t.expect(false)
	return t
}

var _ Store = (*datastore.Store)(nil)
