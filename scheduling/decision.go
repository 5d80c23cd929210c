package scheduling

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/types"
)

// Decision is the endpoint chosen for a request, booked in its ledger until Done. It is safe for
// concurrent use, also from within plugins and hooks; its fields do not change.
//
// Trackers and hooks get the events of a decision in order, one at a time, with no lock held. If
// another goroutine is delivering an earlier event, it delivers the later ones too, possibly after
// the method that caused them has returned.
type Decision struct {
	Request *types.Request
	// Endpoint is the first choice.
	Endpoint *types.Endpoint
	// Fallbacks are the next choices, best first. Call Retry when moving on to one of them. The list is memory of
	// the decision: clone it to keep it, or the request and its body are kept, too.
	Fallbacks []*types.Endpoint
	// At is the time of the decision.
	At time.Time

	scheduler *Scheduler
	room      [MaxFallbacks]*types.Endpoint // memory of Fallbacks

	alive atomic.Bool // Alive was called since the booking was last checked

	mu sync.Mutex
	// guarded by mu, which is not held during calls of plugins and hooks
	current *types.Endpoint // where the request is
	since   time.Time       // when it was sent there
	booked  types.Booking   // what remains to be released there
	first   bool            // the first token was seen
	firstAt time.Time       // when, if it was
	done    bool
	outcome types.Outcome  // once it is done
	answer  *types.Outcome // after which the server went on; nil: it has not
	letGo   bool           // the request has no body any more
	ender   Ender
	leg     leg           // where the prompt is computed
	alone   bool          // it is among Scheduler.alone
	telling bool          // a goroutine is delivering events
	pending []event       // to be delivered after that
	idle    chan struct{} // closed when nobody is delivering; nil: nobody waits for that

	// guarded by scheduler.mu
	listed  list.Node[Decision]
	expires time.Time
}

// An Ender is notified of the end of a decision. An admission.Ticket is one. It may be called by the goroutine of
// another request, which finds out that a booking has expired; a panic is reported to Hooks.PluginFailed.
type Ender interface {
	Done(types.Outcome)
}

// Current returns the endpoint at which the request is booked: Endpoint, or that of the last Retry.
func (d *Decision) Current() *types.Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// FirstToken reports the first token of the response: prefill is over, and its tokens leave the
// ledger. Call it only for a token that has just arrived, not for the first byte of a response that
// is not streamed. Further calls, and those after Done, do nothing.
func (d *Decision) FirstToken() {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	d.firstTokenLocked(now, now)
}

// FirstTokenAt is FirstToken for a data plane that learns late, or in batches, that the first token
// came at t. If t is before the request was sent there, or more than a second in the future, it
// returns an error and reports nothing, so that no wrong time is learned.
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
	if d.leg.at != nil {
		d.leg.release(d.leg.booked)
	}
	d.notAlone()
	d.tell(event{kind: firstToken, at: at, Event: d.event(d.current)})
}

// clockSkew is how far in the future a reported time may lie.
const clockSkew = time.Second

// past returns t, but not later than now. If t is implausible for an event reported by the method, it
// returns now and an error.
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

// Retry reports that the data plane moved on to ep, usually one of Fallbacks, and how the previous
// attempt ended. The booking moves to ep, with its prefill still to be computed, all of it there: see
// RetryApart for a data plane that knows better. After Done, or with a nil ep, it does nothing.
func (d *Decision) Retry(ep *types.Endpoint, left types.Outcome) { d.retry(ep, nil, left) }

// retry moves d to ep, where prefill computes the prompt unless it is nil.
func (d *Decision) retry(ep, prefill *types.Endpoint, left types.Outcome) {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	if d.done || ep == nil {
		d.mu.Unlock()
		return
	}
	ended, tell := d.dropLeg(now)
	from, out := d.current, d.timed(left, now)
	out.Retried = true
	d.release(d.booked)
	if ep.Load != from.Load {
		d.notAlone()
	}
	d.current, d.since, d.first = ep, now, false
	d.leg = leg{at: prefill, since: now, open: prefill != nil}
	e := event{kind: retried, at: now, Event: d.event(ep)}
	e.From, e.Outcome = from, out
	d.scheduler.renew(d, now)
	if tell {
		d.tellBoth(ended, e)
		return
	}
	d.tell(e)
}

// Postponed says that nothing has been sent so far, neither to Current nor to Prefill, because something
// else had to be done before: nobody is to learn from that time that these are slow. Plugins are told
// that the request was not sent there, and that it was picked again; hooks are not told. It does nothing
// once something has come back: after FirstToken, PrefillDone and Done.
func (d *Decision) Postponed() { d.postpone(nil) }

// Reread is Postponed for a request of which more is known now than when it was decided: change fills in
// what that is, before it is picked again, and booked as it is then. It is called at most once, by the
// goroutine that delivers events, and must not call d.
func (d *Decision) Reread(change func(*types.Request)) { d.postpone(change) }

func (d *Decision) postpone(change func(*types.Request)) {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	l := &d.leg
	if d.done || d.first || l.at == nil && l.fails > 0 || l.at != nil && !l.open {
		d.mu.Unlock()
		return
	}
	d.release(d.booked)
	if l.at != nil {
		l.release(l.booked)
	}
	d.since, l.since = now, now
	e := event{kind: postponed, at: now, Event: d.event(d.current), change: change}
	e.Outcome = d.timed(types.Outcome{Unsent: true, Retried: true}, now)
	d.scheduler.renew(d, now)
	d.tell(e)
}

// Done reports how the request ended and releases its booking. Later calls do nothing. It must be
// called for every Decision, also after errors and disconnects: use defer.
func (d *Decision) Done(out types.Outcome) {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	d.doneLocked(out, now)
}

// DoneAt is Done for a data plane that learns late, or in batches, that the request ended at t. If t
// is before the request was sent there or had its first token, or more than a second in the future,
// it returns an error, and the request ends now.
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
	ended, tell := d.dropLeg(at)
	d.release(d.booked)
	d.notAlone()
	e := event{kind: finished, at: at, Event: d.event(d.current)}
	e.Outcome = d.outcome
	if tell {
		d.tellBoth(ended, e)
		return
	}
	d.tell(e)
}

// Alive keeps the booking of a request that takes longer than Profile.BookingTTL from expiring. It
// costs a nanosecond; call it whenever there is progress.
func (d *Decision) Alive() {
	if !d.alive.Load() {
		d.alive.Store(true)
	}
}

// EndWith makes e.Done be called once when the decision has ended, by Done or by expiry, after the
// ledger, trackers and hooks; at once if it has already ended. It ties resources such as a place in
// admission control to the booking. A further call replaces e.
func (d *Decision) EndWith(e Ender) {
	d.mu.Lock()
	d.ender = e
	over, out := d.done && !d.telling, d.outcome
	if over {
		d.ender = nil
	}
	d.mu.Unlock()
	if over && e != nil {
		d.scheduler.end(d.Request, e, out)
	}
}

// Settled reports whether the decision has ended and all trackers and hooks have returned, so that
// the scheduler no longer reads the request.
func (d *Decision) Settled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done && !d.telling
}

// Patience returns how long to wait for a response from the current endpoint before moving on to a
// fallback, see Impatient. 0: no limit.
func (d *Decision) Patience() time.Duration { return d.patience(d.Current()) }

// PrefillPatience is Patience with the endpoint that computes the prompt. 0 also if there is none.
func (d *Decision) PrefillPatience() time.Duration {
	ep := d.Prefill()
	if ep == nil {
		return 0
	}
	return d.patience(ep)
}

func (d *Decision) patience(ep *types.Endpoint) time.Duration {
	var least time.Duration
	for _, p := range d.scheduler.impatient {
		if w := d.scheduler.patience(p, d.Request, ep); w > 0 && (least == 0 || w < least) {
			least = w
		}
	}
	return least
}

// timed returns out with the times until now. Caller must hold d.mu.
func (d *Decision) timed(out types.Outcome, now time.Time) types.Outcome {
	out.Duration, out.TTFT = now.Sub(d.At), 0
	if d.first {
		out.TTFT = d.firstAt.Sub(d.At)
	}
	return out
}

// event returns an Event at ep. Caller must hold d.mu, or be d's only owner.
func (d *Decision) event(ep *types.Endpoint) Event {
	return Event{Request: d.Request, At: d.At, Chosen: d.Endpoint, Fallbacks: d.Fallbacks, Endpoint: ep, Prefill: d.leg.at}
}

// release releases b in the ledger. Caller must hold d.mu.
func (d *Decision) release(b types.Booking) {
	if l := d.current.Load; l != nil {
		l.Release(b)
	}
	d.booked.Requests -= b.Requests
	d.booked.Prefilling -= b.Prefilling
	d.booked.PrefillTokens -= b.PrefillTokens
	d.booked.ContextTokens -= b.ContextTokens
	d.booked.Denoise -= b.Denoise
}

// book adds the decision to the ledger and to the list of open bookings, and delivers the event.
func (d *Decision) book() {
	d.scheduler.list(d, d.At)
	d.mu.Lock()
	d.since = d.At
	d.leg.since, d.leg.open = d.At, d.leg.at != nil
	d.tell(event{kind: scheduled, at: d.At, Event: d.event(d.Endpoint)})
}

// enter books the request at ep, unless it has ended or moved on meanwhile. apart: its prompt is computed
// elsewhere. It calls plugins, for estimates, without the lock, and returns what they come to.
func (d *Decision) enter(ep *types.Endpoint, apart bool) (b types.Booking) {
	b = d.scheduler.booking(d.Request, ep)
	if apart {
		b.PrefillTokens = 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done || d.current != ep || d.booked != (types.Booking{}) {
		return b
	}
	d.booked = b
	if d.first { // of a token that came before this was booked
		d.booked.Prefilling, d.booked.PrefillTokens = 0, 0
	}
	if ep.Load != nil {
		ep.Load.Book(d.booked)
	}
	return b
}

// eventKind says what happened to a decision.
type eventKind uint8

const (
	scheduled eventKind = iota
	firstToken
	prefillPicked
	prefilled
	postponed
	retried
	answered
	finished
)

// event is what happened to a decision, and when.
type event struct {
	kind eventKind
	at   time.Time
	Event
	change func(*types.Request) // of the request, before it is picked again
}

// tell delivers an event and those that come meanwhile, or leaves it to the goroutine that is
// delivering an earlier one. It is called with d.mu held, and returns without.
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

// tellBoth delivers two events, one after the other. It is called with d.mu held, and returns without.
func (d *Decision) tellBoth(first, then event) {
	if d.telling {
		d.pending = append(d.pending, first)
	} else {
		d.pending = append(d.pending, then)
		then = first
	}
	d.tell(then)
}

// told continues with the events that came while one was delivered.
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
	if d.idle != nil {
		close(d.idle)
		d.idle = nil
	}
	d.mu.Unlock()
	if ender != nil {
		d.scheduler.end(d.Request, ender, out)
	}
}

// deliver delivers one event to plugins and hooks. Only one goroutine at a time does so for a
// decision, which is why it may write to the request.
func (d *Decision) deliver(e *event) {
	s, h := d.scheduler, &d.scheduler.profile.Hooks
	d.Request.Now = e.at
	switch e.kind {
	case scheduled:
		d.picked(e)
		s.hook(h.Scheduled, "Scheduled", &e.Event)
	case firstToken:
		s.firstToken(d.Request, e.Endpoint)
		s.hook(h.FirstToken, "FirstToken", &e.Event)
	case prefillPicked:
		d.enterLeg(e.Prefill)
		s.prefillPicked(d.Request, e.Prefill, e.Endpoint)
	case prefilled:
		s.prefillFinished(d.Request, e.Prefill, &e.Outcome)
		s.hook(h.Prefilled, "Prefilled", &e.Event)
	case postponed:
		if e.Prefill != nil {
			s.prefillFinished(d.Request, e.Prefill, &types.Outcome{Unsent: true})
		}
		s.finished(d.Request, e.Endpoint, &e.Outcome)
		if e.change != nil {
			s.change(d.Request, e.change)
			s.reread(d.Request)
		}
		d.picked(e)
	case retried:
		s.finished(d.Request, e.From, &e.Outcome)
		d.picked(e)
		s.hook(h.Retried, "Retried", &e.Event)
	case answered:
		s.answered(d.Request, e.Endpoint, &e.Outcome)
		d.forgetPrompt()
	case finished:
		s.finished(d.Request, e.Endpoint, &e.Outcome)
		s.hook(h.Finished, "Finished", &e.Event)
	}
}

// picked books what an event says was picked, and tells the plugins.
func (d *Decision) picked(e *event) {
	s := d.scheduler
	if e.Prefill != nil {
		d.enterLeg(e.Prefill)
		s.prefillPicked(d.Request, e.Prefill, e.Endpoint)
	}
	e.Booked = d.enter(e.Endpoint, e.Prefill != nil)
	s.picked(d.Request, e.Endpoint)
}
