package plugins

import (
	"cmp"
	"context"
	"math"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// DefaultSpread is the difference in requests in flight that counts in full.
const DefaultSpread = 8

// InFlightRequests is a Scorer that prefers endpoints to which this process has
// sent the fewest requests that are not finished. With n that number, the score
// is 1 - (n-min)/max(max-min, Spread) over the candidates.
//
// The ledger is exact at every instant, so a burst inside one scrape interval
// spreads instead of herding, and servers without metrics are balanced too.
// Spread keeps a difference of one or two requests from outweighing what other
// scorers see, such as a cached conversation.
type InFlightRequests struct {
	// Spread is the difference between the most and the least loaded endpoint
	// from which on the score uses the whole range 0..1. Default DefaultSpread; 1
	// gives the form (max-n)/(max-min) of the other load scorers.
	Spread float64 `json:"spread"`
}

// Score implements scheduling.Scorer.
func (s InFlightRequests) Score(_ context.Context, _ *types.Request, eps []*types.Endpoint, scores []float64) error {
	b := newBounds()
	for i, ep := range eps {
		v := math.NaN()
		if ep.Load != nil {
			v = float64(ep.Load.Requests())
		}
		scores[i] = v
		b.see(v)
	}
	d := max(b.hi-b.lo, cmp.Or(s.Spread, DefaultSpread))
	for i, v := range scores {
		scores[i] = 1 - (v-b.lo)/d
	}
	return nil
}

func (s InFlightRequests) validate() error {
	var c check.Checks
	check.Positive(&c, "spread", &s.Spread, DefaultSpread)
	return c.Err()
}

// Describe implements scheduling.Describer.
func (InFlightRequests) Describe(_ *types.Request, ep *types.Endpoint) string {
	if ep.Load == nil {
		return "no ledger"
	}
	return count(float64(ep.Load.Requests()), "in flight")
}

// DefaultTokenThreshold is the in-flight tokens at which TokenLoad gives 0.
const DefaultTokenThreshold = 4194304

// TokenLoad is a Scorer that prefers endpoints that hold few tokens of requests
// in flight: 1 - min(1, tokens/Threshold), the Inference Extension's
// token-load-scorer, read from the ledger's context tokens.
type TokenLoad struct {
	// Threshold is the number of tokens at which the score is 0.
	// Default DefaultTokenThreshold.
	Threshold float64 `json:"threshold"`
}

// Score implements scheduling.Scorer.
func (s TokenLoad) Score(_ context.Context, _ *types.Request, eps []*types.Endpoint, scores []float64) error {
	t := cmp.Or(s.Threshold, DefaultTokenThreshold)
	for i, ep := range eps {
		if ep.Load != nil {
			scores[i] = 1 - min(1, float64(ep.Load.ContextTokens())/t)
		}
	}
	return nil
}

// Describe implements scheduling.Describer.
func (s TokenLoad) Describe(_ *types.Request, ep *types.Endpoint) string {
	if ep.Load == nil {
		return "no ledger"
	}
	return count(float64(ep.Load.ContextTokens()), "tokens in flight")
}

func (s TokenLoad) validate() error {
	var c check.Checks
	check.Positive(&c, "threshold", &s.Threshold, DefaultTokenThreshold)
	return c.Err()
}

var (
	_ scheduling.Scorer    = InFlightRequests{}
	_ scheduling.Describer = InFlightRequests{}
	_ scheduling.Scorer    = TokenLoad{}
	_ scheduling.Describer = TokenLoad{}
)
