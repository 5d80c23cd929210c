package suite

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/inferpick/inferpick/examples/simulator/bound"
	"github.com/inferpick/inferpick/scheduling/simulation"
)

// boundAll works out what no policy can go below in each case.
func (p *player) boundAll(cases []Case, configs []simulation.Config) error {
	return p.each(len(cases), playPart, 1, func(i int, _ func(float64)) (string, error) {
		cases[i].bound(configs[i], p.seeds)
		return "bound of " + cases[i].Title(), nil
	})
}

// bound sets Bound, or Unbounded.
func (c *Case) bound(config simulation.Config, seeds []uint64) {
	if config.Fleet.Replicas[0].Role != "" {
		c.Unbounded = errRoles
		return
	}
	if c.Against != "" { // with the same jobs
		c.Unbounded = fmt.Errorf("at least: see %s", c.Against)
		return
	}
	n := float64(len(seeds))
	for k, seed := range seeds {
		config.Seed = seed
		b, err := bound.Of(config, c.end(k))
		if err != nil {
			c.Bound, c.Unbounded = bound.Bound{}, err
			return
		}
		addMean(&c.Bound.TTFT, b.TTFT, n)
		addMean(&c.Bound.TPOT, b.TPOT, n)
		addMean(&c.Bound.E2E, b.E2E, n)
	}
}

// addMean adds a part, one in n, of a mean of distributions.
func addMean(to *simulation.Distribution, d simulation.Distribution, n float64) {
	to.Mean += d.Mean / n
	to.P50 += d.P50 / n
	to.P90 += d.P90 / n
	to.P99 += d.P99 / n
}

// end is when the last of the policies that served all jobs of a seed was done, 0 if none did.
func (c *Case) end(seed int) time.Duration {
	latest := 0.0
	for _, row := range c.Rows {
		if row.Err == nil && row.Runs[seed].Incomplete == 0 {
			latest = max(latest, row.Runs[seed].End)
		}
	}
	return time.Duration(latest * float64(time.Second))
}

// bounded are the figures that are compared with the bound.
const bounded = 4

// Excess is how far a policy is above what none can go below, over all cases that have a
// bound, in which it kept up and served all jobs: the largest and the geometric mean of the
// ratios of the p90 and the p99 of the time to first token, the p90 of the time per output token
// and the mean end-to-end time. NaN if there are none.
type Excess struct {
	Policy      string
	Worst, Mean [bounded]float64
	Cases       int
}

// Excesses returns those of each policy, in the order of Result.Policies.
func (r *Result) Excesses() []Excess {
	all := make([]Excess, len(r.Policies))
	for j, policy := range r.Policies {
		all[j].Policy = policy
		var ratios [bounded]geometric
		for i := range r.Cases {
			c := &r.Cases[i]
			row := c.Rows[j]
			if c.Unbounded != nil || row.Err != nil || !row.Steady || row.Incomplete > 0 {
				continue
			}
			all[j].Cases++
			for f, ratio := range [bounded]float64{
				row.P90[0] / c.Bound.TTFT.P90, row.TTFTP99 / c.Bound.TTFT.P99, row.P90[1] / c.Bound.TPOT.P90, row.E2EMean / c.Bound.E2E.Mean,
			} {
				if ratio > 0 && !math.IsInf(ratio, 0) { // not all are bounded, and old records may lack some
					ratios[f].add(ratio)
				}
			}
		}
		for f := range ratios {
			all[j].Worst[f], all[j].Mean[f] = ratios[f].worst(), ratios[f].mean()
		}
	}
	return all
}

func (r *Result) writeExcesses(out io.Writer) {
	if !slices.ContainsFunc(r.Cases, func(c Case) bool { return c.Unbounded != errRoles }) {
		return
	}
	fmt.Fprintln(out, "\nABOVE THE BOUND, which no policy can go below and perhaps none can reach: worst and geometric mean of the ratios")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tTTFT p90\tmean\tTTFT p99\tmean\tTPOT p90\tmean\tend-to-end mean\tmean\tcases\t")
	for _, e := range r.Excesses() {
		fmt.Fprintf(w, "%s\t", e.Policy)
		for f := range bounded {
			fmt.Fprintf(w, "%s\t%s\t", number(e.Worst[f]), number(e.Mean[f]))
		}
		fmt.Fprintf(w, "%d\t\n", e.Cases)
	}
	w.Flush()
}

// writeBound adds the bound to the table of a case, as a row.
func (c *Case) writeBound(w io.Writer) {
	if c.Unbounded != nil {
		return
	}
	b := &c.Bound
	figure := func(v float64) string {
		if v == 0 {
			return "-"
		}
		return number(v)
	}
	best := func(of float64, measured func(*Row) float64) string {
		least := math.NaN()
		for i := range c.Rows {
			if v := measured(&c.Rows[i]); v > 0 && !(least <= v) {
				least = v
			}
		}
		return figure(of / least)
	}
	p90 := func(f int) func(*Row) float64 { return func(r *Row) float64 { return r.P90[f] } }
	fmt.Fprintf(w, "at least\t%s\t%s\t\t%s\t%s\t%s\t%s\t\t%s\t%s\t%s\t\t%s\t\t\t\t\n",
		figure(b.TTFT.P90), best(b.TTFT.P90, p90(0)), figure(b.TTFT.P50), figure(b.TTFT.P99),
		figure(b.TPOT.P90), best(b.TPOT.P90, p90(1)), figure(b.TPOT.P99),
		figure(b.E2E.P90), best(b.E2E.P90, p90(2)), figure(b.E2E.Mean))
}
