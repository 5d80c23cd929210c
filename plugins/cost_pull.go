package plugins

import (
	"fmt"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/types"
)

// pull returns how many tokens more than it holds an endpoint is as good as having, since it pulls them from
// the peer that has most: see CostOptions.PullLabel.
func (c *Cost) pull(q *cost.Query, ep *types.Endpoint, held cost.Tokens, perToken cost.Seconds) cost.Tokens {
	if q.Peer <= held || ep.Labels[c.o.PullLabel] != "true" {
		return 0
	}
	return c.prefix.lanes.prices.Pull(held, q.Peer, perToken)
}

// pulls notes what a request is to pull at the endpoint that was chosen, which holds so much of its prompt, and
// returns what it is as good as having. Caller must hold s.mu.
func (c *Cost) pulls(r *costed, ep *types.Endpoint, s *costServer, held cost.Tokens) cost.Tokens {
	r.pulled = 0
	worth := c.pull(&r.query, ep, held, cost.Seconds(s.Facts().Token))
	if worth > 0 {
		r.pulled = r.query.Peer - held
	}
	return held + worth
}

// describePull says what an endpoint would pull, for people.
func (c *Cost) describePull(q *cost.Query, ep *types.Endpoint, held cost.Tokens, perToken cost.Seconds) string {
	if c.pull(q, ep, held, perToken) <= 0 {
		return ""
	}
	return fmt.Sprintf(", %.0f more pulled from a peer, each at %.2g of computing it", q.Peer-held, c.prefix.lanes.prices.Of(cost.Peer))
}
