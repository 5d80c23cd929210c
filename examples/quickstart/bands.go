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

// bandLog is what became of the requests of one priority: those of the workload with their
// figures, all of them by outcome, and how long they waited to be admitted.
type bandLog struct {
	workload tally
	counts   bandCounts
	waits    distribution    // to be admitted
	window   window[float64] // of the waits
}

func (b *bandLog) admitted(waited float64, now time.Time) {
	b.waits.add(waited)
	b.window.add(waited, now)
}

// waitFigures are how long requests waited to be admitted, in milliseconds, those for which
// there was room included; nil: there were none.
type waitFigures struct {
	Wait50 *float64 `json:"waitP50Ms"`
	Wait90 *float64 `json:"waitP90Ms"`
}

// bandView is one priority in a view.
type bandView struct {
	band
	Now   figures `json:"now"`   // of the workload's requests of the last 60 s
	Total figures `json:"total"` // since the start
	bandCounts
	waitFigures             // of the last 60 s
	waits       waitFigures // since the start

	// What admission control says, if there is any.
	Ceiling float64 `json:"ceiling"`
	Room    *int    `json:"room"` // endpoints that have room for it; nil: none has asked yet
	Queued  int     `json:"queued"`
	Running int     `json:"running"`
	Tenants int     `json:"tenants"`
	Oldest  float64 `json:"oldestMs"`
}

// view returns what a log says of its band.
func (b *bandLog) view(of band, at time.Time) bandView {
	var waits []float64
	for _, w := range b.window.until(at) {
		waits = append(waits, w.value)
	}
	slices.Sort(waits)
	v := bandView{
		band: of, Now: b.workload.now(at), Total: b.workload.total(), bandCounts: b.counts,
		waitFigures: waitFigures{percentile(waits, 0.5), percentile(waits, 0.9)},
		waits:       waitFigures{b.waits.quantile(0.5), b.waits.quantile(0.9)},
	}
	v.Reasons = maps.Clone(v.Reasons)
	return v
}

// admissionView is the admission control of a pool in a view.
type admissionView struct {
	Endpoints  int      `json:"endpoints"`
	Saturation *float64 `json:"saturation"` // 0..1, the mean of the endpoints; nil: unknown
	Queued     int      `json:"queued"`
	Oldest     float64  `json:"oldestMs"`
}

// admissionView returns what the admission control of the fleet's pool is like now, nil if
// it has none, and what becomes of the requests of each priority, highest first.
func (f *fleet) admissionView(now time.Time) (*admissionView, []bandView) {
	s, stats := f.admissionStats()
	if stats == nil {
		return nil, f.log.bandViews(bandsOf(f.bands), now)
	}
	bands := f.log.bandViews(bandsOf(f.bands, slices.Collect(maps.Keys(stats))...), now)
	for i := range bands {
		if s, ok := stats[bands[i].Priority]; ok {
			b := &bands[i]
			b.Name, b.Ceiling, b.Room = s.Name, s.Ceiling, &s.Room
			b.Queued, b.Running, b.Tenants, b.Oldest = s.Queued, s.Running, s.Tenants, milliseconds(s.Oldest)
		}
	}
	return &admissionView{s.Endpoints, pointer(types.Known(s.Saturation)), s.Queued, milliseconds(s.Oldest)}, bands
}

// admissionStats returns what the admission control of the fleet's pool is like in the first
// gateway, with what waits and runs in all of them, and the same of each priority. Nil: there is none.
func (f *fleet) admissionStats() (sum admission.Stats, bands map[int]admission.BandStats) {
	for _, g := range f.running() {
		c, err := g.Director.Admission(pool())
		if c == nil || err != nil {
			continue
		}
		s := c.Stats()
		if bands == nil {
			sum, bands = s, map[int]admission.BandStats{}
		} else {
			sum.Queued, sum.Oldest = sum.Queued+s.Queued, max(sum.Oldest, s.Oldest)
		}
		for _, b := range s.Bands {
			if had, ok := bands[b.Priority]; ok {
				b.Queued, b.Running, b.Oldest = b.Queued+had.Queued, b.Running+had.Running, max(b.Oldest, had.Oldest)
				b.Room, b.Tenants = had.Room, max(b.Tenants, had.Tenants)
			}
			bands[b.Priority] = b
		}
	}
	return sum, bands
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
