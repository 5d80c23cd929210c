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

// policySummary is one fleet's part.
type policySummary struct {
	Policy string `json:"policy"`
	figures
	Bands  []bandSummary     `json:"bands"`  // highest first
	Routed map[string]uint64 `json:"routed"` // requests by endpoint
	// InFlight is what the ledger held when everything had ended: 0.
	InFlight int64 `json:"inFlightAtEnd"`
	// Queued is what waited to be let in then: 0.
	Queued int `json:"queuedAtEnd"`
}

// bandSummary is one priority's part of a fleet's: its figures as the client saw them,
// and what its gateway did.
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
			if a := f.Admission; a != nil {
				if i := slices.IndexFunc(a.Bands, func(o bandView) bool { return o.Priority == b.Priority }); i >= 0 {
					one.Admission = &bandAdmission{a.Bands[i].total, a.Bands[i].bandCounts}
				}
				p.Queued = a.Queued
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

// String is the summary as a table.
func (s *summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nAfter %.0f s, as the client saw it (simulated model servers):\n\n", s.Seconds)
	b.WriteString("policy          requests  failed  shed  prefix hits     TTFT mean    p50    p90    p99     TPOT p50    p90     E2E p90\n")
	for _, p := range s.Policies {
		fmt.Fprintf(&b, "%-14s  %8d  %6d  %4d  %11s  %12s %6s %6s %6s  %11s %6s  %10s\n", shorten(p.Policy, 14), p.Requests, p.Failed, p.Shed,
			precise(p.HitShare), duration(p.TTFTMean), duration(p.TTFT50), duration(p.TTFT90), duration(p.TTFT99),
			duration(p.TPOT50), duration(p.TPOT90), duration(p.E2E90))
	}
	b.WriteString("\npolicy          band        requests  failed  refused   waited p50    p90     TTFT mean    p50    p90    p99  refused why\n")
	for _, p := range s.Policies {
		for _, one := range p.Bands {
			waits, reasons := waitFigures{}, map[string]uint64{}
			if one.Admission != nil {
				waits, reasons = one.Admission.waitFigures, one.Admission.Reasons
			}
			fmt.Fprintf(&b, "%-14s  %-10s  %8d  %6d  %7d  %11s %6s  %12s %6s %6s %6s  %s\n", shorten(p.Policy, 14), shorten(one.Name, 10),
				one.Requests, one.Failed, one.Shed, duration(waits.Wait50), duration(waits.Wait90),
				duration(one.TTFTMean), duration(one.TTFT50), duration(one.TTFT90), duration(one.TTFT99), reasonsText(reasons))
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

// reasonsText lists reasons and how often each was given.
func reasonsText(reasons map[string]uint64) string {
	var all []string
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		all = append(all, fmt.Sprintf("%d %s", reasons[reason], reason))
	}
	return strings.Join(all, ", ")
}

func precise(share *float64) string {
	if share == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f%%", *share*100)
}
