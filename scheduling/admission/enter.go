package admission

import (
	"fmt"
	"time"
)

// enter lets an arrival in, queues it or refuses it.
func (c *Controller) enter(a *Arrival, t *Ticket) error {
	req := a.Request
	t.c, t.req, t.priority = c, req, req.Priority
	t.arrived = c.now
	t.bytes = int64(len(req.Body))
	c.renew()
	l := c.laneOf(a)
	if c.untold(l) {
		c.look()
	}
	// From here on the lock is held.
	b := c.bandOf(req.Priority)
	t.band = b
	t.label.Store(b.label)
	if c.closed {
		return c.refuse(t, Closed, "the gateway is shutting down")
	}
	t.flow = b.flowOf(req.FairnessID, &c.o, c.now)
	c.estimate(t)
	if r := c.budgets.spend(t); r != nil {
		return c.refused(t, r)
	}
	t.lane = l
	t.modest = c.comesBack(b, t.flow)
	if c.passes(t, l) {
		c.grant(t)
		return nil
	}
	wait, refusal := c.mayWait(a, t, l)
	if refusal != nil {
		return c.refused(t, refusal)
	}
	c.seq++
	t.seq = c.seq
	t.deadline = after(t.arrived, wait)
	c.place(t, b, l)
	c.queue(t)
	if c.o.Hooks.Queued != nil {
		c.events = append(c.events, event{kind: toldQueued, t: t})
	}
	if c.o.Revoke && b.Displace && c.seen(l).members() > 0 {
		c.revokeFor(t)
	}
	// There may be room that nobody was woken for yet: who is first takes it.
	c.dispatch()
	return nil
}

// comesBack lifts a tenant that has something to send, and reports whether it is modest:
// behind those that wait or were let in last; or the only one, unless the bands above have
// so much under way that they need all that is kept.
func (c *Controller) comesBack(b *band, f *flow) (modest bool) {
	behind := b.lift(f, c.o.Credit)
	if len(b.flows) >= 2 {
		return behind
	}
	above, all := 0, 0
	for _, other := range c.bands {
		all += other.open
		if other.priority > b.priority {
			above += other.open
		}
	}
	return float64(above) <= muchAbove*float64(all)
}

// muchAbove is the part of what is under way from which on the bands above have much.
const muchAbove = 0.4

// passes reports whether a request may go at once. In a burst, those that were let in and
// are not booked yet count too, as soon as it is known how much one fills: else all of it
// would see the room of which nothing is taken yet.
func (c *Controller) passes(t *Ticket, l *lane) bool {
	l, busy := c.seen(l), l.busyFrom(t.band.priority)
	return !busy && l.roomAt(t.ceiling()) > 0 && (c.perBooking == 0 || c.mayGrant(l, t.ceiling()) > c.granted)
}

// place finds where in a band's queues a ticket belongs.
func (c *Controller) place(t *Ticket, b *band, l *lane) {
	q := b.queueFor(l)
	t.share = t.flow.shareOf(q)
	if b.locality {
		t.prefix = c.prefixOf(t.req)
	}
}

// queue puts a ticket into the queue of its place.
func (c *Controller) queue(t *Ticket) {
	t.modest = c.comesBack(t.band, t.flow)
	t.state = waiting
	t.band.add(t)
	c.queued++
	c.bytes += t.bytes
	c.deadlines.push(item[Ticket]{int64(t.deadline), t.seq, &t.due, t})
	c.arm()
}

// leave takes a ticket that waits out of the queue.
func (c *Controller) leave(t *Ticket) {
	s := t.share
	c.takeOut(t)
	s.queue.fix(s)
}

// takeOut is leave for a ticket whose tenant is charged next, which puts its place right.
func (c *Controller) takeOut(t *Ticket) {
	t.band.remove(t)
	t.band.rest(t.flow, c.now)
	t.share = nil
	c.queued--
	c.bytes -= t.bytes
	c.deadlines.remove(t.due)
}

// mayWait returns how long an arrival for which there is no room may wait, or why it
// may not.
func (c *Controller) mayWait(a *Arrival, t *Ticket, l *lane) (time.Duration, *Refusal) {
	b := t.band
	if c.seen(l).members() == 0 {
		if c.o.WaitForEndpoints == 0 {
			return 0, c.refusal(t, NoEndpoint, "no endpoint could serve it")
		}
	} else if !b.waits() {
		return 0, c.refusal(t, Saturated, c.describe(l, b))
	}
	if r := c.makeRoom(t); r != nil {
		return 0, r
	}
	return c.mostWait(a, b, l), nil
}

// mostWait returns how long an arrival may wait.
func (c *Controller) mostWait(a *Arrival, b *band, l *lane) time.Duration {
	wait := b.MaxWait
	switch slo := a.Request.SLO.TTFT; {
	case a.MaxWait > 0:
		wait = min(wait, a.MaxWait)
	case slo > 0:
		wait = min(wait, max(slo-c.expectedTTFT(), slo/2))
	}
	if c.seen(l).members() == 0 {
		wait = min(wait, c.o.WaitForEndpoints)
	}
	return wait
}

// describe says how full a lane is, as a band sees it.
func (c *Controller) describe(l *lane, b *band) string {
	by := c.seen(l)
	switch {
	case by.roomAt(b.ceiling) > 0 && c.before(l, b) == 0:
		return fmt.Sprintf("%d requests that were let in are not booked yet", c.granted)
	case by.roomAt(b.ceiling) > 0:
		return fmt.Sprintf("%d requests of its priority or a higher one wait for %d endpoints", c.before(l, b), by.members())
	}
	return fmt.Sprintf("none of %d endpoints is less than %g full", by.members(), b.Ceiling)
}

// before counts the requests of a lane that wait at the priority of a band or a higher.
func (c *Controller) before(l *lane, b *band) int {
	n := 0
	for _, q := range l.queues {
		if q.band.priority >= b.priority {
			n += q.queued
		}
	}
	return n
}

// reprioritize moves a ticket that waits to where one of another priority belongs.
func (c *Controller) reprioritize(t *Ticket, priority int) {
	lane := t.share.queue.lane
	c.leave(t)
	b := c.bandOf(priority)
	t.priority, t.band = priority, b
	t.label.Store(b.label)
	t.flow = b.flowOf(t.req.FairnessID, &c.o, c.now)
	if !b.waits() && c.seen(lane).members() > 0 {
		c.settleRefusal(t, c.refusal(t, Saturated, c.describe(lane, b)))
		return
	}
	if r := c.makeRoom(t); r != nil {
		c.settleRefusal(t, r)
		return
	}
	t.deadline = min(t.deadline, after(t.arrived, b.MaxWait))
	c.place(t, b, lane)
	c.queue(t)
}
