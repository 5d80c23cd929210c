package admission

import (
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

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

// teller tells the user's functions what happened: in order, one at a time, and without a
// lock.
type teller struct {
	mu sync.Mutex
	// guarded by mu
	hooks   Hooks
	events  []event // to be told
	told    []event // memory of those that were
	telling bool    // somebody does
}

func (l *teller) use(h Hooks) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hooks = h
}

// take adds events to those that are to be told.
func (l *teller) take(events *[]event) {
	if len(*events) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == 0 {
		l.events, *events = *events, l.events
		return
	}
	l.events = append(l.events, *events...)
	clear(*events)
	*events = (*events)[:0]
}

// fail notes that a function of the user's panicked, if p is not nil.
func (l *teller) fail(p *Panic) {
	if p != nil {
		l.take(&[]event{{kind: toldFailed, failure: p}})
	}
}

// want reports whether somebody is told of such events.
func (h *Hooks) want(kind eventKind) bool {
	switch kind {
	case toldQueued:
		return h.Queued != nil
	case toldDispatched:
		return h.Dispatched != nil
	case toldRefused:
		return h.Refused != nil
	case toldCancelled:
		return h.Cancelled != nil
	case toldFinished:
		return h.Finished != nil
	case toldRevoked:
		return h.Revoked != nil
	case toldFailed:
		return h.Failed != nil
	}
	return true
}

// tell tells all events in order, those too that come meanwhile; or leaves them to whoever
// is telling.
func (l *teller) tell() {
	l.mu.Lock()
	if l.telling || len(l.events) == 0 {
		l.mu.Unlock()
		return
	}
	l.telling = true
	defer func() {
		l.telling = false
		l.mu.Unlock()
		l.tell() // what a function has left that ended its goroutine
	}()
	for len(l.events) > 0 {
		l.tellSome()
	}
}

// tellSome tells what is there now. The lock is released meanwhile.
func (l *teller) tellSome() {
	some, h, n := l.events, l.hooks, 0
	l.events, l.told = l.told[:0], nil
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		if n < len(some) {
			l.events = append(some[n:], l.events...)
			return
		}
		clear(some)
		if cap(some) <= keptEvents {
			l.told = some
		}
	}()
	for n < len(some) {
		n++
		l.call(&h, &some[n-1])
	}
}

const keptEvents = 1024

// call tells one event.
func (l *teller) call(h *Hooks, e *event) {
	defer func() {
		if p := caught(toldAs[e.kind], recover()); p != nil && e.kind != toldFailed {
			l.fail(p)
		}
	}()
	if !h.want(e.kind) { // it was wanted when it happened
		return
	}
	switch e.kind {
	case toldQueued:
		h.Queued(e.t)
	case toldDispatched:
		h.Dispatched(e.t, e.waited)
	case toldRefused:
		h.Refused(e.t, e.refusal)
	case toldCancelled:
		h.Cancelled(e.t, e.waited)
	case toldFinished:
		h.Finished(e.t, e.out)
	case toldRevoked:
		h.Revoked(e.t)
	case toldReady:
		if s, _ := e.t.gate.peek(e.t); e.refusal != nil {
			e.t.ready(e.refusal)
		} else if s != ended { // nobody has given it up
			e.t.ready(nil)
		}
	case toldRevoke:
		e.revoke(e.refusal)
	case toldFailed:
		h.Failed(e.failure)
	}
}

// wakeAll lets the Admits of a chain of tickets go on.
func wakeAll(t *Ticket) {
	for t != nil {
		next := t.nextWoken
		t.nextWoken = nil
		t.wake <- struct{}{} // has room for it
		t = next
	}
}
