package plugins

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/ejection"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Ejection is a Filter that removes endpoints that fail this process's own requests, seconds
// before a scrape or a health check would notice. It works like outlier detection and circuit
// breakers in service proxies: consecutive failures, growing ejection times, and re-admission by
// a trial request, so that a dead server does not fail a whole burst each time it is tried.
//
// An endpoint is ejected
//
//   - at once if it does not answer: there was an error but no status and no first token, or an
//     invalid status;
//   - after Failures other failures in a row: a status of 500 to 599 except 501, or a response
//     that breaks off. A request that is served ends the row. So does a first token, since
//     responses may take minutes; but until a request has been served completely, a response that
//     breaks off continues the row, so that a server that breaks off every response is ejected;
//   - if it hangs: three requests, one after the other, waited much longer than usual for a first
//     token or a response (5 times the 97th percentile for requests of similar size), the endpoint
//     gave neither to any request meanwhile, and others answered requests sent later. This is
//     noticed when clients leave, deadlines expire, or more requests are sent there. What is usual
//     is learned from all endpoints; until then no endpoint is taken to hang.
//
// Requests that were not sent (Outcome.Unsent), expired bookings (scheduling.ErrExpired), clients
// and deadlines that did not wait long, and statuses 400 to 499 and 501 count neither for nor
// against an endpoint: a server that refuses bad requests may still be unable to serve good ones.
// A request counts at most once, against one endpoint, however often it is retried: often it is
// the request that kills a server or makes it answer 500.
//
// An endpoint that is busy (Outcome.Busy) has not failed. It gets no requests for as long as it
// asks, or for Spare, or until it serves a request that was sent to it anyway.
//
// After an ejection an endpoint is on probation: it gets one request at a time until one is served,
// gets a first token, or fails. If it fails, the endpoint is ejected again for twice as long.
// During probation a deadline also counts as a failure, and so do a client that leaves after a
// long wait and several that leave after short ones. See Patience for how a data plane avoids
// losing trial requests. A request sent during the ejection (because all endpoints are ejected, or
// as a fallback) ends it if it succeeds. Requests sent before the ejection no longer count: many
// failures at once are one event, and a server that shuts down may finish its requests. One
// doubling is taken back per period, as long as the last ejection, since a request was last served
// completely.
//
// If one endpoint computes the prompt and another one answers, the request for the prompt is an
// attempt of its own: only the endpoint that computes it is to blame for that. The one that answers
// is not taken to hang, and clients who leave do not count against it, until the prompt has been
// computed, as only then it is asked, or can go on. What is usual is learned separately for prompts
// alone and for answers alone.
//
// Where several gateways share what they know (package scheduling/sharing), each tells the others which
// endpoints it has out because its own requests failed there. To the others this is a vote. It puts an
// endpoint on probation at once if the peer was refused a connection, and else together with failures
// here or the votes of several peers, one each, that complete the row; it never ejects. A request sent
// later that is answered ends such a probation, and peers that it proves wrong are not believed for a
// while, which doubles. While peers have the same endpoint out, a gateway whose ejection is over waits
// until theirs are, too, and a random time longer, so that mostly one of them tries a dead endpoint; each
// peer may extend an ejection once by as much as it lasts.
//
// If no candidate would be left all are kept, unless FailClosed is set. Simultaneous decisions do
// not see each other, so an endpoint on probation may get more than one request. types.Load.Out
// reports endpoints that get no requests, including those whose trial request is in flight.
//
// Create it with NewEjection, and place it after the filters that narrow the candidates. It is a
// Tracker and a PrefillTracker. While all endpoints serve, it costs one atomic load per decision. It may be used by
// several Schedulers, which then share what it learned.
//
// What a restart should not lose are the endpoints that are out and the usual response times: it is a
// sharing.SnapshotPart.
//
// The states of an endpoint are a table in internal/ejection; this type adds locks and a clock.
type Ejection struct {
	o        EjectionOptions
	rules    ejection.Rules
	key      *types.Key[*attempt]
	attempts sync.Pool // of *attempt
	baseline baseline
	stalls   endpointTable[stalls]

	// Number of ejections and doubts so far. Changed under the lock of table.
	ejections atomic.Uint64
	// Number of endpoints that are ejected, on probation or busy; that are ejected or on
	// probation; and whose state a success would change. The lock is only taken if there are any.
	out, ejected, unsettled atomic.Int64

	// Endpoints that have ever failed or been busy, until they are forgotten.
	table endpointTable[endpointHealth]

	// Endpoints by ID, and how many of them only peers or a snapshot have told of.
	names names
	unmet atomic.Int64
}

// NewEjection returns an Ejection, or an error that lists all invalid options.
func NewEjection(o EjectionOptions) (*Ejection, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Ejection{
		o: o, rules: ejection.Rules{Failures: o.Failures, Base: o.Base, Max: o.Max},
		key:      types.NewKey[*attempt]("ejection"),
		attempts: sync.Pool{New: func() any { return new(attempt) }},
	}, nil
}

// Screen implements scheduling.Screener.
func (f *Ejection) Screen(*types.Request, *scheduling.Overview) bool {
	return f.out.Load() == 0 && f.unmet.Load() == 0
}

// Filter implements scheduling.Filter.
func (f *Ejection) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	if f.unmet.Load() > 0 {
		f.meet(eps...)
	}
	if f.out.Load() == 0 {
		return nil
	}
	f.table.mu.RLock()
	defer f.table.mu.RUnlock()
	struck := 0
	for i, ep := range eps {
		if s := f.table.lookup(ep); s != nil && req.Now.Before(s.barred) {
			keep[i] = false
			struck++
		}
	}
	if struck == len(eps) {
		f.keepFailing(req, eps, keep)
	}
	return nil
}

// keepFailing keeps all endpoints, or, with FailClosed, those that only peers say to fail. Caller must
// hold the lock.
func (f *Ejection) keepFailing(req *types.Request, eps []*types.Endpoint, keep []bool) {
	if !f.o.FailClosed {
		keepAll(keep)
		return
	}
	for i, ep := range eps {
		s := f.table.lookup(ep)
		keep[i] = s.Doubted() && !req.Now.Before(s.Spared)
	}
}

// Describe implements scheduling.Describer.
func (f *Ejection) Describe(req *types.Request, ep *types.Endpoint) string {
	f.table.mu.RLock()
	defer f.table.mu.RUnlock()
	s := f.table.lookup(ep)
	if s == nil {
		return ""
	}
	left := func(until time.Time) time.Duration { return until.Sub(req.Now).Round(time.Millisecond) }
	switch {
	case s.State(req.Now) == ejection.Out:
		return fmt.Sprintf("ejected for %v more after %s", left(s.Until), s.Cause) + peersToo(s.Peers(req.Now))
	case s.Ejected() && s.InFlight > 0:
		return "on probation, with a request in flight" + doubtOf(s)
	case req.Now.Before(s.Spared):
		return fmt.Sprintf("busy, spared for %v more", left(s.Spared))
	case s.Ejected():
		return "on probation" + doubtOf(s)
	}
	return ""
}

// peersToo describes how many peers have an ejected endpoint out.
func peersToo(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "; 1 peer has it out, too"
	}
	return fmt.Sprintf("; %d peers have it out, too", n)
}

// doubtOf describes why peers have an endpoint on probation, if they do.
func doubtOf(s *endpointHealth) string {
	if !s.Doubted() {
		return ""
	}
	return ": " + s.Cause
}

// Patience implements scheduling.Impatient. For an endpoint that is ejected or on probation it is
// 1.5 times a high percentile of the usual response time, at least MinPatience, and UnknownPatience
// while that time is unknown. A client that waits for the usual time then still has time left for
// another server. A data plane that moves on to a fallback reports the attempt with an error that
// wraps context.DeadlineExceeded, which counts as a failure of the endpoint.
func (f *Ejection) Patience(req *types.Request, ep *types.Endpoint) time.Duration {
	if f.ejected.Load() == 0 {
		return 0
	}
	f.table.mu.RLock()
	s := f.table.lookup(ep)
	out := s != nil && s.Ejected()
	f.table.mu.RUnlock()
	if !out {
		return 0
	}
	whole := ejection.Class(req, ejection.Whole)
	if req.Split && !f.baseline.knows(whole) {
		return f.baseline.patience(ejection.Class(req, ejection.Prompt), ejection.Class(req, ejection.Answer))
	}
	return f.baseline.patience(whole)
}

// Picked implements scheduling.Tracker.
func (f *Ejection) Picked(req *types.Request, ep *types.Endpoint) {
	a := f.requestOf(req)
	a.held = a.prefill != nil
	f.pick(a, req, ep)
	if !a.held {
		f.start(a, req, ejection.Whole)
	}
}

// PrefillPicked implements scheduling.PrefillTracker.
func (f *Ejection) PrefillPicked(req *types.Request, prefill, _ *types.Endpoint) {
	a := f.requestOf(req)
	a.stop()
	a.held = true
	if a.prefill != nil { // the end of which was not reported
		f.recycle(a.prefill)
	}
	leg := f.attempts.Get().(*attempt)
	leg.wait.Counted, a.prefill = a.wait.Counted, leg
	f.pick(leg, req, prefill)
	f.start(leg, req, ejection.Prompt)
}

// FirstToken implements scheduling.Tracker. An answer that begins before the request for its prompt
// has ended is a sign of life of the endpoint that computed it, too.
func (f *Ejection) FirstToken(req *types.Request, ep *types.Endpoint) {
	a := f.attemptOf(req)
	if leg := a.prefill; leg != nil {
		f.began(leg, req, leg.endpoint, true)
	}
	f.began(a, req, ep, true)
}

// Answered implements scheduling.AnswerTracker. How quickly a server takes a job tells nothing of how long one waits for
// other answers.
func (f *Ejection) Answered(req *types.Request, ep *types.Endpoint, _ types.Outcome) {
	f.began(f.attemptOf(req), req, ep, false)
}

// PrefillFinished implements scheduling.PrefillTracker.
func (f *Ejection) PrefillFinished(req *types.Request, prefill *types.Endpoint, out types.Outcome) {
	a := f.attemptOf(req)
	leg := a.prefill
	if leg == nil {
		return
	}
	f.finish(leg, req, prefill, out)
	if leg.wait.Counted {
		a.stop()
		a.wait.Counted = true
	}
	a.prefill = nil
	f.recycle(leg)
	if out.Served() && a.held && !a.begun && a.endpoint != nil {
		a.held = false
		f.start(a, req, ejection.Answer)
	}
}

// Finished implements scheduling.Tracker. If the request is retried, the next attempt inherits
// whether it has counted against an endpoint.
func (f *Ejection) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	a := f.attemptOf(req)
	f.finish(a, req, ep, out)
	a.endpoint = nil
	if a.prefill != nil { // the end of which was not reported
		f.recycle(a.prefill)
		a.prefill = nil
	}
	if !out.Retried {
		f.key.Set(&req.Attrs, nil)
		f.recycle(a)
	}
}

// pick begins an attempt at ep.
func (f *Ejection) pick(a *attempt, req *types.Request, ep *types.Endpoint) {
	if f.unmet.Load() > 0 {
		f.meet(ep)
	}
	a.stop() // if the end of the previous attempt was not reported
	a.endpoint, a.begun, a.wait.Trial, a.wait.Sent = ep, false, false, req.Now
	// The order of these two matters: an ejection changes out first. So a request that keeps
	// this number was also counted as a trial.
	a.ejections = f.ejections.Load()
	if f.out.Load() > 0 {
		f.table.mu.Lock()
		a.ejections = f.ejections.Load()
		if s := f.table.lookup(ep); s != nil {
			a.wait.Trial = s.Ejected()
			f.apply(s, ejection.Input{Event: ejection.Sent, Now: req.Now})
		}
		f.table.mu.Unlock()
	}
}

// start begins to wait for a response to that part of the request.
func (f *Ejection) start(a *attempt, req *types.Request, part ejection.Part) {
	a.wait.Sent, a.wait.Class = req.Now, ejection.Class(req, part)
	if a.stalls = f.stallsOf(a.endpoint); a.stalls != nil && a.stalls.send(&a.wait, req.Now) {
		f.stalled(req, a.endpoint)
	}
}

// began notes the first token of an attempt, or another answer if it is none.
func (f *Ejection) began(a *attempt, req *types.Request, ep *types.Endpoint, token bool) {
	if a.begun {
		return
	}
	a.begun = true
	if s := f.stallsFor(a, ep); s != nil {
		s.begin(&a.wait, req.Now, token && !a.held)
	}
	if f.unsettled.Load() == 0 {
		return
	}
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.table.lookup(ep); s != nil && a.ejections >= s.number {
		f.apply(s, ejection.Input{Event: ejection.Began, Now: req.Now, Sent: a.wait.Sent, Early: a.ejections < s.doubt})
	}
}

// finish judges how an attempt ended.
func (f *Ejection) finish(a *attempt, req *types.Request, ep *types.Endpoint, out types.Outcome) {
	v := judge(out, a.begun)
	if a.held && unasked(out, v) {
		v = ejection.Ended
	}
	if s := f.stallsFor(a, ep); s != nil && s.end(&a.wait, req.Now, responded(out, v), v == ejection.Left, v == ejection.Served && !a.begun && !a.held) {
		f.stalled(req, ep)
	}
	a.stalls = nil
	if bad := v == ejection.Failed || v == ejection.Unanswered || v == ejection.Busy; bad || f.unsettled.Load() > 0 {
		f.table.mu.Lock()
		defer f.table.mu.Unlock()
		s := f.table.lookup(ep)
		if s == nil && bad && !a.wait.Counted {
			s = f.healthOf(ep)
		}
		if s != nil && a.ejections >= s.number {
			f.ended(s, a, v, req, out)
		}
	}
}

// ended applies the end of an attempt to s. Caller must hold the lock for writing.
func (f *Ejection) ended(s *endpointHealth, a *attempt, v ejection.Event, req *types.Request, out types.Outcome) {
	in := ejection.Input{
		Event: v, Now: req.Now, Sent: a.wait.Sent, Begun: a.begun, Early: a.ejections < s.doubt,
		Refused: v == ejection.Unanswered && refused(out.Err), Luck: luck(req),
	}
	switch {
	case a.wait.Counted && v != ejection.Served:
		in.Event = ejection.Ended
	case v == ejection.Busy:
		in.Spare = f.o.Spare
		if out.RetryAfter > 0 {
			in.Spare = min(out.RetryAfter, f.o.MaxSpare)
		}
	case v == ejection.Left && s.Ejected() && !out.Retried:
		in.Waited, in.Patience = f.waited(a, req.Now, out.Cancelled)
	}
	if f.apply(s, in) {
		a.wait.Counted = true
	}
}

// waited returns how long the client of an abandoned request waited, and how long all such clients
// together must have waited to count as a failure. A client that left before the median response
// time did not wait. A deadline counts at once while nothing is known.
func (f *Ejection) waited(a *attempt, now time.Time, cancelled bool) (waited, patience time.Duration) {
	half, known := f.baseline.median(a.wait.Class)
	if !known && !cancelled {
		return 0, 0
	}
	if waited = now.Sub(a.wait.Sent); waited < half {
		waited = 0
	}
	return waited, f.baseline.patience(a.wait.Class)
}

// stalled ejects ep because it stalls.
func (f *Ejection) stalled(req *types.Request, ep *types.Endpoint) {
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.healthOf(ep); s != nil {
		f.apply(s, ejection.Input{Event: ejection.Stalled, Now: req.Now, Luck: luck(req)})
	}
}

// healthOf returns the health of ep, adding it if it is new, and nil if ep was removed. Caller
// must hold the lock for writing.
func (f *Ejection) healthOf(ep *types.Endpoint) *endpointHealth {
	return f.table.enter(ep, func(s *endpointHealth) { s.id, s.load = ep.ID, ep.Load })
}

// Forget implements scheduling.Forgetter. A server that restarted is a new one.
func (f *Ejection) Forget(ep *types.Endpoint) {
	f.stalls.mu.Lock()
	f.stalls.remove(ep)
	f.stalls.mu.Unlock()
	f.names.forget(ep.Load)
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.table.remove(ep); s != nil {
		s.Server, s.number, s.doubt = ejection.Server{}, 0, 0
		f.account(s)
	}
}

// Ejected returns the number of endpoints that are ejected or on probation, be it by the word of peers,
// not counting those that are merely busy.
func (f *Ejection) Ejected() int { return int(f.ejected.Load()) }

// apply applies an input to s, and reports whether it counts against the endpoint. Caller must
// hold the lock for writing.
func (f *Ejection) apply(s *endpointHealth, in ejection.Input) (counted bool) {
	doubted := s.Doubted()
	ejected, counted := s.Apply(f.rules, in)
	next := f.ejections.Load() + 1
	switch {
	case ejected:
		s.number = next
	case !doubted && s.Doubted():
		s.doubt = next
	default:
		next--
	}
	f.account(s)
	f.ejections.Store(next) // after account: see pick
	return counted
}

// account updates what is read without the lock, the counters and the Load of the endpoint, from
// s. Caller must hold the lock for writing.
func (f *Ejection) account(s *endpointHealth) {
	count := func(n *atomic.Int64, was *bool, is bool) {
		if is && !*was {
			n.Add(1)
		} else if !is && *was {
			n.Add(-1)
		}
		*was = is
	}
	count(&f.unsettled, &s.unsettled, !s.Settled())
	count(&f.ejected, &s.ejected, s.Ejected())
	count(&f.out, &s.struckOut, s.Ejected() || !s.Spared.IsZero())
	if bar := s.Barred(); bar != s.barred {
		s.barred = bar
		s.load.TakeOut(bar)
	}
}

// stallsOf returns the stalls of ep, or nil if it was removed.
func (f *Ejection) stallsOf(ep *types.Endpoint) *stalls {
	f.stalls.mu.RLock()
	s := f.stalls.lookup(ep)
	f.stalls.mu.RUnlock()
	if s != nil {
		return s
	}
	f.stalls.mu.Lock()
	s = f.stalls.enter(ep, func(s *stalls) { s.baseline = &f.baseline })
	f.stalls.mu.Unlock()
	if s != nil {
		f.greet(ep)
	}
	return s
}

// stallsFor returns the stalls of ep, where a is or, since it is held, will be; nil if ep was removed
// or never heard of.
func (f *Ejection) stallsFor(a *attempt, ep *types.Endpoint) *stalls {
	if !a.held {
		return a.stalls
	}
	f.stalls.mu.RLock()
	defer f.stalls.mu.RUnlock()
	return f.stalls.lookup(ep)
}

// requestOf returns the attempt of req, or a new one that has not begun.
func (f *Ejection) requestOf(req *types.Request) *attempt {
	a, ok := f.key.Get(&req.Attrs)
	if !ok || a == nil || a.owner != req {
		a = f.attempts.Get().(*attempt)
		a.owner = req
		f.key.Set(&req.Attrs, a)
	}
	return a
}

// attemptOf returns the current attempt of req, or one that begins now if it has none.
func (f *Ejection) attemptOf(req *types.Request) *attempt {
	if a, ok := f.key.Get(&req.Attrs); ok && a != nil && a.owner == req {
		return a
	}
	return &attempt{owner: req, ejections: f.ejections.Load(), wait: ejection.Wait{Sent: req.Now, Class: ejection.Class(req, ejection.Whole)}}
}

// stop ends the wait of an attempt.
func (a *attempt) stop() {
	if a.stalls != nil {
		a.stalls.forget(&a.wait)
		a.stalls = nil
	}
}

// recycle ends an attempt for good.
func (f *Ejection) recycle(a *attempt) {
	a.stop()
	*a = attempt{}
	f.attempts.Put(a)
}

var (
	_ scheduling.Filter         = (*Ejection)(nil)
	_ scheduling.PrefillTracker = (*Ejection)(nil)
)
