package types

import "math"

// Gauge is a reported number that may be unknown. The zero value is unknown, so that a value
// that was never reported cannot be mistaken for 0. A Gauge is eight bytes; pass it by value.
type Gauge struct {
	// b holds the bits of the value plus one: 0 is then "unknown", and 0-1 is all ones, a
	// NaN, so that OrNaN needs no branch. Only that one NaN cannot be represented.
	b uint64
}

// Known returns a Gauge that holds v, or an unknown one if v is NaN.
func Known(v float64) Gauge {
	if v != v {
		return Gauge{}
	}
	return Gauge{math.Float64bits(v) + 1}
}

// Value returns the value and whether it is known; 0 and false if not.
func (g Gauge) Value() (float64, bool) {
	if g.b == 0 {
		return 0, false
	}
	return math.Float64frombits(g.b - 1), true
}

// OrNaN returns the value, or NaN if it is unknown. A Scorer may use the result as a score,
// where NaN means "no opinion".
func (g Gauge) OrNaN() float64 { return math.Float64frombits(g.b - 1) }

// Or returns the value, or def if it is unknown.
func (g Gauge) Or(def float64) float64 {
	if g.b == 0 {
		return def
	}
	return math.Float64frombits(g.b - 1)
}

// IsKnown reports whether the value is known.
func (g Gauge) IsKnown() bool { return g.b != 0 }
