package admission

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// cell is an endpoint of the pool.
type cell struct {
	ep      *types.Endpoint // its newest reading
	index   int             // in Controller.cells
	member  bool            // it is one of them; else it is asked about to become one
	since   Since           // the reading
	stale   bool            // what is kept of it knows that the reading is too old
	figures []figure        // by lane.slot
	asking  int             // how many ask about it now
	again   bool            // it is in Controller.todo
	gone    bool            // it was one
	forget  bool            // the Detector is to be told so

	// Requests booked there that will not tell of their first token: those of which it is
	// not presumed yet, and how many others there are.
	silent   list[Ticket]
	presumed int

	inFlight float64 // requests, at the last event
	area     float64 // sum of that by seconds
	areaAt   time.Duration
}

// figure returns where that of a lane is kept.
func (x *cell) figure(l *lane) *figure {
	for len(x.figures) <= l.slot {
		x.figures = append(x.figures, figure{})
	}
	f := &x.figures[l.slot]
	if f.of != l {
		*f = figure{of: l, answer: answer{fill: notMember}}
		if x.ep.State == types.Ready {
			f.fill = math.NaN() // until it is asked about
		}
	}
	return f
}

// settle presumes the first tokens that are due.
func (x *cell) settle(now, takes time.Duration) {
	for n := x.silent.head; n != nil && n.of.bookedAt+takes <= now; n = x.silent.head {
		n.of.presumed = true
		x.silent.remove(n)
		x.presumed++
	}
}

// measure keeps how many requests are in flight, in the mean over time.
func (x *cell) measure(now time.Duration) {
	x.area += x.inFlight * (now - x.areaAt).Seconds()
	x.areaAt, x.inFlight = now, float64(x.ep.Load.Requests())
}

// SetEndpoints says which endpoints the pool has, each by its newest reading; others are
// removed.
func (c *Controller) SetEndpoints(eps []*types.Endpoint) {
	c.lock()
	defer c.unlock()
	cells := make([]*cell, 0, len(eps))
	for _, ep := range eps {
		if ep != nil && ep.Load != nil {
			x, _ := c.hear(ep)
			cells = append(cells, x)
		}
	}
	// All at once, so that no request finds a part of the pool.
	in := make(map[*cell]bool, len(eps))
	for i, x := range cells {
		if other := c.byLoad[x.ep.Load]; other != nil {
			x = other // it went, and came again, by other calls
		}
		c.join(x)
		cells[i], in[x] = x, true
	}
	var gone []*cell
	for _, x := range c.cells {
		if x != nil && !in[x] {
			c.remove(x)
			gone = append(gone, x)
		}
	}
	for load, x := range c.byLoad {
		if !x.member && x.asking == 0 {
			delete(c.byLoad, load) // what was asked about it never returned
		}
	}
	c.catchUp()
	c.membersChanged()
	for _, x := range gone {
		c.forgetEndpoint(x)
	}
}

// Put takes a new reading of an endpoint, or adds one that is new. Call it for every
// reading: what waits may go by it.
func (c *Controller) Put(ep *types.Endpoint) {
	c.lock()
	defer c.unlock()
	c.take(ep)
}

// Update is Put for an endpoint that may have gone: then it does nothing.
func (c *Controller) Update(ep *types.Endpoint) {
	c.lock()
	defer c.unlock()
	if c.cellOf(ep) != nil {
		c.take(ep)
	}
}

// take takes a reading, and does what follows from it. An endpoint without a Load is none
// that anything could be sent to.
func (c *Controller) take(ep *types.Endpoint) {
	if ep == nil || ep.Load == nil {
		return
	}
	x, changed := c.hear(ep)
	if !x.member && c.byLoad[ep.Load] == x { // nobody has let it join, or go, meanwhile
		c.join(x)
		c.catchUp()
		changed = true
	}
	if changed {
		c.membersChanged()
	} else {
		c.dispatch()
	}
}

// hear asks about an endpoint of which there is a reading, in the pool or not yet, and
// reports whether it takes requests now or no longer.
func (c *Controller) hear(ep *types.Endpoint) (x *cell, changed bool) {
	x = c.byLoad[ep.Load]
	if x == nil {
		x = &cell{ep: ep}
		c.byLoad[ep.Load] = x
		c.ask(x, nil)
		return x, false
	}
	return x, c.takeReading(x, ep)
}

// Remove takes an endpoint out of the pool. Requests that are booked there go on.
func (c *Controller) Remove(ep *types.Endpoint) {
	c.lock()
	defer c.unlock()
	switch x := c.cellOf(ep); {
	case x != nil:
		c.remove(x)
		c.membersChanged()
		c.forgetEndpoint(x)
	case ep != nil && ep.Load != nil:
		delete(c.byLoad, ep.Load) // it will not join
	}
}

// takeReading takes a reading of an endpoint that was asked about before, and reports whether it takes requests
// now or no longer.
func (c *Controller) takeReading(x *cell, ep *types.Endpoint) (changed bool) {
	if ep.Metrics.UpdatedAt.Before(x.ep.Metrics.UpdatedAt) {
		return false
	}
	changed = x.ep.State != ep.State
	var n *news
	if c.detector.readings != nil && ep.Metrics.UpdatedAt.After(x.ep.Metrics.UpdatedAt) {
		n = &news{reading: true, since: x.since}
		x.since = Since{}
	}
	x.ep, x.stale = ep, false
	c.ask(x, n)
	return changed
}

// join makes a cell one of the pool, if it is none.
func (c *Controller) join(x *cell) {
	if x.member {
		return
	}
	x.index = c.freeIndex()
	c.cells[x.index] = x
	c.byLoad[x.ep.Load] = x
	x.member, x.gone, x.forget, x.areaAt = true, false, false, c.now
	for _, l := range c.slots {
		if l != nil {
			f := x.figure(l)
			l.count(f.answer, 1, c.ceilings)
			if f.version == 0 { // the lane is newer than what was asked
				c.later(x)
			}
		}
	}
}

func (c *Controller) freeIndex() int {
	for i, x := range c.cells {
		if x == nil {
			return i
		}
	}
	c.cells = append(c.cells, nil)
	return len(c.cells) - 1
}

func (c *Controller) remove(x *cell) {
	for _, l := range c.slots {
		if l != nil {
			l.count(x.figure(l).answer, -1, c.ceilings)
		}
	}
	x.member, x.gone = false, true
	delete(c.byLoad, x.ep.Load)
	c.cells[x.index] = nil
}

// membersChanged lets in what may go in the pool as it is now, and ends what may not wait.
func (c *Controller) membersChanged() {
	c.dispatch()
	c.endWaitForEndpoints()
}

// renew works out anew how full those are of which something has changed though nothing
// happened there that would tell, perhaps because nothing is let in any more: the reading
// has become too old, or the endpoint was taken out or in.
func (c *Controller) renew() {
	if c.now >= c.renewAt || c.now >= c.changes {
		c.look()
	}
}

func (c *Controller) look() {
	c.renewAt, c.changes = c.now+c.o.MetricsTTL/4, never
	now := c.date()
	oldest := now.Add(-c.o.MetricsTTL)
	changed := len(c.todo) > 0
	c.catchUp()
	for i := 0; i < len(c.cells); i++ { // the lock is released on the way
		x := c.cells[i]
		if x == nil {
			continue
		}
		_, out := x.ep.Load.Out(now)
		tooOld := !x.stale && x.ep.Metrics.UpdatedAt.Before(oldest)
		x.stale = x.stale || tooOld
		settles := x.silent.head != nil && x.silent.head.of.bookedAt+c.firstTokenTakes() <= c.now
		if tooOld || settles || out != x.figure(c.whole).out && x.ep.State == types.Ready {
			changed = true
			c.ask(x, nil)
		} else {
			c.mayChange(x)
		}
	}
	if changed {
		c.dispatch()
	}
}

// untold reports whether those that a lane has room at were taken out, and nobody has told.
func (c *Controller) untold(l *lane) bool {
	l = c.seen(l)
	if l.roomAt(0) == 0 {
		return false
	}
	untold, now := false, c.date()
	for _, x := range c.cells {
		if x == nil {
			continue
		}
		if f := x.figure(l); f.out || f.fill == notMember || !(f.fill < c.ceilings[0]) {
			continue
		}
		if _, out := x.ep.Load.Out(now); !out {
			return false
		}
		untold = true
	}
	return untold
}

// cellOf returns the cell of an endpoint, nil if it is not in the pool.
func (c *Controller) cellOf(ep *types.Endpoint) *cell {
	if ep == nil || ep.Load == nil {
		return nil
	}
	if x := c.byLoad[ep.Load]; x != nil && x.member {
		return x
	}
	return nil
}
