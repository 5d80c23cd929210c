package plugins

import (
	"context"
	"fmt"
	"math"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// InFlightRequests is a Scorer that prefers endpoints to which this process has
// sent the fewest requests that are not finished. With n that number, the score
// is (max-n)/(max-min) over the candidates, and 1 for all if they are equal.
//
// The ledger is exact at every instant, so a burst inside one scrape interval
// spreads instead of herding, and servers without metrics are balanced too.
type InFlightRequests struct{}

// Score implements scheduling.Scorer.
func (InFlightRequests) Score(_ context.Context, _ *types.Request, eps []*types.Endpoint, scores []float64) error {
	b := newBounds()
	for i, ep := range eps {
		v := math.NaN()
		if ep.Load != nil {
			v = float64(ep.Load.Requests())
		}
		scores[i] = v
		b.see(v)
	}
	lowerIsBetter(scores, b.lo, b.hi)
	return nil
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
	t := s.Threshold
	if t == 0 {
		t = DefaultTokenThreshold
	}
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
	if !(s.Threshold >= 0) || math.IsInf(s.Threshold, 0) {
		return fmt.Errorf("threshold is %v, want a number above 0, or 0 for the default %d", s.Threshold, DefaultTokenThreshold)
	}
	return nil
}

var (
	_ scheduling.Scorer    = InFlightRequests{}
	_ scheduling.Describer = InFlightRequests{}
	_ scheduling.Scorer    = TokenLoad{}
	_ scheduling.Describer = TokenLoad{}
)
