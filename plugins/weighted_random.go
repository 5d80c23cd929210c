package plugins

import (
	"context"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// WeightedRandom is a Picker that takes each endpoint with a chance proportional
// to its sum; if all sums are 0, any. With fallbacks this is sampling without
// replacement, the same distribution as the A-Res algorithm (Efraimidis and
// Spirakis, 2006) that the Inference Extension's weighted-random-picker uses.
type WeightedRandom struct{}

// Pick implements scheduling.Picker.
func (WeightedRandom) Pick(_ context.Context, req *types.Request, _ []*types.Endpoint, scores []float64) (int, error) {
	sum := 0.0
	for _, s := range scores {
		sum += s
	}
	if sum == 0 {
		return req.Rand.IntN(len(scores)), nil
	}
	r := req.Rand.Float64() * sum
	last := 0
	for i, s := range scores {
		if s == 0 {
			continue
		}
		if r < s {
			return i, nil
		}
		r -= s
		last = i
	}
	return last, nil // rounding left a rest
}

var _ scheduling.Picker = WeightedRandom{}
