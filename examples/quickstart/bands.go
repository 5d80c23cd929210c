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

// refuse counts a refusal.
func (c *bandCounts) refuse(reason string) {
	if c.Reasons == nil {
		c.Reasons = map[string]uint64{}
	}
	c.Reasons[reason]++
	if reason == string(admission.TimedOut) {
		c.Expired++
	} else {
		c.Refused++
	}
}

// bandLog is bandCounts, and how long requests waited to be let in.
type bandLog struct {
	bandCounts
	waits  distribution
	window []wait // of those let in lately, oldest first
}

// wait is how long one request waited.
type wait struct {
	at     time.Time
	waited time.Duration
}

func (b *bandLog) letIn(waited time.Duration, now time.Time) {
	b.waits.add(waited)
	if len(b.window) >= maxWindow {
		b.window = slices.Delete(b.window, 0, maxWindow/16)
	}
	b.window = append(b.window, wait{now, waited})
}

// waitFigures are how long requests waited to be let in, in milliseconds, those for which
// there was room included; nil: there were none.
type waitFigures struct {
	Wait50 *float64 `json:"waitP50Ms"`
	Wait90 *float64 `json:"waitP90Ms"`
}

// now returns the waits of the window before the given time.
func (b *bandLog) now(at time.Time) waitFigures {
	old := 0
	for old < len(b.window) && at.Sub(b.window[old].at) > windowLength {
		old++
	}
	b.window = slices.Delete(b.window, 0, old)
	waits := make([]float64, len(b.window))
	for i, w := range b.window {
		waits[i] = milliseconds(w.waited)
	}
	slices.Sort(waits)
	return waitFigures{percentile(waits, 0.5), percentile(waits, 0.9)}
}

// total returns the waits of everything so far.
func (b *bandLog) total() waitFigures {
	return waitFigures{b.waits.quantile(0.5), b.waits.quantile(0.9)}
}

// admissionView is the admission control of a pool in a view.
type admissionView struct {
	Endpoints  int        `json:"endpoints"`
	Saturation *float64   `json:"saturation"` // 0..1, the mean of the endpoints; nil: unknown
	Queued     int        `json:"queued"`
	Bytes      int64      `json:"bytes"` // of the bodies that wait
	Oldest     float64    `json:"oldestMs"`
	Rate       float64    `json:"rate"` // let in per second, of late
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
	v := &admissionView{
		Endpoints: s.Endpoints, Saturation: pointer(types.Known(s.Saturation)), Queued: s.Queued, Bytes: s.Bytes,
		Oldest: milliseconds(s.Oldest), Rate: s.Rate,
	}
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

// reportView is an admission.Report in which what is unknown is nil. Times are in
// milliseconds.
type reportView struct {
	Verdict      string   `json:"verdict"`
	Detail       string   `json:"detail,omitempty"`
	Band         string   `json:"band"`
	Ceiling      float64  `json:"ceiling"`
	Candidates   int      `json:"candidates"`
	Room         int      `json:"room"`
	Saturation   *float64 `json:"saturation"`
	Higher       int      `json:"higher"`
	OtherTenants int      `json:"otherTenants"`
	OwnTenant    int      `json:"ownTenant"`
	Counter      float64  `json:"counter"`
	Least        float64  `json:"least"`
	Waited       float64  `json:"waitedMs"`
	Left         float64  `json:"leftMs"`
	Expected     float64  `json:"expectedMs"` // 0: unknown
}

func newReportView(r *admission.Report) *reportView {
	if r == nil {
		return nil
	}
	return &reportView{
		Verdict: r.Verdict, Detail: r.Detail, Band: r.Band, Ceiling: r.Ceiling, Candidates: r.Candidates, Room: r.Room,
		Saturation: pointer(types.Known(r.Saturation)),
		Higher:     r.Higher, OtherTenants: r.OtherTenants, OwnTenant: r.OwnTenant, Counter: r.Counter, Least: r.Least,
		Waited: milliseconds(r.Waited), Left: milliseconds(r.Left), Expected: milliseconds(r.Expected),
	}
}
