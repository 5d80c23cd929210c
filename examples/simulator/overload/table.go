package overload

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Write writes the tables.
func (r *Result) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Mixed criticality: 20 %% critical, 50 %% standard, 30 %% sheddable; %d replicas, seeds %v, simulated.\n", replicas, r.Seeds)
	fmt.Fprintf(&b, "SLOs for the first token: critical 0.5 s, standard 2 s, sheddable 5 s.\n")
	fmt.Fprintf(&b, "TTFT is the p90 of what was served; met is the part of what arrived that met its SLO;\nx50 is critical TTFT over that of the same control at 50 %% load; of max is throughput over the\nhighest of all controls at that load.\n")
	for _, s := range r.Scenarios {
		s.write(&b)
	}
	for _, f := range r.Fairness {
		f.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Scenario) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s (%s); capacity %.4g/s\n", s.Name, s.What, s.Capacity)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "load\tcontrol\ttokens/s\tof max\tgoodput/s\tcritical TTFT s\tx50\tmet\tstandard TTFT s\tmet\tsheddable TTFT s\tmet\t")
	first := map[string]float64{}
	for i := range s.Rows {
		r := &s.Rows[i]
		crit := r.Classes[0].TTFT
		if _, ok := first[r.Control]; !ok {
			first[r.Control] = crit
		}
		fmt.Fprintf(t, "%.0f %%\t%s\t%.0f\t%.3f\t%.1f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.Load*100, r.Control, r.Throughput, r.Throughput/s.most(r.Load), r.Goodput,
			seconds(crit), ratio(crit, first[r.Control]), percent(r.Classes[0].Met), seconds(r.Classes[1].TTFT), percent(r.Classes[1].Met), seconds(r.Classes[2].TTFT), percent(r.Classes[2].Met))
	}
	t.Flush()
}

// most is the highest throughput at a load.
func (s *Scenario) most(load float64) float64 {
	most := 0.0
	for _, r := range s.Rows {
		if r.Load == load {
			most = max(most, r.Throughput)
		}
	}
	return most
}

func seconds(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f", v)
}

func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}

func percent(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) }
