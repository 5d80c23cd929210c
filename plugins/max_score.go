package plugins

import (
	"context"
	"math"

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

// Rank implements scheduling.Ranker, for scores of which no two that matter are equal.
func (MaxScore) Rank(scores []float64, best []int) bool {
	var room [scheduling.MaxFallbacks + 1]float64
	top := room[:len(best)] // the highest so far, descending
	for i := range top {
		top[i] = math.Inf(-1)
	}
	last := len(top) - 1
	for i, s := range scores {
		if s < top[last] {
			continue
		}
		if !(s > top[last]) {
			return false
		}
		at := last
		for ; at > 0 && s > top[at-1]; at-- {
			top[at], best[at] = top[at-1], best[at-1]
		}
		if at > 0 && !(s < top[at-1]) {
			return false
		}
		top[at], best[at] = s, i
	}
	return true
}

var (
	_ scheduling.Picker = MaxScore{}
	_ scheduling.Ranker = MaxScore{}
)
