package scaling

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"
)

// Write writes the tables.
func (r *Result) Write(w io.Writer) error {
	var b strings.Builder
	slo := r.Suite.slo()
	fmt.Fprintf(&b, "%s\n", r.Suite.About)
	fmt.Fprintf(&b, "Seeds %v, simulated. Met is the part of all jobs served with a first token within %v and %v a token; hours are\n", r.Seeds, slo.TTFT, slo.TPOT)
	fmt.Fprintf(&b, "replica-hours from order to end. Each law as it is shipped, then with a behavior tuned for slow starts.\n")
	for i := range r.Cases {
		r.Cases[i].write(&b)
	}
	r.writeVerdicts(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *CaseResult) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s (%s), start-up %v", c.Case, c.What, c.StartUp)
	if c.Need > 0 {
		fmt.Fprintf(b, "; %d replicas would always do", c.Need)
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "law\tbehavior\thours\tmet\tTTFT p90 s\tp99 s\treversals\tpeak\tover\tcold starts\trecovery s\t")
	for i := range c.Laws {
		l := &c.Laws[i]
		c.row(t, l.Law.Name, "shipped", l.shipped(false))
		if l.Law.Tunes {
			c.row(t, "", "tuned", l.shipped(true))
		}
	}
	t.Flush()
}

func (c *CaseResult) row(t io.Writer, name, behavior string, p Point) {
	over, recovery := "-", "-"
	if c.Need > 0 {
		over = fmt.Sprintf("%+.0f", p.Peak-float64(c.Need))
	}
	if p.Recovery > 0 {
		recovery = fmt.Sprintf("%.0f", p.Recovery)
	}
	fmt.Fprintf(t, "%s\t%s\t%.2f\t%.1f %%\t%.2f\t%.1f\t%.1f\t%.1f\t%s\t%.1f\t%s\t\n", name, behavior, p.Hours, 100*p.Attainment, p.P90, p.P99,
		p.Reversals, p.Peak, over, p.ColdStarts, recovery)
}

// writeVerdicts writes how ours do against each frontier.
func (r *Result) writeVerdicts(b *strings.Builder) {
	type score struct{ ahead, even, behind int }
	var order [][2]string
	scores := map[[2]string]*score{}
	b.WriteString("\nOurs as shipped against the frontier of each other law: with all of its targets, chosen for the case, and both\nbehaviors. Met is what the other serves in time for ours' hours, and hours what it takes for ours' met.\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "case\tstart-up\tours\thours\tmet\tagainst\tmet\thours\t\t")
	for i := range r.Cases {
		c := &r.Cases[i]
		for _, v := range c.Verdicts() {
			pair := [2]string{v.Ours, v.Rival}
			if scores[pair] == nil {
				scores[pair] = &score{}
				order = append(order, pair)
			}
			word := "even"
			switch {
			case v.Ahead:
				word = "ahead"
				scores[pair].ahead++
			case v.Behind:
				word = "behind"
				scores[pair].behind++
			default:
				scores[pair].even++
			}
			fmt.Fprintf(t, "%s\t%v\t%s\t%.2f\t%.1f %%\t%s\t%s\t%s\t%s\t\n", c.Case, short(c.StartUp), v.Ours, v.Point.Hours, 100*v.Point.Attainment, v.Rival,
				orNone(100*v.Met, "%.1f %%"), orNone(v.Hours, "%.2f"), word)
		}
	}
	t.Flush()
	b.WriteString("\n")
	t = tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "ours\tagainst\tahead\teven\tbehind\t")
	for _, pair := range order {
		s := scores[pair]
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t\n", pair[0], pair[1], s.ahead, s.even, s.behind)
	}
	t.Flush()
}

// short is a duration without what is zero.
func short(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }

// orNone writes a figure, and what there is none of as a dash.
func orNone(v float64, format string) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return fmt.Sprintf(format, v)
}
