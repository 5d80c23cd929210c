package kvevents

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/inferpick/inferpick/internal/zmtp"
	"github.com/inferpick/inferpick/types"
)

// settled is how long a connection has to last to be none of a row of failures: an idle engine says
// nothing.
const settled = 30 * time.Second

// health is how one source does.
type health struct {
	t         *target
	failure   Failure
	failures  int // in a row
	failing   bool
	connected time.Time // zero: not
	rand      types.Rand
}

func (t *target) newHealth(rank int, url string) *health {
	h := fnv.New64a()
	fmt.Fprint(h, t.plan.name, rank, url)
	return &health{t: t, failure: t.failure(rank, url), rand: types.NewRand(t.opt.Seed ^ h.Sum64())}
}

func (t *target) failure(rank int, url string) Failure {
	return Failure{Pool: t.plan.pool, Endpoint: t.plan.name, Rank: rank, URL: url}
}

// failed counts and tells a failure that ends what was being done, and returns how long to wait.
func (h *health) failed(kind failureKind, err error) time.Duration {
	var violation *zmtp.ProtocolError
	if errors.As(err, &violation) {
		kind = protocolError
	}
	h.tell(kind, err)
	if !h.failing {
		h.t.log(slog.LevelWarn, "what the engine holds cannot be listened to", h.failure, err)
	}
	h.failing = true
	wait := h.t.opt.MinBackoff
	for range h.failures {
		wait = min(2*wait, h.t.opt.MaxBackoff)
	}
	h.failures++
	return wait + time.Duration(h.rand.Float64()*float64(wait)/4)
}

// tell counts and tells a failure.
func (h *health) tell(kind failureKind, err error) {
	h.t.counts.errors[kind].Add(1)
	f := h.failure
	f.Err = err
	h.t.tellFailure(f)
}

// connects says that there is a connection, which may yet turn out to be of no use.
func (h *health) connects() {
	h.t.counts.connects.Add(1)
	h.connected = time.Now()
}

// works ends a row of failures.
func (h *health) works() {
	if h.failing {
		h.t.log(slog.LevelInfo, "what the engine holds can be listened to again", h.failure, nil)
	}
	h.failures, h.failing = 0, false
}

// persist calls session until ctx is done, with growing waits after failures.
func (h *health) persist(ctx context.Context, session func(context.Context) error) {
	for ctx.Err() == nil {
		h.connected = time.Time{}
		err := func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel() // closes its connections
			return session(ctx)
		}()
		if ctx.Err() != nil {
			return // what went wrong is that it was cancelled
		}
		if !h.connected.IsZero() && time.Since(h.connected) > settled {
			h.works()
		}
		if !sleep(ctx, h.failed(connectionError, err)) {
			return
		}
	}
}

// sleep reports whether it was not cut short.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r run) tellFailure(f Failure) {
	if r.opt.OnFailure != nil {
		defer func() {
			if v := recover(); v != nil {
				r.log(slog.LevelError, "Options.OnFailure panicked", f, fmt.Errorf("%v", v))
			}
		}()
		r.opt.OnFailure(f)
	}
}

// recovered is to be deferred around what may panic and is not ours.
func (r run) recovered(f Failure) {
	if v := recover(); v != nil {
		r.counts.errors[panicError].Add(1)
		f.Err = fmt.Errorf("kvevents: panic: %v", v)
		r.log(slog.LevelError, "a function that is called panicked", f, fmt.Errorf("%v\n%s", v, debug.Stack()))
		r.tellFailure(f)
	}
}

func (r run) log(level slog.Level, msg string, f Failure, err error) {
	if l := r.opt.Logger; l != nil {
		defer func() { _ = recover() }() // there is nobody left to tell
		attrs := []slog.Attr{slog.String("pool", f.Pool.String()), slog.String("endpoint", f.Endpoint), slog.Int("rank", f.Rank), slog.String("url", f.URL)}
		if err != nil {
			attrs = append(attrs, slog.Any("error", err))
		}
		l.LogAttrs(r.ctx, level, msg, attrs...)
	}
}
