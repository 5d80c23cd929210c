package main

import (
	"fmt"
	"math"
	"strconv"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// column is one figure of a report as the tables and the CSV show it.
type column struct {
	head   string // in tables
	unit   string
	scale  float64 // from the report's unit to unit
	figure func(*simulation.Report) float64
}

type report = simulation.Report

// answers says how the jobs of runs are answered.
type answers struct {
	tokens bool // by one token after the other
	whole  bool // all at once: these have no time to first token
}

// answers are those of all runs.
func (s *summary) answers() (a answers) {
	for _, r := range s.runs {
		a.tokens = a.tokens || r.report.TTFT.Count > 0
		a.whole = a.whole || r.report.Latency.Count > 0
	}
	a.tokens = a.tokens || !a.whole
	return a
}

// head is what ttft90 is of.
func (a answers) head() string {
	if a.tokens {
		return "TTFT"
	}
	return "latency"
}

// what is head in words.
func (a answers) what() string {
	if a.tokens {
		return "time to first token"
	}
	return "latency"
}

// columns are the figures of the table.
func columns(a answers, cpu, roles bool) []column {
	whole := []column{
		{"latency p50", "s", 1, func(r *report) float64 { return r.Latency.P50 }},
		{"p90", "s", 1, func(r *report) float64 { return r.Latency.P90 }},
		{"p99", "s", 1, func(r *report) float64 { return r.Latency.P99 }},
		{"items", "/s", 1, func(r *report) float64 { return r.ItemRate }},
	}
	if !a.tokens {
		cs := append(whole, column{"requests", "/s", 1, func(r *report) float64 { return r.RequestRate }},
			column{"imbalance", "", 1, func(r *report) float64 { return r.Imbalance }})
		return append(cs, decisions(cpu)...)
	}
	cs := []column{
		{"TTFT p50", "ms", 1000, func(r *report) float64 { return r.TTFT.P50 }},
		{"p90", "ms", 1000, func(r *report) float64 { return r.TTFT.P90 }},
		{"p99", "ms", 1000, func(r *report) float64 { return r.TTFT.P99 }},
		{"TPOT p50", "ms", 1000, func(r *report) float64 { return r.TPOT.P50 }},
		{"p90", "ms", 1000, func(r *report) float64 { return r.TPOT.P90 }},
		{"NTPOT p90", "ms", 1000, func(r *report) float64 { return r.NTPOT.P90 }},
		{"E2E p50", "s", 1, func(r *report) float64 { return r.E2E.P50 }},
		{"p90", "s", 1, func(r *report) float64 { return r.E2E.P90 }},
		{"output", "tok/s", 1, func(r *report) float64 { return r.OutputRate }},
		{"hits", "%", 100, func(r *report) float64 { return r.PrefixHits }},
		{"imbalance", "", 1, func(r *report) float64 { return r.Imbalance }},
	}
	if a.whole {
		cs = append(cs, whole...)
	}
	if roles {
		cs = append(cs,
			column{"apart", "%", 100, func(r *report) float64 { return apart(r).Share }},
			column{"transfer", "ms", 1000, func(r *report) float64 { return apart(r).Transfer.Mean }})
	}
	return append(cs, decisions(cpu)...)
}

// decisions are the columns of -cpu.
func decisions(cpu bool) []column {
	if !cpu {
		return nil
	}
	return []column{
		{"decision", "µs", 1, func(r *report) float64 { return decision(r).Mean }},
		{"p99", "µs", 1, func(r *report) float64 { return decision(r).P99 }},
	}
}

func apart(r *report) simulation.ApartReport {
	if r.Apart == nil {
		return simulation.ApartReport{}
	}
	return *r.Apart
}

func decision(r *report) simulation.Distribution {
	if r.Decision == nil {
		return simulation.Distribution{}
	}
	return *r.Decision
}

// counts are the events that tables mention only where there are any.
func counts() []struct {
	name  string
	count func(*report) int
} {
	return []struct {
		name  string
		count func(*report) int
	}{
		{"shed", func(r *report) int { return r.Shed }},
		{"failed", func(r *report) int { return r.Failed }},
		{"cancelled", func(r *report) int { return r.Cancelled }},
		{"unfinished", func(r *report) int { return r.Unfinished }},
		{"preempted", func(r *report) int { return r.Preemptions }},
	}
}

// String is the mean with three figures, and the spread if there is one.
func (v value) String() string {
	if v.n < 2 {
		return figures(v.mean)
	}
	return fmt.Sprintf("%s ±%s", figures(v.mean), spread(v.mean, v.sd))
}

// times returns v in another unit.
func (v value) times(f float64) value { return value{v.mean * f, v.sd * f, v.n} }

// figures is x with three significant figures, and all those before the point.
func figures(x float64) string {
	if x == 0 || math.Abs(x) < 0.0005 {
		return "0"
	}
	return strconv.FormatFloat(x, 'f', decimals(x), 64)
}

// spread is sd with as many decimals as figures gives the mean.
func spread(mean, sd float64) string {
	return strconv.FormatFloat(sd, 'f', decimals(mean), 64)
}

// decimals is how many digits after the point make three significant figures, at
// most 3.
func decimals(x float64) int {
	if x == 0 {
		return 0
	}
	return min(max(2-int(math.Floor(math.Log10(math.Abs(x)))), 0), 3)
}
