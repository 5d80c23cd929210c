package kvevents

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
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
			_, err := h.try(func() error { return session(ctx) })
			return err
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

// try calls session, of which a panic is an error. Then what it was about is to be begun anew.
func (h *health) try(session func() error) (panicked bool, err error) {
	if p := guard.Call("", func() { err = session() }); p != nil {
		h.t.panicked(h.failure, p)
		return true, fmt.Errorf("kvevents: panic: %v", p.Value)
	}
	return false, err
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
		r.panics.Call("Options.OnFailure", func() { r.opt.OnFailure(f) })
	}
}

// recovered is to be deferred around what may panic and is not ours.
func (r run) recovered(f Failure) {
	if p := guard.Caught("", recover()); p != nil {
		r.panicked(f, p)
		f.Err = fmt.Errorf("kvevents: panic: %v", p.Value)
		r.tellFailure(f)
	}
}

// panicked counts a panic, and tells the Logger, but not each time.
func (r run) panicked(f Failure, p *guard.Panic) {
	r.counts.errors[panicError].Add(1)
	p.In = fmt.Sprintf("what is called for %s, rank %d, %s,", f.Endpoint, f.Rank, f.URL)
	r.panics.Tell(p)
}

func (r run) log(level slog.Level, msg string, f Failure, err error) {
	if l := r.opt.Logger; l != nil {
		attrs := []slog.Attr{slog.String("pool", f.Pool.String()), slog.String("endpoint", f.Endpoint), slog.Int("rank", f.Rank), slog.String("url", f.URL)}
		if err != nil {
			attrs = append(attrs, slog.Any("error", err))
		}
		l.LogAttrs(r.ctx, level, msg, attrs...)
	}
}
