package policies

import (
	"context"
	"fmt"
	"math"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
)

// This file is the rules by which others decide whether one server computes a prompt and another answers, and
// which. They matter on fleets with roles only.

// Apart returns the policies of disaggregated serving: the product's default, the two extremes by its own costs,
// and published rules, as published and tuned.
func Apart() []simulation.Policy {
	all := []simulation.Policy{
		{Name: "default", Profile: Default},
		{Name: "together", Profile: Together},
		{Name: "apart", Profile: AlwaysApart},
	}
	for _, t := range llmdThresholds() {
		all = append(all, simulation.Policy{Name: fmt.Sprintf("llmd-pd-%d", t), Profile: func() scheduling.Profile { return LLMDApart(t) }})
	}
	return append(all,
		simulation.Policy{Name: "llmd-pd-tuned", Profile: LLMDApartTuned},
		simulation.Policy{Name: "dynamo-pd", Profile: DynamoApart},
		simulation.Policy{Name: "dynamo-pd-tuned", Profile: DynamoApartTuned},
	)
}

// llmdThresholds are values of nonCachedTokens: that of guides of llm-d, and others that were tried.
func llmdThresholds() []int { return []int{16, 512, 2048, 8192} }

// Together is Default that has every request served by one server.
func Together() scheduling.Profile {
	p := Default()
	p.Splitter = splitterFunc(func(context.Context, *types.Request, []*types.Endpoint, []*types.Endpoint, bool, []int32, []float64) error {
		return nil
	})
	return p
}

// AlwaysApart is Default that has every prompt computed by another server than the one that answers,
// if there is one that may. Who does what is chosen by plugins.Cost.
func AlwaysApart() scheduling.Profile {
	p := Default()
	cost, ok := p.Costs[0].Coster.(scheduling.Splitter)
	if !ok {
		panic("policies: the first cost of plugins.Default is no Splitter")
	}
	p.Splitter = splitterFunc(func(ctx context.Context, req *types.Request, eps, prefill []*types.Endpoint, _ bool, by []int32, gains []float64) error {
		return cost.Split(ctx, req, eps, prefill, true, by, gains)
	})
	return p
}

// splitterFunc is a function that is a scheduling.Splitter.
type splitterFunc func(ctx context.Context, req *types.Request, eps, prefill []*types.Endpoint, must bool, by []int32, gains []float64) error

// Split implements scheduling.Splitter.
func (f splitterFunc) Split(ctx context.Context, req *types.Request, eps, prefill []*types.Endpoint, must bool, by []int32, gains []float64) error {
	return f(ctx, req, eps, prefill, must, by, gains)
}

// decodeFirst is a Splitter of the kind that llm-d and Dynamo are: who answers is chosen first, by scorers of its
// own; then whether anybody else computes the prompt, by what the chosen one has of it; then who, whatever the
// chosen one.
type decodeFirst struct {
	// local tells whether ep is to compute the prompt itself.
	local func(req *types.Request, ep *types.Endpoint) bool
	// prefill scores those that may compute it: the highest does.
	prefill []scheduling.Weighted
}

// Split implements scheduling.Splitter.
func (s decodeFirst) Split(ctx context.Context, req *types.Request, eps, prefill []*types.Endpoint, must bool, by []int32, _ []float64) error {
	totals, scores := make([]float64, len(prefill)), make([]float64, len(prefill))
	for _, w := range s.prefill {
		clear(scores)
		if err := w.Scorer.Score(ctx, req, prefill, scores); err != nil {
			return err
		}
		for k, v := range scores {
			if v == v { // else it is unknown, and counts as 0
				totals[k] += w.Weight * v
			}
		}
	}
	best, ties, most := int32(-1), 0, math.Inf(-1)
	for k, v := range totals {
		switch {
		case v > most:
			best, most, ties = int32(k), v, 1
		case v == most:
			if ties++; req.Rand.IntN(ties) == 0 {
				best = int32(k)
			}
		}
	}
	for i, ep := range eps {
		if must || !s.local(req, ep) {
			by[i] = best // if it is ep itself, that serves it alone
		}
	}
	return nil
}

// LLMDApart is llm-d with its P/D profile handler: the one that answers is the highest of
//
//	3·match + 2·(1-kv) + 2·queue
//
// and if at least so many tokens of the prompt are not cached there, it is computed by the one that is the highest
// of the same among those that may. Guides have 16 tokens as the threshold; with the default, 0, llm-d never goes
// apart.
//
// The index is that of plugins.PrefixCache, as for LLMDSticky.
func LLMDApart(nonCached int) scheduling.Profile {
	cache := prefixIndex()
	scorers := []scheduling.Weighted{
		{Name: "prefix-cache", Scorer: cache, Weight: 3},
		{Name: "kv-cache", Scorer: plugins.KVCache{}, Weight: 2},
		{Name: "queue", Scorer: plugins.QueueDepth{}, Weight: 2},
	}
	p := rule("", cache)
	p.Scorers, p.MetricsTTL = scorers, asOldAsItIs
	p.Splitter = decodeFirst{prefill: scorers, local: fewer(cache, nonCached)}
	return p
}

// fewer tells whether less than so many tokens of a prompt are not cached.
func fewer(cache scheduling.CacheEstimator, tokens int) func(*types.Request, *types.Endpoint) bool {
	return func(req *types.Request, ep *types.Endpoint) bool {
		return req.Prompt.Tokens-cache.CachedTokens(req, ep) < tokens
	}
}

// LLMDApartTuned is LLMDApart with what this gateway has sent in place of readings: the one that answers has the
// fewest requests in flight for what it has of the prompt, and the one that computes the prompt the fewest tokens
// to compute.
func LLMDApartTuned() scheduling.Profile { return llmdInFlight(llmdTuned) }

// llmdTuned is the threshold of LLMDApartTuned.
const llmdTuned = 512

func llmdInFlight(nonCached int) scheduling.Profile {
	cache := prefixIndex()
	p := rule("requests+prefix", cache)
	p.Scorers = []scheduling.Weighted{
		{Name: "prefix-cache", Scorer: cache, Weight: 1},
		{Name: "in-flight", Scorer: plugins.InFlightRequests{Spread: 16}, Weight: 1},
	}
	p.Splitter = decodeFirst{
		prefill: []scheduling.Weighted{{Name: "token-load", Weight: 1, Scorer: lowest{"uncached tokens", func(req *types.Request, ep *types.Endpoint) float64 {
			return prefilling(ep) + uncached(cache, req, ep)
		}}}},
		local: fewer(cache, nonCached),
	}
	return p
}

// Thresholds of Dynamo's conditional disaggregation, by the length of the input.
const (
	dynamoUncached = 2048
	dynamoPart     = 0.7
)

// DynamoApart is NVIDIA Dynamo's KV router with conditional disaggregation by the length of the input (1.6): who
// answers is chosen as by Dynamo; it computes the prompt itself if it lacks fewer than 2,048 tokens and less than
// 0.7 of it, unless it is busy, which nobody is by default. Else the prompt is computed by the one with the least
//
//	(pending uncached tokens + own uncached tokens) / 16 + tokens of prompts there / 16
//
// What is cached is what was sent there in the last 120 s, for the answer or for the prompt alone.
func DynamoApart() scheduling.Profile { return dynamoApart(dynamoPrefill, dynamoUncached, math.Inf(1)) }

// DynamoApartTuned is DynamoApart with the prefill weight of DynamoTuned, and servers that are busy, in that they
// have more than 2,048 prompt tokens to compute.
func DynamoApartTuned() scheduling.Profile { return dynamoApart(8*dynamoPrefill, dynamoUncached, 2048) }

func dynamoApart(prefill float64, most int, busy float64) scheduling.Profile {
	sentThere := newHistory(bounds{ttl: dynamoTTL})
	cache := sentApart{sentThere}
	p := dynamo(prefill, cache, sentThere.blocks, cache)
	p.Splitter = decodeFirst{
		prefill: []scheduling.Weighted{{Name: "blocks", Weight: 1, Scorer: lowest{"blocks", func(req *types.Request, ep *types.Endpoint) float64 {
			return (prefill*(prefilling(ep)+uncached(cache, req, ep)) + held(ep)) / tokensPerBlock
		}}}},
		local: func(req *types.Request, ep *types.Endpoint) bool {
			lacks := req.Prompt.Tokens - cache.CachedTokens(req, ep)
			return lacks < most && float64(lacks) < dynamoPart*float64(req.Prompt.Tokens) && prefilling(ep) <= busy
		},
	}
	return p
}

// held returns the tokens of the requests that this gateway has at ep, 0 without a ledger.
func held(ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return 0
	}
	return float64(ep.Load.ContextTokens())
}

// sentApart is a history that also knows of prompts that are computed for others.
type sentApart struct{ *history }

// PrefillPicked implements scheduling.PrefillTracker.
func (s sentApart) PrefillPicked(req *types.Request, prefill, _ *types.Endpoint) {
	s.Picked(req, prefill)
}

// PrefillFinished implements scheduling.PrefillTracker.
func (s sentApart) PrefillFinished(*types.Request, *types.Endpoint, types.Outcome) {}

var (
	_ scheduling.Splitter       = splitterFunc(nil)
	_ scheduling.Splitter       = decodeFirst{}
	_ scheduling.PrefillTracker = sentApart{}
)
