package cost

import "sync/atomic"

// Claims counts decisions that are under way: those that found a server the best, and of
// which it is not known yet that they were booked there. Decisions run in parallel: without
// the claims, those that look at the same moment would all see the same, and all of a burst go
// to one server.
//
// A decision that comes to nothing is not reported, so that claims are good for a moment
// only: the count is of the moment in its upper half. The zero value is empty. Safe for
// concurrent use.
type Claims struct{ packed atomic.Uint64 }

// Moment is the number of the moment that a time is in.
type Moment uint32

// MomentOf returns that of a time.
func MomentOf(now Seconds) Moment { return Moment(int64(now / claimMoment)) }

// At returns how many there are in a moment.
func (c *Claims) At(m Moment) float64 {
	if v := c.packed.Load(); Moment(v>>32) == m {
		return float64(uint32(v))
	}
	return 0
}

// Add makes one more of a moment.
func (c *Claims) Add(m Moment) {
	for {
		v := c.packed.Load()
		next := uint64(m)<<32 | 1
		if Moment(v>>32) == m {
			next = v + 1
		}
		if c.packed.CompareAndSwap(v, next) {
			return
		}
	}
}

// Take takes one of a moment away, if that is not over.
func (c *Claims) Take(m Moment) {
	for {
		v := c.packed.Load()
		if Moment(v>>32) != m || uint32(v) == 0 || c.packed.CompareAndSwap(v, v-1) {
			return
		}
	}
}
