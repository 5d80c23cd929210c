package admission

import "math"

// dispatch lets in whoever is next, for as long as there is room. Of those let in and
// not yet booked, each may take the room that an endpoint has: no more are let in than
// there are endpoints with room.
func (c *Controller) dispatch() {
	if c.queued == 0 {
		return
	}
	for {
		s := c.choose()
		if s == nil {
			c.arm()
			return
		}
		t := s.next()
		if c.o.Fairness == PrefixLocality {
			s.follow(t, c.o.Quantum)
		}
		c.takeOut(t)
		s.queue.last = s
		c.grant(t)
		c.settled(t)
	}
}

// choose returns the share whose request is let in next, nil if there is no room for
// any that waits.
func (c *Controller) choose() *share {
	for i := len(c.bands) - 1; i >= 0; i-- {
		b := c.bands[i]
		if b.Floor > 0 && b.queued > 0 && b.credit > 0 {
			if s := c.best(b, true); s != nil && b.credit >= s.next().charge {
				return s
			}
		}
	}
	for _, b := range c.bands {
		if b.queued > 0 {
			if s := c.best(b, false); s != nil {
				return s
			}
		}
	}
	return nil
}

// best returns the share of a band that is next, among the lanes that have room for it:
// as the band has it, or, if it is owed, as the highest has it.
func (c *Controller) best(b *band, owed bool) *share {
	var best *share
	for _, q := range b.queues {
		s := q.top()
		if s == nil {
			continue
		}
		ceiling := s.next().ceiling()
		if owed {
			ceiling = 0
		}
		if c.mayGrant(c.seen(q.lane), ceiling) > c.granted && (best == nil || s.before(best)) {
			best = s
		}
	}
	return best
}

// mayGrant returns how many may be let in from a queue and not be booked yet: each takes
// room of which nothing is seen. An endpoint with room has it for one more; where there is
// much more room than a request takes, half of it may be on its way.
func (c *Controller) mayGrant(l *lane, ceiling int) int {
	room := l.roomAt(ceiling)
	n := l.candidates()
	if room == 0 || n.known == 0 || c.perBooking == 0 {
		return room
	}
	free := c.ceilings[ceiling]*float64(n.known) - float64(n.sum)/fixedOne
	return max(room, int(min(free/(2*c.perBooking), maxGranted)))
}

const maxGranted = 1000

// learnBooking keeps how much a request fills an endpoint, at most: by those that have no
// first token yet, as if these were all that fills it.
func (c *Controller) learnBooking(cell *cell) {
	if fill := cell.figure(c.whole).fill; fill > 0 && !math.IsInf(fill, 1) {
		average(&c.perBooking, fill/float64(max(cell.ep.Load.Prefilling(), 1)), 0.1)
	}
}

// grant lets a request in, and charges its tenant.
func (c *Controller) grant(t *Ticket) {
	b, f := t.band, t.flow
	t.state = granted
	c.granted++
	t.enlist(&c.grants)
	b.open++
	b.wake(f)
	f.inFlight++
	b.virtual = max(b.virtual, f.counter)
	f.spend(t.charge)
	c.payFloors(b, t.charge)
	t.letInAt = c.now
	c.drained.add(c.now)
	b.counts.Dispatched++
	b.counts.Tokens += t.charge
	if c.o.Hooks.Dispatched != nil {
		e := event{kind: toldDispatched, t: t}
		if t.seq != 0 {
			e.waited = c.now - t.arrived
		}
		c.events = append(c.events, e)
	}
}

// landed takes a ticket off those that are let in and not yet booked.
func (c *Controller) landed(t *Ticket) {
	if t.list == &c.grants {
		t.unlist()
		c.granted--
		c.enlist(t)
	}
}

// payFloors gives every band with a floor that waits its part of what was let in: the
// priorities in it that wait share that.
func (c *Controller) payFloors(to *band, tokens float64) {
	for i, end := 0, 0; i < len(c.bands); i = end {
		wait := 0
		for end = i; end < len(c.bands) && c.bands[end].Band == c.bands[i].Band; end++ {
			if c.bands[end].queued > 0 {
				wait++
			}
		}
		if c.bands[i].Floor == 0 {
			continue
		}
		for _, b := range c.bands[i:end] {
			if b.queued == 0 {
				b.credit = 0
				continue
			}
			b.credit = min(b.credit+b.Floor*tokens/float64(wait), maxOwed)
			if b == to {
				b.credit = max(b.credit-tokens, 0)
			}
		}
	}
}

// maxOwed bounds the weighted tokens that a floor owes a band: what it could not be given,
// for there was no room where its requests may go, is not made up for all at once.
const maxOwed = 65_536
