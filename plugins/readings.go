package plugins

import (
	"math"
	"strconv"
)

// lowerIsBetter converts readings into scores in place: (hi-v)/(hi-lo), where lo and hi are the
// smallest and largest reading, and 1 if all are equal. NaN, an unknown reading, stays NaN.
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

// bounds is the smallest and largest of the readings seen so far, ignoring NaN.
//
// Scorers write out their loops: a common loop with a function that reads the value made decisions
// among 10,000 endpoints 7 % slower.
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

// count formats a reading: "3 waiting", or "waiting unknown".
func count(v float64, what string) string {
	if v != v {
		return what + " unknown"
	}
	return strconv.FormatFloat(v, 'g', 4, 64) + " " + what
}
