package plugins

import (
	"context"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Healthy is a Filter that strikes out endpoints that are draining or known to
// fail: those whose State is not Ready.
type Healthy struct{}

// Filter implements scheduling.Filter.
func (Healthy) Filter(_ context.Context, _ *types.Request, eps []*types.Endpoint, keep []bool) error {
	for i, ep := range eps {
		if ep.State != types.Ready {
			keep[i] = false
		}
	}
	return nil
}

// Describe implements scheduling.Describer.
func (Healthy) Describe(_ *types.Request, ep *types.Endpoint) string { return ep.State.String() }

var (
	_ scheduling.Filter    = Healthy{}
	_ scheduling.Describer = Healthy{}
)
