package policies

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
)

// Constants of the clairvoyant rule.
const (
	plrTTFT        = 2.5     // weight of the time to the first token
	plrOutput      = 1.0     // weight of the time of the output
	plrNeighbours  = 0.5     // price of avoidable prefill, for each sequence that decodes beside it
	plrDuplication = 3.0     // price of avoidable prefill, of the copy that it makes
	plrBatch       = 8192    // tokens in a step
	plrAttention   = 1.3e-9  // seconds for a pair of tokens attended to in a prefill
	plrAdapter     = 0.030   // seconds to load an adapter into a slot
	plrProbe       = 1 << 14 // tokens at which a step is all arithmetic
)

// Clairvoyant is a bound for what better information could buy: predicted latency
// plus avoidable work, from the exact state of the engines, the exact contents of
// their caches and the exact length of the output. For each endpoint,
//
//	cost = 2.5·TTFT + output·S⁺ + (0.5·decoding + 3)·c·(best hit - hit)
//
//	TTFT = S/2                               the rest of the step under way
//	     + c·(U + u) + e·u·(prompt - u/2)    prefill before this one's, and its own
//	     + ⌈(U + u)/8192⌉·S                  decodes that ride along in its steps
//	     + max(0, u - room)/release          KV cache that is not free yet
//	     + adapter                           0 in use; 30 ms; and an output's time if no slot is free
//
// in seconds, and takes the least, ties at random. S is the time of a step of the
// sequences that decode there, S⁺ with this one added at half its output; hit is
// what is cached of the prompt and u the rest; U is what others have still to
// compute; c and e are the engine's time for a token and for a pair of tokens that
// attend to each other; room is the KV cache neither in use nor owed, and release
// how much of it decoding gives back in a second.
//
// It is a rule with perfect inputs and not the best of all rules: nothing says that
// no policy can beat it. Which sequences are still to be prefilled, how much context
// they read where they share it (a step reads what is shared once for each), and
// which adapters are in use, it knows of its own gateway only.
func Clairvoyant(truth simulation.Truth) scheduling.Profile {
	c := &clairvoyant{
		exact: exact{truth}, truth: truth, key: types.NewKey[*flight]("clairvoyant"),
		servers: map[*types.Load]*flights{},
	}
	return rule("predicted-latency", c)
}

type clairvoyant struct {
	exact
	truth simulation.Truth
	key   *types.Key[*flight]

	mu sync.Mutex
	// guarded by mu, with what the values point to
	servers map[*types.Load]*flights
	outputs float64 // tokens, of all requests so far
	count   float64 // of these requests
}

// flights is what this gateway has at one endpoint.
type flights struct {
	prefilling int
	reading    float64 // tokens of context of those that decode, at half their output
	adapters   map[string]int
}

// flight is one request there.
type flight struct {
	at      *flights
	first   bool
	context float64
}

// estimate is what a request would meet at one endpoint.
type estimate struct {
	ttft     float64 // seconds
	output   float64 // seconds
	token    float64 // seconds to prefill one
	decoding float64
	hit      float64 // tokens
}

// Score implements scheduling.Scorer.
func (c *clairvoyant) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	all := make([]estimate, len(eps))
	best := 0.0
	for i, ep := range eps {
		all[i] = c.estimate(req, ep)
		best = max(best, all[i].hit)
	}
	costs := make([]float64, len(eps))
	for i, e := range all {
		costs[i] = plrTTFT*e.ttft + plrOutput*e.output + (plrNeighbours*e.decoding+plrDuplication)*e.token*(best-e.hit)
	}
	rank(scores, upTo(len(eps)), func(a, b int) int { return cmp.Compare(costs[a], costs[b]) })
	return nil
}

// Describe implements scheduling.Describer.
func (c *clairvoyant) Describe(req *types.Request, ep *types.Endpoint) string {
	e := c.estimate(req, ep)
	return fmt.Sprintf("first token in %.3f s, output in %.3f s, %.0f tokens cached", e.ttft, e.output, e.hit)
}

func (c *clairvoyant) estimate(req *types.Request, ep *types.Endpoint) estimate {
	requests, owed, context := c.truth.Outstanding(ep)
	own := c.seen(req, ep)
	prompt, output := float64(req.Prompt.Tokens), float64(c.truth.Output(req))
	e := estimate{
		token:    c.perToken(ep),
		decoding: max(float64(requests-own.prefilling), 0),
		hit:      float64(c.truth.Cached(req, ep)),
	}
	reading := max(own.reading, float64(context))
	step := c.truth.StepTime(ep, int(e.decoding), int(reading)).Seconds()
	before, compute := float64(owed), max(prompt-e.hit, 1)

	e.ttft = step/2 + e.token*(before+compute) + plrAttention*compute*(prompt-compute/2) + math.Ceil((before+compute)/plrBatch)*step
	if size := kvTokens(ep); size > 0 && e.decoding > 0 && step > 0 {
		short := compute - (size - float64(context) - before)
		// So many finish in a second, and each gives back its part of what is in use.
		release := e.decoding / own.output / step * (float64(context) / e.decoding)
		if short > 0 && release > 0 {
			e.ttft += short / release
		}
	}
	if req.TargetModel != "" && !own.active {
		e.ttft += plrAdapter
		if own.slots <= 0 {
			e.ttft += own.output * step
		}
	}
	with := c.truth.StepTime(ep, int(e.decoding)+1, int(reading+prompt+output/2))
	e.output = output * with.Seconds()
	return e
}

// perToken is the time that a token of a prefill adds to a large step: what the
// engine takes per token, without what it takes per sequence.
func (c *clairvoyant) perToken(ep *types.Endpoint) float64 {
	at := func(n int) time.Duration { return c.truth.StepTime(ep, n, 0) }
	return (at(2*plrProbe)-at(plrProbe)).Seconds()/plrProbe - (at(2) - at(1)).Seconds()
}

// own is what a gateway knows of its requests at one endpoint.
type own struct {
	prefilling int     // requests without a first token
	reading    float64 // tokens of context of the others
	active     bool    // one uses the adapter that is asked for
	slots      float64 // for adapters, that are free
	output     float64 // mean of all requests so far, anywhere
}

func (c *clairvoyant) seen(req *types.Request, ep *types.Endpoint) own {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := own{output: scheduling.DefaultOutputTokens, slots: ep.Metrics.MaxAdapters.Or(math.Inf(1))}
	if c.count > 0 {
		o.output = c.outputs / c.count
	}
	if f := c.servers[ep.Load]; f != nil {
		o.prefilling, o.reading = f.prefilling, f.reading
		o.active = f.adapters[req.TargetModel] > 0
		o.slots -= float64(len(f.adapters))
	}
	return o
}

// Picked implements scheduling.Tracker.
func (c *clairvoyant) Picked(req *types.Request, ep *types.Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	output := float64(c.truth.Output(req))
	c.outputs += output
	c.count++
	f := c.servers[ep.Load]
	if f == nil {
		f = &flights{adapters: map[string]int{}}
		if ep.Load != nil && !ep.Load.Retired() {
			c.servers[ep.Load] = f
		}
	}
	f.prefilling++
	if req.TargetModel != "" {
		f.adapters[req.TargetModel]++
	}
	c.key.Set(&req.Attrs, &flight{at: f, context: float64(req.Prompt.Tokens) + output/2})
}

// FirstToken implements scheduling.Tracker.
func (c *clairvoyant) FirstToken(req *types.Request, _ *types.Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.key.Get(&req.Attrs); ok && f.at != nil {
		f.decodes()
	}
}

// Finished implements scheduling.Tracker.
func (c *clairvoyant) Finished(req *types.Request, _ *types.Endpoint, _ types.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.key.Get(&req.Attrs)
	if !ok || f.at == nil {
		return
	}
	f.decodes()
	f.at.reading -= f.context
	if name := req.TargetModel; name != "" {
		if f.at.adapters[name]--; f.at.adapters[name] == 0 {
			delete(f.at.adapters, name)
		}
	}
	f.at = nil
}

// decodes moves f from those to be prefilled to those that decode, once.
func (f *flight) decodes() {
	if !f.first {
		f.first = true
		f.at.prefilling--
		f.at.reading += f.context
	}
}

// Forget implements scheduling.Forgetter.
func (c *clairvoyant) Forget(ep *types.Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.servers, ep.Load)
}

// kvTokens returns the size of ep's KV cache in tokens, 0 if it was never reported.
func kvTokens(ep *types.Endpoint) float64 {
	return ep.Metrics.BlockSize.Or(0) * ep.Metrics.NumBlocks.Or(0)
}

var (
	_ CacheOracle               = simulation.Truth(nil)
	_ scheduling.Scorer         = (*clairvoyant)(nil)
	_ scheduling.Describer      = (*clairvoyant)(nil)
	_ scheduling.Tracker        = (*clairvoyant)(nil)
	_ scheduling.Forgetter      = (*clairvoyant)(nil)
	_ scheduling.CacheEstimator = (*clairvoyant)(nil)
)
