package scheduling

import (
	"fmt"
	"math"

	"github.com/inferpick/inferpick/types"
)

// Rule schedules some requests of a Profile differently. All rules share the ledger, and their
// Trackers learn of every decision of the Scheduler.
type Rule struct {
	// Name identifies the rule in explanations and errors. It need not be unique. Required.
	Name string
	// When reports whether the rule applies to a request. Required. It must be quick, must not modify
	// the request, and is called concurrently. If it panics the rule does not apply, and the panic is
	// reported to Hooks.PluginFailed.
	When func(*types.Request) bool

	// The following replace the fields of Profile of the same names.
	Filters        []Named
	Scorers        []Weighted
	Costs          []Costed
	Splitter       Splitter
	PrefillFilters []Named
	Picker         Picker // required
	Fallbacks      int
}

// pipeline is what a request goes through.
type pipeline struct {
	Rule
	picker string // the picker's name in errors
	ranker Ranker // the picker; nil: it is none
	// splitter is the rule's own, or the first coster that is one; nil: every request is served at one
	// endpoint.
	splitter     Splitter
	splitterName string
	limits       []Constrainer
	// screens are the filters that are Screeners, by their places; nil: it is none.
	screens  []Screener
	screened uint64    // their places, as bits; who comes after the 64th is not asked
	helpers  *pipeline // the filters of endpoints that compute prompts for others; may be the pipeline itself
}

// pipeline checks a rule and returns it, ready to be run.
func (r Rule) pipeline() (*pipeline, error) {
	if r.Picker == nil {
		return nil, fmt.Errorf("has no Picker")
	}
	if r.Fallbacks < 0 || r.Fallbacks > MaxFallbacks {
		return nil, fmt.Errorf("field Fallbacks is %d, want 0 to %d", r.Fallbacks, MaxFallbacks)
	}
	var err error
	if r.Filters, err = nameAll("Filters", "Filter", r.Filters, func(f *Named) (*string, any) { return &f.Name, f.Filter }); err != nil {
		return nil, err
	}
	if r.Scorers, err = nameAll("Scorers", "Scorer", r.Scorers, func(w *Weighted) (*string, any) { return &w.Name, w.Scorer }); err != nil {
		return nil, err
	}
	for _, w := range r.Scorers {
		if !(w.Weight >= 0) || math.IsInf(w.Weight, 0) {
			return nil, fmt.Errorf("scorer %q has weight %v, want a number of at least 0", w.Name, w.Weight)
		}
	}
	if r.Costs, err = nameAll("Costs", "Coster", r.Costs, func(c *Costed) (*string, any) { return &c.Name, c.Coster }); err != nil {
		return nil, err
	}
	p := &pipeline{Rule: r, picker: nameOf("", r.Picker)}
	p.ranker, _ = r.Picker.(Ranker)
	p.splitter = r.Splitter
	for _, c := range r.Costs {
		if both, ok := c.Coster.(Splitter); ok && p.splitter == nil {
			p.splitter, p.splitterName = both, c.Name
		}
	}
	if r.Splitter != nil {
		p.splitterName = nameOf("", r.Splitter)
	}
	p.look()
	p.helpers = p
	if r.PrefillFilters != nil {
		filters, err := nameAll("PrefillFilters", "Filter", r.PrefillFilters, func(f *Named) (*string, any) { return &f.Name, f.Filter })
		if err != nil {
			return nil, err
		}
		p.helpers = &pipeline{Rule: Rule{Name: r.Name, Filters: filters}}
		p.helpers.look()
		p.helpers.limits = nil // admission control is about who answers
	}
	return p, nil
}

// look finds what the filters can do beside filtering.
func (p *pipeline) look() {
	p.screens = make([]Screener, len(p.Filters))
	for i, f := range p.Filters {
		if c, ok := f.Filter.(Constrainer); ok {
			p.limits = append(p.limits, c)
		}
		if c, ok := f.Filter.(Screener); ok {
			p.screens[i] = c
			p.screened |= 1 << i
		}
	}
}

// pipelines returns those of the rules of p, in order, and at last that for all other
// requests; or what is wrong with them.
func (p *Profile) pipelines() ([]*pipeline, error) {
	var all []*pipeline
	for i, r := range p.Rules {
		one, err := r.pipeline()
		switch {
		case r.Name == "":
			return nil, fmt.Errorf("scheduling: Rules[%d] has no Name", i)
		case r.When == nil:
			return nil, fmt.Errorf("scheduling: rule %q has no When", r.Name)
		case err != nil:
			return nil, fmt.Errorf("scheduling: rule %q: %w", r.Name, err)
		}
		all = append(all, one)
	}
	others, err := p.rest().pipeline()
	if err != nil {
		return nil, fmt.Errorf("scheduling: %w", err)
	}
	return append(all, others), nil
}

// rest is the rule for requests that no other is for.
func (p *Profile) rest() Rule {
	return Rule{Filters: p.Filters, Scorers: p.Scorers, Costs: p.Costs, Splitter: p.Splitter, PrefillFilters: p.PrefillFilters, Picker: p.Picker, Fallbacks: p.Fallbacks}
}

// pipelineOf returns what a request goes through: that of the first rule that is for it.
func (s *Scheduler) pipelineOf(req *types.Request) *pipeline {
	last := len(s.pipelines) - 1
	for _, p := range s.pipelines[:last] {
		if s.isFor(p, req) {
			return p
		}
	}
	return s.pipelines[last]
}

func (s *Scheduler) isFor(p *pipeline, req *types.Request) (is bool) {
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("rule", p.Name, v))
		}
	}()
	return p.When(req)
}
