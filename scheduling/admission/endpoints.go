package admission

import "github.com/inferpick/inferpick/types"

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
	c.askAll()
	// All at once, so that no request finds a part of the pool.
	in := make(map[*cell]bool, len(eps))
	for _, x := range cells {
		if other := c.byLoad[x.ep.Load]; other != nil {
			x = other // it went, and came again, by other calls
		}
		c.join(x)
		in[x] = true
	}
	for _, of := range c.table.Endpoints() {
		if of != nil && !in[of.Of.(*cell)] {
			c.remove(of.Of.(*cell))
		}
	}
	for load, x := range c.byLoad {
		if !x.room.Member() && x.asking == 0 {
			delete(c.byLoad, load) // what was asked about it never returned
		}
	}
	c.membersChanged()
}

// Put takes a new reading of an endpoint, or adds one that is new. Call it for every
// reading: what waits may go by it.
func (c *Controller) Put(ep *types.Endpoint) {
	c.lock()
	defer c.unlock()
	c.put(ep)
}

// Update is Put for an endpoint that may have gone: then it does nothing.
func (c *Controller) Update(ep *types.Endpoint) {
	c.lock()
	defer c.unlock()
	if c.cellOf(ep) != nil {
		c.put(ep)
	}
}

// Remove takes an endpoint out of the pool. Requests that are booked there go on.
func (c *Controller) Remove(ep *types.Endpoint) {
	c.lock()
	defer c.unlock()
	switch x := c.cellOf(ep); {
	case x != nil:
		c.remove(x)
		c.membersChanged()
	case ep != nil && ep.Load != nil:
		delete(c.byLoad, ep.Load) // it will not join
	}
}

// put takes a reading. An endpoint without a Load is none that anything could be sent to.
func (c *Controller) put(ep *types.Endpoint) {
	if ep == nil || ep.Load == nil {
		return
	}
	x, changed := c.hear(ep)
	if !x.room.Member() {
		c.askAll()
		if c.byLoad[ep.Load] == x { // nobody has let it go meanwhile
			c.join(x)
			changed = true
		}
	}
	if changed {
		c.membersChanged()
	}
}

// hear takes a reading of an endpoint, in the pool or not yet, which is asked about next.
// changed: it takes requests now or no longer.
func (c *Controller) hear(ep *types.Endpoint) (x *cell, changed bool) {
	x = c.byLoad[ep.Load]
	switch {
	case x == nil:
		x = newCell(ep)
		c.byLoad[ep.Load] = x
		c.later(x, news{})
		return x, false
	case ep.Metrics.UpdatedAt.Before(x.ep.Metrics.UpdatedAt):
		return x, false
	}
	changed = x.ep.State != ep.State
	var n news
	if c.detector.readings != nil && ep.Metrics.UpdatedAt.After(x.ep.Metrics.UpdatedAt) {
		n = news{reading: true, since: x.since}
		x.since = Since{}
	}
	x.ep, x.stale, x.room.Away = ep, false, ep.State != types.Ready
	c.later(x, n)
	return x, changed
}

// join makes a cell one of the pool, if it is none.
func (c *Controller) join(x *cell) {
	if x.room.Member() {
		return
	}
	c.byLoad[x.ep.Load] = x
	x.gone, x.forget = false, false
	x.room.Measure(c.clock.now, 0)
	if c.table.Join(&x.room) { // some lane is newer than what was asked
		c.later(x, news{})
	}
}

func (c *Controller) remove(x *cell) {
	c.table.Leave(&x.room)
	delete(c.byLoad, x.ep.Load)
	x.gone, x.forget = true, true
	c.later(x, news{}) // which tells the Detector
}

// membersChanged lets in what may go in the pool as it is now, and ends what may not wait.
func (c *Controller) membersChanged() {
	c.changed = true
	c.settle()
	c.endWaitForEndpoints()
}
