package types

import "math"

// Gauge is one reported figure that may be unknown. The zero value is unknown,
// so that what was never reported cannot be mistaken for 0.
//
// A Gauge is eight bytes and is passed by value.
type Gauge struct {
	// b holds the bits of the value plus one. The bits of "unknown" are then 0,
	// and subtracting one from them gives all ones, which is a NaN: OrNaN needs
	// no branch. The one value that cannot be kept is the NaN of all ones, and
	// every NaN means unknown anyway.
	b uint64
}

// Known returns a Gauge that holds v. A NaN gives an unknown Gauge.
func Known(v float64) Gauge {
	if v != v {
		return Gauge{}
	}
	return Gauge{math.Float64bits(v) + 1}
}

// Value returns the figure and whether it is known; 0 and false if not.
func (g Gauge) Value() (float64, bool) {
	if g.b == 0 {
		return 0, false
	}
	return math.Float64frombits(g.b - 1), true
}

// OrNaN returns the figure, or NaN if it is unknown. A Scorer may store the
// result as a score: NaN there means "no opinion".
func (g Gauge) OrNaN() float64 { return math.Float64frombits(g.b - 1) }

// Or returns the figure, or def if it is unknown.
func (g Gauge) Or(def float64) float64 {
	if g.b == 0 {
		return def
	}
	return math.Float64frombits(g.b - 1)
}

// IsKnown reports whether the figure is known.
func (g Gauge) IsKnown() bool { return g.b != 0 }
