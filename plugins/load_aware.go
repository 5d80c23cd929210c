package plugins

import (
	"cmp"
	"context"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// DefaultQueueThreshold is the queue at which LoadAware gives 0.
const DefaultQueueThreshold = 128

// LoadAware is a Scorer that prefers short queues in the engine, by themselves and not
// beside those of others: 0.5·(1 - min(1, waiting/Threshold)). It is llm-d's
// load-aware-scorer. Its best is 0.5, so that its weight counts half.
type LoadAware struct {
	// Threshold is the number of waiting requests at which the score is 0.
	// Default DefaultQueueThreshold.
	Threshold float64 `json:"threshold"`
}

// Score implements scheduling.Scorer.
func (s LoadAware) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	most := cmp.Or(s.Threshold, DefaultQueueThreshold)
	for i, ep := range eps {
		scores[i] = .5 * (1 - min(1, ep.Waiting(req)/most)) // the least of 1 and a NaN is NaN
	}
	return nil
}

func (s LoadAware) validate() error {
	var c check.Checks
	check.Positive(&c, "threshold", &s.Threshold, DefaultQueueThreshold)
	return c.Err()
}

// Describe implements scheduling.Describer.
func (LoadAware) Describe(req *types.Request, ep *types.Endpoint) string {
	return count(ep.Waiting(req), "waiting")
}

var (
	_ scheduling.Scorer    = LoadAware{}
	_ scheduling.Describer = LoadAware{}
)
