package autoscale

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// account is what is counted of a pool, or of one model of it. It is guarded by its pool's lock.
type account struct {
	lately, recently flow // what comes
	ended            flow // what ends
	refused          flow // what was refused
	ttft, tpot       latencies

	cached mean // part of a prompt that is to be computed, by its tokens
	output mean // tokens of an answer
	took   mean // seconds from the decision to the end

	queued  int64 // requests that wait
	tokens  int64 // of their prompts
	running int64 // requests at servers, as hooks have it
	active  time.Time
}

const (
	// outputMemory and promptMemory are how much is remembered of lengths: answers, and tokens of prompts.
	outputMemory = 200.
	promptMemory = 1e6
)

func newAccount(now time.Time) *account {
	a := &account{
		lately: flow{window: RateWindow}, recently: flow{window: RecentWindow},
		ended: flow{window: RateWindow}, refused: flow{window: RateWindow},
	}
	for _, f := range []*flow{&a.lately, &a.recently, &a.ended, &a.refused} {
		f.advance(now)
	}
	return a
}

// part returns which part of a prompt is to be computed, and how much output is expected.
func (a *account) expects(in *account, req *types.Request) (part, output float64) {
	switch {
	case !keeps(req):
		return 1, 0
	case req.Work.Output > 0:
		output = float64(req.Work.Output)
	default:
		output = a.output.or(in.output.or(scheduling.DefaultOutputTokens))
	}
	if req.MaxTokens > 0 {
		output = min(output, float64(req.MaxTokens))
	}
	return min(a.cached.or(in.cached.or(1)), 1), output
}

// keeps reports whether a request has output, and leaves its prompt in a cache: others tell nothing of those that do.
func keeps(req *types.Request) bool {
	return req.Work.Kind != types.Pools && req.Work.Kind != types.Denoises
}

// arrives counts a request with a prompt of so many tokens, to be computed in part.
func (a *account) arrives(tokens, compute, output float64, now time.Time) {
	a.lately.add(tokens, compute, output, now)
	a.recently.add(tokens, compute, output, now)
	a.active = now
}

// ends counts the end of a request.
func (a *account) ends(req *types.Request, out *types.Outcome, compute, waited float64, o *targets, now time.Time) {
	a.active = now
	ttft := o.of(req.SLO.TTFT, o.ttft)
	// Whose client gave up without a token when one was due has missed its target: it would have come later still.
	if late := waited + out.Duration.Seconds(); out.Cancelled && req.Stream && out.TTFT <= 0 && late > ttft {
		a.ttft.add(late, ttft, now)
	}
	if !out.Served() {
		return
	}
	n := out.Usage.CompletionTokens.Or(float64(out.Tokens))
	a.ended.add(float64(req.Prompt.Tokens), compute, n, now)
	// An answer whose usage is told, and no tokens, has made none: embeddings, say. Of one without usage it is not known.
	if _, told := out.Usage.PromptTokens.Value(); (n > 0 || told) && keeps(req) && req.Work.Output <= 0 {
		a.output.add(n, 1, outputMemory)
	}
	a.took.add(out.Duration.Seconds(), 1, outputMemory)
	if !req.Stream || out.TTFT <= 0 {
		return
	}
	a.ttft.add(waited+out.TTFT.Seconds(), ttft, now)
	if n > 1 {
		a.tpot.add((out.Duration-out.TTFT).Seconds()/(n-1), o.of(req.SLO.TPOT, o.tpot), now)
	}
}

// targets are those of requests that have none, in seconds.
type targets struct{ ttft, tpot float64 }

func (o *targets) of(own time.Duration, def float64) float64 {
	if own > 0 {
		return own.Seconds()
	}
	return def
}

// read fills in what is known of it.
func (a *account) read(s *Signals, now time.Time) {
	lately, recently, ended, refused := a.lately.read(now), a.recently.read(now), a.ended.read(now), a.refused.read(now)
	s.Queued, s.QueuedTokens, s.Running = a.queued, a.tokens, a.running
	s.Arrivals, s.ArrivalTokens = Figure(lately.requests), Figure(lately.prompt)
	s.ArrivalCompute, s.ArrivalOutput = Figure(lately.compute), Figure(lately.output)
	s.ArrivalWork, s.WorkNoise = lately.work(s.Speed)
	s.RecentWork, s.RecentNoise = recently.work(s.Speed)
	s.ServedWork, _ = ended.work(s.Speed)
	s.OutputTokens, s.Refused, s.Duration = Figure(ended.output), Figure(refused.requests), Figure(a.took.or(math.NaN()))
	s.TTFT, s.TPOT = a.ttft.read(now), a.tpot.read(now)
	switch {
	case a.queued > 0 || a.running > 0:
		s.Idle = 0
	case a.active.IsZero():
		s.Idle = -1
	default:
		s.Idle = max(now.Sub(a.active), 0)
	}
}
