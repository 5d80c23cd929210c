package telemetry

import (
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// buckets are the upper bounds of a histogram. Values are counted as integers, so
// that a sum is exact and one atomic addition: durations in nanoseconds.
type buckets struct {
	bounds   []int64
	exported []float64 // the bounds in the unit that is exported
	digits   int       // bytes that all bounds take in a page
	per      float64   // how many of a counted unit make one exported
}

func newBuckets(per float64, bounds ...float64) *buckets {
	b := &buckets{exported: bounds, per: per}
	for _, v := range bounds {
		b.bounds = append(b.bounds, int64(math.Round(v*per)))
		b.digits += len(strconv.FormatFloat(v, 'g', -1, 64))
	}
	return b
}

// The bounds are those of the Inference Extension, so that queries that name one
// find it, but for what is said.
var (
	durationBuckets = newBuckets(float64(time.Second),
		0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45,
		60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
	tpotBuckets = newBuckets(float64(time.Second),
		0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8,
		1, 1.5, 2, 3, 4.5, 6, 12, 18, 24, 30, 36, 48, 60, 90, 120, 180, 270, 360)
	ntpotBuckets = newBuckets(float64(time.Second),
		0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
	// Its first bound is 100 µs, which is more than a decision takes here.
	decisionBuckets = newBuckets(float64(time.Second),
		0.000005, 0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
	// Two bounds more than it has: requests may wait for longer here.
	waitBuckets = newBuckets(float64(time.Second),
		0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
	// Every second of its bounds up to 1 GiB, and for responses the same ones.
	sizeBuckets = newBuckets(1,
		64, 256, 1<<10, 4<<10, 16<<10, 64<<10, 256<<10, 1<<20, 4<<20, 16<<20, 64<<20, 256<<20, 1<<30)
	// With 32768 where it has 32778, and for outputs as far as for inputs.
	tokenBuckets = newBuckets(1,
		1, 8, 16, 32, 64, 128, 256, 512, 1<<10, 2<<10, 4<<10, 8<<10, 16<<10, 32<<10, 64<<10, 128<<10, 256<<10, 512<<10, 1<<20)
)

// histogram counts values in buckets.
type histogram struct {
	b      *buckets
	counts []atomic.Uint64 // one more than bounds: what is beyond the last
	sum    atomic.Int64

	// What it needs before its first value, unless room is nil, and where values go while
	// it has not got it.
	room    *room
	bytes   int64
	has     atomic.Bool
	instead *histogram
}

func newHistogram(b *buckets) histogram {
	return histogram{b: b, counts: make([]atomic.Uint64, len(b.bounds)+1)}
}

// observe counts v, at least 0: a clock that was set back gives durations below.
func (h *histogram) observe(v int64) {
	if h.room != nil && !h.has.Load() && !h.begin() {
		h = h.instead
	}
	v = max(v, 0)
	i, _ := slices.BinarySearch(h.b.bounds, v) // the first bound that is not below v
	h.counts[i].Add(1)
	h.sum.Add(v)
}

// begin takes the room for the histogram, and reports whether there was any.
func (h *histogram) begin() bool {
	if !h.room.take(h.bytes, h.room.spared) {
		return h.has.Load()
	}
	if !h.has.CompareAndSwap(false, true) {
		h.room.spend(-h.bytes) // another goroutine was quicker
	}
	return true
}

func (h *histogram) empty() bool {
	for i := range h.counts {
		if h.counts[i].Load() > 0 {
			return false
		}
	}
	return true
}
