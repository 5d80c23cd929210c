package plugins

import (
	"maps"
	"slices"

	"github.com/inferpick/inferpick/types"
)

// attributes are the figures of an endpoint that have a name in declarations. NaN: not
// known.
var attributes = map[string]func(*types.Request, *types.Endpoint) float64{
	"waiting":     func(req *types.Request, ep *types.Endpoint) float64 { return ep.Waiting(req) },
	"running":     func(req *types.Request, ep *types.Endpoint) float64 { return ep.Running(req) },
	"kvUsage":     func(req *types.Request, ep *types.Endpoint) float64 { return ep.KVUsage(req) },
	"maxAdapters": func(req *types.Request, ep *types.Endpoint) float64 { return ep.MaxAdapters(req) },
	"blockSize":   func(_ *types.Request, ep *types.Endpoint) float64 { return ep.Metrics.BlockSize.OrNaN() },
	"numBlocks":   func(_ *types.Request, ep *types.Endpoint) float64 { return ep.Metrics.NumBlocks.OrNaN() },
	"inFlightRequests": func(_ *types.Request, ep *types.Endpoint) float64 {
		if ep.Load == nil {
			return types.Gauge{}.OrNaN()
		}
		return float64(ep.Load.Requests())
	},
	"inFlightTokens": func(_ *types.Request, ep *types.Endpoint) float64 {
		if ep.Load == nil {
			return types.Gauge{}.OrNaN()
		}
		return float64(ep.Load.ContextTokens())
	},
}

// AttributeNames are the names that Attribute of AttributeFilter and AttributeScorer may
// have, sorted: what the engine reports (waiting, running, kvUsage, maxAdapters,
// blockSize, numBlocks) and what this process has sent (inFlightRequests,
// inFlightTokens).
func AttributeNames() []string { return slices.Sorted(maps.Keys(attributes)) }
