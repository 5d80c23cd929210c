package plugins

import (
	"context"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// QueueDepth is a Scorer that prefers short queues in the engine. With w the
// requests waiting there, as reported, the score is (max-w)/(max-min) over the
// candidates, and 1 for all if they are equal: the Inference Extension's
// queue-scorer.
//
// Engines admit requests into the running batch while there is room, so this is
// 0 everywhere until a server is saturated; pair it with InFlightRequests.
type QueueDepth struct{}

// Score implements scheduling.Scorer.
func (QueueDepth) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	b := newBounds()
	for i, ep := range eps {
		v := ep.Waiting(req)
		scores[i] = v
		b.see(v)
	}
	lowerIsBetter(scores, b.lo, b.hi)
	return nil
}

// Describe implements scheduling.Describer.
func (QueueDepth) Describe(req *types.Request, ep *types.Endpoint) string {
	return count(ep.Waiting(req), "waiting")
}

var (
	_ scheduling.Scorer    = QueueDepth{}
	_ scheduling.Describer = QueueDepth{}
)
