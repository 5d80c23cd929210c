package plugins

import (
	"context"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// MaxScore is a Picker that takes the endpoint with the highest sum, one of them
// at random if several have it.
type MaxScore struct{}

// Pick implements scheduling.Picker.
func (MaxScore) Pick(_ context.Context, req *types.Request, _ []*types.Endpoint, scores []float64) (int, error) {
	best, top, ties := 0, scores[0], 1
	for i, s := range scores {
		if s < top || i == 0 {
			continue
		}
		if s > top {
			best, top, ties = i, s, 1
			continue
		}
		// Reservoir sampling: the k-th of equals takes over with chance 1/k.
		if ties++; req.Rand.IntN(ties) == 0 {
			best = i
		}
	}
	return best, nil
}

var _ scheduling.Picker = MaxScore{}
