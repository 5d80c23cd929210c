package plugins

import (
	"context"
	"math"
	"slices"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// Defaults of PrefixAffinity.
const (
	DefaultAffinityThreshold     = 0.8
	DefaultMaxTTFTPenaltyMs      = 18000
	DefaultPeakPrefillThroughput = 15928 // tokens per second: a 32-billion-parameter model on two H100
)

// AffinityOptions configure PrefixAffinity. The zero value works.
type AffinityOptions struct {
	// Threshold is the fraction of the prompt's whole blocks that an endpoint must have cached to
	// be kept, above 0 to 1. Default DefaultAffinityThreshold.
	Threshold float64 `json:"affinityThreshold,omitempty"`
	// Exploration is the probability that a request may go anywhere, so that more servers get its
	// prefix. Default 0.
	Exploration float64 `json:"explorationProbability,omitempty"`
	// MaxTTFTPenaltyMs is how much longer, in milliseconds, the first token may take at the best
	// endpoint that has the prefix than at the best other one. 0: no limit. Nil:
	// DefaultMaxTTFTPenaltyMs.
	MaxTTFTPenaltyMs *float64 `json:"maxTTFTPenaltyMs,omitempty"`
	// PeakPrefillThroughput is the prefill rate, in tokens per second, by which that time is
	// estimated from the ledger's prefill tokens. Default DefaultPeakPrefillThroughput.
	PeakPrefillThroughput float64 `json:"peakPrefillThroughput,omitempty"`
	// Prefix names the plugin whose prefix index is used, in a declaration. Default: the first
	// one that has an index.
	Prefix string `json:"prefixPluginName,omitempty"`
}

// PrefixAffinity is a Filter that keeps the endpoints that have most of the prompt cached, if there
// are any and they are not too busy. It is llm-d's prefix-cache-affinity-filter; combine it with a
// scorer of load.
//
// Create it with NewPrefixAffinity. Safe for concurrent use.
type PrefixAffinity struct {
	prefixReader
	o AffinityOptions
}

// NewPrefixAffinity returns a PrefixAffinity that uses cache, or an error that lists all invalid
// options. With a nil cache it keeps all endpoints. PrefixAffinity does not update the cache: make
// it a Scorer or a Tracker of the same profile.
func NewPrefixAffinity(o AffinityOptions, cache *PrefixCache) (*PrefixAffinity, error) {
	if o.MaxTTFTPenaltyMs == nil {
		penalty := float64(DefaultMaxTTFTPenaltyMs)
		o.MaxTTFTPenaltyMs = &penalty
	}
	c := check.Checks{Package: "plugins"}
	check.Default(&c, "affinityThreshold", &o.Threshold, DefaultAffinityThreshold, 0, 1)
	check.Range(&c, "explorationProbability", o.Exploration, 0, 1)
	check.Range(&c, "maxTTFTPenaltyMs", *o.MaxTTFTPenaltyMs, 0, math.MaxFloat64)
	check.Positive(&c, "peakPrefillThroughput", &o.PeakPrefillThroughput, DefaultPeakPrefillThroughput)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &PrefixAffinity{prefixReader{name: o.Prefix, cache: cache}, o}, nil
}

// Filter implements scheduling.Filter.
func (f *PrefixAffinity) Filter(ctx context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	if f.cache == nil || len(eps) < 2 || f.o.Exploration > 0 && req.Rand.Float64() < f.o.Exploration {
		return nil
	}
	r := newRanking(len(eps))
	defer r.free()
	if err := f.cache.Score(ctx, req, eps, r.values); err != nil {
		return err
	}
	cached, elsewhere := math.Inf(1), math.Inf(1) // the best of both, in milliseconds
	for i, ep := range eps {
		if keep[i] = r.values[i] >= f.o.Threshold; keep[i] {
			cached = min(cached, f.ttft(ep))
		} else {
			elsewhere = min(elsewhere, f.ttft(ep))
		}
	}
	busy := *f.o.MaxTTFTPenaltyMs > 0 && cached-elsewhere > *f.o.MaxTTFTPenaltyMs
	if busy || !slices.Contains(keep, true) {
		keepAll(keep)
	}
	return nil
}

// ttft returns the time, in milliseconds, to compute the prefill tokens in the ledger.
func (f *PrefixAffinity) ttft(ep *types.Endpoint) float64 {
	if ep.Load == nil {
		return math.Inf(1)
	}
	return float64(ep.Load.PrefillTokens()) / f.o.PeakPrefillThroughput * 1000
}

// Describe implements scheduling.Describer.
func (f *PrefixAffinity) Describe(req *types.Request, ep *types.Endpoint) string {
	if f.cache == nil {
		return "no prefix index"
	}
	return f.cache.Describe(req, ep)
}
