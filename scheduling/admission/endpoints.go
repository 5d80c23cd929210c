package admission

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// cell is an endpoint of the pool.
type cell struct {
	ep    *types.Endpoint // its newest reading
	index int             // in lanes' fills
	since Since           // the reading
	stale bool            // what is kept of it knows that the reading is too old
	mark  uint64          // the last SetEndpoints that had it
}

// SetEndpoints says which endpoints the pool has, each by its newest reading; others are
// removed.
func (c *Controller) SetEndpoints(eps []*types.Endpoint) {
	c.mu.Lock()
	defer c.unlock()
	now := c.o.Clock.Now()
	c.mark++
	for _, ep := range eps {
		if cell := c.cellOf(ep); cell != nil {
			cell.mark = c.mark
		}
	}
	for _, cell := range c.cells {
		if cell != nil && cell.mark != c.mark {
			c.remove(cell)
		}
	}
	for _, ep := range eps {
		c.put(ep, now)
	}
	c.membersChanged(now)
}

// Put takes a new reading of an endpoint, or adds one that is new. Call it for every
// reading: what waits may go by it.
func (c *Controller) Put(ep *types.Endpoint) {
	c.mu.Lock()
	defer c.unlock()
	c.take(ep)
}

// Update is Put for an endpoint that may have gone: then it does nothing.
func (c *Controller) Update(ep *types.Endpoint) {
	c.mu.Lock()
	defer c.unlock()
	if c.cellOf(ep) != nil {
		c.take(ep)
	}
}

// take takes a reading, and does what follows from it.
func (c *Controller) take(ep *types.Endpoint) {
	now := c.o.Clock.Now()
	if changed := c.put(ep, now); changed {
		c.membersChanged(now)
	} else {
		c.dispatch(now)
	}
}

// Remove takes an endpoint out of the pool. Requests that are booked there go on.
func (c *Controller) Remove(ep *types.Endpoint) {
	c.mu.Lock()
	defer c.unlock()
	if cell := c.cellOf(ep); cell != nil {
		c.remove(cell)
		c.membersChanged(c.o.Clock.Now())
	}
}

// put takes a reading, and reports whether the endpoint is new or takes requests now or
// no longer. An endpoint without a Load is none that anything could be sent to.
func (c *Controller) put(ep *types.Endpoint, now time.Time) (changed bool) {
	if ep.Load == nil {
		return false
	}
	at := c.byLoad[ep.Load]
	if at == nil {
		at = &cell{index: c.freeIndex(), mark: c.mark}
		c.cells[at.index] = at
		c.byLoad[ep.Load] = at
		changed = true
	} else {
		if ep.Metrics.UpdatedAt.Before(at.ep.Metrics.UpdatedAt) {
			return false
		}
		changed = at.ep.State != ep.State
		if l, ok := c.o.Detector.(ReadingLearner); ok && ep.Metrics.UpdatedAt.After(at.ep.Metrics.UpdatedAt) {
			l.Reading(ep, at.since)
			at.since = Since{}
		}
	}
	at.ep, at.stale = ep, false
	c.refresh(at, now)
	return changed
}

func (c *Controller) freeIndex() int {
	for i, cell := range c.cells {
		if cell == nil {
			return i
		}
	}
	c.cells = append(c.cells, nil)
	c.whole.fills = append(c.whole.fills, notMember)
	for _, l := range c.lanes {
		l.fills = append(l.fills, notMember)
	}
	return len(c.cells) - 1
}

func (c *Controller) remove(cell *cell) {
	c.whole.set(cell.index, notMember, c.ceilings)
	for _, l := range c.lanes {
		l.set(cell.index, notMember, c.ceilings)
	}
	if l, ok := c.o.Detector.(ReadingLearner); ok {
		l.Forget(cell.ep)
	}
	delete(c.byLoad, cell.ep.Load)
	c.cells[cell.index] = nil
}

// membersChanged ends what may not wait in the pool as it is now, and lets in what may go.
func (c *Controller) membersChanged(now time.Time) {
	c.dispatch(now)
	c.endWaitForEndpoints(now)
}

// renew works out anew how full those are whose reading has become too old since: nothing
// happens there that would tell, perhaps because nothing is let in any more.
func (c *Controller) renew(now time.Time) {
	if now.Sub(c.renewed) < c.o.MetricsTTL/4 {
		return
	}
	c.renewed = now
	oldest := now.Add(-c.o.MetricsTTL)
	for _, cell := range c.cells {
		if cell != nil && !cell.stale && cell.ep.Metrics.UpdatedAt.Before(oldest) {
			cell.stale = true
			c.refresh(cell, now)
		}
	}
	c.dispatch(now)
}

// cellOf returns the cell of an endpoint, nil if it is not in the pool.
func (c *Controller) cellOf(ep *types.Endpoint) *cell {
	if ep == nil || ep.Load == nil {
		return nil
	}
	return c.byLoad[ep.Load]
}

// happened works out anew how full an endpoint is.
func (c *Controller) happened(ep *types.Endpoint, now time.Time) {
	if cell := c.cellOf(ep); cell != nil {
		c.refresh(cell, now)
	}
}
