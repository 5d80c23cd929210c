package plugins

import (
	"math"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/types"
)

// breakTie returns where the least cost is. Of several that are the least, one is drawn and
// made cheaper by next to nothing: a picker would draw another one than is claimed.
func breakTie(seen []costSeen, costs []float64, rnd *types.Rand) int {
	best, same := -1, 0
	for k := range seen {
		switch {
		case seen[k].cell == nil:
		case best < 0 || costs[k] < costs[best]:
			best, same = k, 1
		case costs[k] == costs[best]:
			if same++; rnd.IntN(same) == 0 {
				best = k
			}
		}
	}
	if same > 1 && len(seen) > 1 {
		costs[best] -= 1e-9 * math.Abs(costs[best])
	}
	return best
}

// claim notes where a request is likely to be booked: at the best of the endpoints.
func (c *Cost) claim(r *question, eps []*types.Endpoint, seen []costSeen, best int) {
	r.likely = nil
	if best < 0 {
		return
	}
	r.likely, r.held = eps[best].Load, seen[best].blocks
	if len(seen) == 1 {
		return
	}
	r.claimed, r.claimedIn = seen[best].cell, cost.MomentOf(r.query.Now)
	r.claimed.claims.Add(r.claimedIn)
	c.claims.Add(r.claimedIn)
}

// disclaim takes that back: r was booked, or will not be.
func (c *Cost) disclaim(r *costed) {
	c.withdraw(&r.question)
	if r.leg != nil {
		c.withdraw(&r.leg.question)
	}
}

func (c *Cost) withdraw(r *question) {
	if r.claimed == nil {
		return
	}
	r.claimed.claims.Take(r.claimedIn)
	c.claims.Take(r.claimedIn)
	r.claimed = nil
}

// claimedAt returns the claims at an endpoint.
func (c *Cost) claimedAt(cell *costCell, r *question) cost.Claimed {
	n := cell.claims.At(cost.MomentOf(r.query.Now))
	if n == 0 {
		return cost.Claimed{}
	}
	s := cell.server
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ClaimedBy(&c.model, n)
}
