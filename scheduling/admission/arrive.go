package admission

import (
	"fmt"
	"time"
)

// arrive lets a request in, queues it or refuses it.
func (d *desk) arrive(a *Arrival, t *Ticket) *Refusal {
	it := &t.item
	d.queues.Rank(it)
	d.relabel(t)
	if d.closed {
		return d.refuse(t, Closed, shuttingDown)
	}
	d.queues.Assign(it, t.req.FairnessID, t.req.ProgramID, d.now)
	d.queues.Estimate(it, d.amount(t.req))
	d.accountOf(t) // what its tenant is served elsewhere is heard from now on
	if over := d.spend(t); over.wait > 0 {
		r := d.refuse(t, over.why, over.detail)
		r.RetryAfter = max(over.wait.Truncate(time.Second)+time.Second, time.Second)
		return r
	}
	d.queues.Lift(it)
	if d.passes(t) {
		d.grant(t)
		return nil
	}
	why, detail := d.mayNotWait(t)
	if why == "" {
		why, detail = d.makeRoom(t)
	}
	if why != "" {
		return d.refuse(t, why, detail)
	}
	it.Deadline = after(it.Arrived, d.mostWait(a, t))
	d.queue(t)
	d.note(event{kind: toldQueued, t: t})
	if d.o.Revoke && d.bandOf(t).Displace && d.seen(t.lane).Members() > 0 {
		d.revokeFor(t)
	}
	// There may be room that nobody was woken for yet: who is first takes it.
	d.dispatch()
	return nil
}

// spend takes a request off its budgets, or says which is used up.
func (d *desk) spend(t *Ticket) (over excess) {
	if len(d.o.Budgets) == 0 {
		return over
	}
	u := use{tenant: t.req.FairnessID, model: t.req.Model, flow: t.item.Tenant(), tokens: t.expected()}
	t.spent, over = d.budgets.spend(u, d.now)
	return over
}

// passes reports whether a request may go at once. In a burst, those that were let in and
// are not booked yet count too, as soon as it is known how much one fills: else all of it
// would see the room of which nothing is taken yet.
func (d *desk) passes(t *Ticket) bool {
	l, k := d.seen(t.lane), d.ceiling(t)
	queued := d.whole.order.QueuedFrom
	if l == &t.lane.room {
		queued = t.lane.order.QueuedFrom
	}
	return queued(t.item.Band().Priority) == 0 && l.RoomAt(k) > 0 && (!d.table.KnowsBooking() || d.table.MayGrant(l, k) > d.granted)
}

// queue puts a ticket into the queue of its place.
func (d *desk) queue(t *Ticket) {
	d.queues.Add(&t.item)
	d.changed = true
	d.arm()
}

// mayNotWait returns why a request for which there is no room may not wait, "" if it may if
// the queue has room.
func (d *desk) mayNotWait(t *Ticket) (why Reason, detail string) {
	switch members := d.seen(t.lane).Members(); {
	case members == 0 && d.o.WaitForEndpoints == 0:
		return NoEndpoint, "no endpoint could serve it"
	case members > 0 && !d.bandOf(t).waits():
		return Saturated, d.describe(t)
	}
	return "", ""
}

// makeRoom sees to it that there is room for one more in the queue, where others may lose
// their places to it, or returns why there is none.
func (d *desk) makeRoom(t *Ticket) (why Reason, detail string) {
	for {
		victim, displaced, full := d.queues.Victim(&t.item)
		if full != "" {
			return d.whyFull(t), full
		}
		if victim == nil {
			return "", ""
		}
		d.refuse(victim.Of.(*Ticket), Displaced, displaced)
	}
}

// whyFull is the reason of a request that finds the queue full: where there is no endpoint, that is why it is.
func (d *desk) whyFull(t *Ticket) Reason {
	if d.seen(t.lane).Members() == 0 {
		return NoEndpoint
	}
	return QueueFull
}

// mostWait returns how long an arrival may wait.
func (d *desk) mostWait(a *Arrival, t *Ticket) time.Duration {
	if d.seen(t.lane).Members() == 0 {
		// How long a server takes to start has nothing to do with bands and targets.
		return orLess(d.o.WaitForEndpoints, a.MaxWait)
	}
	wait := d.bandOf(t).MaxWait
	switch slo := t.req.SLO.TTFT; {
	case a.MaxWait > 0:
		wait = min(wait, a.MaxWait)
	case slo > 0:
		wait = min(wait, max(slo-d.ttft.Expected(), slo/2))
	}
	return wait
}

// orLess returns the lesser of two bounds, of which a most of 0 is none.
func orLess(wait, most time.Duration) time.Duration {
	if most > 0 {
		return min(wait, most)
	}
	return wait
}

// revokeFor asks one running request of a lower band to end, where the place would be of
// use: the one that was let in last.
func (d *desk) revokeFor(t *Ticket) {
	for i := len(d.revocable) - 1; i >= 0; i-- {
		for n := d.revocable[i].Tail; n != nil; n = n.Prev {
			x := d.cellOf(n.Of.ep)
			if n.Of.item.Priority < t.item.Priority && x != nil && d.seen(t.lane).Has(&x.room) {
				d.revoke(n.Of, t.item.Priority)
				return
			}
		}
	}
}

func (d *desk) revoke(victim *Ticket, priority int) {
	victim.unlist()
	victim.refusal = d.refusal(victim, Revoked, fmt.Sprintf("a request of priority %d needed its place", priority))
	d.countsOf(victim).refused(Revoked)
	d.note(event{kind: toldRevoked, t: victim})
	d.note(event{kind: toldRevoke, revoke: victim.revoke, refusal: victim.refusal})
}

// setPriority moves a ticket that waits, or refuses it.
func (d *desk) setPriority(t *Ticket, priority int) {
	it := &t.item
	if t.state != waiting || it.Priority == priority {
		return
	}
	d.queues.Remove(it, d.now)
	d.changed = true
	it.Priority = priority
	d.queues.Rank(it)
	d.queues.Assign(it, t.req.FairnessID, t.req.ProgramID, d.now)
	d.relabel(t)
	why, detail := d.mayNotWait(t)
	if why != Saturated { // one that waits for endpoints goes on
		why, detail = d.makeRoom(t)
	}
	if why != "" {
		d.refuse(t, why, detail)
		return
	}
	it.Deadline = min(it.Deadline, after(it.Arrived, d.bandOf(t).MaxWait))
	d.queue(t)
}
