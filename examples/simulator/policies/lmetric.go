package policies

import (
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// lmetricAdapter is by how much LMetricAdapters multiplies the cost of an endpoint that
// would have to load the adapter, and again of one with no slot for it. It was chosen on
// drawn cases of adapters: README.md has others.
const lmetricAdapter = 100

// LMetric is the rule of "LMetric" (arXiv 2603.15202, OSDI 2026), which has no
// parameters: the least of
//
//	(own uncached tokens + uncached tokens in flight) × (requests in flight + 1)
//
// Deviations: the batch is the requests in flight from this gateway, where the
// paper reads it from the engines; own uncached tokens are at least 1, so that a
// prompt that is cached everywhere still goes to the smaller batch.
func LMetric() scheduling.Profile {
	cost, cache := lmetricCost()
	return rule("lmetric", cost, cache)
}

// LMetricAdapters is LMetric with affinity to LoRA adapters, which is nobody's product:
// the cost is multiplied by 100 where the request's adapter is not in use, and by 100 again
// where all slots are in use by others. In use is what the endpoint reports running or
// waiting, and what requests in flight from this gateway are for.
func LMetricAdapters() scheduling.Profile {
	lmetric, cache := lmetricCost()
	loras := newAdapters()
	p := rule("lmetric+adapters", lowest{lmetric.unit, func(req *types.Request, ep *types.Endpoint) float64 {
		cost := lmetric.cost(req, ep)
		inUse, slotFree := loras.At(req, ep)
		if !inUse {
			cost *= lmetricAdapter
		}
		if !slotFree {
			cost *= lmetricAdapter
		}
		return cost
	}}, cache, loras)
	p.MetricsTTL = asOldAsItIs
	return p
}

// lmetricCost returns LMetric's cost, and the tracker that it asks what is cached.
func lmetricCost() (lowest, scheduling.Tracker) {
	cache := prefixIndex()
	return lowest{"tokens × requests", func(req *types.Request, ep *types.Endpoint) float64 {
		return (uncached(cache, req, ep) + prefilling(ep)) * (inFlight(ep) + 1)
	}}, cache
}
