package gateway

import (
	"cmp"
	"context"
	"slices"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// This file is how rollouts hear of requests, and keep those for a new target from servers that lack it.

// roll makes the Controller of rollouts, if there is to be one.
func (g *Gateway) roll(o Options) (err error) {
	if o.Rollouts == nil {
		return nil
	}
	options := *o.Rollouts
	options.Store = g.Store
	options.Logger = cmp.Or(options.Logger, o.Logger)
	options.Name = cmp.Or(options.Name, nameOf(o))
	options.Peers = options.Peers || g.wire != nil
	if options.Now == nil {
		options.Now = o.Store.Now
	}
	if options.Saturation == nil && o.Admission != nil {
		options.Saturation = g.saturation
	}
	g.Rollouts, err = rollout.New(options)
	return err
}

// saturation returns how full a pool is, by its admission control; 0: that is not known.
func (g *Gateway) saturation(pool types.NamespacedName) float64 {
	if g.Director == nil {
		return 0
	}
	for name, c := range g.Director.Admissions() {
		if name == pool {
			return c.Stats().Saturation
		}
	}
	return 0
}

// WithRollouts returns a profile whose requests c hears of, and whose filters let requests for a new target go only to
// servers that are known to have it: for who makes schedulers without a Gateway.
func WithRollouts(p scheduling.Profile, c *rollout.Controller) scheduling.Profile {
	gate := scheduling.Named{Name: "rollout", Filter: gate{c.Gate()}}
	// It is the first: others, which keep some servers when they would strike out all, are to see those that can.
	with := func(filters []scheduling.Named) []scheduling.Named {
		return append([]scheduling.Named{gate}, filters...)
	}
	p.Filters = with(p.Filters)
	if p.PrefillFilters != nil {
		p.PrefillFilters = with(p.PrefillFilters)
	}
	p.Rules = slices.Clone(p.Rules)
	for i := range p.Rules {
		r := &p.Rules[i]
		r.Filters = with(r.Filters)
		if r.PrefillFilters != nil {
			r.PrefillFilters = with(r.PrefillFilters)
		}
	}
	h := &p.Hooks
	h.Scheduled = both(func(e scheduling.Event) { c.Scheduled(e.Request) }, h.Scheduled)
	h.Retried = both(func(e scheduling.Event) { c.Retried(e.Request, e.From, e.Outcome) }, h.Retried)
	h.Finished = both(func(e scheduling.Event) { c.Finished(e.Request, e.Endpoint, e.Outcome) }, h.Finished)
	return p
}

func both(first, next func(scheduling.Event)) func(scheduling.Event) {
	if next == nil {
		return first
	}
	return func(e scheduling.Event) {
		first(e)
		next(e)
	}
}

// gate keeps requests for a new target from servers that are not known to have it.
type gate struct{ rollout.Gate }

// Screen implements scheduling.Screener.
func (g gate) Screen(req *types.Request, _ *scheduling.Overview) bool { return g.Idle(req) }

// Constraint implements scheduling.Constrainer, so that admission control looks for room where the request may go.
func (g gate) Constraint(req *types.Request, eps []*types.Endpoint) scheduling.Constraint {
	if g.Idle(req) {
		return scheduling.Constraint{}
	}
	keep := make([]bool, len(eps))
	for i := range keep {
		keep[i] = true
	}
	if g.Filter(context.Background(), req, eps, keep) == nil && !slices.Contains(keep, false) {
		return scheduling.Constraint{}
	}
	name := req.Target()
	return scheduling.Constraint{Name: "rollout " + name, Match: func(ep *types.Endpoint) bool { return g.Match(name, ep) }}
}

// Describe implements scheduling.Describer.
func (g gate) Describe(req *types.Request, ep *types.Endpoint) string {
	if g.Match(req.Target(), ep) {
		return ""
	}
	return "it is not known to have " + req.Target()
}

var (
	_ scheduling.Filter      = gate{}
	_ scheduling.Screener    = gate{}
	_ scheduling.Constrainer = gate{}
	_ scheduling.Describer   = gate{}
	_ sharing.NotePart       = (*rollout.Controller)(nil)
)
