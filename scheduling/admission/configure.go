package admission

import "slices"

// Configure changes the options, also of what waits: requests keep their places and
// deadlines. What has no room any more by the new bounds is refused as it comes; what
// waits stays. With an error nothing is changed.
func (c *Controller) Configure(o Options) error {
	given := o.Detector != nil
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	d := c.detectorOf(o.Detector)
	c.changeClock(o.Clock)
	c.lock()
	defer c.unlock()
	if !given && c.byDefault {
		d = c.detector // with what it has learned
	}
	c.byDefault = !given
	c.configure(o, d)
	for i := 0; i < len(c.cells); i++ { // the lock is released on the way
		c.ask(c.cells[i], nil)
	}
	c.timer.off() // it may be another Clock's
	c.arm()
	c.dispatch()
	return nil
}

func (c *Controller) configure(o Options, d *detector) {
	c.o, c.detector = o, d
	c.ceilings = nil
	for i := range o.Bands {
		for _, ceiling := range []float64{o.Bands[i].ModestCeiling, o.Bands[i].Ceiling} {
			if !slices.Contains(c.ceilings, ceiling) {
				c.ceilings = append(c.ceilings, ceiling)
			}
		}
	}
	c.budgets.configure(o.Budgets)
	before := c.revocable
	c.revocable = make([]list[Ticket], len(o.Bands))
	for i := range before {
		for before[i].head != nil {
			t := before[i].head.of
			t.unlist()
			c.enlist(t)
		}
	}
	for _, b := range c.bands {
		c.settle(b)
	}
	for _, l := range c.slots {
		if l != nil {
			c.recount(l)
		}
	}
}

// settle gives a band its settings, and its queues the order that they ask for.
func (c *Controller) settle(b *band) {
	i := c.settingsOf(b.priority)
	b.Band = &c.o.Bands[i]
	b.label = &label{b.Name, b.priority}
	b.ceiling, b.modest = slices.Index(c.ceilings, b.Ceiling), slices.Index(c.ceilings, b.ModestCeiling)
	var wait []*Ticket
	for _, q := range b.queues {
		for _, e := range slices.Clone(q.heap) {
			for s := e.of; s.head != nil; {
				wait = append(wait, s.head.of)
				b.remove(s.head.of)
			}
		}
	}
	b.edf = c.o.Order == EarliestDeadline
	b.locality = c.o.Fairness == PrefixLocality
	b.quantum = 0
	if b.locality {
		b.quantum = c.o.Quantum
	}
	for _, f := range b.flows {
		f.weight = c.o.weightOf(f.name)
	}
	for _, t := range wait {
		t.label.Store(b.label)
		c.place(t, b, t.share.queue.lane)
		b.add(t)
	}
}

// settingsOf returns the index in o.Bands of the band that a priority belongs to.
func (c *Controller) settingsOf(priority int) int {
	for i := range c.o.Bands {
		if priority >= c.o.Bands[i].Priority {
			return i
		}
	}
	return len(c.o.Bands) - 1
}

// bandOf returns the queues of a priority, and makes them if they are new. If there are
// too many, it is those of the lowest priority that belongs to the same Band: nobody is
// raised.
func (c *Controller) bandOf(priority int) *band {
	b, i := c.findBand(priority)
	if b != nil {
		return b
	}
	if len(c.bands) >= c.o.MaxBands {
		if c.forgetBand() {
			_, i = c.findBand(priority)
		} else {
			priority = c.o.Bands[c.settingsOf(priority)].Priority
			if b, i = c.findBand(priority); b != nil {
				return b
			}
		}
	}
	b = &band{priority: priority, flows: map[string]*flow{}}
	c.settle(b)
	c.bands = slices.Insert(c.bands, i, b)
	return b
}

// findBand returns the queues of a priority, or nil and where they belong.
func (c *Controller) findBand(priority int) (*band, int) {
	for i, b := range c.bands {
		if b.priority <= priority {
			if b.priority == priority {
				return b, i
			}
			return nil, i
		}
	}
	return nil, len(c.bands)
}

// forgetBand drops one in which nothing is under way.
func (c *Controller) forgetBand() bool {
	for i, b := range c.bands {
		if b.queued > 0 || b.open > 0 {
			continue
		}
		for _, q := range b.queues {
			q.lane.queues = slices.DeleteFunc(q.lane.queues, func(other *queue) bool { return other == q })
		}
		b.ceiling, b.modest = 0, 0 // requests that have ended may still be asked about
		c.bands = slices.Delete(c.bands, i, i+1)
		return true
	}
	return false
}
