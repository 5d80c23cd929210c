package plugins

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// KVCache is a Scorer that prefers room in the KV cache: 1 - usage, the
// Inference Extension's kv-cache-utilization-scorer.
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

var (
	_ scheduling.Scorer    = KVCache{}
	_ scheduling.Describer = KVCache{}
)
