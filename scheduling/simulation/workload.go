package simulation

import (
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Bounds that all workloads share.
const (
	maxRate   = 1e7     // arrivals per second
	maxTokens = 1 << 24 // tokens in one piece of content or one output
)

// Each random quantity of a workload, and the noise of engines, has a stream of its
// own, so that a change of one parameter leaves the draws of the others as they
// were. The numbers are part of what makes a run reproducible: new ones go to the
// end.
const (
	streamArrivals uint64 = iota + 1
	streamInput
	streamOutput
	streamPopularity
	streamQuestion
	streamSession
	streamClass
	streamTenant
	streamSpread
	streamPart
	streamNoise // of the engines
	streamWorld
	streamEvents
	streamSharing
	streamScaling
	streamMedia
)

// finalize is the output function of SplitMix64: a bijection of 64-bit words.
func finalize(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// derive returns the seed of a stream, or of the n-th thing of its sort.
func derive(seed, stream uint64) uint64 {
	return finalize(finalize(seed) + bits.RotateLeft64(finalize(stream+0x632be59bd9b4e019), 17))
}

// idSpace numbers pieces of content. Within a space no two numbers have the same
// ID; spaces have random places among 2^64, so those of several never meet in
// practice.
type idSpace uint64

// newIDs makes the space of that name. Names keep the content of different kinds
// of workload apart even if they are started from the same seed.
func newIDs(seed uint64, name string) idSpace {
	h := uint64(0xcbf29ce484222325) // FNV-1a
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	return idSpace(derive(seed, h))
}

// id returns the ID with number n. It is never 0, which means "no content".
func (s idSpace) id(n uint64) uint64 {
	return max(1, finalize(uint64(s)+n*0x9e3779b97f4a7c15))
}

// unit returns a number in (0, 1), without either end, so that it can be put into
// any quantile function.
func unit(r *types.Rand) float64 { return unitOf(r.Uint64()) }

func unitOf(x uint64) float64 { return (float64(x>>12) + 0.5) / (1 << 52) }

// toDuration rounds seconds to nanoseconds. Times add up as integers, so that a
// last digit that differs between processors does not spread.
func toDuration(seconds float64) time.Duration {
	ns := math.Round(seconds * 1e9)
	if !(ns < math.MaxInt64/2) {
		return math.MaxInt64 / 2
	}
	return time.Duration(ns)
}

// openLoop is a Source whose jobs do not depend on what happens to them.
type openLoop struct {
	times *ArrivalTimes
	n     uint64
	make  func(n uint64) Job // makes the n-th job, from 0; its Arrival is set afterwards
}

func (o *openLoop) Next() (Job, bool) {
	at, ok := o.times.Next()
	if !ok {
		return Job{}, false
	}
	j := o.make(o.n)
	j.Arrival = at
	o.n++
	return j, true
}

func (o *openLoop) Done(*Job, time.Duration, bool) (Job, bool) { return Job{}, false }

// broken is the Source of a Spec that cannot be started: it has no jobs, and an
// Err method that says why.
type broken struct{ err error }

func (broken) Next() (Job, bool)                          { return Job{}, false }
func (broken) Done(*Job, time.Duration, bool) (Job, bool) { return Job{}, false }
func (b broken) Err() error                               { return b.err }

// checker collects the first thing that is wrong with a Spec.
type checker struct {
	kind string
	err  error
}

func (c *checker) failf(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("simulation: "+c.kind+": "+format, args...)
	}
}

// floatRange reports a field that is not in [lo, hi]. NaN never is.
func (c *checker) floatRange(field string, v, lo, hi float64) {
	if !(v >= lo && v <= hi) {
		c.failf("%s is %v, want %v to %v", field, v, lo, hi)
	}
}

func (c *checker) intRange(field string, v, lo, hi int) {
	if v < lo || v > hi {
		c.failf("%s is %d, want %d to %d", field, v, lo, hi)
	}
}

func (c *checker) length(field string, l Length) {
	if err := l.check(); err != nil {
		c.failf("%s: %w", field, err)
	}
}

func (c *checker) arrivals(a Arrivals) {
	if err := a.check(); err != nil {
		c.failf("%w", err)
	}
}

// withDefault returns v, or def if v is zero.
func withDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

var (
	_ Source = (*openLoop)(nil)
	_ Source = broken{}
)
