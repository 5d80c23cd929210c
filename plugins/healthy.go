package plugins

import (
	"context"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Healthy is a Filter that strikes out endpoints that are draining or known to
// fail, those whose State is not Ready, and those whose engine says that it sleeps
// (types.Endpoint.Asleep): it would answer, but compute nothing.
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

// Screen implements scheduling.Screener. Filter looks at engines that sleep: it knows whether
// the reading that says so is too old.
func (Healthy) Screen(_ *types.Request, o *scheduling.Overview) bool { return o.Ready && o.Awake }

// Describe implements scheduling.Describer.
func (Healthy) Describe(req *types.Request, ep *types.Endpoint) string {
	if ep.Asleep(req) {
		return ep.State.String() + ", asleep"
	}
	return ep.State.String()
}

var (
	_ scheduling.Filter    = Healthy{}
	_ scheduling.Screener  = Healthy{}
	_ scheduling.Describer = Healthy{}
)
