package main

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// band is a priority of the workload's requests, under the name that admission control
// has for it.
type band struct {
	Name     string `json:"name"`
	Priority int    `json:"priority"`
}

// bandsOf returns the workload's priorities and what others were seen, highest first. The
// names are those of the declared bands; none: of the default ones.
func bandsOf(declared []admission.Band, seen ...int) []band {
	if len(declared) == 0 {
		declared = admission.DefaultBands()
	}
	declared = slices.SortedFunc(slices.Values(declared), func(a, b admission.Band) int { return cmp.Compare(b.Priority, a.Priority) })
	priorities := append([]int{types.PriorityCritical, types.PriorityStandard, types.PrioritySheddable}, seen...)
	slices.SortFunc(priorities, func(a, b int) int { return cmp.Compare(b, a) })
	var bands []band
	for _, p := range slices.Compact(priorities) {
		i := slices.IndexFunc(declared, func(b admission.Band) bool { return p >= b.Priority })
		if i < 0 {
			i = len(declared) - 1 // the lowest is that of all below
		}
		bands = append(bands, band{declared[i].Name, p})
	}
	return bands
}

// bandCounts is what became of the requests of one priority, as the gateway knows it.
type bandCounts struct {
	Served    uint64 `json:"served"`
	Failed    uint64 `json:"failed"`
	Cancelled uint64 `json:"cancelled"`
	// Expired are those that waited for as long as they may and were not let in, and
	// Refused the others that were not. Reasons has both by their reason.
	Refused uint64            `json:"refused"`
	Expired uint64            `json:"expired"`
	Reasons map[string]uint64 `json:"reasons"`
}

// ended counts a request by its outcome and, if it was refused, the reason.
func (c *bandCounts) ended(outcome, reason string) {
	switch outcome {
	case outcomeDone:
		c.Served++
	case outcomeFailed:
		c.Failed++
	case outcomeCancelled:
		c.Cancelled++
	case outcomeRefused:
		c.Reasons[reason]++
		if reason == string(admission.TimedOut) {
			c.Expired++
		} else {
			c.Refused++
		}
	}
}

// bandLog is bandCounts, and how long requests waited to be let in.
type bandLog struct {
	bandCounts
	waits  distribution
	window window[time.Duration]
}

func (b *bandLog) admitted(waited time.Duration, now time.Time) {
	b.waits.add(waited)
	b.window.add(waited, now)
}

// waitFigures are how long requests waited to be let in, in milliseconds, those for which
// there was room included; nil: there were none.
type waitFigures struct {
	Wait50 *float64 `json:"waitP50Ms"`
	Wait90 *float64 `json:"waitP90Ms"`
}

// now returns the waits of the window before the given time, and total those of all.
func (b *bandLog) now(at time.Time) waitFigures {
	var waits []float64
	for _, w := range b.window.until(at) {
		waits = append(waits, milliseconds(w.value))
	}
	slices.Sort(waits)
	return waitFigures{percentile(waits, 0.5), percentile(waits, 0.9)}
}

func (b *bandLog) total() waitFigures {
	return waitFigures{b.waits.quantile(0.5), b.waits.quantile(0.9)}
}

// admissionView is the admission control of a pool in a view.
type admissionView struct {
	Endpoints  int        `json:"endpoints"`
	Saturation *float64   `json:"saturation"` // 0..1, the mean of the endpoints; nil: unknown
	Queued     int        `json:"queued"`
	Oldest     float64    `json:"oldestMs"`
	Bands      []bandView `json:"bands"`
}

// bandView is one priority in an admissionView.
type bandView struct {
	band
	Ceiling float64 `json:"ceiling"`
	Room    *int    `json:"room"` // endpoints that have room for it; nil: none has asked yet
	Queued  int     `json:"queued"`
	Running int     `json:"running"`
	Tenants int     `json:"tenants"`
	Oldest  float64 `json:"oldestMs"`
	waitFigures
	bandCounts
	total waitFigures
}

// admissionView returns what the admission control of the fleet's pool is like now, nil if
// it has none.
func (f *fleet) admissionView(now time.Time) *admissionView {
	c, err := f.director.Admission(pool())
	if c == nil || err != nil {
		return nil
	}
	s := c.Stats()
	v := &admissionView{Endpoints: s.Endpoints, Saturation: pointer(types.Known(s.Saturation)), Queued: s.Queued, Oldest: milliseconds(s.Oldest)}
	stats := map[int]admission.BandStats{}
	for _, b := range s.Bands {
		stats[b.Priority] = b
	}
	for _, b := range bandsOf(f.bands, slices.Collect(maps.Keys(stats))...) {
		one := bandView{band: b}
		one.waitFigures, one.total, one.bandCounts = f.log.band(b.Priority, now)
		if s, ok := stats[b.Priority]; ok {
			one.Name, one.Ceiling, one.Room = s.Name, s.Ceiling, &s.Room
			one.Queued, one.Running, one.Tenants, one.Oldest = s.Queued, s.Running, s.Tenants, milliseconds(s.Oldest)
		}
		v.Bands = append(v.Bands, one)
	}
	return v
}

// reportView is an admission.Report that can be written as JSON: what is unknown is nil.
type reportView struct {
	admission.Report
	Saturation *float64
}

func newReportView(r *admission.Report) *reportView {
	if r == nil {
		return nil
	}
	return &reportView{*r, pointer(types.Known(r.Saturation))}
}
