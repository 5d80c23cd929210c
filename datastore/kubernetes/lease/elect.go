package lease

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
)

// Options of an election. Namespace and Name are required.
type Options struct {
	// Namespace and Name are those of the Lease, which is created if it is missing.
	Namespace, Name string

	// Identity names this process in the Lease. No two processes may have the same. Default: the
	// name of the host, which in a pod is its name, and a random part.
	Identity string

	// Duration is how long others wait for a holder that does not renew the Lease, whole
	// seconds. Default 15 s, at least 1 s.
	Duration time.Duration
	// Renew is how long a holder goes on that cannot renew it. Default two thirds of Duration;
	// shorter than that.
	Renew time.Duration
	// Retry is the time from one attempt to get or renew the Lease to the next. Default a fifth of
	// Renew; shorter than that. After failures to get it the wait doubles, up to 30 s.
	Retry time.Duration

	// OnHolder is told who holds the Lease whenever that is seen to change; empty: nobody. It
	// must be quick. Optional. A panic is told to Logger.
	OnHolder func(identity string, self bool)

	// Logger hears of changes of the holder and of failures, repeated ones once. Nil: silence.
	Logger *slog.Logger
}

// maxWait bounds the wait after failures to get a Lease.
const maxWait = 30 * time.Second

func (o *Options) complete() error {
	c := check.Checks{Package: "lease: Options"}
	c.Want(o.Namespace != "", "Namespace", o.Namespace, "a namespace")
	c.Want(o.Name != "", "Name", o.Name, "a name")
	check.Default(&c, "Duration", &o.Duration, 15*time.Second, time.Second, 0)
	c.Want(o.Duration%time.Second == 0, "Duration", o.Duration, "whole seconds")
	if o.Renew == 0 {
		o.Renew = o.Duration * 2 / 3
	}
	c.Want(o.Renew > 0 && o.Renew < o.Duration, "Renew", o.Renew, "more than 0 and less than Duration")
	if o.Retry == 0 {
		o.Retry = o.Renew / 5
	}
	c.Want(o.Retry > 0 && o.Retry < o.Renew, "Retry", o.Retry, "more than 0 and less than Renew")
	if o.Identity == "" {
		host, _ := os.Hostname()
		o.Identity = host + "_" + crand.Text()
	}
	o.Logger = guardlog.Logger(o.Logger)
	return c.Err()
}

// Elect takes part in an election until ctx is done, and then returns nil. Whenever this process
// holds the Lease, it calls lead with a context that is done when it no longer does; lead must
// return then, and is not called again before it has. A lead that returns earlier leaves the
// Lease held; one that panics is called again after a while. At the end the Lease is given back, so
// that another one need not wait for it.
//
// That the API server is away or refuses, for want of rights to get, create and update leases, is
// logged and tried again. An error is one of the options.
func Elect(ctx context.Context, config *rest.Config, o Options, lead func(ctx context.Context)) error {
	if err := o.complete(); err != nil {
		return err
	}
	store, err := newAPI(config, o)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	start := time.Now()
	e := newElection(o, store, func() instant {
		now := time.Now()
		return instant{mono: now.Sub(start), wall: now.Round(0)} // Round takes the monotonic reading off
	})
	e.panics.Loop(ctx, "Elect", func() { e.run(ctx, lead) })
	return nil
}

// leases is where the record is.
type leases interface {
	// read returns the record, whose version is empty if there is none.
	read(ctx context.Context) (record, error)
	// write replaces the version that r has by r, and returns it with its new version. The error
	// is errConflict if there is another version.
	write(ctx context.Context, r record) (record, error)
}

var (
	errConflict = errors.New("another process has written the lease")
	errHeld     = errors.New("another process holds the lease")
)

// election is the loop around a candidate.
type election struct {
	o      Options
	panics *guard.Teller
	store  leases
	clock  func() instant

	*candidate
	told struct{ holder, failure string }
}

func newElection(o Options, store leases, clock func() instant) *election {
	return &election{
		o: o, panics: guardlog.Teller(o.Logger, "lease"), store: store, clock: clock,
		candidate: &candidate{identity: o.Identity, duration: o.Duration, renew: o.Renew},
	}
}

func (e *election) run(ctx context.Context, lead func(context.Context)) {
	for e.acquire(ctx) {
		e.lead(ctx, lead)
	}
	e.giveBack()
}

// acquire tries to get the Lease until that succeeds, or returns false if ctx is done before.
func (e *election) acquire(ctx context.Context) bool {
	wait := e.o.Retry
	for ctx.Err() == nil {
		err := e.attempt(ctx, e.o.Renew)
		e.tell(ctx, err)
		switch {
		case err == nil:
			return true
		case errors.Is(err, errHeld), errors.Is(err, errConflict):
			wait = e.o.Retry
		default:
			wait = min(2*wait, max(maxWait, e.o.Retry))
		}
		sleep(ctx, wait+time.Duration(rand.Float64()*0.2*float64(wait)))
	}
	return false
}

// lead calls lead and renews the Lease until it is lost or ctx is done. That it is lost is for a
// timer to say: an attempt to renew it may take longer.
func (e *election) lead(ctx context.Context, lead func(context.Context)) {
	leading, stop := context.WithCancel(ctx)
	lost := time.AfterFunc(e.left(e.clock()), stop)
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.panics.Loop(leading, "lead", func() { lead(leading) })
	}()
	for {
		sleep(leading, e.o.Retry)
		left := e.left(e.clock())
		if leading.Err() != nil || left <= 0 {
			break
		}
		e.tell(ctx, e.attempt(ctx, left))
		if left = e.left(e.clock()); left <= 0 || !lost.Stop() {
			break
		}
		lost.Reset(left)
	}
	lost.Stop()
	stop()
	<-done
	if ctx.Err() == nil {
		e.o.Logger.LogAttrs(ctx, slog.LevelWarn, "lease is lost", slog.String("lease", e.name()))
		e.told.holder = ""
	}
}

// attempt claims the Lease, within a time.
func (e *election) attempt(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if !e.holds { // a holder knows what it has written
		if err := e.look(ctx); err != nil {
			return err
		}
	}
	before := e.clock()
	next, ok := e.claim(before)
	if !ok {
		return errHeld
	}
	written, err := e.store.write(ctx, next)
	switch {
	case err == nil:
		e.wrote(written, before, e.clock())
		return nil
	case errors.Is(err, errConflict) && e.holds:
		// Our own write, of which no answer came, or another holder: that ends it at once.
		if err := e.look(ctx); err != nil {
			return err
		}
	}
	return err
}

// look reads the record.
func (e *election) look(ctx context.Context) error {
	r, err := e.store.read(ctx)
	if err == nil {
		e.saw(r, e.clock())
	}
	return err
}

// giveBack releases the Lease if it is held.
func (e *election) giveBack() {
	r, ok := e.release(e.clock())
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.o.Retry)
	defer cancel()
	if _, err := e.store.write(ctx, r); err != nil {
		e.tell(ctx, err)
	}
}

// tell tells of a new holder and of a failure, once each.
func (e *election) tell(ctx context.Context, err error) {
	if holder := e.seen.holder; holder != e.told.holder {
		e.told.holder = holder
		e.o.Logger.LogAttrs(ctx, slog.LevelInfo, "lease has a new holder", slog.String("lease", e.name()),
			slog.String("holder", holder), slog.Bool("self", holder == e.identity))
		if e.o.OnHolder != nil {
			e.panics.Call("Options.OnHolder", func() { e.o.OnHolder(holder, holder == e.identity) })
		}
	}
	failure := ""
	if err != nil && !errors.Is(err, errHeld) && !errors.Is(err, errConflict) && !errors.Is(err, context.Canceled) {
		failure = err.Error()
	}
	if failure != e.told.failure && failure != "" {
		e.o.Logger.LogAttrs(ctx, slog.LevelWarn, "lease cannot be claimed", slog.String("lease", e.name()), slog.Any("error", err))
	}
	e.told.failure = failure
}

func (e *election) name() string { return e.o.Namespace + "/" + e.o.Name }

// sleep waits, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
