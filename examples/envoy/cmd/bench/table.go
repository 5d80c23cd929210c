package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// table is what is printed. The first column has names, the others figures.
type table struct {
	title string
	rows  [][]string // the first one has the columns' names
}

// timings is the table of a case.
func timings(c load, who []*contender, results []*result) table {
	t := table{c.name, [][]string{{"", "requests/s", "p50 ms", "p99 ms", "added p50", "added p99", "picker CPU µs", "Envoy CPU µs", "CPU µs", "rate of ext_proc's", "CPU of ext_proc's"}}}
	of := func(name string) *result {
		for i, c := range who {
			if c.name == name {
				return results[i]
			}
		}
		return nil
	}
	plain, asked := of(roundRobin), of(extProc)
	for i, r := range results {
		row := []string{who[i].name, fmt.Sprintf("%.0f", r.rate()), ms(r.quantile(.5)), ms(r.quantile(.99)), "", "", "", micros(r, r.envoyCPU), micros(r, r.cpu()), "", ""}
		if plain != nil && r != plain {
			row[4], row[5] = ms(r.quantile(.5)-plain.quantile(.5)), ms(r.quantile(.99)-plain.quantile(.99))
		}
		if who[i].picker != nil {
			row[6] = micros(r, r.pickerCPU)
		}
		if asked != nil {
			row[9] = fmt.Sprintf("%.2f", r.rate()/asked.rate())
			row[10] = fmt.Sprintf("%.0f %%", 100*r.perRequest(r.cpu())/asked.perRequest(asked.cpu()))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// memories is the table of the most memory that processes had.
func memories(who []*contender) (table, error) {
	t := table{"memory, at most", [][]string{{"", "picker MB", "Envoy MB"}}}
	for _, c := range who {
		m, err := c.memory()
		if err != nil {
			return t, err
		}
		row := []string{c.name, "", fmt.Sprint(m.envoy >> 20)}
		if c.picker != nil {
			row[1] = fmt.Sprint(m.picker >> 20)
		}
		t.rows = append(t.rows, row)
	}
	return t, nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1e3) }

func micros(r *result, cpu time.Duration) string { return fmt.Sprintf("%.0f", r.perRequest(cpu)) }

// print writes it for people, or in Markdown.
func (t table) print(w io.Writer, markdown bool) {
	if !markdown {
		fmt.Fprintln(w, t.title)
		aligned := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, row := range t.rows {
			fmt.Fprintf(aligned, "%s\t\n", strings.Join(row, "\t"))
		}
		aligned.Flush()
		fmt.Fprintln(w)
		return
	}
	fmt.Fprintf(w, "**%s**\n\n", t.title)
	for i, row := range t.rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|---|%s\n", strings.Repeat("---:|", len(row)-1))
		}
	}
	fmt.Fprintln(w)
}
