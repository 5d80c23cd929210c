package rollout

import (
	"math"
	"math/bits"
	"time"
)

// A histogram has 32 buckets of equal width for each doubling (as HdrHistogram has), from 2^16 ns (66 µs) to 2^40
// (18 minutes): a value is known to within 1.6 to 3.1 %.
const (
	subBits     = 5
	perDoubling = 1 << subBits
	leastLog    = 16
	doublings   = 24
	buckets     = perDoubling * doublings
)

// histogram counts values in buckets of nearly equal ratio. Those of several gateways are added up.
type histogram struct {
	n      int
	counts [buckets]uint32
}

// bucketOf returns that of a time; what is outside is in the first or last one.
func bucketOf(d time.Duration) int {
	e := bits.Len64(uint64(max(d, 0))) - 1
	switch {
	case e < leastLog:
		return 0
	case e >= leastLog+doublings:
		return buckets - 1
	}
	return (e-leastLog)*perDoubling + int(d>>(e-subBits))&(perDoubling-1)
}

// valueOf returns the time in the middle of a bucket, in seconds.
func valueOf(bucket int) float64 { return countOf(bucket) * (1 << leastLog) / float64(time.Second) }

// Counts of things, such as tokens, are kept as if each was the least time.
func bucketOfCount(n int) int { return bucketOf(time.Duration(n) << leastLog) }

func countOf(bucket int) float64 {
	within := (float64(bucket%perDoubling) + .5) / perDoubling
	return math.Ldexp(1+within, bucket/perDoubling)
}

// ratioOf returns how many times the value of a that of b is.
func ratioOf(a, b int) float64 { return countOf(a) / countOf(b) }

// countAt counts a value, and leaves it out where the counter is full.
func (h *histogram) countAt(bucket int, n uint32) {
	if h.counts[bucket] > math.MaxUint32-n {
		return
	}
	h.counts[bucket] += n
	h.n += int(n)
}

func (h *histogram) merge(o *histogram) {
	for b, n := range o.counts {
		h.countAt(b, n)
	}
}

// level returns the share of values below the end of a bucket.
func (h *histogram) level(bucket int) float64 {
	sum := 0
	for _, n := range h.counts[:bucket+1] {
		sum += int(n)
	}
	return float64(sum) / float64(max(h.n, 1))
}

// strata are histograms of requests that are alike: first tokens by how many tokens of the prompt had to be computed,
// whole answers as whole.go says.
type strata [maxStrata]*histogram

// maxStrata is how many there are; of first tokens one for each doubling.
const maxStrata = 22

// stratumOf returns that of a request.
func stratumOf(tokens int) int { return min(bits.Len(uint(max(tokens, 0))), maxStrata-1) }

func (s *strata) count(stratum, bucket int) {
	if s[stratum] == nil {
		s[stratum] = new(histogram)
	}
	s[stratum].countAt(bucket, 1)
}

func (s *strata) merge(o *strata) {
	for i, h := range o {
		if h == nil {
			continue
		}
		if s[i] == nil {
			s[i] = new(histogram)
		}
		s[i].merge(h)
	}
}

// len returns how many values there are.
func (s *strata) len() int {
	n := 0
	for _, h := range s {
		if h != nil {
			n += h.n
		}
	}
	return n
}
