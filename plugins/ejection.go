package plugins

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Defaults and limits of Ejection.
const (
	DefaultEjectionFailures = 3
	LimitEjectionFailures   = 1000
	DefaultEjectionBase     = time.Second
	DefaultEjectionMax      = time.Minute
	LimitEjectionMax        = 24 * time.Hour
	DefaultEjectionSpare    = 500 * time.Millisecond
	DefaultEjectionMaxSpare = 30 * time.Second
)

// Bounds of what Ejection.Patience returns.
const (
	MinPatience     = 100 * time.Millisecond // at least
	UnknownPatience = 10 * time.Second       // while it is not known what is usual
)

// EjectionOptions configure Ejection. The zero value is good.
type EjectionOptions struct {
	// Failures is how many failures in a row eject an endpoint. Default
	// DefaultEjectionFailures; at most LimitEjectionFailures.
	Failures int
	// Base is how long the first ejection lasts. Each one that follows in a row
	// lasts twice as long. Default DefaultEjectionBase, or Max if that is shorter.
	Base time.Duration
	// Max is what the doubling ends at. Default DefaultEjectionMax, or Base if that
	// is longer; at most LimitEjectionMax.
	Max time.Duration
	// Spare is for how long an endpoint is spared that is busy and does not say for how
	// long. Default DefaultEjectionSpare, or MaxSpare if that is shorter.
	Spare time.Duration
	// MaxSpare is the longest that one is spared after an answer, whatever it says. Default
	// DefaultEjectionMaxSpare, or Spare if that is longer; at most LimitEjectionMax.
	MaxSpare time.Duration
	// FailClosed strikes out also the last candidates, so that the call ends with a
	// *scheduling.NoEndpointError. By default all are kept if all would be struck
	// out: a request that may fail is better than one that must.
	FailClosed bool
}

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
type Ejection struct {
	o        EjectionOptions
	key      *types.Key[*attempt]
	attempts sync.Pool // of *attempt
	usual    usualTimes
	pulses   endpointTable[pulse]

	// How many ejections there were. Changed under the lock of table.
	ejections atomic.Uint64
	// How many endpoints are struck out or on probation, how many of them not because they
	// are busy, and of how many a success would change anything: while there are none,
	// nobody takes the lock.
	out, ejected, watched atomic.Int64

	// Endpoints that have ever failed or been busy, until they are forgotten.
	table endpointTable[suspect]
}

// NewEjection returns an Ejection, or what is wrong with o.
func NewEjection(o EjectionOptions) (*Ejection, error) {
	if o.Failures < 0 || o.Failures > LimitEjectionFailures {
		return nil, fmt.Errorf("plugins: ejection Failures is %d, want 1 to %d, or 0 for the default %d", o.Failures, LimitEjectionFailures, DefaultEjectionFailures)
	}
	if o.Failures == 0 {
		o.Failures = DefaultEjectionFailures
	}
	for _, p := range []struct {
		name, maxName     string
		first, most       *time.Duration
		defFirst, defMost time.Duration
	}{
		{"Base", "Max", &o.Base, &o.Max, DefaultEjectionBase, DefaultEjectionMax},
		{"Spare", "MaxSpare", &o.Spare, &o.MaxSpare, DefaultEjectionSpare, DefaultEjectionMaxSpare},
	} {
		switch {
		case *p.first < 0 || *p.first > LimitEjectionMax:
			return nil, fmt.Errorf("plugins: ejection %s is %v, want more than 0 and at most %v, or 0 for the default %v", p.name, *p.first, LimitEjectionMax, p.defFirst)
		case *p.most < 0 || *p.most > LimitEjectionMax:
			return nil, fmt.Errorf("plugins: ejection %s is %v, want more than 0 and at most %v, or 0 for the default %v", p.maxName, *p.most, LimitEjectionMax, p.defMost)
		case *p.most > 0 && *p.most < *p.first:
			return nil, fmt.Errorf("plugins: ejection %s is %v, want at least %s, which is %v", p.maxName, *p.most, p.name, *p.first)
		}
		if *p.most == 0 {
			*p.most = max(p.defMost, *p.first)
		}
		if *p.first == 0 {
			*p.first = min(p.defFirst, *p.most)
		}
	}
	return &Ejection{
		o: o, key: types.NewKey[*attempt]("ejection"),
		attempts: sync.Pool{New: func() any { return new(attempt) }},
	}, nil
}

// newEjectionFrom is the Factory of Ejection.
func newEjectionFrom(p json.RawMessage) (any, error) {
	var c struct {
		Failures   int    `json:"failures"`
		Base       string `json:"base"`
		Max        string `json:"max"`
		Spare      string `json:"spare"`
		MaxSpare   string `json:"maxSpare"`
		FailClosed bool   `json:"failClosed"`
	}
	if err := Parameters(p, &c); err != nil {
		return nil, err
	}
	o := EjectionOptions{Failures: c.Failures, FailClosed: c.FailClosed}
	for _, d := range []struct {
		name, text string
		to         *time.Duration
	}{{"base", c.Base, &o.Base}, {"max", c.Max, &o.Max}, {"spare", c.Spare, &o.Spare}, {"maxSpare", c.MaxSpare, &o.MaxSpare}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil || v <= 0 {
			return nil, fmt.Errorf("%s is %q, want a duration above 0 such as \"1s\"", d.name, d.text)
		}
		*d.to = v
	}
	return NewEjection(o)
}

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
	case s.out && req.Now.Before(s.until):
		return fmt.Sprintf("ejected for %v more after %s", more(s.until), s.cause)
	case s.out && s.probing > 0:
		return "on probation, with a request in flight"
	case req.Now.Before(s.spared):
		return fmt.Sprintf("busy, spared for %v more", more(s.spared))
	case s.out:
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
	out := s != nil && s.out
	f.table.mu.RUnlock()
	if !out {
		return 0
	}
	return f.patience(classOf(req))
}

func (f *Ejection) patience(class int) time.Duration {
	most, known := f.usual.most(class)
	if !known {
		return UnknownPatience
	}
	return max(most+most/2, MinPatience)
}

// Picked implements scheduling.Tracker.
func (f *Ejection) Picked(req *types.Request, ep *types.Endpoint) {
	a := f.sending(req)
	// The order of these two matters: an ejection changes out first. So a request
	// that keeps its number was also counted as probing.
	a.ejections = f.ejections.Load()
	if f.out.Load() > 0 {
		f.table.mu.Lock()
		a.ejections = f.ejections.Load()
		if s := f.table.lookup(ep); s != nil {
			if s.out {
				s.probing++
				a.trial = true
			} else if !req.Now.Before(s.spared) {
				s.spared = time.Time{}
			}
			f.account(s)
		}
		f.table.mu.Unlock()
	}
	if a.pulse = f.pulseOf(ep); a.pulse == nil {
		return
	}
	a.pulse.mu.Lock()
	first := a.pulse.first
	hangs := first != nil && a.pulse.strike(first, req.Now, &f.usual)
	a.pulse.send(a)
	a.pulse.mu.Unlock()
	if hangs {
		f.hangs(req, ep)
	}
}

// FirstToken implements scheduling.Tracker.
func (f *Ejection) FirstToken(req *types.Request, ep *types.Endpoint) {
	a := f.sent(req)
	if a.begun {
		return
	}
	a.begun = true
	if p := a.pulse; p != nil {
		p.mu.Lock()
		p.remove(a)
		p.lives(req.Now, &f.usual)
		p.mu.Unlock()
		f.usual.answered(a.class, req.Now.Sub(a.sent), p, a.sent)
	}
	if f.watched.Load() == 0 {
		return
	}
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.table.lookup(ep); s != nil && a.ejections >= s.ejection {
		s.begins(f.o.Failures)
		f.account(s)
	}
}

// Finished implements scheduling.Tracker.
func (f *Ejection) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	a := f.sent(req)
	v := judge(out, a.begun)
	hangs := f.ends(a, req.Now, v, answers(out, v))
	if hangs {
		f.hangs(req, ep)
	}
	if bad := v == failure || v == noAnswer || v == busy; bad || f.watched.Load() > 0 {
		f.table.mu.Lock()
		s := f.table.lookup(ep)
		if s == nil && bad && !a.blamed {
			s = f.table.enter(ep, func(s *suspect) { s.load = ep.Load })
		}
		if s != nil && a.ejections >= s.ejection {
			f.weigh(s, a, v, req.Now, out)
			f.account(s)
		}
		f.table.mu.Unlock()
	}
	f.forgets(req, a, out.Retried)
}

// ends tells the pulse of where a request was that it ended, and reports whether the
// endpoint hangs.
func (f *Ejection) ends(a *attempt, now time.Time, v verdict, alive bool) (hangs bool) {
	p := a.pulse
	if p == nil {
		return false
	}
	p.mu.Lock()
	switch {
	case alive:
		p.remove(a)
		p.lives(now, &f.usual)
	case v == left:
		hangs = p.strike(a, now, &f.usual)
		p.leaves(a, now)
	}
	p.remove(a)
	p.mu.Unlock()
	if v == success && !a.begun {
		f.usual.answered(a.class, now.Sub(a.sent), p, a.sent)
	}
	return hangs
}

// weigh says what verdict v means for s. Caller must hold the lock for writing.
func (f *Ejection) weigh(s *suspect, a *attempt, v verdict, now time.Time, out types.Outcome) {
	if s.probing > 0 {
		s.probing--
	}
	if v == success {
		s.ends(a.sent, now)
		return
	}
	if a.blamed {
		return
	}
	switch v {
	case busy:
		d := f.o.Spare
		if out.RetryAfter > 0 {
			d = min(out.RetryAfter, f.o.MaxSpare)
		}
		s.spare(now, d)
		a.blamed = true
	case failure:
		n := s.fails(a.begun)
		a.blamed = true
		switch {
		case s.out:
			f.eject(s, now, "a failure on probation")
		case n >= f.o.Failures:
			f.eject(s, now, counted(n, "failure"))
		}
	case noAnswer:
		a.blamed = f.eject(s, now, "a request without an answer")
	case left:
		if s.out && f.vain(s, a, now, out) {
			a.blamed = f.eject(s, now, "a request on probation without a sign of life")
		}
	}
}

// vain reports whether it is enough to end a probation that a request was left: by a data
// plane, or by clients who waited, all together, for longer than one should have to. Those
// who left before half of the answers come are none of them. Caller must hold the lock for
// writing.
func (f *Ejection) vain(s *suspect, a *attempt, now time.Time, out types.Outcome) bool {
	if out.Retried {
		return true
	}
	half, known := f.usual.median(a.class)
	if !known && !out.Cancelled {
		return true
	}
	if waited := now.Sub(a.sent); waited >= half {
		s.silent += waited
	}
	return s.silent >= f.patience(a.class)
}

// hangs ejects ep because it does.
func (f *Ejection) hangs(req *types.Request, ep *types.Endpoint) {
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.table.enter(ep, func(s *suspect) { s.load = ep.Load }); s != nil && !s.out {
		f.eject(s, req.Now, counted(silentRow, "request")+" without a sign of life")
		f.account(s)
	}
}

// Forget implements scheduling.Forgetter. A server that restarted is a new one.
func (f *Ejection) Forget(ep *types.Endpoint) {
	f.pulses.mu.Lock()
	f.pulses.remove(ep)
	f.pulses.mu.Unlock()
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.table.remove(ep); s != nil {
		*s = suspect{load: s.load, barred: s.barred, struckOut: s.struckOut, ejected: s.ejected, watched: s.watched}
		f.account(s)
	}
}

// Ejected returns how many endpoints are ejected or on probation, those that are only
// spared because they are busy not among them.
func (f *Ejection) Ejected() int { return int(f.ejected.Load()) }

// eject ejects s and reports whether it did. Caller must hold the lock for writing.
func (f *Ejection) eject(s *suspect, now time.Time, cause string) bool {
	number := f.ejections.Load() + 1
	if !s.eject(&f.o, number, now, cause) {
		return false
	}
	f.account(s)
	f.ejections.Store(number) // after account: see Picked
	return true
}

// account brings what is read without the lock up to date with s: the counters, and what
// the Load of the endpoint says. Caller must hold the lock for writing.
func (f *Ejection) account(s *suspect) {
	count := func(n *atomic.Int64, was *bool, is bool) {
		if is && !*was {
			n.Add(1)
		} else if !is && *was {
			n.Add(-1)
		}
		*was = is
	}
	count(&f.watched, &s.watched, s.failures+s.doubted > 0 || s.ejection > 0 && s.served.IsZero() || !s.spared.IsZero())
	count(&f.ejected, &s.ejected, s.out)
	count(&f.out, &s.struckOut, s.out || !s.spared.IsZero())
	if bar := s.bar(); bar != s.barred {
		s.barred = bar
		s.load.TakeOut(bar)
	}
}

// pulseOf returns the pulse of ep, nil if it has gone.
func (f *Ejection) pulseOf(ep *types.Endpoint) *pulse {
	f.pulses.mu.RLock()
	p := f.pulses.lookup(ep)
	f.pulses.mu.RUnlock()
	if p != nil {
		return p
	}
	f.pulses.mu.Lock()
	defer f.pulses.mu.Unlock()
	return f.pulses.enter(ep, func(*pulse) {})
}

// sending returns what req keeps from now on, anew after a retry.
func (f *Ejection) sending(req *types.Request) *attempt {
	a, ok := f.key.Get(&req.Attrs)
	if !ok || a == nil || a.owner != req {
		a = f.attempts.Get().(*attempt)
		a.owner = req
		f.key.Set(&req.Attrs, a)
	}
	if p := a.pulse; p != nil { // somebody did not say how the attempt before ended
		p.mu.Lock()
		p.remove(a)
		p.mu.Unlock()
	}
	a.sent, a.class, a.begun, a.trial = req.Now, classOf(req), false, false
	return a
}

// sent returns what req keeps of the moment when it was sent.
func (f *Ejection) sent(req *types.Request) *attempt {
	if a, ok := f.key.Get(&req.Attrs); ok && a != nil && a.owner == req {
		return a
	}
	return &attempt{owner: req, sent: req.Now, class: classOf(req), ejections: f.ejections.Load()}
}

// forgets is told that an attempt is over. If the request goes on, what it was blamed for
// goes with it.
func (f *Ejection) forgets(req *types.Request, a *attempt, goesOn bool) {
	a.pulse = nil
	if goesOn {
		return
	}
	f.key.Set(&req.Attrs, nil)
	*a = attempt{}
	f.attempts.Put(a)
}

// counted prints a number of things for people.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

var (
	_ scheduling.Filter    = (*Ejection)(nil)
	_ scheduling.Describer = (*Ejection)(nil)
	_ scheduling.Tracker   = (*Ejection)(nil)
	_ scheduling.Forgetter = (*Ejection)(nil)
	_ scheduling.Impatient = (*Ejection)(nil)
)
