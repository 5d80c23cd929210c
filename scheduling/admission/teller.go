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
	toldFailed
	toldReady  // to Offer's caller
	toldRevoke // to OnRevoke's
)

// listeners are what is called, by the kind of event: its name, whether there is one (nil:
// always), and the call.
var listeners = [...]struct {
	name string
	is   func(*Hooks) bool
	tell func(*Hooks, *event)
}{
	{"Hooks.Queued", func(h *Hooks) bool { return h.Queued != nil }, func(h *Hooks, e *event) { h.Queued(e.t) }},
	{"Hooks.Dispatched", func(h *Hooks) bool { return h.Dispatched != nil }, func(h *Hooks, e *event) { h.Dispatched(e.t, e.waited) }},
	{"Hooks.Refused", func(h *Hooks) bool { return h.Refused != nil }, func(h *Hooks, e *event) { h.Refused(e.t, e.refusal) }},
	{"Hooks.Cancelled", func(h *Hooks) bool { return h.Cancelled != nil }, func(h *Hooks, e *event) { h.Cancelled(e.t, e.waited) }},
	{"Hooks.Finished", func(h *Hooks) bool { return h.Finished != nil }, func(h *Hooks, e *event) { h.Finished(e.t, e.out) }},
	{"Hooks.Revoked", func(h *Hooks) bool { return h.Revoked != nil }, func(h *Hooks, e *event) { h.Revoked(e.t) }},
	{"Hooks.Failed", func(h *Hooks) bool { return h.Failed != nil }, func(h *Hooks, e *event) { h.Failed(e.failure) }},
	{"the ready function of Offer", nil, func(_ *Hooks, e *event) { e.t.tellReady(e.refusal) }},
	{"the function of OnRevoke", nil, func(_ *Hooks, e *event) { e.revoke(e.refusal) }},
}

// want reports whether somebody is told of such events.
func (h *Hooks) want(kind eventKind) bool {
	is := listeners[kind].is
	return is == nil || is(h)
}

// teller tells the user's functions what happened: in order, one at a time, and without a
// lock.
type teller struct {
	mu sync.Mutex
	// guarded by mu
	hooks   *Hooks  // never changed: another takes its place
	events  []event // to be told
	told    []event // memory of those that were
	telling bool    // somebody does
}

func (l *teller) use(h Hooks) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hooks = &h
}

// take adds events to those that are to be told.
func (l *teller) take(events *[]event) {
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
		l.call(h, &some[n-1])
	}
}

const keptEvents = 1024

// call tells one event, if it is still wanted.
func (l *teller) call(h *Hooks, e *event) {
	if !h.want(e.kind) {
		return
	}
	to := &listeners[e.kind]
	if p := guarded(to.name, func() { to.tell(h, e) }); e.kind != toldFailed {
		l.fail(p)
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
