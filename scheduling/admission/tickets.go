package admission

import (
	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
	"github.com/inferpick/inferpick/types"
)

// The methods of a Ticket, which documents them.

func (c *Controller) charge(t *Ticket) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.item.Charge
}

func (c *Controller) waits(t *Ticket) bool { return c.stateOf(t) == waiting }

func (c *Controller) booked(t *Ticket, ep *types.Endpoint) {
	c.lock()
	defer c.unlock()
	if ep == nil || !t.isOpen() {
		return
	}
	x, from := c.cellOf(ep), c.cellOf(t.ep)
	t.booking.Leave()
	t.booking = room.Booking{Since: c.clock.now}
	t.at, t.ep, t.state = nil, ep, running
	if ep.Load != nil {
		t.booking.Ahead, t.booking.With = ep.Load.PrefillTokens(), float64(ep.Load.Requests())
	}
	t.signOfLife(&c.active, c.clock.now)
	c.enlist(t)
	if x == nil {
		c.landed(t)
	} else {
		c.bookAt(t, x)
		c.later(x, news{booked: t})
	}
	if from != x {
		c.later(from, news{})
	}
	c.changed = true
}

// bookAt notes that a ticket is booked at an endpoint. Its first token will be seen if
// the answer is streamed; else it is presumed.
func (c *Controller) bookAt(t *Ticket, x *cell) {
	t.at = x
	if c.detector.served != nil {
		x.room.Measure(c.clock.now, float64(x.ep.Load.Requests()))
	}
	x.room.Book(&t.booking, !t.req.Stream)
	c.mayChange(x)
}

func (c *Controller) firstToken(t *Ticket) {
	c.lock()
	defer c.unlock()
	b := &t.booking
	if t.state != running || b.First {
		return
	}
	b.First = true
	took := c.clock.now - b.Since
	c.ttft.Learn(took)
	t.Alive()
	var n news
	if c.detector.first != nil || c.detector.served != nil {
		n = news{first: true, served: Served{At: c.clock.date(), Took: took, Ahead: b.Ahead, With: b.With, Prompt: float64(t.req.Prompt.Tokens)}}
	}
	b.HasFirst()
	c.later(c.cellAt(t), n)
	c.changed = true
}

func (c *Controller) done(t *Ticket, out types.Outcome) {
	c.lock()
	defer c.unlock()
	switch t.state {
	case ended:
		return
	case waiting:
		c.queues.Remove(&t.item, c.clock.now)
		t.state = ended
		c.refund(t)
		c.infoOf(t).counts.Cancelled++
		c.teller.add(event{kind: toldCancelled, t: t, waited: c.clock.now - t.item.Arrived})
	default:
		x, n := c.cellAt(t), c.whatItShows(t, &out)
		c.finish(t, &out)
		c.later(x, n)
	}
	c.changed = true
}

// whatItShows is what the end of a ticket shows of the endpoint it was booked at.
func (c *Controller) whatItShows(t *Ticket, out *types.Outcome) (n news) {
	if t.at == nil || c.detector.served == nil {
		return n
	}
	t.at.room.Measure(c.clock.now, float64(t.at.ep.Load.Requests()))
	if !out.Busy() && !out.Served() {
		return n // of one that failed, or was given up, the time says nothing
	}
	b := &t.booking
	return news{ended: true, served: Served{
		Ended: true, Busy: out.Busy(), At: c.clock.date(), Took: c.clock.now - b.Since, Ahead: b.Ahead, With: b.Beside(c.clock.now),
		Prompt: out.Usage.PromptTokens.Or(float64(t.req.Prompt.Tokens)),
		Output: out.Usage.CompletionTokens.Or(max(t.item.Output, float64(out.Tokens))),
	}}
}

func (c *Controller) onRevoke(t *Ticket, f func(*Refusal)) {
	c.lock()
	defer c.unlock()
	if t.isOpen() {
		t.revoke = f
		c.enlist(t)
	}
}

func (c *Controller) setPriority(t *Ticket, priority int) {
	c.lock()
	defer c.unlock()
	it := &t.item
	if t.state != waiting || it.Priority == priority {
		return
	}
	c.queues.Remove(it, c.clock.now)
	c.changed = true
	it.Priority = priority
	c.queues.Rank(it)
	c.queues.Assign(it, t.req.FairnessID, c.clock.now)
	c.relabel(t)
	if !c.bandOf(t).waits() && c.seen(t.lane).Members() > 0 {
		c.settleRefusal(t, c.refusal(t, Saturated, c.describe(t.lane, t)))
		return
	}
	if r := c.makeRoom(t); r != nil {
		c.settleRefusal(t, r)
		return
	}
	it.Deadline = min(it.Deadline, after(it.Arrived, c.bandOf(t).MaxWait))
	c.queue(t)
}

func (c *Controller) candidates(t *Ticket, dst, eps []*types.Endpoint) []*types.Endpoint {
	p, ok := c.placesFor(t)
	if !ok {
		return eps
	}
	dst = p.of(dst, eps)
	for _, failed := range p.panics {
		c.teller.fail(failed)
	}
	if p.panics != nil {
		c.teller.tell()
	}
	return dst
}

// placesFor returns what is to be asked for Candidates; not ok of a ticket that has ended.
func (c *Controller) placesFor(t *Ticket) (p places, ok bool) {
	c.lock()
	defer c.unlock()
	if t.state == ended {
		return p, false
	}
	now, k := c.clock.date(), c.ceiling(t)
	p = places{d: c.detector, query: Query{Now: now, StaleBefore: now.Add(-c.o.MetricsTTL)}, ceiling: c.table.Ceiling(k)}
	l := c.seen(t.lane)
	// A lane that was forgotten says nothing.
	all := c.table.Has(l) && l.RoomAt(k) == l.Members()
	if p.d.slots == nil || all {
		p.d = nil
	}
	return p, true
}
