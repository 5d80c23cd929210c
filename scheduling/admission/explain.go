package admission

import (
	"fmt"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
)

// Explain returns what would become of an arrival now, but for its budgets. Nothing is
// changed by it, but that its tenant and its candidates are known from now on.
func (c *Controller) Explain(a Arrival) (r Report) {
	c.lock()
	defer c.unlock()
	c.renew()
	l := c.laneOf(&a)
	t := &Ticket{req: a.Request, lane: l}
	t.item = fair.Item{Of: t, Lane: &l.order, Priority: a.Request.Priority, Arrived: c.clock.now, Bytes: int64(len(a.Request.Body))}
	c.queues.Rank(&t.item)
	c.queues.Assign(&t.item, a.Request.FairnessID, c.clock.now)
	defer c.queues.Drop(&t.item, c.clock.now)
	c.queues.Estimate(&t.item, a.Request.Prompt.Tokens, a.Request.MaxTokens)
	c.queues.Try(&t.item, func() { r = c.wouldBe(&a, t) })
	return r
}

// wouldBe is Explain for a ticket that was made of an arrival.
func (c *Controller) wouldBe(a *Arrival, t *Ticket) Report {
	r := c.report(t, t.lane)
	by := c.seen(t.lane)
	switch {
	case c.closed:
		r.Verdict, r.Reason, r.Detail = "refused", Closed, "the gateway is shutting down"
	case c.passes(t):
		r.Verdict = "admitted"
	case by.Members() == 0 && c.o.WaitForEndpoints == 0:
		r.Verdict, r.Reason, r.Detail = "refused", NoEndpoint, "no endpoint could serve it"
	case by.Members() > 0 && !c.bandOf(t).waits():
		r.Verdict, r.Reason, r.Detail = "refused", Saturated, c.describe(t.lane, t)
	case !c.queues.Fits(&t.item):
		r.Verdict, r.Reason, r.Detail = "refused", QueueFull, fmt.Sprintf("%d requests wait at its priority, %d in all", t.item.Band().Queued, c.queues.Len())
	default:
		r.Verdict, r.Detail = "queued", c.describe(t.lane, t)
		t.item.Deadline = after(t.item.Arrived, c.mostWait(a, t))
		c.ahead(&r, t)
	}
	return r
}

// explain is Ticket.Explain.
func (c *Controller) explain(t *Ticket) Report {
	c.lock()
	defer c.unlock()
	c.renew()
	if !t.item.Assigned() { // it came when the Controller was closed
		return Report{Verdict: "refused", Reason: Closed, Detail: t.refusal.Detail, Band: c.bandOf(t).Name, Priority: t.item.Priority}
	}
	if t.state == waiting {
		r := c.report(t, t.lane)
		r.Verdict, r.Detail = "queued", c.describe(t.lane, t)
		c.ahead(&r, t)
		return r
	}
	r := c.report(t, c.whole)
	r.Verdict = "admitted"
	if t.refusal != nil && t.refusal.Reason != Revoked {
		r.Verdict, r.Reason, r.Detail = "refused", t.refusal.Reason, t.refusal.Detail
	}
	return r
}

// report fills in what does not depend on what becomes of the request.
func (c *Controller) report(t *Ticket, l *lane) Report {
	by, k := c.seen(l), c.ceiling(t)
	return Report{
		Band: c.bandOf(t).Name, Priority: t.item.Priority, Tenant: t.item.Tenant(),
		Ceiling: c.table.Ceiling(k), Candidates: by.Members(), Room: by.RoomAt(k), Saturation: by.Saturation(),
		Counter: t.item.Counter(),
	}
}

// ahead fills in what is before a request that waits, or would.
func (c *Controller) ahead(r *Report, t *Ticket) {
	a := c.queues.Ahead(&t.item)
	r.Higher, r.OtherTenants, r.OwnTenant, r.Least = a.Higher, a.OtherTenants, a.OwnTenant, a.Least
	r.Waited = c.clock.now - t.item.Arrived
	if t.item.Deadline != 0 {
		r.Left = max(t.item.Deadline-c.clock.now, 0)
	}
	if rate := c.drained.Rate(c.clock.now); rate > 0 {
		r.Expected = time.Duration(min(float64(r.Before()+1)/rate, 1e6) * float64(time.Second))
	}
}
