package admission

import (
	"context"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
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
	c.lock()
	defer c.unlock()
	arrived := c.clock.now
	c.renew()
	l := c.laneOf(a)
	if c.untold(l) {
		c.look()
	}
	// From here on the lock is held.
	t.item = fair.Item{Of: t, Lane: &l.order, Priority: t.req.Priority, Bytes: int64(len(t.req.Body)), Arrived: arrived}
	t.lane = l
	err := c.enter(a, t)
	if err == nil && waits && t.state == waiting {
		t.wake = make(chan struct{}, 1)
	}
	return err
}

func (c *Controller) enter(a *Arrival, t *Ticket) error {
	it := &t.item
	c.queues.Rank(it)
	c.relabel(t)
	if c.closed {
		return c.refused(t, c.refusal(t, Closed, "the gateway is shutting down"))
	}
	c.queues.Assign(it, t.req.FairnessID, c.clock.now)
	c.queues.Estimate(it, t.req.Prompt.Tokens, t.req.MaxTokens)
	if over := c.spend(t); over != nil {
		r := c.refusal(t, over.why, over.detail)
		r.RetryAfter = max(over.wait.Truncate(time.Second)+time.Second, time.Second)
		return c.refused(t, r)
	}
	c.queues.Lift(it)
	if c.passes(t) {
		c.grant(t)
		return nil
	}
	if r := c.mayNotWait(t); r != nil {
		return c.refused(t, r)
	}
	it.Deadline = after(it.Arrived, c.mostWait(a, t))
	c.queues.Number(it)
	c.queue(t)
	if c.o.Hooks.Queued != nil {
		c.teller.add(event{kind: toldQueued, t: t})
	}
	if c.o.Revoke && c.bandOf(t).Displace && c.seen(t.lane).Members() > 0 {
		c.revokeFor(t)
	}
	// There may be room that nobody was woken for yet: who is first takes it.
	c.dispatch()
	return nil
}

func (c *Controller) spend(t *Ticket) (over *excess) {
	if len(c.o.Budgets) == 0 {
		return nil
	}
	u := use{tenant: t.req.FairnessID, model: t.req.Model, flow: t.item.Tenant(), tokens: float64(t.req.Prompt.Tokens) + t.item.Output}
	t.spent, over = c.budgets.spend(u, c.clock.now)
	return over
}

// passes reports whether a request may go at once. In a burst, those that were let in and
// are not booked yet count too, as soon as it is known how much one fills: else all of it
// would see the room of which nothing is taken yet.
func (c *Controller) passes(t *Ticket) bool {
	l, k := c.seen(t.lane), c.ceiling(t)
	queued := c.whole.order.QueuedFrom
	if l == &t.lane.room {
		queued = t.lane.order.QueuedFrom
	}
	return queued(t.item.Band().Priority) == 0 && l.RoomAt(k) > 0 && (!c.table.KnowsBooking() || c.table.MayGrant(l, k) > c.granted)
}

// queue puts a ticket into the queue of its place.
func (c *Controller) queue(t *Ticket) {
	c.queues.Add(&t.item)
	c.changed = true
	c.arm()
}

// mayNotWait returns why an arrival for which there is no room may not wait, nil if it may.
// In a full queue, others may lose their places to it.
func (c *Controller) mayNotWait(t *Ticket) *Refusal {
	switch members := c.seen(t.lane).Members(); {
	case members == 0 && c.o.WaitForEndpoints == 0:
		return c.refusal(t, NoEndpoint, "no endpoint could serve it")
	case members > 0 && !c.bandOf(t).waits():
		return c.refusal(t, Saturated, c.describe(t.lane, t))
	}
	return c.makeRoom(t)
}

// makeRoom sees to it that there is room for one more in the queue, or returns why there is
// none.
func (c *Controller) makeRoom(t *Ticket) *Refusal {
	for {
		victim, why, full := c.queues.Victim(&t.item)
		if full != "" {
			return c.refusal(t, QueueFull, full)
		}
		if victim == nil {
			return nil
		}
		c.refuseWaiting(victim.Of.(*Ticket), Displaced, why)
	}
}

// mostWait returns how long an arrival may wait.
func (c *Controller) mostWait(a *Arrival, t *Ticket) time.Duration {
	wait := c.bandOf(t).MaxWait
	switch slo := t.req.SLO.TTFT; {
	case a.MaxWait > 0:
		wait = min(wait, a.MaxWait)
	case slo > 0:
		wait = min(wait, max(slo-c.ttft.Expected(), slo/2))
	}
	if c.seen(t.lane).Members() == 0 {
		wait = min(wait, c.o.WaitForEndpoints)
	}
	return wait
}

// revokeFor asks one running request of a lower band to end, where the place would be of
// use: the one that was let in last.
func (c *Controller) revokeFor(t *Ticket) {
	for i := len(c.revocable) - 1; i >= 0; i-- {
		for n := c.revocable[i].Tail; n != nil; n = n.Prev {
			x := c.cellOf(n.Of.ep)
			if n.Of.item.Priority < t.item.Priority && x != nil && c.seen(t.lane).Has(&x.room) {
				c.revoke(n.Of, t.item.Priority)
				return
			}
		}
	}
}

func (c *Controller) revoke(victim *Ticket, priority int) {
	victim.unlist()
	victim.refusal = c.refusal(victim, Revoked, fmt.Sprintf("a request of priority %d needed its place", priority))
	c.infoOf(victim).counts.refused(Revoked)
	c.teller.add(event{kind: toldRevoked, t: victim})
	c.teller.add(event{kind: toldRevoke, revoke: victim.revoke, refusal: victim.refusal})
}

// laneOf returns the lane of an arrival, and makes it if it is new. The lock is released
// while the endpoints are asked about.
func (c *Controller) laneOf(a *Arrival) *lane {
	key, match := keyOf(a, c.detector.target)
	if key == c.whole.key {
		return c.whole
	}
	l := c.lanes[key]
	if l == nil {
		if len(c.lanes) >= c.o.MaxLanes && !c.forgetLane() {
			return c.whole
		}
		l = newLane(key, match)
		c.table.AddLane(&l.room)
		c.lanes[key] = l
	}
	l.touched = c.clock.now
	if !l.ready {
		c.askFor(l)
	}
	if !l.ready || c.lanes[key] != l {
		return c.whole // many are made at this moment, or this one was forgotten
	}
	return l
}

// keyOf returns the key of an arrival's lane, and its Match if that counts.
func keyOf(a *Arrival, target bool) (laneKey, func(*types.Endpoint) bool) {
	key, match := laneKey{candidates: a.Candidates}, a.Match
	if match == nil || key.candidates == "" {
		key.candidates, match = "", nil
	}
	key.preferred = a.Preferred && key.candidates != ""
	if target {
		key.ttft = coarse(a.Request.SLO.TTFT)
	}
	return key, match
}

// coarse rounds a target down to a power of two of milliseconds.
func coarse(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	p := time.Millisecond
	for 2*p <= d && p < time.Hour {
		p *= 2
	}
	return p
}

// askFor works out all of a new lane's figures.
func (c *Controller) askFor(l *lane) {
	if c.making >= mostMaking {
		return
	}
	c.making++
	defer func() { c.making-- }()
	one := []*room.Lane{&l.room}
	for i := 0; i < len(c.table.Endpoints()); i++ { // more may come meanwhile
		if x := c.table.Endpoints()[i]; x != nil {
			c.ask(x.Of.(*cell), one, &news{})
		}
	}
	l.ready = true
}

// mostMaking is how many may ask about new lanes at a time: Match may do what makes
// another.
const mostMaking = 2

// forgetLane drops the lane that was used the longest ago and in which nothing waits.
func (c *Controller) forgetLane() bool {
	var oldest *lane
	for _, l := range c.lanes {
		if l.order.Queued == 0 && (oldest == nil || l.touched < oldest.touched) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	c.queues.DropLane(&oldest.order)
	delete(c.lanes, oldest.key)
	c.table.RemoveLane(&oldest.room)
	return true
}

// untold reports whether those that a lane has room at were taken out, and nobody has told.
func (c *Controller) untold(l *lane) bool {
	by := c.seen(l)
	if by.RoomAt(0) == 0 {
		return false
	}
	untold, now := false, c.clock.date()
	for _, x := range c.table.Endpoints() {
		if x == nil {
			continue
		}
		if a := x.Answer(by); a.Out || a.Fill == room.NotMember || !(a.Fill < c.table.Ceiling(0)) {
			continue
		}
		if _, out := x.Of.(*cell).ep.Load.Out(now); !out {
			return false
		}
		untold = true
	}
	return untold
}
