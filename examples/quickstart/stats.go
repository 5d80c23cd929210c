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
	// maxWindow bounds the values in a window; beyond it the oldest go early.
	maxWindow = 32768
)

// window keeps the values of the last windowLength, oldest first.
type window[T any] []timed[T]

type timed[T any] struct {
	at    time.Time
	value T
}

func (w *window[T]) add(value T, at time.Time) {
	if len(*w) >= maxWindow {
		*w = slices.Delete(*w, 0, maxWindow/16)
	}
	*w = append(*w, timed[T]{at, value})
}

// until drops what is too old at the given time and returns the rest.
func (w *window[T]) until(now time.Time) []timed[T] {
	old := 0
	for old < len(*w) && now.Sub((*w)[old].at) > windowLength {
		old++
	}
	*w = slices.Delete(*w, 0, old)
	return *w
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

// mean is in milliseconds, nil if there are no values; quantile too.
func (d *distribution) mean() *float64 { return ratio(milliseconds(d.sum), float64(d.count)) }

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

// percentile returns the q-quantile of sorted values by the nearest rank; nil if
// there are none.
func percentile(sorted []float64, q float64) *float64 {
	if len(sorted) == 0 {
		return nil
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return &sorted[max(rank, 1)-1]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// ratio is nil if there is no whole.
func ratio(part, whole float64) *float64 {
	if whole == 0 {
		return nil
	}
	v := part / whole
	return &v
}

// tally sums up results: over everything, and over a window.
type tally struct {
	requests, failed, shed int // requests: that ended, however
	prompt, cached         int
	ttft, tpot, e2e        distribution
	window                 window[result] // the good ones
}

// add takes a result in at the time it ended.
func (t *tally) add(r result, at time.Time) {
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
	r.text = "" // need not stay
	t.window.add(r, at)
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
	return figures{
		Requests: t.requests, Failed: t.failed, Shed: t.shed,
		HitShare: ratio(float64(t.cached), float64(t.prompt)),
		TTFTMean: t.ttft.mean(), TTFT50: t.ttft.quantile(0.5), TTFT90: t.ttft.quantile(0.9), TTFT99: t.ttft.quantile(0.99),
		TPOT50: t.tpot.quantile(0.5), TPOT90: t.tpot.quantile(0.9),
		E2E90: t.e2e.quantile(0.9),
	}
}

// now returns the figures of the window before the given time. Requests counts the
// good ones only.
func (t *tally) now(at time.Time) figures {
	var prompt, cached int
	var ttft, tpot []float64
	for _, r := range t.window.until(at) {
		prompt += r.value.prompt
		cached += r.value.cached
		ttft = append(ttft, milliseconds(r.value.ttft))
		if r.value.tpot > 0 {
			tpot = append(tpot, milliseconds(r.value.tpot))
		}
	}
	slices.Sort(ttft)
	slices.Sort(tpot)
	return figures{
		Requests: len(ttft),
		HitShare: ratio(float64(cached), float64(prompt)),
		TTFT50:   percentile(ttft, 0.5), TTFT90: percentile(ttft, 0.9), TTFT99: percentile(ttft, 0.99),
		TPOT50: percentile(tpot, 0.5), TPOT90: percentile(tpot, 0.9),
	}
}

// tallies sum up the results of one fleet: of all requests, and of each priority. All
// methods may be called from any goroutine.
type tallies struct {
	mu    sync.Mutex
	all   tally
	bands map[int]*tally
}

func newTallies() *tallies { return &tallies{bands: map[int]*tally{}} }

func (t *tallies) add(r result, priority int, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.add(r, at)
	if t.bands[priority] == nil {
		t.bands[priority] = new(tally)
	}
	t.bands[priority].add(r, at)
}

// figures returns those of all, and of each of some priorities.
func (t *tallies) figures(at time.Time, bands []band) (now, total figures, each []bandFigures) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range bands {
		one := bandFigures{band: b}
		if y := t.bands[b.Priority]; y != nil {
			one.Now, one.Total = y.now(at), y.total()
		}
		each = append(each, one)
	}
	return t.all.now(at), t.all.total(), each
}
