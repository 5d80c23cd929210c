package main

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"os"
	"strconv"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// record is a run as JSON: the report, and what was played.
type record struct {
	Workload string
	// Load is the fraction of the measured capacity; absent if that was not measured.
	Load float64 `json:",omitempty"`
	// Rate is the requests per second asked of the workload; absent if it played at
	// its own.
	Rate float64 `json:",omitempty"`
	*simulation.Report
}

// writeJSON writes an array of all reports. Timelines and explanations are on the
// page only: they would be most of the file.
func writeJSON(w io.Writer, s summary) error {
	records := []record{}
	for _, r := range s.runs {
		rep := *r.report
		rep.Timeline, rep.Explanation = nil, nil
		records = append(records, record{s.workload, r.level.load, r.level.rate, &rep})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(records)
}

// writeCSV writes a line for each run. Times are in seconds, decision times in
// microseconds.
func writeCSV(w io.Writer, s summary, cpu bool) error {
	c := csv.NewWriter(w)
	head := []string{"workload", "policy", "seed", "load", "rate", "steady", "offered_rate",
		"arrived", "completed", "failed", "shed", "cancelled", "unfinished"}
	distributions := []string{"ttft", "tpot", "ntpot", "e2e"}
	if cpu {
		distributions = append(distributions, "decision_us")
	}
	for _, d := range distributions {
		head = append(head, d+"_mean", d+"_p50", d+"_p90", d+"_p99", d+"_max")
	}
	head = append(head, "request_rate", "input_rate", "output_rate", "prefix_hits", "preemptions", "imbalance", "why")
	if err := c.Write(head); err != nil {
		return err
	}
	for _, f := range s.runs {
		r := f.report
		row := []string{s.workload, f.policy.Name, strconv.FormatUint(f.seed, 10), positive(f.level.load), positive(f.level.rate),
			strconv.FormatBool(r.Steady), number(r.OfferedRate)}
		for _, n := range []int{r.Arrived, r.Completed, r.Failed, r.Shed, r.Cancelled, r.Unfinished} {
			row = append(row, strconv.Itoa(n))
		}
		for _, d := range []simulation.Distribution{r.TTFT, r.TPOT, r.NTPOT, r.E2E, decision(r)}[:len(distributions)] {
			row = append(row, number(d.Mean), number(d.P50), number(d.P90), number(d.P99), number(d.Max))
		}
		row = append(row, number(r.RequestRate), number(r.InputRate), number(r.OutputRate), number(r.PrefixHits),
			strconv.Itoa(r.Preemptions), number(r.Imbalance), r.Why)
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', 8, 64) }

// positive is a number, or nothing for 0.
func positive(x float64) string {
	if x == 0 {
		return ""
	}
	return number(x)
}

// toFile gives write the file at path, or stdout for "-", and nothing for "".
func toFile(path string, stdout io.Writer, write func(io.Writer) error) error {
	switch path {
	case "":
		return nil
	case "-":
		return write(stdout)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = write(f)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
