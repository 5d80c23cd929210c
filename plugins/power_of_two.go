package plugins

import (
	"context"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// PowerOfTwo is a Picker that draws two endpoints and takes the one with the
// higher sum (Mitzenmacher, "The power of two choices in randomized load
// balancing", 2001); of equals, the first drawn.
type PowerOfTwo struct{}

// Pick implements scheduling.Picker.
func (PowerOfTwo) Pick(_ context.Context, req *types.Request, _ []*types.Endpoint, scores []float64) (int, error) {
	n := len(scores)
	if n == 1 {
		return 0, nil
	}
	a := req.Rand.IntN(n)
	b := req.Rand.IntN(n - 1)
	if b >= a {
		b++ // two different ones
	}
	if scores[b] > scores[a] {
		return b, nil
	}
	return a, nil
}

var _ scheduling.Picker = PowerOfTwo{}
