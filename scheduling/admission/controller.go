package admission

import (
	"sync"

	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
)

// Controller lets requests into one pool. Make it with New. All methods may be called
// from any goroutine. It starts none; with the real clock a timer runs while requests
// wait.
//
// What is the user's (Detector, Match, Hooks, Clock, the functions of Offer and OnRevoke)
// is called without a lock and may call any method of the Controller and of its Tickets.
// What panics is taken as not known, or as told, and Hooks.Failed hears of it.
//
// It is a lock and a clock around what decides (desk). A call decides under the lock; then,
// by unlock, the Detector is asked about what has changed, who may go now is let in, and what
// happened is told.
type Controller struct {
	clock  instants
	teller teller

	mu sync.Mutex
	// all guarded by mu
	desk      desk
	byDefault bool // the detector is that of Default
	asking    bool // somebody asks about what is to be
	making    int  // how many make lanes
}

// New returns a Controller with no endpoints: call SetEndpoints. An error names each
// field that is wrong, and the rule.
func New(o Options) (*Controller, error) {
	c := &Controller{desk: newDesk()}
	if err := c.Configure(o); err != nil {
		return nil, err
	}
	return c, nil
}

// Configure changes the options, also of what waits: requests keep their places and
// deadlines. What has no room any more by the new bounds is refused as it comes; what
// waits stays. With an error nothing is changed.
func (c *Controller) Configure(o Options) error {
	given := o.Detector != nil
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	c.teller.use(o.Hooks)
	by, failed := newDetector(o.Detector)
	c.teller.fail(failed)
	c.teller.fail(c.clock.change(o.Clock))
	d := c.lock()
	defer c.unlock()
	if !given && c.byDefault {
		by = d.detector // with what it has learned
	}
	c.byDefault = !given
	d.configure(o, by)
	return nil
}

// Close refuses everything that waits, and everything that comes. Requests that were
// let in go on.
func (c *Controller) Close() {
	d := c.lock()
	defer c.unlock()
	d.close()
}

// lock takes the lock, once it has looked at the clock, and ends what was forgotten.
func (c *Controller) lock() *desk {
	i, failed := c.clock.read()
	c.teller.fail(failed)
	c.mu.Lock()
	c.clock.take(i, &c.desk.present)
	c.desk.endForgotten()
	return &c.desk
}

// enter is lock for a Ticket.
func (c *Controller) enter() decider { return c.lock() }

// unlock does what is left to do after a call has decided: asks, lets in, and tells, once it
// has released the lock.
func (c *Controller) unlock() {
	defer c.release()
	c.settle()
}

// settle asks about what has happened, for which the lock is released, and lets in who may
// go then.
func (c *Controller) settle() {
	defer c.desk.dispatch()
	c.askAll()
}

// release releases the lock. Those that are let in go on once the hooks have heard of it,
// unless another call is telling them.
func (c *Controller) release() {
	d := &c.desk
	woken, alarm := d.woken, d.alarm.waits()
	d.woken, d.lastWoken = nil, nil
	if len(d.events) > 0 {
		c.teller.take(&d.events)
	}
	c.mu.Unlock()
	if woken != nil {
		defer wakeAll(woken) // whatever the others do
	}
	if alarm {
		c.setAlarm()
	}
	c.teller.tell()
}

// peek returns what does not depend on the time.
func (c *Controller) peek(t *Ticket) (state, float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.state, t.item.Charge
}

// askAll asks about what is left to do. One call asks at a time, and does so for all: what
// happens meanwhile, on other cores or because of what the functions that it calls do, is
// left to it. So they may do anything; but not for ever, for they may cause more each time.
func (c *Controller) askAll() {
	if c.asking {
		return
	}
	d := &c.desk
	c.asking = true
	defer func() { c.asking = false }()
	for n := 64 + 2*len(d.byLoad); n > 0 && d.todo.len() > 0; n-- {
		x, n := d.todo.pop()
		d.changed = true // also if what is asked ends this goroutine
		c.ask(x, d.table.Lanes(), &n)
		d.changed = true
		if d.todo.len() > 0 {
			d.dispatch() // who may go does not wait for the others
		}
	}
}

// ask works out anew how full a cell is for some lanes. The lock is released meanwhile: lanes
// that are new are asked about beside.
func (c *Controller) ask(x *cell, lanes []*room.Lane, n *news) {
	var q question
	if !c.desk.asks(&q, x, lanes, n) {
		return
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.desk.heard(x, &q, n)
	}()
	q.ask(n)
}

// renew works out anew how full those are of which something has changed though nobody has
// told; now, or if it is time to.
func (c *Controller) renew(now bool) {
	if now || c.desk.mayHaveChanged() {
		c.desk.outdated()
		c.settle()
	}
}

// laneOf returns the lane of an arrival, and makes it if it is new. The lock is released
// while the endpoints are asked about.
func (c *Controller) laneOf(a *Arrival) *lane {
	l := c.desk.laneOf(a)
	if !l.ready && c.making < mostMaking {
		c.askFor(l)
	}
	if !l.ready || !c.desk.has(l) {
		return c.desk.whole // many are made at this moment, or this one was forgotten
	}
	return l
}

// mostMaking is how many may ask about new lanes at a time: Match may do what makes
// another.
const mostMaking = 2

// askFor works out all of a new lane's figures.
func (c *Controller) askFor(l *lane) {
	c.making++
	defer func() { c.making-- }()
	one := []*room.Lane{&l.room}
	for x := range c.desk.table.Endpoints() {
		c.ask(x.Of.(*cell), one, &news{})
	}
	l.ready = true
}

// setAlarm makes the Clock's timer what it is to be. Another call may have done it.
func (c *Controller) setAlarm() {
	alarm := &c.desk.alarm
	c.mu.Lock()
	if !alarm.waits() {
		c.mu.Unlock()
		return
	}
	old, set, in, number := alarm.change(c.desk.now)
	c.mu.Unlock()
	c.teller.fail(stopTimer(old))
	if !set {
		return
	}
	stop, failed := afterFunc(c.clock.by.Load(), in, func() { c.expire(number) })
	c.teller.fail(failed)
	c.mu.Lock()
	late := alarm.changed(number, stop)
	c.mu.Unlock()
	c.teller.fail(stopTimer(late))
}

// expire is what an alarm does.
func (c *Controller) expire(number uint64) {
	d := c.lock()
	defer c.unlock()
	if number != d.alarm.number || d.closed {
		return
	}
	d.alarm.off()
	c.renew(false)
	d.expire()
}
