package admission

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// DefaultGrantTTL is how long a request that was let in may be neither booked nor done
// before its owner is taken to have forgotten it, and it is ended. It bounds a mistake in
// the program, and is no option; for those that were booked Options.TicketTTL is.
const DefaultGrantTTL = 10 * time.Second

// forgetTickets ends tickets whose owners have done nothing with them for too long.
func (c *Controller) forgetTickets() {
	forgot := false
	for n := c.grants.head; n != nil && c.now-n.of.letInAt > DefaultGrantTTL; n = c.grants.head {
		c.finish(n.of, &types.Outcome{Err: ErrForgotten})
		forgot = true
	}
	for n := c.booked.head; n != nil && c.now-n.of.seenAt > c.o.TicketTTL; n = c.booked.head {
		if t := n.of; t.alive.Swap(false) {
			c.signOfLife(t)
		} else {
			c.finish(t, &types.Outcome{Err: ErrForgotten})
			forgot = true
		}
	}
	if forgot {
		c.dispatch()
	}
}

// signOfLife puts a booked ticket behind those that gave one earlier.
func (c *Controller) signOfLife(t *Ticket) {
	if t.inGroup.of != nil {
		c.booked.remove(&t.inGroup)
	}
	t.seenAt = c.now
	c.booked.push(t, &t.inGroup)
}
