package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// writeTable writes a table for each level, and one of the runs in which the fleet
// did not keep up.
func writeTable(w io.Writer, s summary, cfg config) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", s.workload, cfg.fleet())
	if s.capacity > 0 {
		fmt.Fprintf(&b, "capacity, the highest rate at which %s keeps up: %.4g %s/s\n", capacityPolicy, s.capacity, s.levels[0].unit)
	}
	fmt.Fprintf(&b, "simulated %s, the first %s not counted; %s\n", durationText(cfg.duration), durationText(cfg.warmup), seedsText(cfg.seeds))
	for l := range s.levels {
		if rows := levelRows(s, l, cfg.cpu, cfg.roles()); len(rows) > 1 {
			fmt.Fprintf(&b, "\n%s\n", s.levels[l])
			writeGrid(&b, rows)
		}
	}
	if rows := overloadRows(s); len(rows) > 1 {
		fmt.Fprint(&b, "\n! overload: the fleet did not keep up, so that the latencies above say how long the run was\n")
		writeGrid(&b, rows)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// levelRows are the cells of the table of a level, the head first.
func levelRows(s summary, l int, cpu, roles bool) [][]string {
	head := []string{"policy"}
	cs := columns(s.answers(), cpu, roles)
	for _, c := range cs {
		head = append(head, strings.TrimSpace(c.head+" "+c.unit))
	}
	rows := [][]string{append(head, "")}
	for i := range s.points {
		p := &s.points[i]
		if p.level != l {
			continue
		}
		row := []string{s.policies[p.policy]}
		if !p.steady() {
			row[0] += " !"
		}
		for _, c := range cs {
			row = append(row, p.of(c.figure).times(c.scale).String())
		}
		rows = append(rows, append(row, p.events()))
	}
	return rows
}

// events says how often what should not happen did, in all runs of the point.
func (p *point) events() string {
	var words []string
	if p.sum(func(r *simulation.Report) int { return r.Arrived }) == 0 {
		// A trace that is over before what is counted begins.
		words = append(words, "no requests after -warmup: a trace that is over? try -warmup 0 or a lower rate")
	}
	for _, c := range counts() {
		if n := p.sum(c.count); n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, c.name))
		}
	}
	return strings.Join(words, ", ")
}

// overloadRows are the points at which the fleet did not keep up, the head first.
func overloadRows(s summary) [][]string {
	rows := [][]string{{"policy", "load", "runs", s.answers().head() + " p90 s", "completed /s", "offered /s", "why"}}
	for i := range s.points {
		p := &s.points[i]
		if n, why := p.unsteady(); n > 0 {
			rows = append(rows, []string{
				s.policies[p.policy], s.levels[p.level].Short(), fmt.Sprintf("%d of %d", n, len(p.runs)),
				p.of(ttft90).String(),
				p.of(func(r *simulation.Report) float64 { return r.RequestRate }).String(),
				p.of(func(r *simulation.Report) float64 { return r.OfferedRate }).String(),
				why,
			})
		}
	}
	return rows
}

// writeGrid writes rows in columns: the first and the last to the left, the others
// to the right.
func writeGrid(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			switch i {
			case 0:
				line += cell + pad
			case len(row) - 1:
				line += "  " + cell
			default:
				line += "  " + pad + cell
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

// fleet says what the replicas are.
func (cfg *config) fleet() string {
	name := engineName(cfg.engine)
	if cfg.denoises != nil {
		name = cfg.denoises.Denoiser.Name
	}
	s := fmt.Sprintf("%d x %s", cfg.replicas, name)
	if cfg.roles() {
		s += fmt.Sprintf(" (%d prefill, %d decode, %d both, %v Gb/s)", cfg.prefill, cfg.decode, cfg.replicas-cfg.prefill-cfg.decode, cfg.link)
	}
	if cfg.gateways > 1 {
		s += fmt.Sprintf(", %d gateways", cfg.gateways) + cfg.togetherText()
	}
	if cfg.scrape == 0 {
		return s + ", metrics never read"
	}
	return s + fmt.Sprintf(", metrics read every %v", cfg.scrape)
}

// togetherText says what gateways have to do with each other.
func (cfg *config) togetherText() (s string) {
	if cfg.shares != nil {
		s += " with shares " + joinFloats(cfg.shares)
	}
	if cfg.sticky {
		s += ", each session at one"
	}
	if !cfg.tells() {
		return s
	}
	w := &cfg.sharing
	s += fmt.Sprintf(", telling each other every %v, in %v", w.Every, max(w.Delay, 0))
	if w.Jitter > 0 {
		s += fmt.Sprintf(" and a mean of %v more", w.Jitter)
	}
	if w.Lost > 0 {
		s += fmt.Sprintf(", %.4g %% lost", 100*w.Lost)
	}
	return s
}

func seedsText(seeds []uint64) string {
	if len(seeds) == 1 {
		return fmt.Sprintf("seed %d", seeds[0])
	}
	return fmt.Sprintf("mean ± standard deviation over seeds %d to %d", seeds[0], seeds[len(seeds)-1])
}

// durationText is a duration without the units that are 0.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
