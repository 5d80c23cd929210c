package admission

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// refusal makes a Refusal.
func (c *Controller) refusal(t *Ticket, why Reason, detail string) *Refusal {
	r := &Refusal{
		Reason: why, Band: t.band.Name, Priority: t.priority, Tenant: t.req.FairnessID,
		Waited: c.now - t.arrived, Detail: detail,
	}
	if !why.Unavailable() {
		r.RetryAfter = c.retryAfter(t)
	}
	return r
}

// retryAfter is when there may be room for a request: when what waits before it has
// been let in, at the rate of late.
func (c *Controller) retryAfter(t *Ticket) time.Duration {
	before := 1
	for _, b := range c.bands {
		if b.priority >= t.priority {
			before += b.queued
		}
	}
	rate := c.drained.rate(c.now)
	if rate <= 0 {
		return time.Second
	}
	wait := time.Duration(min(float64(before)/rate, c.o.MaxRetryAfter.Seconds()) * float64(time.Second))
	return min(max(wait, time.Second), c.o.MaxRetryAfter)
}

// refuse refuses an arrival.
func (c *Controller) refuse(t *Ticket, why Reason, detail string) error {
	return c.refused(t, c.refusal(t, why, detail))
}

// refused ends an arrival that is not let in.
func (c *Controller) refused(t *Ticket, r *Refusal) error {
	t.state, t.refusal = ended, r
	if t.flow != nil {
		t.band.rest(t.flow, c.now)
	}
	c.budgets.refund(t)
	t.band.counts.refused(r.Reason)
	if c.o.Hooks.Refused != nil {
		c.events = append(c.events, event{kind: toldRefused, t: t, refusal: r})
	}
	return r
}

// refuseWaiting refuses a request that waits.
func (c *Controller) refuseWaiting(t *Ticket, why Reason, detail string) {
	r := c.refusal(t, why, detail)
	c.leave(t)
	c.settleRefusal(t, r)
}

// settleRefusal ends a request that has left the queue.
func (c *Controller) settleRefusal(t *Ticket, r *Refusal) {
	_ = c.refused(t, r)
	c.settled(t)
}

// cancelled ends a request that was given up while it waited.
func (c *Controller) cancelled(t *Ticket) {
	c.budgets.refund(t)
	t.band.counts.Cancelled++
	if c.o.Hooks.Cancelled != nil {
		c.events = append(c.events, event{kind: toldCancelled, t: t, waited: c.now - t.arrived})
	}
}

// endWaitForEndpoints refuses those that may not wait in the pool as it is now.
func (c *Controller) endWaitForEndpoints() {
	if !c.someMayNotWait() {
		return
	}
	var gone []*Ticket
	for _, d := range c.deadlines {
		t := d.of
		switch l := c.seen(t.share.queue.lane); {
		case l.members() == 0 && c.o.WaitForEndpoints == 0:
			gone = append(gone, t)
		case l.members() > 0 && !t.band.waits() && l.roomAt(t.band.ceiling) == 0:
			gone = append(gone, t)
		}
	}
	slices.SortFunc(gone, func(a, b *Ticket) int { return cmp.Compare(a.seq, b.seq) })
	for _, t := range gone {
		if l := c.seen(t.share.queue.lane); l.members() == 0 {
			c.refuseWaiting(t, NoEndpoint, "the last endpoint that could serve it has gone")
		} else {
			c.refuseWaiting(t, Saturated, c.describe(l, t.band))
		}
	}
}

// someMayNotWait reports whether anything waits in a lane without endpoints that may not,
// or in a band that does not wait.
func (c *Controller) someMayNotWait() bool {
	if c.queued == 0 {
		return false
	}
	may := func(l *lane) bool { return l.queued == 0 || c.seen(l).members() > 0 || c.o.WaitForEndpoints > 0 }
	if !may(c.whole) {
		return true
	}
	for _, l := range c.lanes {
		if !may(l) {
			return true
		}
	}
	return slices.ContainsFunc(c.bands, func(b *band) bool { return b.queued > 0 && !b.waits() })
}

// pace is a rate of late: events a second, those of longer ago than paceTime hardly
// counting.
type pace struct {
	n    float64 // events, decayed
	time float64 // seconds, decayed alike
	last time.Duration
}

const paceTime = 10.0 // seconds

// add counts an event.
func (p *pace) add(now time.Duration) {
	if now-p.last >= time.Millisecond { // of two that come sooner the decay is nothing
		p.decay(now)
	}
	p.n++
}

func (p *pace) decay(now time.Duration) {
	d := (now - p.last).Seconds()
	f := math.Exp(-d / paceTime)
	p.n *= f
	p.time = p.time*f + paceTime*(1-f)
	p.last = now
}

// rate returns events a second, 0 if nothing is known yet.
func (p *pace) rate(now time.Duration) float64 {
	p.decay(now)
	if p.time < 0.1 {
		return 0
	}
	return p.n / p.time
}
