package plugins

import (
	"context"
	"slices"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// LoRAAffinity is a Scorer that prefers servers that have the request's adapter
// in use, then servers with a free adapter slot: 1 if the target model is among
// the running adapters; else 0.8 if running and waiting adapters are fewer than
// fit; else 0.6 if it is among the waiting ones; else 0. These are the tiers of
// the Inference Extension's lora-affinity-scorer.
//
// A base model is never among the adapters, so that requests for it go where
// slots are free, away from servers busy with adapters.
type LoRAAffinity struct{}

// Score implements scheduling.Scorer.
func (LoRAAffinity) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	target := req.Target()
	for i, ep := range eps {
		scores[i], _ = loraTier(req, ep, target)
	}
	return nil
}

// Describe implements scheduling.Describer.
func (LoRAAffinity) Describe(req *types.Request, ep *types.Endpoint) string {
	_, what := loraTier(req, ep, req.Target())
	return what
}

func loraTier(req *types.Request, ep *types.Endpoint, target string) (score float64, what string) {
	most := ep.MaxAdapters(req)
	m := &ep.Metrics
	switch {
	case most != most:
		return most, "adapters unknown"
	case slices.Contains(m.RunningAdapters, target):
		return 1, "adapter running"
	case float64(len(m.RunningAdapters)+len(m.WaitingAdapters)) < most:
		return 0.8, "adapter slot free"
	case slices.Contains(m.WaitingAdapters, target):
		return 0.6, "adapter waiting"
	}
	return 0, "adapter slots full"
}

var (
	_ scheduling.Scorer    = LoRAAffinity{}
	_ scheduling.Describer = LoRAAffinity{}
)
