package plugins

import (
	"cmp"
	"context"
	"fmt"

	"github.com/inferpick/inferpick/types"
)

// QueueDepth is a Scorer that prefers short queues in the engine: (max-w)/(max-min) over the
// candidates, where w is the reported number of waiting requests, and 1 if all are equal. It is
// the Inference Extension's queue-scorer.
//
// Engines admit requests into the running batch while there is room, so queues are empty until a
// server is saturated; combine it with InFlightRequests.
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

// RunningRequests is a Scorer that prefers small batches: (max-r)/(max-min) over the candidates,
// where r is the reported number of running requests, and 1 if all are equal. It is the
// Inference Extension's running-requests-size-scorer.
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

// KVCache is a Scorer that prefers room in the KV cache: 1 - usage. It is the Inference
// Extension's kv-cache-utilization-scorer.
type KVCache struct{}

// Score implements scheduling.Scorer.
func (KVCache) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	for i, ep := range eps {
		scores[i] = 1 - ep.KVUsage(req)
	}
	return nil
}

// Describe implements scheduling.Describer.
func (KVCache) Describe(req *types.Request, ep *types.Endpoint) string {
	v := ep.KVUsage(req)
	if v != v {
		return "KV usage unknown"
	}
	return fmt.Sprintf("KV %.0f %%", 100*v)
}

// DefaultQueueThreshold is the queue length for which LoadAware scores 0.
const DefaultQueueThreshold = 128

// LoadAware is a Scorer that prefers short queues in the engine, compared with a fixed bound
// rather than with each other: 0.5·(1 - min(1, waiting/Threshold)). It is llm-d's
// load-aware-scorer. Since its best score is 0.5, its weight counts half.
type LoadAware struct {
	// Threshold is the number of waiting requests for which the score is 0. Default
	// DefaultQueueThreshold.
	Threshold float64 `json:"threshold"`
}

// Score implements scheduling.Scorer.
func (s LoadAware) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	most := cmp.Or(s.Threshold, DefaultQueueThreshold)
	for i, ep := range eps {
		scores[i] = .5 * (1 - min(1, ep.Waiting(req)/most)) // min of a NaN is NaN
	}
	return nil
}

func (s LoadAware) validate() error {
	return wantPositive("threshold", s.Threshold, DefaultQueueThreshold)
}

// Describe implements scheduling.Describer.
func (LoadAware) Describe(req *types.Request, ep *types.Endpoint) string {
	return QueueDepth{}.Describe(req, ep)
}
