package main

import (
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// windowLength is what "now" means on the page and in the terminal.
	windowLength = 60 * time.Second
	// maxWindow bounds the results in a window; beyond it the oldest go early.
	maxWindow = 32768
)

// tally sums up the results of one fleet: over everything, and over the last
// windowLength. All methods may be called from any goroutine.
type tally struct {
	mu             sync.Mutex
	requests       int // that ended, however
	failed, shed   int
	prompt, cached int
	ttft           distribution
	tpot           distribution
	e2e            distribution
	window         []sample // oldest first
}

// tallies sum up the results of one fleet: of all, and of each priority.
type tallies struct {
	all   tally
	mu    sync.Mutex
	bands map[int]*tally
}

func (t *tallies) add(r result, priority int, at time.Time) {
	t.all.add(r, at)
	t.band(priority).add(r, at)
}

// band returns the tally of a priority.
func (t *tallies) band(priority int) *tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bands[priority] == nil {
		if t.bands == nil {
			t.bands = map[int]*tally{}
		}
		t.bands[priority] = new(tally)
	}
	return t.bands[priority]
}

// sample is one good result in the window.
type sample struct {
	at             time.Time
	ttft, tpot     time.Duration
	prompt, cached int
}

// add takes a result in at the time it ended.
func (t *tally) add(r result, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	switch {
	case r.shed():
		t.shed++
		return
	case r.err != nil:
		t.failed++
		return
	}
	t.prompt += r.prompt
	t.cached += r.cached
	t.ttft.add(r.ttft)
	t.e2e.add(r.e2e)
	if r.tpot > 0 {
		t.tpot.add(r.tpot)
	}
	if len(t.window) >= maxWindow {
		t.window = slices.Delete(t.window, 0, maxWindow/16)
	}
	t.window = append(t.window, sample{at, r.ttft, r.tpot, r.prompt, r.cached})
}

// figures are what a tally says. Times are in milliseconds; what cannot be known
// yet is nil.
type figures struct {
	Requests int `json:"requests"`
	Failed   int `json:"failed"`
	Shed     int `json:"shed"`

	HitShare *float64 `json:"prefixHitShare"` // cached prompt tokens / prompt tokens

	TTFTMean *float64 `json:"ttftMeanMs"`
	TTFT50   *float64 `json:"ttftP50Ms"`
	TTFT90   *float64 `json:"ttftP90Ms"`
	TTFT99   *float64 `json:"ttftP99Ms"`
	TPOT50   *float64 `json:"tpotP50Ms"`
	TPOT90   *float64 `json:"tpotP90Ms"`
	E2E90    *float64 `json:"e2eP90Ms"`
}

// total returns the figures of everything so far.
func (t *tally) total() figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	return figures{
		Requests: t.requests, Failed: t.failed, Shed: t.shed,
		HitShare: ratio(t.cached, t.prompt),
		TTFTMean: t.ttft.mean(), TTFT50: t.ttft.quantile(0.5), TTFT90: t.ttft.quantile(0.9), TTFT99: t.ttft.quantile(0.99),
		TPOT50: t.tpot.quantile(0.5), TPOT90: t.tpot.quantile(0.9),
		E2E90: t.e2e.quantile(0.9),
	}
}

// now returns the figures of the window before the given time. Requests counts the
// good ones only.
func (t *tally) now(at time.Time) figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked(at)
	var prompt, cached int
	ttft, tpot := make([]float64, 0, len(t.window)), make([]float64, 0, len(t.window))
	for _, s := range t.window {
		prompt += s.prompt
		cached += s.cached
		ttft = append(ttft, milliseconds(s.ttft))
		if s.tpot > 0 {
			tpot = append(tpot, milliseconds(s.tpot))
		}
	}
	slices.Sort(ttft)
	slices.Sort(tpot)
	return figures{
		Requests: len(t.window),
		HitShare: ratio(cached, prompt),
		TTFT50:   percentile(ttft, 0.5), TTFT90: percentile(ttft, 0.9), TTFT99: percentile(ttft, 0.99),
		TPOT50: percentile(tpot, 0.5), TPOT90: percentile(tpot, 0.9),
	}
}

// forgetLocked drops what is older than the window. Caller must hold t.mu.
func (t *tally) forgetLocked(now time.Time) {
	old := 0
	for old < len(t.window) && now.Sub(t.window[old].at) > windowLength {
		old++
	}
	t.window = slices.Delete(t.window, 0, old)
}

// percentile returns the q-quantile of sorted values by the nearest rank; nil if
// there are none.
func percentile(sorted []float64, q float64) *float64 {
	if len(sorted) == 0 {
		return nil
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return &sorted[max(rank, 1)-1]
}

// distribution keeps durations in buckets that grow by 1 %, so that a quantile is
// off by half a percent at most and a run of days needs no more memory than one of
// seconds.
type distribution struct {
	count   int
	sum     time.Duration
	buckets []int
}

// growth is the ratio of the bounds of a bucket; the first begins at 1 µs.
const growth = 1.01

func (d *distribution) add(v time.Duration) {
	i := 0
	if v > time.Microsecond {
		i = int(math.Log(float64(v)/float64(time.Microsecond)) / math.Log(growth))
	}
	if i >= len(d.buckets) {
		d.buckets = append(d.buckets, make([]int, i+1-len(d.buckets))...)
	}
	d.buckets[i]++
	d.count++
	d.sum += v
}

func (d *distribution) mean() *float64 {
	if d.count == 0 {
		return nil
	}
	v := milliseconds(d.sum) / float64(d.count)
	return &v
}

// quantile returns the q-quantile in milliseconds, nil if there are no values.
func (d *distribution) quantile(q float64) *float64 {
	rank := max(int(math.Ceil(q*float64(d.count))), 1)
	for i, n := range d.buckets {
		if rank -= n; rank <= 0 {
			v := math.Pow(growth, float64(i)+0.5) / 1000
			return &v
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func ratio(part, whole int) *float64 {
	if whole == 0 {
		return nil
	}
	v := float64(part) / float64(whole)
	return &v
}
