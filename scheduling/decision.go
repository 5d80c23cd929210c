package scheduling

import (
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Decision is where a request goes, booked in the ledger of its endpoint until
// Done. Its methods may be called from any goroutine; the fields do not change.
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

	mu sync.Mutex
	// guarded by mu, which is also held while trackers are called so that they
	// hear of one decision's events in order
	current *types.Endpoint // where the booking is
	booked  types.Booking   // what is to be released
	first   bool            // the first token was seen
	firstAt time.Time       // when, if it was
	done    bool

	// guarded by scheduler.mu
	listed     bool
	prev, next *Decision
	expires    time.Time
}

// Current returns the endpoint at which the request is booked: Endpoint, or the
// one that Retry moved it to.
func (d *Decision) Current() *types.Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// FirstToken reports that the first token of the response was seen: the prefill
// is over, and its tokens leave the ledger. Calls after the first, and after
// Done, do nothing.
func (d *Decision) FirstToken() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done || d.first {
		return
	}
	d.Request.Now = d.scheduler.profile.Now()
	d.first, d.firstAt = true, d.Request.Now
	d.renew()
	if l := d.current.Load; l != nil {
		l.Release(types.Booking{Prefilling: d.booked.Prefilling, PrefillTokens: d.booked.PrefillTokens})
	}
	d.booked.Prefilling, d.booked.PrefillTokens = 0, 0
	for _, t := range d.scheduler.trackers {
		t.FirstToken(d.Request, d.current)
	}
	if h := d.scheduler.profile.Hooks.FirstToken; h != nil {
		h(d, d.current)
	}
}

// Retry reports that the data plane went on to ep, as a rule one of Fallbacks:
// the booking moves there, with the whole prefill owed again. After Done, or
// with nil, it does nothing.
func (d *Decision) Retry(ep *types.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done || ep == nil {
		return
	}
	from := d.current
	d.Request.Now = d.scheduler.profile.Now()
	d.leaveLocked(d.timed(types.Outcome{Retried: true}))
	d.enterLocked(ep)
	d.renew()
	if h := d.scheduler.profile.Hooks.Retried; h != nil {
		h(d, from, ep)
	}
}

// Done reports how the request ended and releases what is left of its booking.
// The first call counts; later ones do nothing. It must be called for every
// Decision, also after errors and disconnects: use defer.
func (d *Decision) Done(out types.Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return
	}
	d.done = true
	d.Request.Now = d.scheduler.profile.Now()
	d.scheduler.mu.Lock()
	d.scheduler.open.remove(d)
	d.scheduler.mu.Unlock()
	out = d.timed(out)
	d.leaveLocked(out)
	if h := d.scheduler.profile.Hooks.Finished; h != nil {
		h(d, d.current, out)
	}
}

// timed returns out with how long the request took until Request.Now. Caller must
// hold d.mu.
func (d *Decision) timed(out types.Outcome) types.Outcome {
	out.Duration, out.TTFT = d.Request.Now.Sub(d.At), 0
	if d.first {
		out.TTFT = d.firstAt.Sub(d.At)
	}
	return out
}

// book enters the decision into the ledger and into the list of open bookings.
// If a plugin or hook panics, the booking is taken back.
func (d *Decision) book() {
	s := d.scheduler
	s.mu.Lock()
	s.open.add(d, d.Request.Now.Add(s.profile.BookingTTL))
	s.mu.Unlock()
	complete := false
	defer func() {
		if !complete {
			d.Done(types.Outcome{Cancelled: true})
		}
	}()
	d.enter()
	if h := s.profile.Hooks.Scheduled; h != nil {
		h(d)
	}
	complete = true
}

func (d *Decision) enter() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.enterLocked(d.Endpoint)
}

// enterLocked books the request at ep and tells the trackers. Caller must hold
// d.mu.
func (d *Decision) enterLocked(ep *types.Endpoint) {
	s, req := d.scheduler, d.Request
	prompt, uncached := req.Prompt.Tokens, req.Prompt.Tokens
	if s.estimator != nil {
		uncached = max(prompt-s.estimator.CachedTokens(req, ep), 0)
	}
	output := s.profile.OutputTokens
	if s.outputs != nil {
		output = max(s.outputs.ExpectedOutput(req), 0)
	}
	if req.MaxTokens > 0 {
		output = min(output, req.MaxTokens)
	}
	d.current, d.first = ep, false
	d.booked = types.Booking{Requests: 1, Prefilling: 1, PrefillTokens: int64(uncached), ContextTokens: int64(prompt + output)}
	if ep.Load != nil {
		ep.Load.Book(d.booked)
	}
	for _, t := range s.trackers {
		t.Picked(req, ep)
	}
}

// leaveLocked releases the booking and tells the trackers. Caller must hold d.mu.
func (d *Decision) leaveLocked(out types.Outcome) {
	if l := d.current.Load; l != nil {
		l.Release(d.booked)
	}
	d.booked = types.Booking{}
	for _, t := range d.scheduler.trackers {
		t.Finished(d.Request, d.current, out)
	}
}

// renew puts off the expiry after a sign of life at Request.Now.
func (d *Decision) renew() {
	s := d.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.listed {
		s.open.remove(d)
		s.open.add(d, d.Request.Now.Add(s.profile.BookingTTL))
	}
}
