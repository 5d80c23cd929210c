package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// page is what the template shows.
type page struct {
	Style            template.CSS
	Workload, Fleet  string
	Capacity         string
	Measured         string // by which policy
	Spec             string // the workload with its parameters
	Duration, Warmup string
	Seeds            string
	Command          string
	Lead             string
	OneLevel         bool

	Policies  []legendEntry
	Figures   []figure
	Overload  [][]string
	Levels    []levelTable
	Times     []timeline
	Decisions []decisionTable
}

// legendEntry is a policy with its color.
type legendEntry struct{ Name, Color string }

// figure is a plot with the numbers behind it.
type figure struct {
	Title string
	SVG   template.HTML
	Rows  [][]string // the head first
}

// levelTable is all figures at one level.
type levelTable struct {
	Name string
	Rows [][]string
}

// timeline is the load of each replica over the time of one run.
type timeline struct {
	Title    string
	SVG      template.HTML
	Replicas []legendEntry
	Rows     [][]string
}

// decisionTable is one request's decision, explained.
type decisionTable struct {
	Run        string
	Number     int
	Scorers    []string
	Candidates []candidate
	Dropped    []string
	Err        string
}

type candidate struct {
	Rank, ID, Total, Filtered string
	Terms                     []term
}

// term is what a scorer said; Share is its part of the largest total, for the bar.
type term struct {
	Contribution, Formula, Detail string
	Share                         float64 // percent
}

// writePage writes a page that needs no other file.
func writePage(w io.Writer, s summary, cfg config) error {
	p, err := newPage(s, cfg)
	if err != nil {
		return err
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"last": func(i int, row []string) bool { return i == len(row)-1 },
	}).Parse(pageHTML)
	if err != nil {
		return err
	}
	// All of it or nothing: a page that ends in the middle helps nobody.
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

func newPage(s summary, cfg config) (p page, err error) {
	p = page{
		Workload: s.workload, Fleet: cfg.fleet(), Duration: durationText(cfg.duration), Warmup: durationText(cfg.warmup),
		Seeds: seedsText(cfg.seeds), Command: cfg.command, Spec: specText(cfg.spec), OneLevel: len(s.levels) == 1, Lead: lead(s),
	}
	if s.capacity > 0 {
		p.Capacity, p.Measured = fmt.Sprintf("%.4g %s/s", s.capacity, s.levels[0].unit), capacityPolicy
	}
	css := pageCSS
	for i, name := range s.policies {
		color := hex(colorOf(i))
		p.Policies = append(p.Policies, legendEntry{name, color})
		// What is not ticked in the legend is not drawn.
		css += fmt.Sprintf("body:has(#policy%d:not(:checked)) .policies [style*=\"%s\"] { display: none; }\n", i, color)
	}
	p.Style = template.CSS(css)
	if p.Figures, err = figuresOf(s); err != nil {
		return p, err
	}
	if rows := overloadRows(s); len(rows) > 1 {
		p.Overload = rows
	}
	for l := range s.levels {
		if rows := levelRows(s, l, cfg.cpu, cfg.roles()); len(rows) > 1 {
			p.Levels = append(p.Levels, levelTable{s.levels[l].String(), rows})
		}
	}
	shown, other := s.detail(cfg.show)
	if p.Times, err = timelines(shown, other); err != nil {
		return p, err
	}
	for _, f := range s.explained(shown) {
		p.Decisions = append(p.Decisions, decisionOf(f))
	}
	return p, nil
}

// figuresOf are the latencies over load.
func figuresOf(s summary) ([]figure, error) {
	var fs []figure
	a := s.answers()
	for _, c := range []struct {
		shown  bool
		title  string
		figure func(*simulation.Report) float64
	}{
		{a.tokens, "Time to first token, p50", func(r *report) float64 { return r.TTFT.P50 }},
		{a.tokens, "Time to first token, p90", func(r *report) float64 { return r.TTFT.P90 }},
		{a.tokens, "Time per output token, p50", func(r *report) float64 { return r.TPOT.P50 }},
		{a.tokens, "Time per output token, p90", func(r *report) float64 { return r.TPOT.P90 }},
		{a.tokens, "End-to-end time, p50", func(r *report) float64 { return r.E2E.P50 }},
		{a.tokens, "End-to-end time, p90", func(r *report) float64 { return r.E2E.P90 }},
		{a.whole, "Latency of requests without tokens, p50", func(r *report) float64 { return r.Latency.P50 }},
		{a.whole, "Latency of requests without tokens, p90", func(r *report) float64 { return r.Latency.P90 }},
		{a.whole, "Latency of requests without tokens, p99", func(r *report) float64 { return r.Latency.P99 }},
	} {
		if !c.shown {
			continue
		}
		drawn, err := overLoad(s, c.title+" over load, for each policy", c.figure)
		if err != nil {
			return nil, err
		}
		fs = append(fs, figure{c.title, drawn, figureRows(s, c.figure)})
	}
	return fs, nil
}

// figureRows are the numbers of a figure in milliseconds: a line for each policy, a
// column for each level.
func figureRows(s summary, f func(*simulation.Report) float64) [][]string {
	head := []string{"ms"}
	for _, l := range s.levels {
		head = append(head, l.Short())
	}
	rows := [][]string{head}
	for i, name := range s.policies {
		row := []string{name}
		for l := range s.levels {
			cell := ""
			if at := s.at(l, i); at != nil {
				cell = at.of(f).times(1000).String()
				if !at.steady() {
					cell += " !"
				}
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return rows
}

// lead is the outcome in one sentence: which policy has the lowest p90 of the time
// to first token at the highest level at which any keeps up, and how the others
// compare.
func lead(s summary) string {
	for l := len(s.levels) - 1; l >= 0; l-- {
		var best *point
		var rest []string
		for i := range s.points {
			if p := &s.points[i]; p.level == l && p.steady() && !p.told() && (best == nil || p.of(ttft90).mean < best.of(ttft90).mean) {
				best = p
			}
		}
		if best == nil || len(s.policies) == 1 {
			continue
		}
		low := best.of(ttft90).mean
		overloaded, highest := 0, 0.0
		for i := range s.points {
			switch p := &s.points[i]; {
			case p.level != l || p.policy == best.policy:
			case !p.steady():
				overloaded++
			case !p.told():
				highest = max(highest, p.of(ttft90).mean/low)
				rest = append(rest, fmt.Sprintf("%s %.2f times that", s.policies[p.policy], p.of(ttft90).mean/low))
			}
		}
		text := fmt.Sprintf("At %s the p90 of the "+s.answers().what()+" is lowest with %s: %s ms.", s.levels[l], s.policies[best.policy], figures(1000*low))
		switch {
		case len(rest) > 5:
			text += fmt.Sprintf(" The others come to up to %.1f times that.", highest)
		case len(rest) > 0:
			text += " The others: " + strings.Join(rest, ", ") + "."
		}
		if overloaded > 0 {
			text += fmt.Sprintf(" With %d of %d policies the fleet did not keep up.", overloaded, len(s.policies))
		}
		return text
	}
	return ""
}

// timelines are the load over time of the run that is shown, and of another for
// comparison, on the same scale.
func timelines(runs ...*finished) ([]timeline, error) {
	most := 0.0
	for _, f := range runs {
		if f != nil {
			for _, sample := range f.report.Timeline {
				for i := range sample.Running {
					most = max(most, float64(sample.Running[i]+sample.Waiting[i]))
				}
			}
		}
	}
	var ts []timeline
	for _, f := range runs {
		if f == nil || len(f.report.Timeline) == 0 {
			continue
		}
		title := fmt.Sprintf("%s, %s, seed %d", f.policy.Name, f.level, f.seed)
		drawn, err := overTime(f.report, most, "Sequences on each replica over time: "+title)
		if err != nil {
			return nil, err
		}
		t := timeline{Title: title, SVG: drawn, Rows: timelineRows(f.report)}
		for i, r := range f.report.Replicas {
			t.Replicas = append(t.Replicas, legendEntry{r.Name, hex(colorOf(i))})
		}
		ts = append(ts, t)
	}
	return ts, nil
}

// timelineRows are the numbers of a timeline at some 20 moments.
func timelineRows(r *simulation.Report) [][]string {
	head := []string{"s"}
	for _, replica := range r.Replicas {
		head = append(head, replica.Name)
	}
	rows := [][]string{head}
	for i := 0; i < len(r.Timeline); i += max(len(r.Timeline)/20, 1) {
		sample := r.Timeline[i]
		row := []string{figures(sample.At)}
		for k := range sample.Running {
			row = append(row, fmt.Sprint(sample.Running[k]+sample.Waiting[k]))
		}
		rows = append(rows, row)
	}
	return rows
}

// explained returns the runs whose decision is explained: the one shown, if it kept
// an explanation, and where that has but one scorer, the first with several, about
// the same request.
func (s *summary) explained(shown *finished) []*finished {
	scorers := func(f *finished) int {
		if f.report.Explanation == nil {
			return -1
		}
		n := 0
		for _, c := range f.report.Explanation.Candidates {
			n = max(n, len(c.Terms))
		}
		return n
	}
	if shown == nil || scorers(shown) < 0 {
		return nil
	}
	if scorers(shown) < 2 {
		for i := range s.runs {
			if f := &s.runs[i]; f.level == shown.level && f.seed == shown.seed && scorers(f) > 1 {
				return []*finished{shown, f}
			}
		}
	}
	return []*finished{shown}
}

// decisionOf is the explanation that a run kept.
func decisionOf(f *finished) decisionTable {
	x := f.report.Explanation
	d := decisionTable{
		Run:     fmt.Sprintf("%s, %s, seed %d", f.policy.Name, f.level, f.seed),
		Number:  f.config.ExplainJob,
		Dropped: x.Dropped,
	}
	if x.Err != nil {
		d.Err = x.Err.Error()
	}
	most := 0.0
	for _, c := range x.Candidates {
		most = max(most, c.Total)
		if len(d.Scorers) == 0 {
			for _, t := range c.Terms {
				d.Scorers = append(d.Scorers, fmt.Sprintf("%s × %g", t.Scorer, t.Weight))
			}
		}
	}
	for _, c := range inRankOrder(x.Candidates) {
		row := candidate{ID: c.ID, Total: fmt.Sprintf("%.3f", c.Total)}
		if c.Rank > 0 {
			row.Rank = fmt.Sprint(c.Rank)
		}
		if c.FilteredBy != "" {
			row.Filtered, row.Total = strings.TrimSpace(c.FilteredBy+" "+c.FilterDetail), ""
		}
		for _, t := range c.Terms {
			row.Terms = append(row.Terms, termOf(t, most))
		}
		d.Candidates = append(d.Candidates, row)
	}
	return d
}

// inRankOrder returns the chosen endpoint and the fallbacks first, the filtered ones
// last, and the others in between by their total.
func inRankOrder(cs []scheduling.Candidate) []scheduling.Candidate {
	class := func(c scheduling.Candidate) int {
		switch {
		case c.FilteredBy != "":
			return math.MaxInt
		case c.Rank == 0:
			return math.MaxInt - 1
		}
		return c.Rank
	}
	cs = slices.Clone(cs)
	slices.SortStableFunc(cs, func(a, b scheduling.Candidate) int {
		return cmp.Or(cmp.Compare(class(a), class(b)), cmp.Compare(b.Total, a.Total))
	})
	return cs
}

func termOf(t scheduling.Term, most float64) term {
	one := term{
		Contribution: fmt.Sprintf("%.3f", t.Contribution),
		Formula:      fmt.Sprintf("%.3f × %g", t.Used, t.Weight),
		Detail:       t.Detail,
	}
	if t.Unknown {
		one.Formula = "unknown: mean of the others, " + one.Formula
	}
	if most > 0 {
		one.Share = min(max(100*t.Contribution/most, 0), 100)
	}
	return one
}
