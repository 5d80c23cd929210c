package telemetry

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync/atomic"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Hooks returns hooks for the schedulers of a pool, which count what happens and
// then call those of next. A scheduler needs hooks of its own for each pool whose
// series are to be told apart; called again for the same pool, Hooks goes on with
// the same series.
//
// They add less than a microsecond to a request, and no allocation once its series
// are there: see BenchmarkHooks.
func (m *Metrics) Hooks(pool types.NamespacedName, next scheduling.Hooks) scheduling.Hooks {
	p := m.pool(pool)
	return scheduling.Hooks{
		Scheduled:    before(next.Scheduled, func(e scheduling.Event) { m.scheduled(p, &e) }),
		Rejected:     before2(next.Rejected, func(req *types.Request, err error) { m.rejected(p, req, err) }),
		PluginFailed: before2(next.PluginFailed, func(_ *types.Request, err *scheduling.PluginError) { p.failed(err.Stage, err.Plugin) }),
		Warned:       next.Warned,
		// Its time is counted at the end: a retry may bring another.
		FirstToken: before(next.FirstToken, func(e scheduling.Event) { m.began(&e) }),
		Prefilled:  before(next.Prefilled, func(e scheduling.Event) { m.prefilled(p, &e) }),
		Retried: before(next.Retried, func(e scheduling.Event) {
			if e.From != e.Endpoint { // else the one that answers begins anew, without help
				p.retries.Add(1)
			}
			m.sent(&e)
		}),
		Finished: before(next.Finished, func(e scheduling.Event) { m.finished(p, e.Request, &e.Outcome) }),
	}
}

// before returns a hook that calls own, and then next unless it is nil.
func before[E any](next, own func(E)) func(E) {
	if next == nil {
		return own
	}
	return func(e E) {
		own(e)
		next(e)
	}
}

func before2[A, B any](next, own func(A, B)) func(A, B) {
	if next == nil {
		return own
	}
	return func(a A, b B) {
		own(a, b)
		next(a, b)
	}
}

func (m *Metrics) scheduled(in *pool, e *scheduling.Event) {
	m.decisionTime.observe(int64(m.o.Now().Sub(e.At)))
	u := m.pair(e.Request).use(in)
	p := u.pair
	p.request(e.Request.Priority)
	p.requestSize.observe(int64(len(e.Request.Body)))
	m.decided(p, e.Endpoint)
	u.inFlight.Add(1)
	m.key.Set(&e.Request.Attrs, u)
	m.sent(e)
}

func (m *Metrics) rejected(in *pool, req *types.Request, err error) {
	m.decisionTime.observe(int64(m.o.Now().Sub(req.Now)))
	m.pair(req).undecided.Add(1)
	if pe, ok := err.(*scheduling.PluginError); ok && broken(pe) {
		in.failed(pe.Stage, pe.Plugin)
	}
}

// broken reports whether a plugin that ended a decision failed, and did not just
// refuse the request.
func broken(err error) bool {
	refusals := []error{scheduling.ErrSaturated, scheduling.ErrNoEndpoint, context.Canceled, context.DeadlineExceeded}
	return !slices.ContainsFunc(refusals, func(refusal error) bool { return errors.Is(err, refusal) })
}

func (m *Metrics) finished(in *pool, req *types.Request, out *types.Outcome) {
	// One whose hook Scheduled panicked was never counted.
	u, _ := m.key.Get(&req.Attrs)
	if u == nil {
		return
	}
	m.key.Set(&req.Attrs, nil)
	u.inFlight.Add(-1)
	if errors.Is(out.Err, scheduling.ErrExpired) {
		in.expired.Add(1)
	}
	u.spent(req, out)
	if well := u.pair.finished(req, out); well && req.Split {
		m.answered(in, req)
	}
}

// spent counts the tokens that a request took, however it ended.
func (u *use) spent(req *types.Request, out *types.Outcome) {
	addTokens(&u.prompt, out.Usage.PromptTokens)
	addTokens(&u.cached, out.Usage.CachedTokens)
	if n := addTokens(&u.output, out.Usage.CompletionTokens); n > 0 {
		u.outputRate.add(float64(n), req.Now)
	}
}

func addTokens(total *atomic.Uint64, reported types.Gauge) int64 {
	n, ok := tokens(reported)
	if ok {
		total.Add(uint64(n))
	}
	return n
}

func (h *histogram) observeTokens(reported types.Gauge) int64 {
	n, ok := tokens(reported)
	if ok {
		h.observe(n)
	}
	return n
}

// tokens returns what a server reported as a count. A figure that none can be is
// taken as not reported.
func tokens(reported types.Gauge) (int64, bool) {
	const most = 1 << 40
	v, ok := reported.Value()
	if !ok || !(v >= 0 && v <= most) {
		return 0, false
	}
	return int64(math.Round(v)), true
}

// finished counts the end of a request: of one that was answered all that is
// known of it, of another why it was not. It reports whether it was.
func (p *pair) finished(req *types.Request, out *types.Outcome) (well bool) {
	if req.Stream && req.SLO.TTFT > 0 {
		first := out.TTFT
		if first == 0 {
			first = out.Duration // so long there was none
		}
		if first > req.SLO.TTFT {
			p.lateFirst.Add(1)
		}
	}
	if c, failed := failure(out); failed {
		p.failed(c)
		return false
	}
	p.duration.observe(int64(out.Duration))
	p.responseSize.observe(out.ResponseBytes)
	p.ended(out.Finish)
	p.input.observeTokens(out.Usage.PromptTokens)
	p.cached.observeTokens(out.Usage.CachedTokens)
	n := p.output.observeTokens(out.Usage.CompletionTokens)
	if n > 0 {
		p.ntpot.observe(int64(out.Duration) / n)
	}
	if !req.Stream || out.TTFT <= 0 {
		return true
	}
	p.ttft.observe(int64(out.TTFT))
	if n > 1 {
		following := (out.Duration - out.TTFT).Nanoseconds() / (n - 1)
		p.tpot.observe(following)
		if req.SLO.TPOT > 0 && following > int64(req.SLO.TPOT) {
			p.lateFollowing.Add(1)
		}
	}
	return true
}
