package plugins

import (
	"cmp"
	"context"

	"github.com/inferpick/inferpick/internal/check"
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

// TreeLoRAAffinity is the chance to stay with the servers that have the adapter, as in the
// decision tree of the Inference Extension 0.3.
const TreeLoRAAffinity = 0.999

// LoRASoftAffinity is a Filter that keeps the endpoints that have the request's
// adapter in use or, with a small chance or if there are none, those with a free
// adapter slot. The chance lets an adapter spread to more servers.
type LoRASoftAffinity struct {
	// Affinity is the chance to stay with the servers that have the adapter when
	// others have a slot free, above 0 to 1. Default TreeLoRAAffinity.
	Affinity float64 `json:"affinity"`
}

// Filter implements scheduling.Filter. It keeps nobody if no endpoint has the
// adapter or a slot.
func (f LoRASoftAffinity) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	affinity := cmp.Or(f.Affinity, TreeLoRAAffinity)
	target := req.Target()
	have, free := false, false
	for _, ep := range eps {
		if hasAdapter(req, ep, target) {
			have = true
		} else if slotFree(req, ep) {
			free = true
		}
	}
	stay := have && (!free || req.Rand.Float64() < affinity)
	for i, ep := range eps {
		has := hasAdapter(req, ep, target)
		keep[i] = stay && has || !stay && !has && slotFree(req, ep)
	}
	return nil
}

func (f LoRASoftAffinity) validate() error {
	var c check.Checks
	check.Default(&c, "affinity", &f.Affinity, TreeLoRAAffinity, 0, 1)
	return c.Err()
}

var (
	_ scheduling.Scorer    = LoRAAffinity{}
	_ scheduling.Describer = LoRAAffinity{}
	_ scheduling.Filter    = LoRASoftAffinity{}
)
