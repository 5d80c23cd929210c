package scheduling

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/types"
)

// Decision is where a request goes, booked in the ledger of its endpoint until
// Done. Its methods may be called from any goroutine, also from within plugins and
// hooks; the fields do not change.
//
// Trackers and hooks hear of one decision's events in order, one after the other, and
// no lock is held meanwhile. If another goroutine is just telling them of an earlier
// event, it tells of this one too, and the method that caused it returns before that.
type Decision struct {
	Request *types.Request
	// Endpoint is the first choice.
	Endpoint *types.Endpoint
	// Fallbacks are the next choices, best first. Call Retry when the data plane
	// goes to one of them.
	Fallbacks []*types.Endpoint
	// At is when it was made.
	At time.Time

	scheduler *Scheduler
	room      [MaxFallbacks]*types.Endpoint // memory of Fallbacks

	alive atomic.Bool // there was a sign of life since the booking was looked at last

	mu sync.Mutex
	// guarded by mu, which is held by no call of a plugin or a hook
	current *types.Endpoint // where the request is
	since   time.Time       // when it was sent there
	booked  types.Booking   // what is to be released there
	first   bool            // the first token was seen
	firstAt time.Time       // when, if it was
	done    bool
	outcome types.Outcome // once it is done
	ender   Ender
	telling bool    // somebody is telling of events
	pending []event // to be told after that

	// guarded by scheduler.mu
	listed  list.Node[Decision]
	expires time.Time
}

// An Ender is told of the end of something. An admission.Ticket is one.
type Ender interface {
	Done(types.Outcome)
}

// Current returns the endpoint at which the request is booked: Endpoint, or the
// one that Retry moved it to.
func (d *Decision) Current() *types.Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// FirstToken reports that the first token of the response was seen: the prefill
// is over, and its tokens leave the ledger. It must only be called for a token that came
// just now: the first byte of an answer that is not streamed is none. Calls after the
// first, and after Done, do nothing.
func (d *Decision) FirstToken() {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	d.firstTokenLocked(now, now)
}

// FirstTokenAt is FirstToken for a data plane that learns late, or in batches, that the
// first token came at the instant t. An instant before the request was sent there, or more
// than a second in the future, is an error, and then nothing is reported: a time that is
// wrong would be learned like one that is right.
func (d *Decision) FirstTokenAt(t time.Time) error {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	t, err := past("FirstTokenAt", t, d.since, now)
	if err != nil {
		d.mu.Unlock()
		return err
	}
	d.firstTokenLocked(t, now)
	return nil
}

// firstTokenLocked is called with d.mu held, and returns without.
func (d *Decision) firstTokenLocked(at, now time.Time) {
	if d.done || d.first {
		d.mu.Unlock()
		return
	}
	d.first, d.firstAt = true, at
	d.scheduler.renew(d, now)
	d.release(types.Booking{Prefilling: d.booked.Prefilling, PrefillTokens: d.booked.PrefillTokens})
	d.tell(event{kind: firstToken, at: at, Event: d.event(d.current)})
}

// clockSkew is how far in the future an instant may be that is reported as past.
const clockSkew = time.Second

// past returns t, no later than now, or why it cannot be when what a method of that name
// reports happened; then it returns now.
func past(method string, t, earliest, now time.Time) (time.Time, error) {
	switch {
	case t.Before(earliest):
		return now, fmt.Errorf("scheduling: Decision.%s: time is %v, want %v or later: when the request was sent there, or its first token came", method, t, earliest)
	case t.After(now.Add(clockSkew)):
		return now, fmt.Errorf("scheduling: Decision.%s: time is %v, which is %v in the future, want one that is past", method, t, t.Sub(now))
	case t.After(now):
		return now, nil
	}
	return t, nil
}

// Retry reports that the data plane went on to ep, as a rule one of Fallbacks, and how
// the attempt before ended: its status, error and so on. The booking moves to ep, with the
// whole prefill owed again. After Done, or with nil, it does nothing.
func (d *Decision) Retry(ep *types.Endpoint, left types.Outcome) {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	if d.done || ep == nil {
		d.mu.Unlock()
		return
	}
	e := event{kind: retried, at: now, Event: d.event(ep)}
	e.From, e.Outcome = d.current, d.timed(left, now)
	e.Outcome.Retried = true
	d.release(d.booked)
	d.current, d.since, d.first = ep, now, false
	d.scheduler.renew(d, now)
	d.tell(e)
}

// Done reports how the request ended and releases what is left of its booking.
// The first call counts; later ones do nothing. It must be called for every
// Decision, also after errors and disconnects: use defer.
func (d *Decision) Done(out types.Outcome) {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	d.doneLocked(out, now)
}

// DoneAt is Done for a data plane that learns late, or in batches, that the request ended
// at the instant t. One before the request was sent there or had its first token, or more
// than a second in the future, is an error, and the request is taken to have ended now.
func (d *Decision) DoneAt(out types.Outcome, t time.Time) error {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	earliest := d.since
	if d.first {
		earliest = d.firstAt
	}
	t, err := past("DoneAt", t, earliest, now)
	d.doneLocked(out, t)
	return err
}

// doneLocked is called with d.mu held, and returns without.
func (d *Decision) doneLocked(out types.Outcome, at time.Time) {
	if d.done {
		d.mu.Unlock()
		return
	}
	d.done, d.outcome = true, d.timed(out, at)
	d.scheduler.unlist(d)
	d.release(d.booked)
	e := event{kind: finished, at: at, Event: d.event(d.current)}
	e.Outcome = d.outcome
	d.tell(e)
}

// Alive reports a sign of life, for requests that go on for longer than
// Profile.BookingTTL: as long as there are any, the booking does not expire. It costs a
// nanosecond.
func (d *Decision) Alive() {
	if !d.alive.Load() {
		d.alive.Store(true)
	}
}

// EndWith has e told how the decision ended, once, when it has: by Done or because it
// expired, after ledger, trackers and hooks. If it has ended already, at once. What depends
// on a booking, such as the place that an admission control gave it, so ends with it
// whoever ends it. There is one Ender; another call replaces it.
func (d *Decision) EndWith(e Ender) {
	d.mu.Lock()
	d.ender = e
	over, out := d.done && !d.telling, d.outcome
	if over {
		d.ender = nil
	}
	d.mu.Unlock()
	if over && e != nil {
		e.Done(out)
	}
}

// Settled reports whether the decision has ended and everybody has been told: nobody reads
// the request any more but those whom the caller gave it to.
func (d *Decision) Settled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done && !d.telling
}

// Patience returns for how long to wait for a sign of life from the endpoint at which the
// request is booked, before it goes on to a fallback: see Impatient. 0: for as long as it takes.
func (d *Decision) Patience() time.Duration {
	var least time.Duration
	ep := d.Current()
	for _, p := range d.scheduler.impatient {
		if w := d.scheduler.patience(p, d.Request, ep); w > 0 && (least == 0 || w < least) {
			least = w
		}
	}
	return least
}

// timed returns out with how long the request took until now. Caller must hold d.mu.
func (d *Decision) timed(out types.Outcome, now time.Time) types.Outcome {
	out.Duration, out.TTFT = now.Sub(d.At), 0
	if d.first {
		out.TTFT = d.firstAt.Sub(d.At)
	}
	return out
}

// event returns what hooks are told, at ep. Caller must hold d.mu, or be its only owner.
func (d *Decision) event(ep *types.Endpoint) Event {
	return Event{Request: d.Request, At: d.At, Chosen: d.Endpoint, Fallbacks: d.Fallbacks, Endpoint: ep}
}

// release takes b off the ledger. Caller must hold d.mu.
func (d *Decision) release(b types.Booking) {
	if l := d.current.Load; l != nil {
		l.Release(b)
	}
	d.booked.Requests -= b.Requests
	d.booked.Prefilling -= b.Prefilling
	d.booked.PrefillTokens -= b.PrefillTokens
	d.booked.ContextTokens -= b.ContextTokens
}

// book enters the decision into the ledger and into the list of open bookings, and tells
// of it.
func (d *Decision) book() {
	d.scheduler.list(d, d.At)
	d.mu.Lock()
	d.since = d.At
	d.tell(event{kind: scheduled, at: d.At, Event: d.event(d.Endpoint)})
}

// enter books the request at ep, unless it has ended or gone on meanwhile. What plugins
// estimate for that they are asked without the lock.
func (d *Decision) enter(ep *types.Endpoint) {
	b := d.scheduler.booking(d.Request, ep)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done || d.current != ep || d.booked != (types.Booking{}) {
		return
	}
	if d.first { // of a token that came before this was booked
		b.Prefilling, b.PrefillTokens = 0, 0
	}
	d.booked = b
	if ep.Load != nil {
		ep.Load.Book(b)
	}
}

// eventKind says what happened to a decision.
type eventKind uint8

const (
	scheduled eventKind = iota
	firstToken
	retried
	finished
)

// event is what happened to a decision, and when.
type event struct {
	kind eventKind
	at   time.Time
	Event
}

// tell tells of an event and of those that come meanwhile, or leaves it to the goroutine
// that is telling of an earlier one. It is called with d.mu held, and returns without.
func (d *Decision) tell(e event) {
	if d.telling {
		d.pending = append(d.pending, e)
		d.mu.Unlock()
		return
	}
	d.telling = true
	d.mu.Unlock()
	complete := false
	defer func() {
		if !complete { // a plugin ended its goroutine (runtime.Goexit)
			d.told()
		}
	}()
	d.deliver(&e)
	complete = true
	d.told()
}

// told goes on with what came while an event was told.
func (d *Decision) told() {
	d.mu.Lock()
	d.telling = false
	if len(d.pending) > 0 {
		e := d.pending[0]
		d.pending = d.pending[1:]
		d.tell(e)
		return
	}
	var ender Ender
	if d.done {
		ender, d.ender = d.ender, nil
	}
	out := d.outcome
	d.mu.Unlock()
	if ender != nil {
		ender.Done(out)
	}
}

// deliver tells plugins and hooks of one event. Of a decision one goroutine does so at a
// time, which is why it may write to the request.
func (d *Decision) deliver(e *event) {
	s, h := d.scheduler, &d.scheduler.profile.Hooks
	d.Request.Now = e.at
	switch e.kind {
	case scheduled:
		d.enter(e.Endpoint)
		s.picked(d.Request, e.Endpoint)
		s.hook(h.Scheduled, "Scheduled", &e.Event)
	case firstToken:
		s.firstToken(d.Request, e.Endpoint)
		s.hook(h.FirstToken, "FirstToken", &e.Event)
	case retried:
		s.finished(d.Request, e.From, &e.Outcome)
		d.enter(e.Endpoint)
		s.picked(d.Request, e.Endpoint)
		s.hook(h.Retried, "Retried", &e.Event)
	case finished:
		s.finished(d.Request, e.Endpoint, &e.Outcome)
		s.hook(h.Finished, "Finished", &e.Event)
	}
}
