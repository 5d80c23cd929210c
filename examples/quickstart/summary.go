package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// summary is what a run came to.
type summary struct {
	Seconds   float64         `json:"seconds"`
	Endpoints int             `json:"endpoints"`
	Rate      float64         `json:"rate"`
	Seed      uint64          `json:"seed"`
	Simulated bool            `json:"simulated"` // always: no real model was run
	Replay    *progress       `json:"replay,omitempty"`
	Skipped   int64           `json:"skipped"`
	Policies  []policySummary `json:"policies"` // the policy's first
}

// policySummary is one fleet's part. What it holds at the end is 0.
type policySummary struct {
	Policy string `json:"policy"`
	figures
	Bands    []bandSummary     `json:"bands"`         // highest first
	Routed   map[string]uint64 `json:"routed"`        // requests by endpoint
	InFlight int64             `json:"inFlightAtEnd"` // in the ledger
	Queued   int               `json:"queuedAtEnd"`   // to be let in
}

// bandSummary is one priority's part of a fleet's: the figures of the workload, and what
// its gateway did.
type bandSummary struct {
	band
	figures
	Admission *bandAdmission `json:"admission"` // nil: no admission control
}

// bandAdmission is what a gateway did with the requests of one priority, those included
// that were cut off at the end.
type bandAdmission struct {
	waitFigures
	bandCounts
}

func newSummary(cfg config, v view) summary {
	s := summary{
		Seconds: v.Uptime, Endpoints: cfg.endpoints, Rate: cfg.rate, Seed: cfg.seed, Simulated: true,
		Replay: v.Replay, Skipped: v.Skipped,
	}
	for _, f := range v.Fleets {
		p := policySummary{Policy: f.Policy, figures: f.Total, Routed: map[string]uint64{}}
		for _, e := range f.Endpoints {
			p.Routed[e.ID] = e.Routed
			p.InFlight += e.InFlight
		}
		for _, b := range f.Bands {
			one := bandSummary{band: b.band, figures: b.Total}
			if f.Admission != nil {
				p.Queued, one.Admission = f.Admission.Queued, &bandAdmission{b.waits, b.bandCounts}
			}
			p.Bands = append(p.Bands, one)
		}
		s.Policies = append(s.Policies, p)
	}
	return s
}

// write writes the summary as JSON to a file, or to stdout if path is "-".
func (s *summary) write(path string, stdout io.Writer) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if path == "-" {
		_, err = stdout.Write(data)
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// String is the summary as tables.
func (s *summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nAfter %.0f s, as the gateway measured it (simulated model servers):\n\n", s.Seconds)
	b.WriteString("policy          requests  failed  shed  prefix hits     TTFT mean    p50    p90    p99     TPOT p50    p90     E2E p90\n")
	for _, p := range s.Policies {
		fmt.Fprintf(&b, "%-14s  %8d  %6d  %4d  %11s  %12s %6s %6s %6s  %11s %6s  %10s\n", shorten(p.Policy, 14), p.Requests, p.Failed, p.Shed,
			known("%.1f%%", p.HitShare, 100), duration(p.TTFTMean), duration(p.TTFT50), duration(p.TTFT90), duration(p.TTFT99),
			duration(p.TPOT50), duration(p.TPOT90), duration(p.E2E90))
	}
	b.WriteString("\npolicy          band        requests  failed  refused   waited p50    p90     TTFT mean    p50    p90    p99  refused why\n")
	for _, p := range s.Policies {
		for _, one := range p.Bands {
			var a bandAdmission
			if one.Admission != nil {
				a = *one.Admission
			}
			var reasons []string
			for _, reason := range slices.Sorted(maps.Keys(a.Reasons)) {
				reasons = append(reasons, fmt.Sprintf("%d %s", a.Reasons[reason], reason))
			}
			fmt.Fprintf(&b, "%-14s  %-10s  %8d  %6d  %7d  %11s %6s  %12s %6s %6s %6s  %s\n", shorten(p.Policy, 14), shorten(one.Name, 10),
				one.Requests, one.Failed, one.Shed, duration(a.Wait50), duration(a.Wait90),
				duration(one.TTFTMean), duration(one.TTFT50), duration(one.TTFT90), duration(one.TTFT99), strings.Join(reasons, ", "))
		}
	}
	if s.Replay != nil && int(s.Replay.Done) < s.Replay.Turns {
		fmt.Fprintf(&b, "\nstopped after %d of %d turns\n", s.Replay.Done, s.Replay.Turns)
	}
	if s.Skipped > 0 {
		fmt.Fprintf(&b, "\n%d arrivals were left out: more than %d requests were open\n", s.Skipped, maxOpen)
	}
	return b.String()
}
