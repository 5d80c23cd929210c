package admission

import "github.com/inferpick/inferpick/types"

// SetEndpoints says which endpoints the pool has, each by its newest reading; others are
// removed.
func (c *Controller) SetEndpoints(eps []*types.Endpoint) {
	d := c.lock()
	defer c.unlock()
	cells := make([]*cell, 0, len(eps))
	for _, ep := range eps {
		if ep != nil && ep.Load != nil {
			x, _ := d.hearReading(ep)
			cells = append(cells, x)
		}
	}
	c.askAll()
	d.replace(cells) // all at once, so that no request finds a part of the pool
	c.membersChanged()
}

// Put takes a new reading of an endpoint, or adds one that is new. Call it for every
// reading: what waits may go by it.
func (c *Controller) Put(ep *types.Endpoint) { c.put(ep, true) }

// Update is Put for an endpoint that may have gone: then it does nothing.
func (c *Controller) Update(ep *types.Endpoint) { c.put(ep, false) }

// Remove takes an endpoint out of the pool. Requests that are booked there go on.
func (c *Controller) Remove(ep *types.Endpoint) {
	d := c.lock()
	defer c.unlock()
	switch x := d.cellOf(ep); {
	case x != nil:
		d.remove(x)
		c.membersChanged()
	case ep != nil && ep.Load != nil:
		delete(d.byLoad, ep.Load) // it will not join
	}
}

// put takes a reading, of one that is not in the pool only if it may join. An endpoint without
// a Load is none that anything could be sent to.
func (c *Controller) put(ep *types.Endpoint, joins bool) {
	d := c.lock()
	defer c.unlock()
	if ep == nil || ep.Load == nil || !joins && d.cellOf(ep) == nil {
		return
	}
	x, changed := d.hearReading(ep)
	if !x.room.Member() {
		c.askAll()
		if d.byLoad[ep.Load] == x { // nobody has let it go meanwhile
			d.join(x)
			changed = true
		}
	}
	if changed {
		c.membersChanged()
	}
}

// membersChanged lets in what may go in the pool as it is now, and ends what may not wait.
func (c *Controller) membersChanged() {
	c.desk.changed = true
	c.settle()
	c.desk.refuseStranded()
}
