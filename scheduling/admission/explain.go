package admission

import (
	"fmt"
	"strings"
	"time"
)

// Report is why a request waits, or what would become of one, and what is before it.
type Report struct {
	// Verdict is "admitted", "queued" or "refused": what has become of the request, or
	// would now.
	Verdict string
	// Reason and Detail are those of the Refusal, or why it waits.
	Reason Reason
	Detail string

	Band     string
	Priority int
	Tenant   string // the flow it counts for; empty: that of requests without a tenant
	// Ceiling is how full an endpoint may be to have room for it; of so many Candidates
	// Room have.
	Ceiling          float64
	Candidates, Room int
	// Saturation is how full the candidates are in the mean, 0..1; NaN: unknown.
	Saturation float64

	// Before is how many requests are before it: of higher priorities, of tenants that
	// were served less, and of its own tenant.
	Higher, OtherTenants, OwnTenant int
	// Counter is the weighted tokens that its tenant was served, and Least that of the
	// tenant at its priority whose turn it is. Only their difference means anything.
	Counter, Least float64

	// Waited is how long it has waited, Left how long it may yet, and Expected how long
	// it has to at the rate of late; 0: not known.
	Waited, Left, Expected time.Duration
}

// Before is how many requests are before it.
func (r Report) Before() int { return r.Higher + r.OtherTenants + r.OwnTenant }

// String is the report in a line or two.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: priority %d (%s), tenant %q; %d of %d endpoints are less than %g full", r.Verdict, r.Priority, r.Band, r.Tenant, r.Room, r.Candidates, r.Ceiling)
	if r.Saturation == r.Saturation {
		fmt.Fprintf(&b, ", in the mean they are %.2f full", r.Saturation)
	}
	if r.Detail != "" {
		fmt.Fprintf(&b, "; %s", r.Detail)
	}
	if r.Verdict == "queued" {
		fmt.Fprintf(&b, "\nbefore it: %d of higher priority, %d of other tenants, %d of its own", r.Higher, r.OtherTenants, r.OwnTenant)
		fmt.Fprintf(&b, "; its tenant has had %.0f weighted tokens more than the one that is next", r.Counter-r.Least)
		fmt.Fprintf(&b, "; waited %v, may wait %v more", r.Waited.Round(time.Millisecond), r.Left.Round(time.Millisecond))
		if r.Expected > 0 {
			fmt.Fprintf(&b, ", expected %v", r.Expected.Round(time.Millisecond))
		}
	}
	return b.String()
}

// Explain returns what would become of an arrival now, but for its budgets. Nothing is
// changed by it, but that its tenant and its candidates are known from now on.
func (c *Controller) Explain(a Arrival) Report {
	c.lock()
	defer c.unlock()
	c.renew()
	l := c.laneOf(&a)
	t := &Ticket{c: c, req: a.Request, priority: a.Request.Priority, arrived: c.now, bytes: int64(len(a.Request.Body))}
	b := c.bandOf(a.Request.Priority)
	t.band, t.flow = b, b.flowOf(a.Request.FairnessID, &c.o, c.now)
	defer b.rest(t.flow, c.now)
	c.estimate(t)
	defer func(counter float64) { t.flow.counter = counter }(t.flow.counter)
	t.modest = c.comesBack(b, t.flow)
	r := c.report(t, l)
	if !c.closed && c.passes(t, l) {
		r.Verdict = "admitted"
		return r
	}
	switch {
	case c.closed:
		r.Verdict, r.Reason, r.Detail = "refused", Closed, "the gateway is shutting down"
		return r
	case c.seen(l).members() == 0 && c.o.WaitForEndpoints == 0:
		r.Verdict, r.Reason, r.Detail = "refused", NoEndpoint, "no endpoint could serve it"
		return r
	case c.seen(l).members() > 0 && !b.waits():
		r.Verdict, r.Reason, r.Detail = "refused", Saturated, c.describe(l, b)
		return r
	}
	if !c.fits(t) {
		r.Verdict, r.Reason, r.Detail = "refused", QueueFull, fmt.Sprintf("%d requests wait at its priority, %d in all", b.queued, c.queued)
		return r
	}
	r.Verdict, r.Detail = "queued", c.describe(l, b)
	t.deadline = after(t.arrived, c.mostWait(&a, b, l))
	c.ahead(&r, t, l)
	return r
}

// Explain returns why the request waits and what is before it, or that it does not.
func (t *Ticket) Explain() Report {
	c := t.c
	c.lock()
	defer c.unlock()
	c.renew()
	if t.flow == nil { // it came when the Controller was closed
		return Report{Verdict: "refused", Reason: Closed, Detail: t.refusal.Detail, Band: t.band.Name, Priority: t.priority}
	}
	if t.state != waiting {
		r := c.report(t, c.whole)
		r.Verdict = "admitted"
		if t.refusal != nil && t.refusal.Reason != Revoked {
			r.Verdict, r.Reason, r.Detail = "refused", t.refusal.Reason, t.refusal.Detail
		}
		return r
	}
	l := t.share.queue.lane
	r := c.report(t, l)
	r.Verdict, r.Detail = "queued", c.describe(l, t.band)
	c.ahead(&r, t, l)
	return r
}

// report fills in what does not depend on what becomes of the request.
func (c *Controller) report(t *Ticket, l *lane) Report {
	l = c.seen(l)
	return Report{
		Band: t.band.Name, Priority: t.priority, Tenant: t.flow.name,
		Ceiling: c.ceilings[t.ceiling()], Candidates: l.members(), Room: l.roomAt(t.ceiling()), Saturation: l.saturation(),
		Counter: t.flow.counter,
	}
}

// ahead counts what is before a request that waits, or would: of each other tenant those
// that would be let in before its counter has passed that of this request's turn, if they
// cost what this one does.
func (c *Controller) ahead(r *Report, t *Ticket, l *lane) {
	for _, b := range c.bands {
		if b.priority > t.band.priority {
			r.Higher += b.queued
		}
	}
	for _, s := range t.flow.shares {
		for n := s.head; n != nil && n.of != t; n = n.next {
			r.OwnTenant++
		}
	}
	each := max(t.charge, 1)
	turn := t.flow.counter + float64(r.OwnTenant)*each/t.flow.weight
	r.Least = t.flow.counter
	for _, q := range t.band.queues {
		for _, e := range q.heap {
			s := e.of
			r.Least = min(r.Least, s.flow.counter)
			if s.flow == t.flow {
				continue
			}
			if n := (turn - s.flow.counter) * s.flow.weight / each; n >= 0 {
				r.OtherTenants += min(s.n, int(min(n, 1e9))+1)
			}
		}
	}
	r.Waited = c.now - t.arrived
	if t.deadline != 0 {
		r.Left = max(t.deadline-c.now, 0)
	}
	if rate := c.drained.rate(c.now); rate > 0 {
		r.Expected = time.Duration(min(float64(r.Before()+1)/rate, 1e6) * float64(time.Second))
	}
}
