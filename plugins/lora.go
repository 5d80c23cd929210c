package plugins

import (
	"cmp"
	"context"
	"slices"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// AdapterPresent is a Filter that keeps the endpoints that report the request's target model
// among their running or waiting adapters. If none does it keeps all: the target is a base model,
// or an adapter that is not in use anywhere.
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

// LoRAAffinity is a Scorer that prefers servers that have the request's adapter in use, and then
// those with a free adapter slot: 1 if the target model is among the running adapters; else 0.8
// if fewer adapters are running and waiting than fit; else 0.6 if it is among the waiting ones;
// else 0. It is the Inference Extension's lora-affinity-scorer.
//
// A base model is never among the adapters, so its requests go where slots are free, away from
// servers that are busy with adapters.
type LoRAAffinity struct{}

// Score implements scheduling.Scorer.
func (LoRAAffinity) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	target := req.Target()
	for i, ep := range eps {
		scores[i], _ = loraTier(req, ep, target)
	}
	return nil
}

// Describe implements scheduling.Describer.
func (LoRAAffinity) Describe(req *types.Request, ep *types.Endpoint) string {
	_, what := loraTier(req, ep, req.Target())
	return what
}

// TreeLoRAAffinity is the default of LoRASoftAffinity.Affinity, from the decision tree of the
// Inference Extension 0.3.
const TreeLoRAAffinity = 0.999

// LoRASoftAffinity is a Filter that keeps the endpoints that have the request's adapter in use
// or, if there are none and otherwise with a small probability, those with a free adapter slot.
// That probability lets an adapter spread to more servers.
type LoRASoftAffinity struct {
	// Affinity is the probability of staying with the servers that have the adapter if others
	// have a free slot, above 0 to 1. Default TreeLoRAAffinity.
	Affinity float64 `json:"affinity"`
}

// Filter implements scheduling.Filter. It keeps no endpoint if none has the adapter or a free
// slot.
func (f LoRASoftAffinity) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	affinity := cmp.Or(f.Affinity, TreeLoRAAffinity)
	target := req.Target()
	have, free := false, false
	for _, ep := range eps {
		if hasAdapter(req, ep, target) {
			have = true
		} else if slotFree(req, ep) {
			free = true
		}
	}
	stay := have && (!free || req.Rand.Float64() < affinity)
	for i, ep := range eps {
		has := hasAdapter(req, ep, target)
		keep[i] = stay && has || !stay && !has && slotFree(req, ep)
	}
	return nil
}

func (f LoRASoftAffinity) validate() error {
	var c check.Checks
	check.Default(&c, "affinity", &f.Affinity, TreeLoRAAffinity, 0, 1)
	return c.Err()
}

// hasAdapter reports whether ep is known to run the target or to have requests waiting for it.
func hasAdapter(req *types.Request, ep *types.Endpoint, target string) bool {
	most := ep.MaxAdapters(req)
	return most == most &&
		(slices.Contains(ep.Metrics.RunningAdapters, target) || slices.Contains(ep.Metrics.WaitingAdapters, target))
}

// slotFree reports whether fewer adapters are in use than fit. One that is both running and
// waiting takes one slot.
func slotFree(req *types.Request, ep *types.Endpoint) bool {
	used := len(ep.Metrics.RunningAdapters)
	for _, a := range ep.Metrics.WaitingAdapters {
		if !slices.Contains(ep.Metrics.RunningAdapters, a) {
			used++
		}
	}
	return float64(used) < ep.MaxAdapters(req)
}

// loraTier returns the score of ep for LoRAAffinity, and a description of it.
func loraTier(req *types.Request, ep *types.Endpoint, target string) (score float64, what string) {
	most := ep.MaxAdapters(req)
	m := &ep.Metrics
	switch {
	case most != most:
		return most, "adapters unknown"
	case slices.Contains(m.RunningAdapters, target):
		return 1, "adapter running"
	case float64(len(m.RunningAdapters)+len(m.WaitingAdapters)) < most:
		return 0.8, "adapter slot free"
	case slices.Contains(m.WaitingAdapters, target):
		return 0.6, "adapter waiting"
	}
	return 0, "adapter slots full"
}
