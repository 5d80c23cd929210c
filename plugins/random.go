package plugins

import (
	"context"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Random is a Picker that takes any endpoint, whatever its score.
type Random struct{}

// Pick implements scheduling.Picker.
func (Random) Pick(_ context.Context, req *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
	return req.Rand.IntN(len(eps)), nil
}

var _ scheduling.Picker = Random{}
