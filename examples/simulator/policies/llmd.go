package policies

import (
	"context"
	"fmt"
	"math"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Defaults of llm-d's prefix-cache-affinity-filter since June 2026: 18 s at the 15,928
// tokens/s of Qwen3-32B on an H100.
var stickyDefaults = stickyLimits{match: 0.8, tokens: 286_720}

// stickyLimits are what the filter compares with.
type stickyLimits struct {
	match  float64 // part of the prompt that a warm endpoint has at least
	tokens float64 // uncached and in flight that it may have more than the others
}

// LLMDSticky is llm-d's default since 2026, "sticky until saturated". With U the
// uncached prompt tokens in flight from this gateway, released at the first token,
// and u those of this request:
//
//	candidates: endpoints with matched/total ≥ 0.8, if there are any,
//	            unless min U over them - min U over the others > 286,720
//	of these:   least U + u
//
// The index is that of plugins.PrefixCache in blocks of 64 bytes, shared by all
// tenants: as large as the caches, as llm-d's approximate producer tunes itself,
// and corrected by what responses report, which that one is not.
func LLMDSticky() scheduling.Profile { return stickyWith(stickyDefaults) }

func stickyWith(limits stickyLimits) scheduling.Profile {
	cache := prefixIndex()
	return sticky(cache, limits, rule("token-load", lowest{"uncached tokens", func(req *types.Request, ep *types.Endpoint) float64 {
		return prefilling(ep) + uncached(cache, req, ep)
	}}, cache))
}

// LLMDStickyRequests is LLMDSticky with the fewest requests in flight in place of
// the fewest uncached tokens among the candidates.
func LLMDStickyRequests() scheduling.Profile {
	cache := prefixIndex()
	p := LeastRequests()
	p.Trackers = []scheduling.Tracker{cache}
	return sticky(cache, stickyDefaults, p)
}

func sticky(cache *plugins.PrefixCache, limits stickyLimits, p scheduling.Profile) scheduling.Profile {
	p.Filters = append(p.Filters, scheduling.Named{Name: "prefix-affinity", Filter: affinity{cache, limits}})
	return p
}

// affinity is a scheduling.Filter that keeps the warm endpoints until they are
// saturated.
type affinity struct {
	cache scheduling.Scorer
	stickyLimits
}

// Filter implements scheduling.Filter.
func (f affinity) Filter(ctx context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	match := make([]float64, len(eps))
	if err := f.cache.Score(ctx, req, eps, match); err != nil {
		return err
	}
	warm, cold := math.Inf(1), math.Inf(1) // least tokens in flight
	for i, ep := range eps {
		if match[i] >= f.match {
			warm = min(warm, prefilling(ep))
		} else {
			cold = min(cold, prefilling(ep))
		}
	}
	if math.IsInf(warm, 1) || warm-cold > f.tokens {
		return nil
	}
	for i := range eps {
		keep[i] = match[i] >= f.match
	}
	return nil
}

// Describe implements scheduling.Describer.
func (f affinity) Describe(req *types.Request, ep *types.Endpoint) string {
	if d, ok := f.cache.(scheduling.Describer); ok {
		return fmt.Sprintf("%s, %.0f uncached tokens in flight", d.Describe(req, ep), prefilling(ep))
	}
	return ""
}

// LLMDPrecise is llm-d's precise prefix cache routing of 2025: the highest of
//
//	2·cached/total + 1·(1-kv) + 1·(maxQ-q)/(maxQ-minQ)
//
// with what is cached from KV events, for which oracle stands.
func LLMDPrecise(oracle CacheOracle) scheduling.Profile { return precise(oracle, 2, 1, 1) }

// LLMDPrecise322 is LLMDPrecise with the weights of llm-d's later guides and
// benchmarks: prefix 3, KV 2, queue 2.
func LLMDPrecise322(oracle CacheOracle) scheduling.Profile { return precise(oracle, 3, 2, 2) }

func precise(oracle CacheOracle, prefix, kv, queue float64) scheduling.Profile {
	p := rule("precise-prefix-cache", exact{oracle})
	p.Scorers[0].Weight = prefix
	p.Scorers = append(p.Scorers,
		scheduling.Weighted{Name: "kv-cache", Scorer: plugins.KVCache{}, Weight: kv},
		scheduling.Weighted{Name: "queue", Scorer: plugins.QueueDepth{}, Weight: queue})
	p.MetricsTTL = asOldAsItIs
	return p
}

// prefixIndex returns a prefix cache estimate for rules that compare blocks of the
// engine.
func prefixIndex() *plugins.PrefixCache {
	c, err := plugins.NewPrefixCache(plugins.PrefixOptions{
		BlockBytes: bytesPerBlock, MaxPromptBlocks: 1 << 15, CapacityBlocks: 500_000 / tokensPerBlock,
	})
	if err != nil {
		panic(fmt.Sprintf("policies: %v", err)) // the options are constants
	}
	return c
}

var (
	_ scheduling.Filter    = affinity{}
	_ scheduling.Describer = affinity{}
)
