package suite

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// This file is what is the same jobs under other conditions, and what gateways have to do with each other.

// Cross is each of some workloads under each of some conditions. The other ones are compared with the first.
type Cross struct {
	Workloads []CrossWorkload `json:"workloads"`
	// Conditions are scenarios without a Workload, Loads and a Duration. At least two.
	Conditions []Scenario `json:"conditions"`
}

// CrossWorkload is a workload of a Cross, with fields of Scenario.
type CrossWorkload struct {
	Name     string          `json:"name"`
	Workload json.RawMessage `json:"workload"`
	Loads    []float64       `json:"loads"`
	Duration Duration        `json:"duration"`
}

// scenarios are all of them.
func (x *Cross) scenarios() (all []Scenario, err error) {
	if n := len(x.Workloads) * len(x.Conditions); n == 0 || len(x.Conditions) < 2 || n > maxCells {
		return nil, fmt.Errorf("cross has %d workloads and %d conditions, want at least 1 and 2, and together at most %d", len(x.Workloads), len(x.Conditions), maxCells)
	}
	for _, w := range x.Workloads {
		for i, c := range x.Conditions {
			if c.Workload != nil || c.Loads != nil || c.Duration != 0 || c.Trace != "" {
				return nil, fmt.Errorf("cross.conditions[%d] has a workload, a trace, loads or a duration, which those of cross.workloads have", i)
			}
			c.Name, c.Family = w.Name+", "+c.Name, w.Name
			c.Workload, c.Loads, c.Duration = w.Workload, w.Loads, w.Duration
			if i > 0 {
				c.Against = w.Name + ", " + x.Conditions[0].Name
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// Sharing is simulation.Sharing.
type Sharing struct {
	Every      Duration    `json:"every"`  // default 100 ms
	Delay      Duration    `json:"delay"`  // default 1 ms; "never": none
	Jitter     Duration    `json:"jitter"` // mean by which messages are later
	Lost       float64     `json:"lost"`   // part of the messages
	Partitions []Partition `json:"partitions"`
}

// Partition is simulation.Partition.
type Partition struct {
	At     Duration `json:"at"`
	Until  Duration `json:"until"` // default: never
	Groups [][]int  `json:"groups"`
}

func (s *Sharing) simulated() simulation.Sharing {
	c := simulation.Sharing{
		Every: time.Duration(s.Every), Delay: time.Duration(s.Delay), Jitter: time.Duration(s.Jitter), Lost: s.Lost,
	}
	for _, p := range s.Partitions {
		c.Partitions = append(c.Partitions, simulation.Partition{At: time.Duration(p.At), Until: time.Duration(p.Until), Groups: p.Groups})
	}
	return c
}

// checkTogether reports what is wrong with what gateways have to do with each other.
func (c *Scenario) checkTogether() error {
	n := max(c.Gateways, 1)
	if len(c.Shares) > 0 && len(c.Shares) != n || slices.ContainsFunc(c.Shares, func(v float64) bool { return !(v > 0 && v <= 1e6) }) {
		return fmt.Errorf("shares is %v, want one above 0 and at most 1e6 for each of the %d gateways", c.Shares, n)
	}
	s := &c.Sharing
	if s.Every < 0 || s.Jitter < 0 || !(s.Lost >= 0 && s.Lost <= 1) {
		return fmt.Errorf("sharing has every %v, jitter %v and lost %v, want no \"never\", and lost 0 to 1", time.Duration(s.Every), time.Duration(s.Jitter), s.Lost)
	}
	for i, p := range s.Partitions {
		if p.At < 0 || p.Until != 0 && p.Until <= p.At {
			return fmt.Errorf("sharing.partitions[%d] is from %v until %v", i, time.Duration(p.At), time.Duration(p.Until))
		}
		for _, g := range slices.Concat(p.Groups...) {
			if g < 0 || g >= n {
				return fmt.Errorf("sharing.partitions[%d].groups has gateway %d, want 0 to %d", i, g, n-1)
			}
		}
	}
	return nil
}

// checkAgainst reports what is wrong with a requirement on a case that is compared with another.
func (r *Requirement) checkAgainst(all []Scenario) error {
	i := slices.IndexFunc(all, func(c Scenario) bool { return c.Name == r.Case })
	if r.Policy == "" || !(r.Against > 0) || r.Worst != 0 || r.Mean != 0 || i < 0 || all[i].Against == "" {
		return fmt.Errorf("policy is %q, against %v and case %q, want a policy, a bound, and a scenario that is compared with another; worst and mean are of regrets", r.Policy, r.Against, r.Case)
	}
	return nil
}

// togetherKey spells out what the gateways have to do with each other, for the keys of records; nothing where they
// have nothing, as before they could.
func (c *Scenario) togetherKey() string {
	if s := &c.Sharing; s.Every == 0 && s.Delay == 0 && s.Jitter == 0 && s.Lost == 0 && s.Partitions == nil && c.Shares == nil && !c.Sticky {
		return ""
	}
	return fmt.Sprintf(" | sharing %+v, shares %v, sticky %t", c.Sharing, c.Shares, c.Sticky)
}

// against returns the case that c is compared with; nil: none.
func (r *Result) against(c *Case) *Case {
	for i := range r.Cases {
		if other := &r.Cases[i]; c.Against != "" && other.Scenario == c.Against && other.Load == c.Load {
			return other
		}
	}
	return nil
}

// Against returns how many times the figure of each policy in c is what it is in the case that c is compared with, in
// the order of Result.Policies. NaN where there is none. Of what did not keep up it says little: see Row.Steady.
func (r *Result) Against(c *Case, figure func(*Row) float64) []float64 {
	other := r.against(c)
	ratios := make([]float64, len(c.Rows))
	for j := range ratios {
		ratios[j] = math.NaN()
		if other == nil {
			continue
		}
		a, b := &c.Rows[j], &other.Rows[j]
		if a.Err == nil && b.Err == nil && figure(b) > 0 {
			ratios[j] = figure(a) / figure(b)
		}
	}
	return ratios
}

// figureOfRow is a figure that cases are compared by.
type figureOfRow struct {
	name string
	of   func(*Row) float64
}

func figuresOfRow() []figureOfRow {
	return []figureOfRow{
		{"TTFT mean", func(r *Row) float64 { return r.TTFTMean }},
		{"p90", func(r *Row) float64 { return r.P90[0] }},
		{"p99", func(r *Row) float64 { return r.TTFTP99 }},
		{"TPOT p90", func(r *Row) float64 { return r.P90[1] }},
		{"end-to-end p90", func(r *Row) float64 { return r.P90[2] }},
	}
}

// writeAgainst prints each case that is compared with another, beside that.
func (r *Result) writeAgainst(out io.Writer) {
	var first []string // what others are compared with
	for _, c := range r.Cases {
		if c.Against != "" && !slices.Contains(first, c.Against) {
			first = append(first, c.Against)
		}
	}
	for _, name := range first {
		fmt.Fprintf(out, "\nAGAINST %s: seconds, and how many times what the same policy has there\n* did not reach a steady state\n", name)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprint(w, "case\tpolicy\t")
		for _, f := range figuresOfRow() {
			fmt.Fprintf(w, "%s\tratio\t", f.name)
		}
		fmt.Fprintln(w, "prefix hits\tnot served\t")
		for i := range r.Cases {
			if c := &r.Cases[i]; c.Scenario == name || c.Against == name {
				r.writeAgainstCase(w, c)
			}
		}
		w.Flush()
	}
}

func (r *Result) writeAgainstCase(w io.Writer, c *Case) {
	for j := range c.Rows {
		row := &c.Rows[j]
		if row.Err != nil {
			fmt.Fprintf(w, "%s\t%s\t%v\t\t\t\t\t\t\t\t\t\t\t\t\n", c.Title(), row.Policy, row.Err)
			continue
		}
		mark := ""
		if !row.Steady {
			mark = "*"
		}
		fmt.Fprintf(w, "%s\t%s%s\t", c.Title(), row.Policy, mark)
		for _, f := range figuresOfRow() {
			fmt.Fprintf(w, "%s\t%s\t", number(f.of(row)), number(r.Against(c, f.of)[j]))
		}
		fmt.Fprintf(w, "%.1f %%\t%d\t\n", 100*row.Hits, row.Incomplete)
	}
}

// brokenAgainst returns in words what of a requirement on the cases that are compared with others does not hold.
func (r *Result) brokenAgainst(q *Requirement) (broken []string) {
	j := slices.Index(r.Policies, q.Policy)
	f, _ := figureOf(q.Figure)
	for i := range r.Cases {
		c := &r.Cases[i]
		if j < 0 || c.Scenario != q.Case {
			continue
		}
		ratio := r.Against(c, func(row *Row) float64 { return row.P90[f] })[j]
		if !(ratio <= q.Against) {
			broken = append(broken, fmt.Sprintf("%s: %s p90 of %s is %.3g times that of %s, required at most %.3g", q.Policy, q.Figure, c.Title(), ratio, c.Against, q.Against))
		}
	}
	return broken
}
