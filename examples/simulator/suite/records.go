package suite

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Record is one run: what was played, and what came out. Of a measurement of
// capacity it has the Rate alone.
type Record struct {
	Case   string `json:"case"` // scenario, rate and duration, spelt out
	Policy string `json:"policy"`
	Seed   uint64 `json:"seed"`

	P90      [figures]float64 `json:"p90"` // seconds, in the order of Figures
	TTFTP50  float64          `json:"ttft_p50,omitempty"`
	TTFTMean float64          `json:"ttft_mean,omitempty"`
	TTFTP99  float64          `json:"ttft_p99,omitempty"`
	TPOTP99  float64          `json:"tpot_p99,omitempty"`
	E2EMean  float64          `json:"e2e_mean,omitempty"`
	Percentiles
	Whole
	Apart      float64 `json:"apart,omitempty"`    // part of the jobs
	Transfer   float64 `json:"transfer,omitempty"` // mean, seconds
	Goodput    float64 `json:"goodput,omitempty"`
	Hits       float64 `json:"hits,omitempty"` // part of prompt tokens found in prefix caches
	Steady     bool    `json:"steady,omitempty"`
	Incomplete int     `json:"incomplete,omitempty"` // jobs that failed, were shed or did not end
	End        float64 `json:"end,omitempty"`        // when the last job had ended, seconds
	Rate       float64 `json:"rate,omitempty"`       // the capacity, jobs per second
}

// Percentiles are those of Row that only fleets with roles show.
type Percentiles struct {
	TPOTP50  float64 `json:"tpot_p50,omitempty"`
	E2EP50   float64 `json:"e2e_p50,omitempty"`
	E2EP99   float64 `json:"e2e_p99,omitempty"`
	NTPOTP90 float64 `json:"ntpot_p90,omitempty"`
}

// Whole is how jobs did whose answer comes all at once, without a first token; zero if there were none.
type Whole struct {
	LatencyP50  float64 `json:"latency_p50,omitempty"` // time until it is there, seconds
	LatencyP90  float64 `json:"latency_p90,omitempty"`
	LatencyP99  float64 `json:"latency_p99,omitempty"`
	LatencyMean float64 `json:"latency_mean,omitempty"`
	Items       float64 `json:"items,omitempty"` // inputs or pictures per second
}

func (w *Whole) add(q Whole, part float64) {
	w.LatencyP50 += q.LatencyP50 * part
	w.LatencyP90 += q.LatencyP90 * part
	w.LatencyP99 += q.LatencyP99 * part
	w.LatencyMean += q.LatencyMean * part
	w.Items += q.Items * part
}

func (p *Percentiles) add(q Percentiles, part float64) {
	p.TPOTP50 += q.TPOTP50 * part
	p.E2EP50 += q.E2EP50 * part
	p.E2EP99 += q.E2EP99 * part
	p.NTPOTP90 += q.NTPOTP90 * part
}

func (r *Record) fill(from *simulation.Report) {
	for f, of := range figureFuncs {
		r.P90[f] = of(from)
	}
	r.TTFTP50, r.TTFTP99, r.TPOTP99 = from.TTFT.P50, from.TTFT.P99, from.TPOT.P99
	r.TPOTP50, r.E2EP50, r.E2EP99, r.NTPOTP90 = from.TPOT.P50, from.E2E.P50, from.E2E.P99, from.NTPOT.P90
	if l := from.Latency; l.Count > 0 {
		r.Whole = Whole{l.P50, l.P90, l.P99, l.Mean, from.ItemRate}
	}
	if from.Apart != nil {
		r.Apart, r.Transfer = from.Apart.Share, from.Apart.Transfer.Mean
	}
	r.TTFTMean, r.E2EMean, r.End = from.TTFT.Mean, from.E2E.Mean, from.Simulated
	r.Goodput, r.Hits, r.Steady = from.Goodput, from.PrefixHits, from.Steady
	r.Incomplete = from.Failed + from.Shed + from.Cancelled + from.Unfinished
}

// Records is a file of runs, a JSON object a line, to which runs are added as they
// end: a suite that was interrupted goes on where it was, and a policy that is new
// or has changed is compared with others that are not played again. The file knows
// nothing of the simulator's code: throw it away when that changes. Safe for
// concurrent use; a nil *Records remembers nothing.
type Records struct {
	fresh []string

	mu   sync.Mutex
	file *os.File          // guarded by mu
	runs map[Record]Record // guarded by mu; the key has nothing but what was played
}

// OpenRecords opens a file, or makes it. The runs of the policies in fresh, which may
// be empty, are not taken from it but played anew.
func OpenRecords(path string, fresh []string) (*Records, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("suite: %w", err)
	}
	r := &Records{fresh: fresh, file: f, runs: map[Record]Record{}}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		var rec Record
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			f.Close()
			return nil, fmt.Errorf("suite: %s: line %d is no run: %w", path, n, err)
		}
		r.runs[rec.key()] = rec
	}
	if err := lines.Err(); err != nil {
		f.Close()
		return nil, fmt.Errorf("suite: %s: %w", path, err)
	}
	return r, nil
}

// Close closes the file.
func (r *Records) Close() error { return r.file.Close() }

func (r Record) key() Record { return Record{Case: r.Case, Policy: r.Policy, Seed: r.Seed} }

func (r *Records) find(what Record) (Record, bool) {
	if r == nil || slices.Contains(r.fresh, what.Policy) {
		return Record{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.runs[what.key()]
	return rec, ok
}

func (r *Records) add(rec Record) error {
	if r == nil {
		return nil
	}
	line, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("suite: a run that cannot be recorded: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs[rec.key()] = rec
	if _, err := r.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("suite: %w", err)
	}
	return nil
}

// key spells out what is played on a fleet at a rate, 0 for the workload's own or a
// capacity to be measured.
func (c *plan) key(p *player, fleet Fleet, rate float64) string {
	workload := string(c.Workload)
	if c.Trace != "" {
		workload += " " + c.Trace + " " + p.suite.minutes(p.o.Tuning)
	}
	key := fmt.Sprintf("%s | %.6g/s | %s | scrape %v | %d gateways | %v", workload, rate, fleet.key(),
		time.Duration(c.Scrape), max(c.Gateways, 1), c.config.Duration)
	if c.World != (World{}) || c.Faults != nil || c.Goodput != (Goodput{}) {
		key += fmt.Sprintf(" | %v %v %+v", c.World.key(), faultsKey(c.Faults), c.Goodput)
	}
	return key + c.togetherKey()
}

// clean returns the case as capacity is measured, without what makes it irregular.
func (c plan) clean() *plan {
	one := *c.Scenario
	one.World, one.Faults, one.Goodput = World{}, nil, Goodput{}
	one.Sharing, one.Shares, one.Sticky = Sharing{}, nil, false
	c.Scenario = &one
	return &c
}
