package suite

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// This file is what is said of fleets in which some replicas compute prompts for others.

// errRoles is Case.Unbounded of such fleets.
var errRoles = errors.New("no bound is known for fleets with roles")

// writeApart prints a case of a fleet with roles.
func (c *Case) writeApart(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tapart\thanded over in\tE2E p50\tp90\tratio\tp99\tTTFT p50\tp90\tratio\tp99\tTPOT p50\tp90\tratio\tp99\tNTPOT p90\tgoodput\tprefix hits\tnot served\t")
	for i := range c.Rows {
		row := &c.Rows[i]
		if row.Err != nil {
			fmt.Fprintf(w, "%s\t%v\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\n", row.Policy, strings.ReplaceAll(row.Err.Error(), "\t", " "))
			continue
		}
		mark := ""
		if !row.Steady {
			mark = "*"
		}
		fmt.Fprintf(w, "%s\t%.0f %%\t%s\t", row.Policy, 100*row.Apart, number(row.Transfer))
		for _, f := range []struct {
			p50, p99 float64
			figure   int
		}{{row.More.E2EP50, row.More.E2EP99, 2}, {row.TTFTP50, row.TTFTP99, 0}, {row.More.TPOTP50, row.TPOTP99, 1}} {
			fmt.Fprintf(w, "%s\t%s%s\t%s\t%s\t", number(f.p50), number(row.P90[f.figure]), mark, number(row.Ratio[f.figure]), number(f.p99))
		}
		fmt.Fprintf(w, "%s\t%.1f %%\t%.0f %%\t%d\t\n", number(row.More.NTPOTP90), 100*row.Goodput, 100*row.Hits, row.Incomplete)
	}
	w.Flush()
}

// writeCells prints, for each case of a Grid in which any policy kept up, the E2E p90 of each policy over the best
// one's on the same fleet.
func (r *Result) writeCells(out io.Writer) {
	cells := slices.DeleteFunc(slices.Clone(r.Cases), func(c Case) bool { return c.Traffic == "" || c.Overloaded() })
	if len(cells) == 0 {
		return
	}
	fmt.Fprintf(out, "\nCELLS: E2E p90 over that of the best policy on the same fleet, and of %s the part of jobs that it served apart\n* did not keep up\n", r.Policies[0])
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "case\t")
	for _, policy := range r.Policies {
		fmt.Fprintf(w, "%s\t", policy)
	}
	fmt.Fprintln(w, "apart\tbest\t")
	for i := range cells {
		c := &cells[i]
		fmt.Fprintf(w, "%s\t", c.Title())
		best := ""
		for _, row := range c.Rows {
			mark := ""
			if row.Err == nil && !row.Steady {
				mark = "*"
			}
			if row.Ratio[2] == 1 {
				best = row.Policy
			}
			fmt.Fprintf(w, "%s%s\t", number(row.Ratio[2]), mark)
		}
		fmt.Fprintf(w, "%.0f %%\t%s\t\n", 100*c.Rows[0].Apart, best)
	}
	fmt.Fprint(w, "worst\t")
	regrets := r.regretsOf(func(c *Case) bool { return c.Traffic != "" })
	for _, g := range regrets {
		fmt.Fprintf(w, "%s\t", number(g.Worst[2]))
	}
	fmt.Fprint(w, "\t\t\nmean\t")
	for _, g := range regrets {
		fmt.Fprintf(w, "%s\t", number(g.Mean[2]))
	}
	fmt.Fprintln(w, "\t\t")
	w.Flush()
}

// Traffic is one workload at one rate, with one kind of links, on all fleets that have as many replicas: those of a
// Grid. It is there to choose between fleets as well as between policies.
type Traffic struct {
	Name string
	Load float64
	// Best is the lowest E2E p90 of any policy on any of the fleets, and Ratios that of each policy on each fleet over
	// it, the policies in the order of Result.Policies. NaN where a policy did not keep up.
	Best        float64
	Deployments []string
	Ratios      [][]float64
	// BestAt is where the best is: a policy on a deployment.
	BestAt string
}

// Traffics returns those of the suite's Grid, of which any policy on any fleet kept up with each.
func (r *Result) Traffics() []Traffic {
	var all []Traffic
	for i := range r.Cases {
		c := &r.Cases[i]
		if c.Traffic == "" {
			continue
		}
		k := slices.IndexFunc(all, func(t Traffic) bool { return t.Name == c.Traffic && t.Load == c.Load })
		if k < 0 {
			k = len(all)
			all = append(all, Traffic{Name: c.Traffic, Load: c.Load, Best: math.Inf(1)})
		}
		t := &all[k]
		t.Deployments = append(t.Deployments, c.Family)
		values := make([]float64, len(c.Rows))
		for j := range c.Rows {
			row := &c.Rows[j]
			values[j] = math.NaN()
			if row.Err != nil || !row.Steady || row.Incomplete > 0 {
				continue
			}
			if values[j] = row.P90[2]; values[j] < t.Best {
				t.Best, t.BestAt = values[j], row.Policy+" on "+c.Family
			}
		}
		t.Ratios = append(t.Ratios, values)
	}
	all = slices.DeleteFunc(all, func(t Traffic) bool { return math.IsInf(t.Best, 1) })
	for i := range all {
		for _, row := range all[i].Ratios {
			for j := range row {
				row[j] /= all[i].Best
			}
		}
	}
	return all
}

// writeTraffics prints, for each traffic of a Grid, what each policy makes of each fleet.
func (r *Result) writeTraffics(out io.Writer) {
	traffics := r.Traffics()
	if len(traffics) == 0 {
		return
	}
	fmt.Fprint(out, "\nFLEETS of as many servers, with the same traffic: E2E p90 over that of the best policy on the best of them\n- did not keep up\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "traffic\tload\tfleet\t")
	for _, policy := range r.Policies {
		fmt.Fprintf(w, "%s\t", policy)
	}
	fmt.Fprintln(w, "best\t")
	for _, t := range traffics {
		for d, deployment := range t.Deployments {
			fmt.Fprintf(w, "%s\t%.0f %%\t%s\t", t.Name, 100*t.Load, deployment)
			for _, v := range t.Ratios[d] {
				fmt.Fprintf(w, "%s\t", number(v))
			}
			if d == 0 {
				fmt.Fprintf(w, "%s, %s", t.BestAt, number(t.Best))
			}
			fmt.Fprintln(w, "\t")
		}
	}
	w.Flush()
}

// writeGain prints by how much the first policy, usually the product's, is better than one that has each request
// served by one server, where being apart pays: where the share of requests that it has served apart is above half.
func (r *Result) writeGain(out io.Writer) {
	together := slices.Index(r.Policies, "together")
	if together <= 0 {
		return
	}
	var gain geometric
	least, cases := math.Inf(1), 0
	for i := range r.Cases {
		c := &r.Cases[i]
		first, other := &c.Rows[0], &c.Rows[together]
		if c.Traffic == "" || c.Overloaded() || first.Err != nil || other.Err != nil || first.Apart < .5 || first.P90[1] == 0 {
			continue
		}
		cases++
		q := other.P90[1] / first.P90[1]
		gain.add(q)
		least = min(least, q)
	}
	if cases > 0 {
		fmt.Fprintf(out, "\nTPOT p90 of together over that of %s, in the %d cases in which that served most requests apart: least %s, mean %s, most %s\n",
			r.Policies[0], cases, number(least), number(gain.mean()), number(gain.worst()))
	}
}
