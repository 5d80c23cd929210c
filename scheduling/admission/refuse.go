package admission

import (
	"fmt"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
)

const shuttingDown = "the gateway is shutting down"

// refuse ends a request that has come or waits.
func (d *desk) refuse(t *Ticket, why Reason, detail string) *Refusal {
	r := d.refusal(t, why, detail)
	if t.item.Waits() {
		d.queues.Remove(&t.item, d.now)
	}
	t.state, t.refusal = ended, r
	d.queues.Drop(&t.item, d.now)
	d.refund(t)
	d.countsOf(t).refused(why)
	d.note(event{kind: toldRefused, t: t, refusal: r})
	if t.item.Seq != 0 {
		d.settled(t)
	}
	return r
}

// refusal makes a Refusal.
func (d *desk) refusal(t *Ticket, why Reason, detail string) *Refusal {
	r := &Refusal{
		Reason: why, Band: d.bandOf(t).Name, Priority: t.item.Priority, Tenant: t.req.FairnessID, Program: t.req.ProgramID,
		Waited: d.now - t.item.Arrived, Detail: detail,
	}
	switch {
	case !why.Unavailable():
		r.RetryAfter = d.retryAfter(t)
	case why == NoEndpoint && d.o.WaitForEndpoints > 0: // some are expected
		r.RetryAfter = min(max(d.o.WaitForEndpoints/startingParts, time.Second), d.o.MaxRetryAfter)
	}
	return r
}

// startingParts: who was refused because no endpoint had started is to come again after such a part of the time that one
// is expected to take.
const startingParts = 4

// retryAfter is when there may be room for a request: when what waits before it has
// been let in, at the rate of late.
func (d *desk) retryAfter(t *Ticket) time.Duration {
	wait := time.Second
	if rate := d.drained.Rate(d.now); rate > 0 {
		before := float64(1 + d.queues.QueuedFrom(t.item.Priority))
		wait = time.Duration(min(before/rate, d.o.MaxRetryAfter.Seconds()) * float64(time.Second))
		wait = min(max(wait, time.Second), d.o.MaxRetryAfter)
	}
	return wait
}

// refund gives back to its budgets what a request had spent.
func (d *desk) refund(t *Ticket) {
	refund(t.spent, t.expected(), d.now)
	t.spent = nil
}

// describe says how full a ticket's lane is, as its band sees it.
func (d *desk) describe(t *Ticket) string {
	by, ceiling := d.seen(t.lane), d.classes[t.item.Band().Class].ceiling
	before := t.lane.order.QueuedFrom(t.item.Band().Priority)
	switch {
	case by.RoomAt(ceiling) > 0 && before == 0:
		return fmt.Sprintf("%d requests that were let in are not booked yet", d.granted)
	case by.RoomAt(ceiling) > 0:
		return fmt.Sprintf("%d requests of its priority or a higher one wait for %d endpoints", before, by.Members())
	}
	return fmt.Sprintf("none of %d endpoints is less than %g full", by.Members(), d.table.Ceiling(ceiling))
}

// refuseStranded refuses those that may not wait in the pool as it is now.
func (d *desk) refuseStranded() {
	if d.mayAllWait() {
		return
	}
	var gone []*fair.Item
	for it := range d.queues.All() {
		t := it.Of.(*Ticket)
		by := d.seen(t.lane)
		if by.Members() == 0 && d.o.WaitForEndpoints == 0 || by.Members() > 0 && !d.bandOf(t).waits() && by.RoomAt(d.classes[it.Band().Class].ceiling) == 0 {
			gone = append(gone, it)
		}
	}
	slices.SortFunc(gone, fair.ByNumber)
	for _, it := range gone {
		t := it.Of.(*Ticket)
		if d.seen(t.lane).Members() == 0 {
			d.refuse(t, NoEndpoint, "the last endpoint that could serve it has gone")
		} else {
			d.refuse(t, Saturated, d.describe(t))
		}
	}
}

// mayAllWait reports whether nothing waits in a lane without endpoints that may not, nor in
// a band that does not wait.
func (d *desk) mayAllWait() bool {
	for _, l := range d.table.Lanes() {
		if l != nil && l.Of.(*lane).order.Queued > 0 && d.seen(l.Of.(*lane)).Members() == 0 && d.o.WaitForEndpoints == 0 {
			return false
		}
	}
	return !slices.ContainsFunc(d.queues.Bands(), func(b *fair.Band) bool { return b.Queued > 0 && !d.o.Bands[b.Class].waits() })
}

// expire refuses those whose time is over.
func (d *desk) expire() {
	for it := d.queues.Due(); it != nil && it.Deadline <= d.now; it = d.queues.Due() {
		t, waited := it.Of.(*Ticket), (d.now - it.Arrived).Round(time.Millisecond)
		why, detail := TimedOut, "it waited for "+waited.String()
		if d.seen(t.lane).Members() == 0 {
			why, detail = NoEndpoint, "no endpoint came in "+waited.String()
		}
		d.refuse(t, why, detail)
	}
	d.changed = true
	d.dispatch()
}

// close refuses everything that waits, and everything that comes.
func (d *desk) close() {
	d.closed = true
	for it := d.queues.Due(); it != nil; it = d.queues.Due() {
		d.refuse(it.Of.(*Ticket), Closed, shuttingDown)
	}
	d.alarm.off()
}
