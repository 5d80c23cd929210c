package policies

import (
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// LMetric is the rule of "LMetric" (arXiv 2603.15202, OSDI 2026), which has no
// parameters: the least of
//
//	(own uncached tokens + uncached tokens in flight) × (requests in flight + 1)
//
// Deviations: the batch is the requests in flight from this gateway, where the
// paper reads it from the engines; own uncached tokens are at least 1, so that a
// prompt that is cached everywhere still goes to the smaller batch.
func LMetric() scheduling.Profile {
	cache := prefixIndex()
	return rule("lmetric", lowest{"tokens × requests", func(req *types.Request, ep *types.Endpoint) float64 {
		return (uncached(cache, req, ep) + prefilling(ep)) * (inFlight(ep) + 1)
	}}, cache)
}
