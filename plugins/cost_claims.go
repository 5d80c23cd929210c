package plugins

import (
	"math"
	"sync/atomic"

	"github.com/inferpick/inferpick/types"
)

// claims counts decisions that are under way: those that found a server the best, and of
// which it is not known yet that they were booked there. Decisions run in parallel, and with
// many at once the booking of one waits for all others that have begun to look: without the
// claims these would all see the same, and all of a burst go to one server.
//
// A decision that comes to nothing is not reported, so that claims are good for a moment
// only: the count is of the moment in its upper half. The zero value is empty.
type claims struct{ packed atomic.Uint64 }

// claimMoment is a moment in seconds: much longer than decisions take.
const claimMoment = .05

// momentOf is the number of the moment that a time is in.
func momentOf(now float64) uint32 { return uint32(int64(now / claimMoment)) }

// at returns how many there are in a moment.
func (c *claims) at(moment uint32) float64 {
	if v := c.packed.Load(); uint32(v>>32) == moment {
		return float64(uint32(v))
	}
	return 0
}

// add makes one more of a moment.
func (c *claims) add(moment uint32) {
	for {
		v := c.packed.Load()
		next := uint64(moment)<<32 | 1
		if uint32(v>>32) == moment {
			next = v + 1
		}
		if c.packed.CompareAndSwap(v, next) {
			return
		}
	}
}

// take takes one of a moment away, if that is not over.
func (c *claims) take(moment uint32) {
	for {
		v := c.packed.Load()
		if uint32(v>>32) != moment || uint32(v) == 0 || c.packed.CompareAndSwap(v, v-1) {
			return
		}
	}
}

// claim notes that r is likely to be booked at the cheapest of the endpoints. While others
// decide as well, of several that cost the same one is made cheaper by next to nothing: a
// picker would draw another one of them than was claimed. Caller must hold the lock for
// reading.
func (c *Cost) claim(r *costed, index []int32, costs []float64, rnd *types.Rand) {
	best, same := -1, 0
	for k, i := range index {
		switch {
		case i < 0:
		case best < 0 || costs[k] < costs[best]:
			best, same = k, 1
		case costs[k] == costs[best] && r.query.contended:
			if same++; rnd.IntN(same) == 0 {
				best = k
			}
		}
	}
	if best < 0 || len(index) == 1 {
		return
	}
	if same > 1 {
		costs[best] -= 1e-9 * math.Abs(costs[best])
	}
	r.claimed, r.claimedIn = c.table.values[index[best]], momentOf(r.query.now)
	r.claimed.claims.add(r.claimedIn)
	c.claims.add(r.claimedIn)
}

// disclaim takes that back: r was booked, or will not be.
func (c *Cost) disclaim(r *costed) {
	if r.claimed == nil {
		return
	}
	r.claimed.claims.take(r.claimedIn)
	c.claims.take(r.claimedIn)
	r.claimed = nil
}

// claimed is what others add to an endpoint that are about to be booked there.
type claimed struct {
	requests float64
	output   float64 // to costServer.outputCost
}

// claimsAt returns the claims at an endpoint. Caller must hold the lock.
func (c *Cost) claimsAt(index int32, r *costed) (more claimed) {
	if !r.query.contended {
		return more
	}
	s := c.table.values[index]
	if more.requests = s.claims.at(momentOf(r.query.now)); more.requests > 0 {
		sent := float64(s.requests)
		more.output = more.requests*s.perClaim + c.crowded(s, sent+more.requests) - c.crowded(s, sent)
	}
	return more
}
