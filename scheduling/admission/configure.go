package admission

// Configure changes the options, also of what waits: requests keep their places and
// deadlines. What has no room any more by the new bounds is refused as it comes; what
// waits stays. With an error nothing is changed.
func (c *Controller) Configure(o Options) error {
	given := o.Detector != nil
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	d, failed := newDetector(o.Detector)
	c.teller.fail(failed)
	c.teller.fail(c.clock.change(o.Clock))
	c.lock()
	defer c.unlock()
	if !given && c.byDefault {
		d = c.detector // with what it has learned
	}
	c.byDefault = !given
	c.configure(o, d)
	for _, x := range c.table.Endpoints() {
		if x != nil {
			c.later(x.Of.(*cell), news{})
		}
	}
	c.askAll()
	c.alarm.off() // it may be another Clock's
	c.arm()
	c.changed = true
	return nil
}

// Close refuses everything that waits, and everything that comes. Requests that were
// let in go on.
func (c *Controller) Close() {
	c.lock()
	defer c.unlock()
	c.closed = true
	for it := c.queues.Due(); it != nil; it = c.queues.Due() {
		c.refuseWaiting(it.Of.(*Ticket), Closed, "the gateway is shutting down")
	}
	c.alarm.off()
}
