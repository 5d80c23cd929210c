// Package customscorer is a scorer of one's own with its unit test.
package customscorer

import (
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// SameZone prefers servers in the gateway's own zone.
func SameZone(zone string) scheduling.Scorer {
	return scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 {
		if ep.Labels["zone"] == zone {
			return 1
		}
		return 0
	})
}
