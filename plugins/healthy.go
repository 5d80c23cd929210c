package plugins

import (
	"context"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Healthy is a Filter that removes endpoints whose State is not Ready, and those whose engine is
// asleep (types.Endpoint.Asleep), since it would accept requests but not compute them.
type Healthy struct{}

// Filter implements scheduling.Filter.
func (Healthy) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	for i, ep := range eps {
		if ep.State != types.Ready || ep.Asleep(req) {
			keep[i] = false
		}
	}
	return nil
}

// Screen implements scheduling.Screener. It leaves it to Filter whether the reading of a sleeping
// engine is too old.
func (Healthy) Screen(_ *types.Request, o *scheduling.Overview) bool { return o.Ready && o.Awake }

// Describe implements scheduling.Describer.
func (Healthy) Describe(req *types.Request, ep *types.Endpoint) string {
	if ep.Asleep(req) {
		return ep.State.String() + ", asleep"
	}
	return ep.State.String()
}
