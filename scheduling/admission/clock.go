package admission

import (
	"math"
	"sync/atomic"
	"time"
)

// Clock is the time and what is to happen at one. The functions may be called from
// any goroutine, without a lock. Where the times carry a monotonic reading, as those of
// time.Now do, nothing goes by the wall clock, which may be set. If Now panics, the instant
// is that of the call before; if AfterFunc does, the real time's is used; f is called from one of its own, or, in a simulated world, from
// whoever makes time pass, but never from within AfterFunc.
type Clock interface {
	Now() time.Time
	AfterFunc(d time.Duration, f func()) (stop func())
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) AfterFunc(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

// timeline is a Clock, and when the time of a Controller began by it. Instants are kept as
// the time since then: what is subtracted are readings of a clock that is not set, where
// the Clock gives them, as time.Now does.
type timeline struct {
	Clock
	real  bool      // it is the real one
	start time.Time // zero: the Clock has not told
}

// noInstant is one that does not come.
const noInstant = time.Duration(math.MaxInt64)

// after is an instant some time later.
func after(at, d time.Duration) time.Duration {
	if at > noInstant-d {
		return noInstant
	}
	return at + d
}

// now reads the clock.
func (l *timeline) now() (now time.Time, failed *Panic) {
	failed = guarded("Clock.Now", func() { now = l.Now() })
	return now, failed
}

// present is the time of a Controller as of the last call.
type present struct {
	now    time.Duration // since the Controller was made; it never goes back
	wall   time.Time     // what the Clock said at wallAt
	wallAt time.Duration // now, or a little ago
}

// date is now, as the Clock has it.
func (p *present) date() time.Time {
	if p.now == p.wallAt {
		return p.wall
	}
	return p.wall.Add(p.now - p.wallAt)
}

// instants is the clock of a Controller. Take is called with its lock, the rest without.
type instants struct {
	by   atomic.Pointer[timeline]
	line *timeline // that the present is by
}

// change goes on by another Clock.
func (c *instants) change(clock Clock) (failed *Panic) {
	at := time.Duration(0)
	if l := c.by.Load(); l != nil {
		now, failed := l.now()
		if failed != nil {
			return failed
		}
		at = now.Sub(l.start)
	}
	l := &timeline{Clock: clock}
	_, l.real = clock.(realClock)
	now, failed := l.now()
	if failed == nil {
		l.start = now.Add(-at)
	}
	c.by.Store(l)
	return failed
}

// instant is a reading of the clock.
type instant struct {
	line  *timeline
	at    time.Duration
	wall  time.Time
	known bool // wall is
}

// read reads the clock.
func (c *instants) read() (i instant, failed *Panic) {
	i.line = c.by.Load()
	if i.line.real {
		i.at = time.Since(i.line.start) // half of what time.Now costs
		return i, nil
	}
	if i.wall, failed = i.line.now(); failed == nil {
		i.at, i.known = i.wall.Sub(i.line.start), true
	}
	return i, failed
}

// take makes a reading the present, unless it is older than that.
func (c *instants) take(i instant, p *present) {
	l := i.line
	if i.known && l.start.IsZero() {
		i.at = p.now
		l = &timeline{Clock: l.Clock, start: i.wall.Add(-i.at)}
		c.by.Store(l)
	}
	if l.real && (l != c.line || i.at-p.wallAt >= wallKept) {
		i.wall, i.known = time.Now(), true
	}
	c.line = l
	p.now = max(p.now, i.at)
	if i.known && i.at >= p.wallAt {
		p.wall, p.wallAt = i.wall, i.at
	}
}

// wallKept is for how long the wall clock is believed to go on as the other does.
const wallKept = 100 * time.Millisecond

// alarm is the one timer of a Controller, guarded by its lock.
type alarm struct {
	at     time.Duration // when it goes off; 0: it does not run
	number uint64        // of the one that is meant; others have been stopped too late
	unset  bool          // it has yet to be
	stop   func()
}

// to sets it, unless it goes off earlier.
func (a *alarm) to(at time.Duration) {
	if a.at == 0 || at < a.at {
		a.at, a.unset = at, true
		a.number++
	}
}

func (a *alarm) off() {
	a.at, a.unset = 0, false
	a.number++
}

// waits reports whether there is something to do by change and changed.
func (a *alarm) waits() bool { return a.unset || a.at == 0 && a.stop != nil }

// change begins to make a Clock's timer what it is to be: the old one is to be stopped, and
// with set another to be set.
func (a *alarm) change(now time.Duration) (old func(), set bool, in time.Duration, number uint64) {
	old, set, in, number = a.stop, a.unset, max(a.at-now, 0), a.number
	a.stop, a.unset = nil, false
	return old, set, in, number
}

// changed takes how the timer that was set is stopped; if another is meant by now, it is to
// be stopped at once, which is returned.
func (a *alarm) changed(number uint64, stop func()) (late func()) {
	if a.number != number {
		return stop
	}
	late, a.stop = a.stop, stop
	return late
}

// afterFunc is a Clock's; if that panics, the real one's: what waits must not do so for
// ever.
func afterFunc(clock Clock, d time.Duration, f func()) (stop func(), failed *Panic) {
	failed = guarded("Clock.AfterFunc", func() { stop = clock.AfterFunc(d, f) })
	if failed != nil {
		stop = realClock{}.AfterFunc(d, f)
	}
	return stop, failed
}

func stopTimer(stop func()) *Panic {
	if stop == nil {
		return nil
	}
	return guarded("the stop of Clock.AfterFunc", stop)
}
