package admission_test

import (
	"slices"
	"time"
)

// fakeClock is a Clock whose time passes when a test says so. It is for one goroutine.
type fakeClock struct {
	now    time.Time
	timers []*fakeTimer
}

type fakeTimer struct {
	at time.Time
	f  func()
}

func newClock() *fakeClock { return &fakeClock{now: time.Unix(1_700_000_000, 0)} }

func (c *fakeClock) Now() time.Time { return c.now }

func (c *fakeClock) AfterFunc(d time.Duration, f func()) func() {
	t := &fakeTimer{c.now.Add(d), f}
	c.timers = append(c.timers, t)
	return func() {
		c.timers = slices.DeleteFunc(c.timers, func(o *fakeTimer) bool { return o == t })
	}
}

// pass lets time pass: what is due is called at its instant, in order.
func (c *fakeClock) pass(d time.Duration) {
	end := c.now.Add(d)
	for {
		var first *fakeTimer
		for _, t := range c.timers {
			if first == nil || t.at.Before(first.at) {
				first = t
			}
		}
		if first == nil || first.at.After(end) {
			break
		}
		c.timers = slices.DeleteFunc(c.timers, func(o *fakeTimer) bool { return o == first })
		if first.at.After(c.now) {
			c.now = first.at
		}
		first.f()
	}
	c.now = end
}
