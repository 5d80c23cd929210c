package plugins

import (
	"math"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/types"
)

// This file is Cost for what is only computed: embeddings, rerank and the like.

// soonest is where a request waits the least, and how long there and at the next best endpoint.
type soonest struct {
	at, n       int
	least, next cost.Seconds
}

func (s *soonest) add(wait cost.Seconds, at int) {
	switch s.n++; {
	case s.n == 1:
		s.at, s.least, s.next = at, wait, cost.Seconds(math.Inf(1))
	case wait < s.least:
		s.at, s.least, s.next = at, wait, s.least
	default:
		s.next = min(s.next, wait)
	}
}

// holdUp adds what it costs others if a request that only computes takes the endpoint where it waits the least, and
// returns where the first of the least costs is.
func (c *Cost) holdUp(r *costed, eps []*types.Endpoint, seen []costSeen, costs []float64, soon *soonest) (best int) {
	q := &r.query
	q.Coming, q.Least, q.Next = c.arriving.Load(), soon.least, soon.next
	var f cost.Figures
	var p cost.Place
	var t cost.Terms
	c.lookAt(r, &r.question, eps[soon.at], &seen[soon.at], &f, &p)
	costs[soon.at] = float64(c.model.Terms(q, &f, &p, &t))
	best = -1
	for k, v := range costs {
		if !math.IsNaN(v) && (best < 0 || v < costs[best]) {
			best = k
		}
	}
	return best
}
