package admission

import (
	"math"
	"time"
)

// timeline is a Clock, and when the time of a Controller began by it. Instants are kept as
// the time since then: what is subtracted are readings of a clock that is not set, where
// the Clock gives them, as time.Now does.
type timeline struct {
	Clock
	real  bool      // it is the real one
	start time.Time // zero: the Clock has not told
}

// never is an instant that does not come.
const never = time.Duration(math.MaxInt64)

// startTime goes on from at by a Clock.
func (c *Controller) startTime(clock Clock, at time.Duration) {
	l := &timeline{Clock: clock}
	_, l.real = clock.(realClock)
	if now, ok := c.read(l); ok {
		l.start = now.Add(-at)
	}
	c.time.Store(l)
}

// changeClock goes on by another Clock.
func (c *Controller) changeClock(clock Clock) {
	l := c.time.Load()
	if now, ok := c.read(l); ok {
		c.startTime(clock, now.Sub(l.start))
	}
}

// read reads the clock.
func (c *Controller) read(l *timeline) (now time.Time, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			c.failed("Clock.Now", v)
		}
	}()
	return l.Now(), true
}

// lock takes the lock, once it has looked at the clock, and ends what was forgotten.
func (c *Controller) lock() {
	l := c.time.Load()
	var wall time.Time
	at, known := time.Duration(0), false
	if l.real {
		at = time.Since(l.start) // half of what time.Now costs
	} else if wall, known = c.read(l); known {
		at = wall.Sub(l.start)
	}
	c.mu.Lock()
	if known && l.start.IsZero() {
		at = c.now
		l = &timeline{Clock: l.Clock, start: wall.Add(-at)}
		c.time.Store(l)
	}
	if l.real && (l != c.line || at-c.wallAt >= wallKept) {
		wall, known = time.Now(), true
	}
	c.line = l
	if at > c.now {
		c.now = at
	}
	if known && at >= c.wallAt {
		c.wall, c.wallAt = wall, at
	}
	c.forgetTickets()
}

// wallKept is for how long the wall clock is believed to go on as the other does.
const wallKept = 100 * time.Millisecond

// date is now, as the Clock has it.
func (c *Controller) date() time.Time {
	if c.now == c.wallAt {
		return c.wall
	}
	return c.wall.Add(c.now - c.wallAt)
}

// after is an instant some time later.
func after(at, d time.Duration) time.Duration {
	if at > never-d {
		return never
	}
	return at + d
}

// timer is the one timer of a Controller. It is set and stopped by unlock.
type timer struct {
	at     time.Duration // when it goes off; 0: it does not run
	number uint64        // of the one that is meant; others have been stopped too late
	set    bool          // it has yet to be
	stop   func()
}

// to sets it.
func (t *timer) to(at time.Duration) {
	t.at, t.set = at, true
	t.number++
}

func (t *timer) off() {
	t.at, t.set = 0, false
	t.number++
}

// arm sets the timer for the earliest deadline, or for when an endpoint may have room
// though nothing happens there. One that goes off earlier is left to: it finds nothing to
// do and is set again.
func (c *Controller) arm() {
	if len(c.deadlines) == 0 || c.closed {
		return
	}
	at := min(time.Duration(c.deadlines[0].key), after(c.now, max(c.o.MetricsTTL, leastRenewal)+1), max(c.changes, c.now+1))
	if c.timer.at == 0 || at < c.timer.at {
		c.timer.to(at)
	}
}

const leastRenewal = 100 * time.Millisecond

// expire refuses those whose time is over.
func (c *Controller) expire(number uint64) {
	c.lock()
	defer c.unlock()
	if number != c.timer.number || c.closed {
		return
	}
	c.timer.off()
	c.renew()
	for len(c.deadlines) > 0 && time.Duration(c.deadlines[0].key) <= c.now {
		t := c.deadlines[0].of
		waited := (c.now - t.arrived).Round(time.Millisecond)
		why, detail := TimedOut, "it waited for "+waited.String()
		if c.seen(t.share.queue.lane).members() == 0 {
			why, detail = NoEndpoint, "no endpoint came in "+waited.String()
		}
		c.refuseWaiting(t, why, detail)
	}
	c.dispatch()
	c.arm()
}

// waits reports whether there is something to do by setTimer.
func (t *timer) waits() bool { return t.set || t.at == 0 && t.stop != nil }

// setTimer makes the Clock's timer what it is to be. Another call may have done it.
func (c *Controller) setTimer() {
	c.mu.Lock()
	if !c.timer.waits() {
		c.mu.Unlock()
		return
	}
	stop, number, d := c.timer.stop, c.timer.number, max(c.timer.at-c.now, 0)
	set := c.timer.set
	c.timer.stop, c.timer.set = nil, false
	c.mu.Unlock()
	c.stopped(stop)
	if !set {
		return
	}
	stop = c.afterFunc(d, func() { c.expire(number) })
	c.mu.Lock()
	late := c.timer.number != number
	if !late {
		c.timer.stop, stop = stop, nil
	}
	c.mu.Unlock()
	c.stopped(stop)
}

// afterFunc is the Clock's; if that panics, the real one's: what waits must not do so for
// ever.
func (c *Controller) afterFunc(d time.Duration, f func()) (stop func()) {
	defer func() {
		if v := recover(); v != nil {
			c.failed("Clock.AfterFunc", v)
			stop = realClock{}.AfterFunc(d, f)
		}
	}()
	return c.time.Load().AfterFunc(d, f)
}

func (c *Controller) stopped(stop func()) {
	if stop == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			c.failed("the stop of Clock.AfterFunc", v)
		}
	}()
	stop()
}
