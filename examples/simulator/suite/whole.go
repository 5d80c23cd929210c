package suite

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// This file prints jobs whose answer comes all at once: they have no first token, and a time per token means nothing.

// mixed reports whether some jobs of a case are such.
func (c *Case) mixed() bool {
	return slices.ContainsFunc(c.Rows, func(row Row) bool { return row.Whole != Whole{} })
}

// whole reports whether all jobs of a case are such.
func (c *Case) whole() bool {
	return c.mixed() && !slices.ContainsFunc(c.Rows, func(row Row) bool { return row.P90[0] > 0 })
}

// writeWhole prints the table of these jobs.
func (c *Case) writeWhole(out io.Writer, head string) {
	fmt.Fprint(out, head)
	best := Whole{math.NaN(), math.NaN(), math.NaN(), math.NaN(), 0}
	least := func(to *float64, v float64) {
		if v > 0 && !(*to <= v) {
			*to = v
		}
	}
	for _, row := range c.Rows {
		least(&best.LatencyP90, row.Whole.LatencyP90)
		least(&best.LatencyP99, row.Whole.LatencyP99)
		least(&best.LatencyMean, row.Whole.LatencyMean)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tlatency p50\tp90\tratio\tp99\tratio\tmean\tratio\titems/s\tgoodput\tnot served\t")
	for _, row := range c.Rows {
		if row.Err != nil {
			fmt.Fprintf(w, "%s\t%v\t\t\t\t\t\t\t\t\t\t\n", row.Policy, strings.ReplaceAll(row.Err.Error(), "\t", " "))
			continue
		}
		mark, x := "", row.Whole
		if !row.Steady {
			mark = "*"
		}
		fmt.Fprintf(w, "%s\t%s\t%s%s\t%s\t%s%s\t%s\t%s%s\t%s\t%s\t%.1f %%\t%d\t\n", row.Policy, number(x.LatencyP50),
			number(x.LatencyP90), mark, number(x.LatencyP90/best.LatencyP90), number(x.LatencyP99), mark, number(x.LatencyP99/best.LatencyP99),
			number(x.LatencyMean), mark, number(x.LatencyMean/best.LatencyMean), number(x.Items), 100*row.Goodput, row.Incomplete)
	}
	w.Flush()
}
