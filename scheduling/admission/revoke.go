package admission

import (
	"fmt"

	"github.com/inferpick/inferpick/types"
)

// revokeFor asks one running request of a lower band to end, where the place would be of
// use: the one that was let in last.
func (c *Controller) revokeFor(t *Ticket) {
	for i := len(c.revocable) - 1; i >= 0; i-- {
		for n := c.revocable[i].tail; n != nil; n = n.prev {
			victim := n.of
			if victim.priority < t.priority && c.serves(t.lane, victim.ep) {
				c.revoke(victim, t.priority)
				return
			}
		}
	}
}

// serves reports whether an endpoint is one of a lane's candidates.
func (c *Controller) serves(l *lane, ep *types.Endpoint) bool {
	x := c.cellOf(ep)
	return x != nil && c.seen(l).has(x)
}

func (c *Controller) revoke(victim *Ticket, priority int) {
	victim.unlist()
	r := c.refusal(victim, Revoked, fmt.Sprintf("a request of priority %d needed its place", priority))
	victim.refusal = r
	victim.band.counts.refused(Revoked)
	if c.o.Hooks.Revoked != nil {
		c.events = append(c.events, event{kind: toldRevoked, t: victim})
	}
	c.events = append(c.events, event{kind: toldRevoke, revoke: victim.revoke, refusal: r})
}

// enlist puts a running ticket among those that may be revoked.
func (c *Controller) enlist(t *Ticket) {
	if c.o.Revoke && t.state == running && t.revoke != nil && t.priority < 0 && t.list == nil && t.refusal == nil {
		t.enlist(&c.revocable[c.settingsOf(t.priority)])
	}
}
