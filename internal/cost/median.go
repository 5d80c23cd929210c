package cost

import "math"

// Median follows the median of what it is shown, by steps towards each value that are a part
// of how far values lie from it (the stochastic approximation of a quantile: Robbins and
// Monro, The Annals of Mathematical Statistics 22(3), 1951). It is known to within a spread
// after some tens of values, and no value, however far off, moves it by more than a step. The
// zero value is 0.
type Median struct {
	value, spread float64
}

// Value returns the median.
func (m *Median) Value() float64 { return m.value }

// Add shows it a value. One that is no number is left out.
func (m *Median) Add(v float64) {
	d := v - m.value
	if d-d != 0 || d == 0 {
		return
	}
	off := math.Abs(d)
	switch {
	case m.spread == 0:
		m.spread = off
	case off > 8*m.spread:
		m.spread *= 2 // they come from elsewhere now
	case off > m.spread:
		m.spread *= spreadStep
	default:
		m.spread /= spreadStep
	}
	m.value += math.Copysign(min(medianStep*m.spread, off), d)
}
