package plugins

import (
	"math"
	"strings"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/types"
)

// serverRates is how much longer one server takes than servers do on average, as
// logarithms: for a step, and for a prompt token beyond that.
type serverRates struct{ step, token float64 }

// rateOf returns what is believed of a server: what it was taken for when it was met, and
// what was learned since.
func (c *Cost) rateOf(s *costServer, now float64) serverRates {
	step, token := c.fleet.Difference(&s.learned, now)
	return serverRates{s.start.step + step, s.start.token + token}
}

// maxStart bounds the logarithms that a server starts with: factors of 7.
const maxStart = 2.

// An Accelerator is how fast a model server is likely to be on it, relative to an
// H100: Decode by its memory bandwidth, Prefill by its arithmetic, from the vendors'
// data sheets (dense BF16). It is a start: Cost learns the rest.
type Accelerator struct{ Decode, Prefill float64 }

// Accelerators are those known by a part of their name, in lower case.
func Accelerators() map[string]Accelerator {
	return map[string]Accelerator{
		"h100":   {1, 1},
		"h200":   {1.43, 1},
		"b200":   {2.39, 2.27},
		"gh200":  {1.2, 1},
		"a100":   {0.6, 0.32},
		"a10g":   {0.18, 0.07},
		"a10":    {0.18, 0.13},
		"l40s":   {0.26, 0.37},
		"l4":     {0.09, 0.12},
		"t4":     {0.1, 0.066},
		"v100":   {0.27, 0.13},
		"mi300x": {1.58, 1.32},
	}
}

// startRates are those of a server that nothing has been learned of.
func (o *CostOptions) startRates(ep *types.Endpoint) serverRates {
	if v := ep.Capacity.Speed; v > 0 && !math.IsInf(v, 1) {
		r := min(max(-math.Log(v), -maxStart), maxStart)
		return serverRates{step: r}
	}
	label := strings.ToLower(ep.Labels[o.AcceleratorLabel])
	if label == "" {
		return serverRates{}
	}
	known, longest := Accelerator{1, 1}, 0
	for name, a := range Accelerators() {
		// The longest name that fits: "l40s" has "l4" in it.
		if len(name) > longest && strings.Contains(label, name) {
			known, longest = a, len(name)
		}
	}
	return serverRates{
		step:  min(max(-math.Log(known.Decode), -maxStart), maxStart),
		token: min(max(-math.Log(known.Prefill/known.Decode), -maxStart), maxStart),
	}
}

// prefillTime is what the engine of the options takes to compute the last compute
// tokens of a prompt, besides the step.
func (e *EngineRates) prefillTime(prompt, compute float64) float64 {
	return e.Token * compute * (1 + e.Attention*(prompt-compute/2))
}

// observe learns from how a request went that ends now.
func (c *Cost) observe(s *costServer, r *costed, now float64, out *types.Outcome) {
	if c.o.FixedRates {
		return
	}
	tokens := out.Usage.CompletionTokens.Or(float64(out.Tokens))
	own, weight := c.computed(r, out.Usage)
	if !r.begun || !c.timed(r, now, tokens, out) {
		if out.Stalled.Seconds() > mostStalled*(now-r.sent) {
			return // the client's time, of which it is not known what the server worked through
		}
		c.observeWhole(s, r, now, tokens, own, weight)
		return
	}
	c.observeFirst(s, r, now, own, weight)
	if r.behind == 0 { // else it may have waited for those before it to end, where places are few
		c.lateness.Add(r.firstAfter - (r.predicted - r.late + r.work))
	}
	if tokens > leastDecoded {
		// As many steps as there are tokens, and the prefills that came in between.
		steps := tokens - 1
		c.learn(s, r, cost.Row{
			Steps: steps * (r.stepThen + s.baseStep) / 2, Grown: steps * c.grown((r.beside+s.decoding)/2), Prefill: s.done - r.doneThen,
		}, now-r.firstAt-out.Stalled.Seconds(), 1, now)
	}
}

// observeFirst learns from the time to a first token. That is less exact than the time between
// tokens: it waited for a step that was under way.
func (c *Cost) observeFirst(s *costServer, r *costed, now, own, weight float64) {
	took, steps, prefill := r.firstAfter-r.wait, r.steps, own+r.joined
	if took < r.firstAfter/2 {
		// How long it had to wait is not known so well that it could be left out.
		took, steps, prefill = r.firstAfter, r.steps+halfIf(r.wait > 0), own+r.ahead
	}
	row := cost.Row{Fixed: 1, Steps: steps * r.stepThen, Grown: steps * c.grown(r.beside), Prefill: prefill}
	took = c.beyondWay(&row, took, r.beside < idle && r.behind == 0)
	c.learn(s, r, row, took, firstWeight*weight/(1+r.behind), now)
}

const (
	// firstWeight is what the time to a first token counts beside that between all others.
	firstWeight = .25
	// leastDecoded is from how many tokens on the time between them says how long a step takes.
	leastDecoded = 8
	// collected is how many tokens there are to a piece of the answer where somebody on the way
	// collects them, so that the times of the first and of the last say nothing.
	collected = 8
	// instant is the part of the whole time from which on tokens may all have come at once.
	instant = .05
	// mostStalled is the part of the time since the first token for which a client may not have
	// taken what was there.
	mostStalled = .2
)

// timed reports whether the times of the first and the last token are what they seem.
func (c *Cost) timed(r *costed, now, tokens float64, out *types.Outcome) bool {
	if tokens <= leastDecoded {
		return true
	}
	took := now - r.firstAt
	switch {
	case out.Reads > 0 && float64(out.Reads)*collected < tokens:
		return false
	case took < instant*(now-r.sent):
		return false // what contradicts the whole is not believed
	}
	return out.Stalled.Seconds() <= mostStalled*took
}

// observeWhole learns from an answer of which only the whole time is known.
func (c *Cost) observeWhole(s *costServer, r *costed, now, tokens, own, weight float64) {
	if tokens < 1 && !r.begun && r.output > 1 {
		return // how much was computed is not known
	}
	between := s.done - r.doneThen
	if !r.waiting {
		between -= r.base
	}
	steps := r.steps + halfIf(r.wait > 0) + max(tokens, 1) - 1
	row := cost.Row{
		Fixed: 1, Steps: steps * (r.stepThen + s.baseStep) / 2, Grown: steps * c.grown((r.beside+s.decoding)/2), Prefill: own + max(between, r.ahead),
	}
	took := c.beyondWay(&row, now-r.sent, r.crowd == 0)
	c.learn(s, r, row, took, weight/(1+r.crowd/crowdDoubt), now)
}

// beyondWay leaves the way out of a row, and of the time that it took, unless the time tells
// how long the way is. How long a request waited for others is not known so well that what
// is left would be the way: that only a server with nothing else to do tells (alone), and a
// time that is hardly longer than the way. Believed to be too long, it spoils the rhythm of
// steps.
func (c *Cost) beyondWay(row *cost.Row, took float64, alone bool) float64 {
	way := c.rates.Transport
	if alone || took <= 2*way {
		return took
	}
	row.Fixed = 0
	return took - way
}

// halfIf is the half of a step that is left of the one under way, if there is one.
func halfIf(busy bool) float64 {
	if busy {
		return .5
	}
	return 0
}

// crowdDoubt is how many requests make it as likely as not that a new one waited for one of
// them to end.
const crowdDoubt = 4

// computed returns how much prefill a request was, in base seconds, and how sure that is.
func (c *Cost) computed(r *costed, u types.Usage) (seconds, weight float64) {
	prompt := u.PromptTokens.Or(r.prompt)
	if !(prompt >= 1 && prompt <= mostTokens) {
		prompt = r.prompt
	}
	cached, weight := r.prompt-r.compute, 1.
	if c, ok := u.CachedTokens.Value(); ok && c >= 0 {
		cached = c
	} else if cached > 0 {
		weight = .5 // so it is believed
	}
	return c.o.Engine.prefillTime(prompt, max(prompt-cached, 1)), weight
}

// mostTokens is more than any prompt has.
const mostTokens = 1e8

// grown is what cost.GrowthUnit makes of a step with so many sequences, in base seconds.
func (c *Cost) grown(sequences float64) float64 {
	return cost.GrowthUnit * c.o.Engine.Step * sequences
}

// learn shows a time to the fleet, as it would have been on a server like the others, and
// what is left of it to the server.
func (c *Cost) learn(s *costServer, r *costed, row cost.Row, seconds, weight, now float64) {
	rate := c.rateOf(s, now)
	step, token := math.Exp(rate.step), math.Exp(rate.step+rate.token)
	row.Steps *= step
	row.Grown *= step
	row.Prefill *= token
	c.fleet.Observe(row, seconds, weight)
	if expected := c.fleet.Predict(row); expected > 0 && seconds > 0 {
		rates := c.fleet.Rates()
		steps := (row.Steps*rates.Step + row.Grown*rates.Growth) / expected
		prefill := row.Prefill * rates.Token / expected
		c.fleet.Compare(&s.learned, now-r.sent, math.Log(seconds/expected), steps, prefill, weight, now)
	}
}
