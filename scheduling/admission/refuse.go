package admission

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// refusal makes a Refusal.
func (c *Controller) refusal(t *Ticket, why Reason, detail string, now time.Time) *Refusal {
	r := &Refusal{
		Reason: why, Band: t.band.Name, Priority: t.priority, Tenant: t.req.FairnessID,
		Waited: time.Duration(now.UnixNano() - t.arrived), Detail: detail,
	}
	if !why.Unavailable() {
		r.RetryAfter = c.retryAfter(t, now)
	}
	return r
}

// retryAfter is when there may be room for a request: when what waits before it has
// been let in, at the rate of late.
func (c *Controller) retryAfter(t *Ticket, now time.Time) time.Duration {
	before := 1
	for _, b := range c.bands {
		if b.priority >= t.priority {
			before += b.queued
		}
	}
	rate := c.drained.rate(now.UnixNano())
	if rate <= 0 {
		return time.Second
	}
	wait := time.Duration(min(float64(before)/rate, c.o.MaxRetryAfter.Seconds()) * float64(time.Second))
	return min(max(wait, time.Second), c.o.MaxRetryAfter)
}

// refuse refuses an arrival.
func (c *Controller) refuse(t *Ticket, why Reason, detail string, now time.Time) error {
	return c.refused(t, c.refusal(t, why, detail, now))
}

// refused ends an arrival that is not let in.
func (c *Controller) refused(t *Ticket, r *Refusal) error {
	t.state, t.refusal = ended, r
	if t.flow != nil {
		t.band.rest(t.flow, c.o.Clock.Now())
	}
	c.budgets.refund(t)
	t.band.counts.refused(r.Reason)
	if h := c.o.Hooks.Refused; h != nil {
		h(t, r)
	}
	return r
}

// refuseWaiting refuses a request that waits.
func (c *Controller) refuseWaiting(t *Ticket, why Reason, detail string, now time.Time) {
	r := c.refusal(t, why, detail, now)
	c.leave(t, now)
	c.settleRefusal(t, r, now)
}

// settleRefusal ends a request that has left the queue.
func (c *Controller) settleRefusal(t *Ticket, r *Refusal, now time.Time) {
	_ = c.refused(t, r)
	c.tell(t)
}

// cancelled ends a request that was given up while it waited.
func (c *Controller) cancelled(t *Ticket, now time.Time) {
	c.budgets.refund(t)
	t.band.counts.Cancelled++
	if h := c.o.Hooks.Cancelled; h != nil {
		h(t, time.Duration(now.UnixNano()-t.arrived))
	}
}

// arm sets the timer for the earliest deadline, or for when a reading of now is too old.
// One that goes off earlier is left to: it finds nothing to do and is set again.
func (c *Controller) arm(now time.Time) {
	if len(c.deadlines) == 0 || c.closed {
		return
	}
	old := max(c.o.MetricsTTL, 100*time.Millisecond)
	at := min(c.deadlines[0].key, now.Add(old).UnixNano()+1)
	if c.wakeAt != 0 {
		if c.wakeAt <= at {
			return
		}
		c.stopTimer()
	}
	c.wakeAt = at
	c.stopTimer = c.o.Clock.AfterFunc(time.Duration(max(at-now.UnixNano(), 0)), c.expire)
}

// expire refuses those whose time is over.
func (c *Controller) expire() {
	c.mu.Lock()
	defer c.unlock()
	if c.closed {
		return
	}
	now := c.o.Clock.Now()
	c.wakeAt = 0
	c.renew(now)
	for len(c.deadlines) > 0 && c.deadlines[0].key <= now.UnixNano() {
		t := c.deadlines[0].of
		waited := time.Duration(now.UnixNano() - t.arrived).Round(time.Millisecond)
		why, detail := TimedOut, "it waited for "+waited.String()
		if c.seen(t.share.queue.lane).members == 0 {
			why, detail = NoEndpoint, "no endpoint came in "+waited.String()
		}
		c.refuseWaiting(t, why, detail, now)
	}
	c.arm(now)
	c.dispatch(now)
}

// endWaitForEndpoints refuses those that may not wait in the pool as it is now.
func (c *Controller) endWaitForEndpoints(now time.Time) {
	if !c.someMayNotWait() {
		return
	}
	var gone []*Ticket
	for _, d := range c.deadlines {
		t := d.of
		switch l := c.seen(t.share.queue.lane); {
		case l.members == 0 && c.o.WaitForEndpoints == 0:
			gone = append(gone, t)
		case l.members > 0 && !t.band.waits() && l.roomAt(t.band.ceiling) == 0:
			gone = append(gone, t)
		}
	}
	slices.SortFunc(gone, func(a, b *Ticket) int { return cmp.Compare(a.seq, b.seq) })
	for _, t := range gone {
		if l := c.seen(t.share.queue.lane); l.members == 0 {
			c.refuseWaiting(t, NoEndpoint, "the last endpoint that could serve it has gone", now)
		} else {
			c.refuseWaiting(t, Saturated, c.describe(l, t.band), now)
		}
	}
}

// someMayNotWait reports whether anything waits in a lane without endpoints that may not,
// or in a band that does not wait.
func (c *Controller) someMayNotWait() bool {
	if c.queued == 0 {
		return false
	}
	may := func(l *lane) bool { return l.queued == 0 || c.seen(l).members > 0 || c.o.WaitForEndpoints > 0 }
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
	last int64
}

const paceTime = 10.0 // seconds

// add counts an event.
func (p *pace) add(now int64) {
	p.decay(now)
	p.n++
}

func (p *pace) decay(now int64) {
	if p.last == 0 {
		p.last = now
	}
	d := max(float64(now-p.last)/1e9, 0)
	f := math.Exp(-d / paceTime)
	p.n *= f
	p.time = p.time*f + paceTime*(1-f)
	p.last = now
}

// rate returns events a second, 0 if nothing is known yet.
func (p *pace) rate(now int64) float64 {
	p.decay(now)
	if p.time < 0.1 {
		return 0
	}
	return p.n / p.time
}
