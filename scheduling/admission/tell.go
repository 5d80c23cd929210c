package admission

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Panic is what Hooks.Failed is told of a function of the user's that panicked.
type Panic struct {
	// In is the function, such as "Detector.Fill" or "Hooks.Queued".
	In    string
	Value any    // what it panicked with
	Stack []byte // where, as debug.Stack prints it
}

// Error says what panicked, and with what.
func (p *Panic) Error() string { return fmt.Sprintf("admission: %s panicked: %v", p.In, p.Value) }

// Unwrap returns the value, if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// event is something that is to be told to the user's functions.
type event struct {
	kind    eventKind
	t       *Ticket
	waited  time.Duration
	refusal *Refusal
	out     types.Outcome
	revoke  func(*Refusal)
	failure *Panic
}

type eventKind uint8

const (
	toldQueued eventKind = iota
	toldDispatched
	toldRefused
	toldCancelled
	toldFinished
	toldRevoked
	toldReady  // to Offer's caller
	toldRevoke // to OnRevoke's
	toldFailed
)

var toldAs = [...]string{
	"Hooks.Queued", "Hooks.Dispatched", "Hooks.Refused", "Hooks.Cancelled", "Hooks.Finished", "Hooks.Revoked",
	"the ready function of Offer", "the function of OnRevoke", "Hooks.Failed",
}

// unlock releases the lock, and does what is left to do without it: those that are let in
// go on once the hooks have heard of it, unless another call is telling them.
func (c *Controller) unlock() {
	woken, timer := c.woken, c.timer.waits()
	c.woken, c.lastWoken = nil, nil
	if len(c.events) == 0 && woken == nil && !timer {
		c.mu.Unlock()
		return
	}
	defer wake(woken) // whatever the others do
	if timer {
		c.mu.Unlock()
		c.setTimer()
		c.mu.Lock()
	}
	c.tell()
}

func wake(t *Ticket) {
	for t != nil {
		next := t.woken
		t.woken = nil
		t.wake <- struct{}{} // has room for it
		t = next
	}
}

// settled notes that a ticket no longer waits.
func (c *Controller) settled(t *Ticket) {
	switch {
	case t.wake != nil:
		if c.lastWoken == nil {
			c.woken = t
		} else {
			c.lastWoken.woken = t
		}
		c.lastWoken = t
	case t.ready != nil:
		c.events = append(c.events, event{kind: toldReady, t: t, refusal: t.refusal})
	}
}

// tell tells all events in order, those too that come meanwhile; or leaves them to whoever
// is telling. It releases the lock.
func (c *Controller) tell() {
	if c.telling || len(c.events) == 0 {
		c.mu.Unlock()
		return
	}
	c.telling = true
	defer func() {
		c.telling = false
		c.tell() // what a function has left that ended its goroutine
	}()
	for len(c.events) > 0 {
		c.tellSome()
	}
}

// tellSome tells what is there now. The lock is released meanwhile.
func (c *Controller) tellSome() {
	some, h, n := c.events, c.o.Hooks, 0
	c.events, c.told = c.told[:0], nil
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		if n < len(some) {
			c.events = append(some[n:], c.events...)
			return
		}
		clear(some)
		if cap(some) <= keptEvents {
			c.told = some
		}
	}()
	for n < len(some) {
		n++
		c.call(&h, &some[n-1])
	}
}

const keptEvents = 1024

// call tells one event.
func (c *Controller) call(h *Hooks, e *event) {
	defer func() {
		if v := recover(); v != nil && e.kind != toldFailed {
			c.failed(toldAs[e.kind], v)
		}
	}()
	switch e.kind {
	case toldQueued:
		if h.Queued != nil {
			h.Queued(e.t)
		}
	case toldDispatched:
		if h.Dispatched != nil {
			h.Dispatched(e.t, e.waited)
		}
	case toldRefused:
		if h.Refused != nil {
			h.Refused(e.t, e.refusal)
		}
	case toldCancelled:
		if h.Cancelled != nil {
			h.Cancelled(e.t, e.waited)
		}
	case toldFinished:
		if h.Finished != nil {
			h.Finished(e.t, e.out)
		}
	case toldRevoked:
		if h.Revoked != nil {
			h.Revoked(e.t)
		}
	case toldReady:
		if e.refusal != nil || !e.t.isOver() {
			e.t.ready(asError(e.refusal))
		}
	case toldRevoke:
		e.revoke(e.refusal)
	case toldFailed:
		if h.Failed != nil {
			h.Failed(e.failure)
		}
	}
}

// failed notes that a function of the user's panicked. Caller must not hold the lock.
func (c *Controller) failed(in string, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing(in, value)
}

// failing is failed for a caller that holds the lock.
func (c *Controller) failing(in string, value any) {
	if c.o.Hooks.Failed != nil {
		c.events = append(c.events, event{kind: toldFailed, failure: &Panic{In: in, Value: value, Stack: debug.Stack()}})
	}
}
