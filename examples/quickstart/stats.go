package main

import (
	"math"
	"slices"
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

// distribution keeps times in buckets that grow by 1 %, so that a quantile is off by half
// a percent at most and a run of days needs no more memory than one of seconds.
type distribution struct {
	count   int
	sum     float64
	buckets []int
}

// growth is the ratio of the bounds of a bucket; the first begins at 1 µs.
const growth = 1.01

// add takes milliseconds, as mean and quantile return them; nil if there are none.
func (d *distribution) add(ms float64) {
	i := int(math.Log(max(ms*1000, 1)) / math.Log(growth))
	if i >= len(d.buckets) {
		d.buckets = append(d.buckets, make([]int, i+1-len(d.buckets))...)
	}
	d.buckets[i]++
	d.count++
	d.sum += ms
}

func (d *distribution) mean() *float64 { return ratio(d.sum, float64(d.count)) }

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

// sample is what is measured of a request that was served. Times are in milliseconds.
type sample struct {
	ttft, e2e      float64
	tpot           float64 // (end - first token) / (tokens - 1); 0 with fewer than 2 tokens
	prompt, cached float64 // tokens
	compared, off  float64 // of prompts whose cached part was predicted: tokens, and by how many that was wrong
}

// tally sums up requests: over everything, and over a window.
type tally struct {
	failed, refused int
	prompt, cached  float64
	compared, off   float64
	ttft, tpot, e2e distribution
	window          window[sample]
}

// add takes a request in at the time it ended. One that was cancelled counts nowhere.
func (t *tally) add(outcome string, s sample, at time.Time) {
	switch outcome {
	case outcomeRefused:
		t.refused++
	case outcomeFailed:
		t.failed++
	case outcomeDone:
		t.prompt += s.prompt
		t.cached += s.cached
		t.compared += s.compared
		t.off += s.off
		t.ttft.add(s.ttft)
		t.e2e.add(s.e2e)
		if s.tpot > 0 {
			t.tpot.add(s.tpot)
		}
		t.window.add(s, at)
	}
}

// figures are what a tally says. Times are in milliseconds; what cannot be known
// yet is nil.
type figures struct {
	Requests int `json:"requests"` // that ended, but for those that were cancelled
	Failed   int `json:"failed"`
	Shed     int `json:"shed"` // refused

	HitShare *float64 `json:"prefixHitShare"` // cached prompt tokens / prompt tokens
	HitError *float64 `json:"prefixHitError"` // by how many tokens the prediction was off / prompt tokens; nil: nobody predicts

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
		Requests: t.ttft.count + t.failed + t.refused, Failed: t.failed, Shed: t.refused,
		HitShare: ratio(t.cached, t.prompt), HitError: ratio(t.off, t.compared),
		TTFTMean: t.ttft.mean(), TTFT50: t.ttft.quantile(0.5), TTFT90: t.ttft.quantile(0.9), TTFT99: t.ttft.quantile(0.99),
		TPOT50: t.tpot.quantile(0.5), TPOT90: t.tpot.quantile(0.9),
		E2E90: t.e2e.quantile(0.9),
	}
}

// now returns the figures of the window before the given time. Requests counts those that
// were served only.
func (t *tally) now(at time.Time) figures {
	var prompt, cached, compared, off float64
	var ttft, tpot []float64
	for _, s := range t.window.until(at) {
		prompt += s.value.prompt
		cached += s.value.cached
		compared += s.value.compared
		off += s.value.off
		ttft = append(ttft, s.value.ttft)
		if s.value.tpot > 0 {
			tpot = append(tpot, s.value.tpot)
		}
	}
	slices.Sort(ttft)
	slices.Sort(tpot)
	return figures{
		Requests: len(ttft),
		HitShare: ratio(cached, prompt), HitError: ratio(off, compared),
		TTFT50: percentile(ttft, 0.5), TTFT90: percentile(ttft, 0.9), TTFT99: percentile(ttft, 0.99),
		TPOT50: percentile(tpot, 0.5), TPOT90: percentile(tpot, 0.9),
	}
}
