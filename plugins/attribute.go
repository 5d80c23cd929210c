package plugins

import (
	"maps"
	"slices"

	"github.com/inferpick/inferpick/types"
)

// attributes are the values of an endpoint that declarations can name. NaN means unknown.
var attributes = map[string]func(*types.Request, *types.Endpoint) float64{
	"waiting":          func(req *types.Request, ep *types.Endpoint) float64 { return ep.Waiting(req) },
	"running":          func(req *types.Request, ep *types.Endpoint) float64 { return ep.Running(req) },
	"kvUsage":          func(req *types.Request, ep *types.Endpoint) float64 { return ep.KVUsage(req) },
	"maxAdapters":      func(req *types.Request, ep *types.Endpoint) float64 { return ep.MaxAdapters(req) },
	"blockSize":        func(_ *types.Request, ep *types.Endpoint) float64 { return ep.Metrics.BlockSize.OrNaN() },
	"numBlocks":        func(_ *types.Request, ep *types.Endpoint) float64 { return ep.Metrics.NumBlocks.OrNaN() },
	"inFlightRequests": func(_ *types.Request, ep *types.Endpoint) float64 { return inFlight(ep) },
	"inFlightTokens":   func(_ *types.Request, ep *types.Endpoint) float64 { return tokensInFlight(ep) },
}

// AttributeNames returns the valid values of AttributeFilter.Attribute and
// AttributeScorer.Attribute, sorted: values that the engine reports (waiting, running, kvUsage,
// maxAdapters, blockSize, numBlocks) and those of this process's ledger (inFlightRequests,
// inFlightTokens).
func AttributeNames() []string { return slices.Sorted(maps.Keys(attributes)) }
