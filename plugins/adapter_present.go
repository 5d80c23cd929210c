package plugins

import (
	"context"
	"slices"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// AdapterPresent is a Filter that keeps the endpoints that report the request's
// target model among their running or waiting adapters. If none does, all are
// kept: the target is a base model, or an adapter that nobody has in use.
type AdapterPresent struct{}

// Filter implements scheduling.Filter.
func (AdapterPresent) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	target, found := req.Target(), false
	for i, ep := range eps {
		keep[i] = hasAdapter(req, ep, target)
		found = found || keep[i]
	}
	if !found {
		keepAll(keep)
	}
	return nil
}

// Constraint implements scheduling.Constrainer.
func (AdapterPresent) Constraint(req *types.Request, eps []*types.Endpoint) scheduling.Constraint {
	target, staleBefore := req.Target(), req.StaleBefore
	has := func(ep *types.Endpoint) bool {
		return hasAdapter(&types.Request{StaleBefore: staleBefore}, ep, target)
	}
	if !slices.ContainsFunc(eps, has) {
		return scheduling.Constraint{}
	}
	return scheduling.Constraint{Name: target, Match: has, Preferred: true}
}

// Describe implements scheduling.Describer.
func (AdapterPresent) Describe(req *types.Request, ep *types.Endpoint) string {
	return LoRAAffinity{}.Describe(req, ep)
}

var (
	_ scheduling.Filter      = AdapterPresent{}
	_ scheduling.Describer   = AdapterPresent{}
	_ scheduling.Constrainer = AdapterPresent{}
)
