package simulation

import (
	"errors"
	"fmt"
	"math"
)

// ErrNoRate is what WithRate returns, wrapped, for a workload whose rate of
// arrivals cannot be set.
var ErrNoRate = errors.New("simulation: the workload has no rate of arrivals that can be set")

// RatedSpec is a Spec that knows its rate of arrivals and can be had at another.
// All workloads of this package are; implement it for load sweeps over your own.
type RatedSpec interface {
	Spec
	// MeanRate returns the mean number of arrivals per second, 0 if it is unknown.
	MeanRate() float64
	// AtRate returns the same workload at another rate, above 0. The receiver stays
	// as it is.
	AtRate(rate float64) (Spec, error)
}

// Rate returns how many jobs, or sessions if the workload consists of those,
// arrive per second on average, before any variation over time. 0: not known.
func Rate(s Spec) float64 {
	if r, ok := s.(RatedSpec); ok {
		return r.MeanRate()
	}
	return 0
}

// WithRate returns the same workload with a mean of rate jobs, or sessions if it
// consists of those, per second: generators draw the same jobs, with other gaps
// between them; traces are played at another speed. The error wraps ErrNoRate if
// the workload has no rate to set.
func WithRate(s Spec, rate float64) (Spec, error) {
	r, ok := s.(RatedSpec)
	if !ok {
		return nil, fmt.Errorf("%w: %T is no RatedSpec", ErrNoRate, s)
	}
	if !(rate > 0 && rate <= maxRate) || math.IsInf(rate, 0) {
		return nil, fmt.Errorf("simulation: rate is %v, want above 0 and at most %d per second", rate, int(maxRate))
	}
	return r.AtRate(rate)
}
