package simulation

import (
	"math/bits"
	"time"
)

// histogram holds any number of durations in fixed memory, each to within 0.1 %:
// 1,024 buckets for each power of two of nanoseconds. Buckets are found with
// integers alone, so the result is the same on every machine. The layout is that
// of Gil Tene's HdrHistogram.
type histogram struct {
	count  int
	sum    float64 // nanoseconds
	max    time.Duration
	bucket []uint32
}

const subBits = 10

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.count++
	h.sum += float64(d)
	h.max = max(h.max, d)
	i := bucketOf(uint64(d))
	if i >= len(h.bucket) {
		h.bucket = append(h.bucket, make([]uint32, i+1-len(h.bucket))...)
	}
	h.bucket[i]++
}

func bucketOf(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return (shift+1)<<subBits + int(v>>shift) - 1<<subBits
}

// midpoint returns the middle of bucket i in nanoseconds.
func midpoint(i int) float64 {
	if i < 1<<subBits {
		return float64(i)
	}
	shift := i>>subBits - 1
	low := uint64(i&(1<<subBits-1)|1<<subBits) << shift
	return float64(low) + float64(uint64(1)<<shift-1)/2
}

// quantile returns the value below which the part q of all values lies, seconds.
func (h *histogram) quantile(q float64) float64 {
	rank := int(q * float64(h.count))
	for i, n := range h.bucket {
		if rank -= int(n); rank < 0 {
			return min(midpoint(i), float64(h.max)) / float64(time.Second)
		}
	}
	return h.max.Seconds()
}

func (h *histogram) distribution() Distribution {
	if h.count == 0 {
		return Distribution{}
	}
	return Distribution{
		Count: h.count,
		Mean:  h.sum / float64(h.count) / float64(time.Second),
		P50:   h.quantile(0.50), P90: h.quantile(0.90), P99: h.quantile(0.99),
		Max: h.max.Seconds(),
	}
}
