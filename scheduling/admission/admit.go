package admission

import (
	"context"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Admit lets a request in as soon as there is room for it, and waits until then. The
// error is a *Refusal, or ctx.Err() if ctx was done first; waited is how long it took, 0
// if there was room. Of the Ticket, Booked is to
// be called when the request was sent, and Done whatever happens.
func (c *Controller) Admit(ctx context.Context, a Arrival) (t *Ticket, waited time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	t = &Ticket{gate: c, req: a.Request}
	if err := c.arrive(&a, t, true); err != nil {
		return nil, 0, err
	}
	if t.wake == nil {
		return t, 0, nil
	}
	select {
	case <-t.wake:
	case <-ctx.Done():
		t.Done(types.Outcome{Cancelled: true})
		return nil, 0, ctx.Err()
	}
	if t.refusal != nil {
		return nil, t.refusal.Waited, t.refusal
	}
	return t, t.letInAt - t.item.Arrived, nil
}

// Offer is Admit for those who do not wait. If the request has to, queued is true, and
// ready is called once, from any goroutine and perhaps before Offer returns: with nil
// when the request is let in, or with the *Refusal. It is not called for a request
// that was given up by Done before.
func (c *Controller) Offer(a Arrival, ready func(error)) (t *Ticket, queued bool, err error) {
	t = &Ticket{gate: c, req: a.Request, ready: ready}
	if err := c.arrive(&a, t, false); err != nil {
		return nil, false, err
	}
	return t, t.item.Seq != 0, nil
}

// arrive lets an arrival in, queues it or refuses it.
func (c *Controller) arrive(a *Arrival, t *Ticket, waits bool) error {
	d := c.lock()
	defer c.unlock()
	arrived := d.now
	c.renew(false)
	l := c.laneOf(a)
	if d.untold(l) {
		c.renew(true)
	}
	// From here on the lock is held.
	t.place(l, arrived)
	if r := d.arrive(a, t); r != nil {
		return r
	}
	if waits && t.state == waiting {
		t.wake = make(chan struct{}, 1)
	}
	return nil
}

// Explain returns what would become of an arrival now, but for its budgets. Nothing is
// changed by it, but that its tenant and its candidates are known from now on.
func (c *Controller) Explain(a Arrival) Report {
	d := c.lock()
	defer c.unlock()
	c.renew(false)
	t := &Ticket{req: a.Request}
	t.place(c.laneOf(&a), d.now)
	return d.foresee(&a, t)
}

// Stats returns what the Controller is like now. It looks at each tenant that waits, so
// it is for metrics and pages and not for every request.
func (c *Controller) Stats() Stats {
	d := c.lock()
	defer c.unlock()
	c.renew(false)
	return d.stats()
}

// candidates is Ticket.Candidates.
func (c *Controller) candidates(t *Ticket, dst, eps []*types.Endpoint) []*types.Endpoint {
	p, ok := c.placesFor(t)
	if !ok {
		return eps
	}
	dst = p.of(dst, eps)
	if p.panics != nil {
		d := c.lock()
		defer c.unlock()
		d.failed(p.panics)
	}
	return dst
}

func (c *Controller) placesFor(t *Ticket) (places, bool) {
	d := c.lock()
	defer c.unlock()
	return d.placesFor(t)
}

// explain is Ticket.Explain.
func (c *Controller) explain(t *Ticket) Report {
	d := c.lock()
	defer c.unlock()
	c.renew(false)
	return d.explain(t)
}
