package plugins

import (
	"math"
	"strconv"
)

// What scorers and filters do with readings, where NaN is one that is not known.

// lowerIsBetter turns readings into scores in place: (max-v)/(max-min), and 1 for
// all if they are equal. NaN stays NaN and does not count. lo and hi are the
// smallest and largest reading.
func lowerIsBetter(v []float64, lo, hi float64) {
	if !(lo < hi) {
		for i := range v {
			if v[i] == v[i] {
				v[i] = 1
			}
		}
		return
	}
	d := hi - lo
	for i := range v {
		v[i] = (hi - v[i]) / d
	}
}

// The scorers that use these write their loops out: handing a function that reads
// the figure to a common loop made decisions at 10,000 endpoints 7 % slower.

// bounds is the smallest and largest of the readings seen; NaN changes neither.
type bounds struct{ lo, hi float64 }

func newBounds() bounds { return bounds{math.Inf(1), math.Inf(-1)} }

func (b *bounds) see(v float64) {
	if v < b.lo {
		b.lo = v
	}
	if v > b.hi {
		b.hi = v
	}
}

// count renders a reading for people: "3 waiting", or "waiting unknown".
func count(v float64, what string) string {
	if v != v {
		return what + " unknown"
	}
	return strconv.FormatFloat(v, 'g', 4, 64) + " " + what
}
