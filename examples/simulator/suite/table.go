package suite

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// figures is how many figures a Row has.
const figures = 3

var figureNames = [figures]string{"ttft", "tpot", "e2e"}

var figureFuncs = [figures]func(*simulation.Report) float64{
	func(r *simulation.Report) float64 { return r.TTFT.P90 },
	func(r *simulation.Report) float64 { return r.TPOT.P90 },
	func(r *simulation.Report) float64 { return r.E2E.P90 },
}

// Figures returns the names of the figures: the p90 of the time to first token, of
// the time per output token and of the end-to-end time.
func Figures() []string { return figureNames[:] }

func figureOf(name string) (int, bool) {
	for i, n := range figureNames {
		if n == name {
			return i, true
		}
	}
	return 0, false
}

// Regret is how far a policy is from the best over all cases that are not
// overloaded.
type Regret struct {
	Policy string
	// Worst and Mean are the largest and the geometric mean of the ratios, in the
	// order of Figures. NaN if there are none.
	Worst, Mean [figures]float64
	// WorstCase is where the worst is.
	WorstCase [figures]string
	// P99Worst and P99Mean are the same of the p99 of the time to first token, and P99WorstCase
	// where that is worst. NaN if there are none.
	P99Worst, P99Mean float64
	P99WorstCase      string
	// Behind is by how much, at most, its goodput was below the best one, 0 to 1, and
	// BehindCase where.
	Behind     float64
	BehindCase string
	// Best counts the cases in which it was the best.
	Best [figures]int
	// Unsteady counts cases in which others kept up and it did not: its ratios there
	// are lower bounds. Failed counts those without figures.
	Unsteady, Failed int
}

// Regrets returns the regret of each policy, in the order of Result.Policies.
func (r *Result) Regrets() []Regret { return r.regretsOf(func(*Case) bool { return true }) }

// regretsOf returns the regrets over some of the cases.
func (r *Result) regretsOf(counts func(*Case) bool) []Regret {
	regrets := make([]Regret, len(r.Policies))
	for j, policy := range r.Policies {
		regrets[j] = r.regretOf(j, counts)
		regrets[j].Policy = policy
	}
	return regrets
}

// regretOf returns the regret of the j-th policy.
func (r *Result) regretOf(j int, counts func(*Case) bool) (g Regret) {
	var means [figures]geometric
	var p99 geometric
	for i := range r.Cases {
		c := &r.Cases[i]
		if c.Overloaded() || !counts(c) {
			continue
		}
		row := c.Rows[j]
		if row.Err != nil {
			g.Failed++
			continue
		}
		if !row.Steady {
			g.Unsteady++
		}
		for f, ratio := range row.Ratio {
			if means[f].add(ratio) {
				g.Worst[f], g.WorstCase[f] = ratio, c.Title()
			}
			if ratio == 1 {
				g.Best[f]++
			}
		}
		best, good := c.best()
		if p99.add(row.TTFTP99 / best) {
			g.P99Worst, g.P99WorstCase = row.TTFTP99/best, c.Title()
		}
		if behind := good - row.Goodput; behind > g.Behind {
			g.Behind, g.BehindCase = behind, c.Title()
		}
	}
	for f := range figures {
		g.Worst[f], g.Mean[f] = means[f].worst(), means[f].mean()
	}
	g.P99Worst, g.P99Mean = p99.worst(), p99.mean()
	return g
}

// best returns the lowest p99 of the time to first token, and the highest goodput, of all
// policies.
func (c *Case) best() (ttftP99, goodput float64) {
	ttftP99 = math.NaN()
	for _, row := range c.Rows {
		if row.Err != nil {
			continue
		}
		if row.TTFTP99 > 0 && !(ttftP99 <= row.TTFTP99) {
			ttftP99 = row.TTFTP99
		}
		goodput = max(goodput, row.Goodput)
	}
	return ttftP99, goodput
}

// geometric is the mean of ratios, and the largest of them.
type geometric struct{ logs, n, most float64 }

// add adds a ratio, and reports whether it is the largest. A NaN is left out, and so is 0: of a run in which no job
// that counts ended.
func (g *geometric) add(ratio float64) (largest bool) {
	if math.IsNaN(ratio) || ratio == 0 {
		return false
	}
	g.logs += math.Log(ratio)
	g.n++
	largest = ratio > g.most
	g.most = max(g.most, ratio)
	return largest
}

func (g *geometric) mean() float64 { return math.Exp(g.logs / g.n) } // NaN for none

func (g *geometric) worst() float64 {
	if g.n == 0 {
		return math.NaN()
	}
	return g.most
}

// Broken returns the requirements of the suite that do not hold, in words.
// Requirements on policies that were not played, or have no figures, are not judged.
func (r *Result) Broken() []string {
	var broken []string
	for _, g := range r.Regrets() {
		for _, q := range r.Suite.Require {
			f, _ := figureOf(q.Figure)
			if q.Case != "" {
				continue
			}
			if q.Policy != g.Policy || math.IsNaN(g.Mean[f]) {
				continue
			}
			if q.Worst > 0 && !(g.Worst[f] <= q.Worst) {
				broken = append(broken, fmt.Sprintf("%s: worst regret of the %s p90 is %.3g, required at most %.3g (%s)", g.Policy, q.Figure, g.Worst[f], q.Worst, g.WorstCase[f]))
			}
			if q.Mean > 0 && !(g.Mean[f] <= q.Mean) {
				broken = append(broken, fmt.Sprintf("%s: mean regret of the %s p90 is %.3g, required at most %.3g", g.Policy, q.Figure, g.Mean[f], q.Mean))
			}
		}
	}
	for i := range r.Suite.Require {
		if q := &r.Suite.Require[i]; q.Case != "" {
			broken = append(broken, r.brokenAgainst(q)...)
		}
	}
	return broken
}

// Write prints the result: each case with each policy, those in which nobody kept
// up after the others, and then the regret of each policy.
func (r *Result) Write(out io.Writer) {
	fmt.Fprintf(out, "p90 in seconds, mean of %d seeds, and its ratio to the best policy's. Loads are fractions of what the fleet can do under %s.\n", len(r.Seeds), r.Suite.Capacity)
	fmt.Fprint(out, "At least: what no policy can go below that serves all jobs; whether one can reach it is not known.\n* did not reach a steady state: the figure grows with the length of the run.\nSimulated latencies compare policies; they are not to be quoted as measured.\n")

	overloaded := 0
	for i := range r.Cases {
		if r.Cases[i].Overloaded() {
			overloaded++
			continue
		}
		r.Cases[i].write(out)
	}
	if overloaded > 0 {
		fmt.Fprintf(out, "\nOVERLOAD: %d cases in which no policy reached a steady state. They count in no regret.\n", overloaded)
		for i := range r.Cases {
			if r.Cases[i].Overloaded() {
				r.Cases[i].write(out)
			}
		}
	}
	if len(r.Skipped) > 0 {
		fmt.Fprintln(out, "\nSKIPPED")
		for _, s := range r.Skipped {
			fmt.Fprintf(out, "  %s\n", s)
		}
	}
	r.writeCapacities(out)
	r.writeExcesses(out)
	r.writeCells(out)
	r.writeTraffics(out)
	r.writeGain(out)
	r.writeAgainst(out)
	r.writeRegrets(out, len(r.Cases)-overloaded)
}

func (c *Case) write(out io.Writer) {
	fmt.Fprintf(out, "\n%s", c.Title())
	if c.Capacity > 0 {
		fmt.Fprintf(out, ", capacity %.4g/s", c.Capacity)
	}
	fmt.Fprintln(out)
	if c.Unbounded == errRoles {
		c.writeApart(out)
		return
	}
	if c.whole() {
		c.writeWhole(out, "")
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tTTFT\tratio\tover seeds\tTTFT p50\tp99\tTPOT\tratio\tover seeds\tp99\tend-to-end\tratio\tover seeds\tmean\tgoodput\tprefix hits\tnot served\t")
	for _, row := range c.Rows {
		if row.Err != nil {
			fmt.Fprintf(w, "%s\t%v\t\t\t\t\t\t\t\t\t\t\t\t\n", row.Policy, strings.ReplaceAll(row.Err.Error(), "\t", " "))
			continue
		}
		mark := ""
		if !row.Steady {
			mark = "*"
		}
		spread := func(f int) string { return number(row.Low[f]) + ".." + number(row.High[f]) }
		fmt.Fprintf(w, "%s\t%s%s\t%s\t%s\t%s\t%s\t%s%s\t%s\t%s\t%s\t%s%s\t%s\t%s\t%s\t%.1f %%\t%.0f %%\t%d\t\n", row.Policy,
			number(row.P90[0]), mark, number(row.Ratio[0]), spread(0), number(row.TTFTP50), number(row.TTFTP99),
			number(row.P90[1]), mark, number(row.Ratio[1]), spread(1), number(row.TPOTP99),
			number(row.P90[2]), mark, number(row.Ratio[2]), spread(2), number(row.E2EMean),
			100*row.Goodput, 100*row.Hits, row.Incomplete)
	}
	c.writeBound(w)
	w.Flush()
	if c.mixed() {
		c.writeWhole(out, "and of these, the requests without first tokens, which TTFT and TPOT do not count:\n")
	}
	if c.Unbounded != nil {
		fmt.Fprintf(out, "%v\n", c.Unbounded)
	}
}

func (r *Result) writeRegrets(out io.Writer, cases int) {
	fmt.Fprintf(out, "\nREGRET over %d cases: over the best policy's, worst and geometric mean; and by how many points the goodput was below the best, at most\n", cases)
	regrets := r.Regrets()
	writeRegrets(out, regrets)
	for _, family := range r.families() {
		fmt.Fprintf(out, "\nREGRET, %s\n", family)
		writeRegrets(out, r.regretsOf(func(c *Case) bool { return c.Family == family }))
	}
	fmt.Fprintln(out, "\nWhere each is worst")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, g := range regrets {
		fmt.Fprintf(w, "  %s\tTTFT: %s\tp99: %s\tTPOT: %s\tend-to-end: %s\tgoodput: %s\n", g.Policy, g.WorstCase[0], g.P99WorstCase, g.WorstCase[1], g.WorstCase[2], g.BehindCase)
	}
	w.Flush()
	for _, b := range r.Broken() {
		fmt.Fprintf(out, "REQUIREMENT BROKEN: %s\n", b)
	}
}

// families returns the families of cases, in the order of the suite.
func (r *Result) families() (names []string) {
	for _, c := range r.Cases {
		if c.Family != "" && !slices.Contains(names, c.Family) {
			names = append(names, c.Family)
		}
	}
	return names
}

func writeRegrets(out io.Writer, regrets []Regret) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tTTFT p90\tmean\tTTFT p99\tmean\tTPOT p90\tmean\tend-to-end p90\tmean\tgoodput\tbest in (TTFT/TPOT/e2e)\tnot steady\tfailed\t")
	for _, g := range regrets {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t-%.1f\t%d/%d/%d\t%d\t%d\t\n", g.Policy,
			number(g.Worst[0]), number(g.Mean[0]), number(g.P99Worst), number(g.P99Mean), number(g.Worst[1]), number(g.Mean[1]), number(g.Worst[2]), number(g.Mean[2]),
			100*g.Behind, g.Best[0], g.Best[1], g.Best[2], g.Unsteady, g.Failed)
	}
	w.Flush()
}

// number prints three significant digits.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	case v >= .1:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.4f", v)
}
