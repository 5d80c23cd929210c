package plugins

import (
	"context"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// RunningRequests is a Scorer that prefers small batches. With r the requests
// running in the engine, as reported, the score is (max-r)/(max-min) over the
// candidates, and 1 for all if they are equal: the Inference Extension's
// running-requests-size-scorer.
type RunningRequests struct{}

// Score implements scheduling.Scorer.
func (RunningRequests) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	b := newBounds()
	for i, ep := range eps {
		v := ep.Running(req)
		scores[i] = v
		b.see(v)
	}
	lowerIsBetter(scores, b.lo, b.hi)
	return nil
}

// Describe implements scheduling.Describer.
func (RunningRequests) Describe(req *types.Request, ep *types.Endpoint) string {
	return count(ep.Running(req), "running")
}

var (
	_ scheduling.Scorer    = RunningRequests{}
	_ scheduling.Describer = RunningRequests{}
)
