package main

import (
	"cmp"
	"math"
	"slices"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// summary is all that came out, in the order of the plan.
type summary struct {
	workload string
	capacity float64 // requests per second; 0: not measured
	levels   []level
	policies []string
	runs     []finished // those that have a report
	points   []point    // by level, then policy; those that have a run
}

// point is one policy at one level: the runs of all seeds.
type point struct {
	level  int // index in summary.levels
	policy int // index in summary.policies
	runs   []finished
}

func newSummary(cfg config, capacity float64, levels []level, runs []finished) summary {
	s := summary{workload: cfg.workload, capacity: capacity, levels: levels, policies: names(cfg.policies)}
	for _, r := range runs {
		if r.report == nil {
			continue
		}
		s.runs = append(s.runs, r)
		at := point{slices.Index(levels, r.level), slices.Index(s.policies, r.policy.Name), nil}
		if n := len(s.points); n == 0 || s.points[n-1].level != at.level || s.points[n-1].policy != at.policy {
			s.points = append(s.points, at)
		}
		last := &s.points[len(s.points)-1]
		last.runs = append(last.runs, r)
	}
	return s
}

// at returns the point of a level and a policy, or nil.
func (s *summary) at(level, policy int) *point {
	for i := range s.points {
		if p := &s.points[i]; p.level == level && p.policy == policy {
			return p
		}
	}
	return nil
}

// steady tells whether the fleet kept up in all runs.
func (p *point) steady() bool {
	return !slices.ContainsFunc(p.runs, func(r finished) bool { return !r.report.Steady })
}

// told tells whether the policy is told what no gateway can see.
func (p *point) told() bool { return p.runs[0].policy.Clairvoyant != nil }

// unsteady returns the number of runs in which the fleet did not keep up, and what
// the first of them says.
func (p *point) unsteady() (n int, why string) {
	for _, r := range p.runs {
		if !r.report.Steady {
			n++
			why = cmp.Or(why, r.report.Why)
		}
	}
	return n, cmp.Or(why, "latency grew for as long as requests arrived")
}

// value is the mean of a figure over seeds, with its standard deviation.
type value struct {
	mean, sd float64
	n        int
}

// of returns the mean and spread of a figure of the reports.
func (p *point) of(figure func(*simulation.Report) float64) value {
	v := value{n: len(p.runs)}
	for _, r := range p.runs {
		v.mean += figure(r.report) / float64(v.n)
	}
	if v.n > 1 {
		for _, r := range p.runs {
			d := figure(r.report) - v.mean
			v.sd += d * d / float64(v.n-1)
		}
		v.sd = math.Sqrt(v.sd)
	}
	return v
}

// sum adds up a count of the reports.
func (p *point) sum(count func(*simulation.Report) int) int {
	n := 0
	for _, r := range p.runs {
		n += count(r.report)
	}
	return n
}

// detail returns the run to show in detail, and one to compare it with, nil if there
// is none: both at the same level, on the first seed. The first is of the policy
// called show, or of that with the lowest p90 of the time to first token; the other
// of the first other policy. The level is the highest at which the fleet kept up
// with both, or else with the first, or else the lowest.
func (s *summary) detail(show string) (shown, other *finished) {
	for l := len(s.levels) - 1; l >= 0; l-- {
		first, second := s.pair(l, show)
		switch {
		case first == nil:
			continue
		case first.steady() && (second == nil || second.steady()):
			return first.firstRun(), second.firstRun()
		case shown == nil && first.steady(), l == 0 && shown == nil:
			shown, other = first.firstRun(), second.firstRun()
		}
	}
	return shown, other
}

// pair returns the point of the policy called show at a level, or the best one, and
// the first other.
func (s *summary) pair(l int, show string) (shown, other *point) {
	for i := range s.points {
		p := &s.points[i]
		switch {
		case p.level != l, show != "" && s.policies[p.policy] != show:
		case show == "" && p.told() && len(s.policies) > 1: // nobody can run it
		case shown == nil, p.steady() && !shown.steady(),
			p.steady() == shown.steady() && p.of(ttft90).mean < shown.of(ttft90).mean:
			shown = p
		}
	}
	for i := range s.points {
		if p := &s.points[i]; p.level == l && shown != nil && p.policy != shown.policy {
			return shown, p
		}
	}
	return shown, nil
}

// firstRun is the run on the first seed; nil of nil.
func (p *point) firstRun() *finished {
	if p == nil {
		return nil
	}
	return &p.runs[0]
}

// ttft90 is the p90 of the time to first token, or until the whole answer where none has a first token.
func ttft90(r *simulation.Report) float64 { return cmp.Or(r.TTFT.P90, r.Latency.P90) }
