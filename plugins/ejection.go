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

// Ejection is a Filter that strikes out endpoints that failed this process's own
// requests, seconds before a scrape or a health check notices.
//
// An endpoint is ejected
//
//   - at once if it does not answer: there was an error but no status and no first token,
//     or a status that is none;
//   - by Failures failures in a row of any other kind: a status of 500 to 599 but 501, or an answer
//     that breaks off. A request that was served ends the row. So does a first token,
//     because responses may take minutes; but until a request was served to its end, a
//     response that breaks off goes on with the row, or a server that breaks every
//     response off would never be ejected;
//   - if it hangs: three requests, one after the other, waited much longer for a first
//     token or an answer than is usual (5 times what 97 of 100 requests of similar size
//     take), nobody got either from this endpoint meanwhile, and others answered what was
//     sent to them later. That is noticed when their clients leave or their deadlines
//     end, and when more requests are sent there. What is usual is learned from all
//     endpoints; while it is not known nobody hangs.
//
// These count neither for nor against an endpoint: requests of which nothing was sent
// (Outcome.Unsent), bookings that expired (scheduling.ErrExpired), clients and deadlines
// that did not wait for long, and statuses of 400 to 499, and 501: a server may refuse bad requests
// and still be unable to serve good ones, and clients could hold it in by sending them.
//
// One request counts against one endpoint at most, once, whatever it makes of how many: what
// kills a server or makes it answer 500 is often the request.
//
// An endpoint that says that it is busy (Outcome.Busy: a status of 429, 503 or 529) has not
// failed. It is spared for as long as it asks, or Spare, and then is in as before; also
// if it serves a request that was sent to it after all.
//
// When its time is over an ejected endpoint is on probation: it gets one request at a
// time, until one is served or has a first token, or fails. If it fails, the endpoint
// is ejected again for twice as long. A deadline counts as a failure then, and so does a
// client that leaves after a long wait, and short ones that add up. See Patience for what a
// data plane does to lose no request by the trial. A request that was sent after the
// ejection and succeeds (all endpoints were ejected, or it was a fallback) ends that, too.
// Requests that were sent before count for nothing from then on: many that fail
// together are one event, and a server that shuts down may well finish them.
// One doubling is taken back for each time, as long as the last ejection, that has
// passed since a request was served to its end.
//
// If no candidate would be left, all are kept, unless FailClosed. Decisions that are
// made at the very same moment do not see each other, so that an endpoint on probation
// may get more than one request. The Load of an endpoint that is struck out says so
// (types.Load.Out), also while it is on probation with a request in flight.
//
// It is a Tracker: wire a pointer to it, made by NewEjection, after the filters that
// narrow the candidates. While every endpoint serves, it costs a decision one atomic
// load. Safe for use by several Schedulers, which then share what they learned.
//
// Consecutive failures, an ejection time that grows and the re-admission by trial are
// those of the outlier detection and circuit breakers of service proxies; the trial in
// place of a plain return is what keeps a dead server from failing a burst each time.
// What happens to an endpoint, and when, is a table of the package internal/ejection; this
// type is the locks and the clock around it.
type Ejection struct {
	o        EjectionOptions
	rules    ejection.Rules
	key      *types.Key[*attempt]
	attempts sync.Pool // of *attempt
	baseline baseline
	stalls   endpointTable[stalls]

	// How many ejections there were. Changed under the lock of table.
	ejections atomic.Uint64
	// How many endpoints are struck out or on probation, how many of them not because they
	// are busy, and of how many a success would change anything: while there are none,
	// nobody takes the lock.
	out, ejected, unsettled atomic.Int64

	// Endpoints that have ever failed or been busy, until they are forgotten.
	table endpointTable[endpointHealth]
}

// NewEjection returns an Ejection, or what is wrong with o.
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
func (f *Ejection) Screen(*types.Request, *scheduling.Overview) bool { return f.out.Load() == 0 }

// Filter implements scheduling.Filter.
func (f *Ejection) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
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
	if struck == len(eps) && !f.o.FailClosed {
		keepAll(keep)
	}
	return nil
}

// Describe implements scheduling.Describer.
func (f *Ejection) Describe(req *types.Request, ep *types.Endpoint) string {
	f.table.mu.RLock()
	defer f.table.mu.RUnlock()
	s := f.table.lookup(ep)
	if s == nil {
		return ""
	}
	more := func(until time.Time) time.Duration { return until.Sub(req.Now).Round(time.Millisecond) }
	switch {
	case s.State(req.Now) == ejection.Out:
		return fmt.Sprintf("ejected for %v more after %s", more(s.Until), s.Cause)
	case s.Ejected() && s.InFlight > 0:
		return "on probation, with a request in flight"
	case req.Now.Before(s.Spared):
		return fmt.Sprintf("busy, spared for %v more", more(s.Spared))
	case s.Ejected():
		return "on probation"
	}
	return ""
}

// Patience implements scheduling.Impatient: at an endpoint that is ejected or on probation,
// it is half as long again as what only few take longer than elsewhere, and at least
// MinPatience, so that a request is not lost by the trial: clients that wait for what is
// usual have time left then for another server. A data plane that goes on to a fallback
// reports the attempt with an error that wraps context.DeadlineExceeded, which is a failure
// of the endpoint. While it is not known what is usual it is UnknownPatience.
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
	return f.baseline.patience(ejection.Class(req))
}

// Picked implements scheduling.Tracker.
func (f *Ejection) Picked(req *types.Request, ep *types.Endpoint) {
	a := f.startAttempt(req)
	// The order of these two matters: an ejection changes out first. So a request
	// that keeps its number was also counted as probing.
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
	if a.stalls = f.stallsOf(ep); a.stalls != nil && a.stalls.send(&a.wait, req.Now) {
		f.stalled(req, ep)
	}
}

// FirstToken implements scheduling.Tracker.
func (f *Ejection) FirstToken(req *types.Request, ep *types.Endpoint) {
	a := f.attemptOf(req)
	if a.begun {
		return
	}
	a.begun = true
	if a.stalls != nil {
		a.stalls.begin(&a.wait, req.Now)
	}
	if f.unsettled.Load() == 0 {
		return
	}
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.table.lookup(ep); s != nil && a.ejections >= s.number {
		f.apply(s, ejection.Input{Event: ejection.Began, Now: req.Now})
	}
}

// Finished implements scheduling.Tracker.
func (f *Ejection) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	a := f.attemptOf(req)
	v := judge(out, a.begun)
	if a.stalls != nil && a.stalls.end(&a.wait, req.Now, responded(out, v), v == ejection.Left, v == ejection.Served && !a.begun) {
		f.stalled(req, ep)
	}
	if bad := v == ejection.Failed || v == ejection.Unanswered || v == ejection.Busy; bad || f.unsettled.Load() > 0 {
		f.table.mu.Lock()
		s := f.table.lookup(ep)
		if s == nil && bad && !a.wait.Counted {
			s = f.healthOf(ep)
		}
		if s != nil && a.ejections >= s.number {
			f.ended(s, a, v, req.Now, out)
		}
		f.table.mu.Unlock()
	}
	f.release(req, a, out.Retried)
}

// ended tells s how an attempt ended. Caller must hold the lock for writing.
func (f *Ejection) ended(s *endpointHealth, a *attempt, v ejection.Event, now time.Time, out types.Outcome) {
	in := ejection.Input{Event: v, Now: now, Sent: a.wait.Sent, Begun: a.begun}
	switch {
	case a.wait.Counted && v != ejection.Served:
		in.Event = ejection.Ended
	case v == ejection.Busy:
		in.Spare = f.o.Spare
		if out.RetryAfter > 0 {
			in.Spare = min(out.RetryAfter, f.o.MaxSpare)
		}
	case v == ejection.Left && s.Ejected() && !out.Retried:
		in.Waited, in.Patience = f.waited(a, now, out.Cancelled)
	}
	if f.apply(s, in) {
		a.wait.Counted = true
	}
}

// waited returns for how long a request was waited for that was then left, and for how long
// all of these have to wait together, which is not at all for a deadline while nothing is
// known. Who left before half of the answers come did not wait.
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
		f.apply(s, ejection.Input{Event: ejection.Stalled, Now: req.Now})
	}
}

// healthOf returns what is kept of ep, entering it if it is new, and nil if it has gone.
// Caller must hold the lock for writing.
func (f *Ejection) healthOf(ep *types.Endpoint) *endpointHealth {
	return f.table.enter(ep, func(s *endpointHealth) { s.load = ep.Load })
}

// Forget implements scheduling.Forgetter. A server that restarted is a new one.
func (f *Ejection) Forget(ep *types.Endpoint) {
	f.stalls.mu.Lock()
	f.stalls.remove(ep)
	f.stalls.mu.Unlock()
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.table.remove(ep); s != nil {
		s.Server, s.number = ejection.Server{}, 0
		f.account(s)
	}
}

// Ejected returns how many endpoints are ejected or on probation, those that are only
// spared because they are busy not among them.
func (f *Ejection) Ejected() int { return int(f.ejected.Load()) }

// apply lets s take a step, and reports whether that counts against it. Caller must hold the
// lock for writing.
func (f *Ejection) apply(s *endpointHealth, in ejection.Input) (counted bool) {
	ejected, counted := s.Apply(f.rules, in)
	if !ejected {
		f.account(s)
		return counted
	}
	s.number = f.ejections.Load() + 1
	f.account(s)
	f.ejections.Store(s.number) // after account: see Picked
	return counted
}

// account brings what is read without the lock up to date with s: the counters, and what
// the Load of the endpoint says. Caller must hold the lock for writing.
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

// stallsOf returns the stalls of ep, nil if it has gone.
func (f *Ejection) stallsOf(ep *types.Endpoint) *stalls {
	f.stalls.mu.RLock()
	s := f.stalls.lookup(ep)
	f.stalls.mu.RUnlock()
	if s != nil {
		return s
	}
	f.stalls.mu.Lock()
	defer f.stalls.mu.Unlock()
	return f.stalls.enter(ep, func(s *stalls) { s.baseline = &f.baseline })
}

// startAttempt returns what req keeps from now on, anew after a retry.
func (f *Ejection) startAttempt(req *types.Request) *attempt {
	a, ok := f.key.Get(&req.Attrs)
	if !ok || a == nil || a.owner != req {
		a = f.attempts.Get().(*attempt)
		a.owner = req
		f.key.Set(&req.Attrs, a)
	}
	if a.stalls != nil { // somebody did not say how the attempt before ended
		a.stalls.forget(&a.wait)
	}
	a.wait.Sent, a.wait.Class, a.wait.Trial, a.begun = req.Now, ejection.Class(req), false, false
	return a
}

// attemptOf returns what req keeps of the moment when it was sent.
func (f *Ejection) attemptOf(req *types.Request) *attempt {
	if a, ok := f.key.Get(&req.Attrs); ok && a != nil && a.owner == req {
		return a
	}
	return &attempt{owner: req, ejections: f.ejections.Load(), wait: ejection.Wait{Sent: req.Now, Class: ejection.Class(req)}}
}

// release is told that an attempt is over. If the request goes on, that it counted against
// an endpoint goes with it.
func (f *Ejection) release(req *types.Request, a *attempt, goesOn bool) {
	a.stalls = nil
	if goesOn {
		return
	}
	f.key.Set(&req.Attrs, nil)
	*a = attempt{}
	f.attempts.Put(a)
}

var (
	_ scheduling.Filter    = (*Ejection)(nil)
	_ scheduling.Screener  = (*Ejection)(nil)
	_ scheduling.Describer = (*Ejection)(nil)
	_ scheduling.Tracker   = (*Ejection)(nil)
	_ scheduling.Forgetter = (*Ejection)(nil)
	_ scheduling.Impatient = (*Ejection)(nil)
)
