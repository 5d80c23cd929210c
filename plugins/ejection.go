package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	// FailClosed strikes out also the last candidates, so that the call ends with a
	// *scheduling.NoEndpointError. By default all are kept if all would be struck
	// out: a request that may fail is better than one that must.
	FailClosed bool
}

// Ejection is a Filter that strikes out endpoints that failed this process's own
// requests, seconds before a scrape or a health check notices.
//
// An endpoint is ejected at once if it does not answer: there was an error, no
// status and no first token, or the data plane went on to a fallback. It is ejected
// by Failures failures in a row of any other kind (Outcome.Failed). A request that
// was served ends the row. So does a first token, because responses may take
// minutes; but until a request was served to its end, a response that breaks off
// goes on with the row, or a server that breaks every response off would never be
// ejected. These count neither for nor against an endpoint:
//
//   - what the client cancelled, and bookings that expired (scheduling.ErrExpired):
//     the endpoint is not to blame;
//   - statuses of 400 to 499: a server may refuse bad requests and still be unable to
//     serve good ones, and clients could hold it in by sending them;
//   - a deadline that ran out (context.DeadlineExceeded) after a first token. Before
//     one it is a failure, but never ejects at once: a client may be in a hurry.
//
// When its time is over an ejected endpoint is on probation: it gets one request at a
// time, until one is served or has a first token, or fails. If it fails, the endpoint
// is ejected again for twice as long. A request that was sent after the ejection and
// succeeds (all endpoints were ejected, or it was a fallback) ends that, too.
// Requests that were sent before count for nothing from then on: many that fail
// together are one event, and a server that shuts down may well finish them.
// One doubling is taken back for each time, as long as the last ejection, that has
// passed since a request was served to its end.
//
// If no candidate would be left, all are kept, unless FailClosed. Decisions that are
// made at the very same moment do not see each other, so that an endpoint on probation
// may get more than one request.
//
// It is a Tracker: wire a pointer to it, made by NewEjection, after the filters that
// narrow the candidates. While every endpoint serves, it costs a decision one atomic
// load. Safe for use by several Schedulers, which then share what they learned.
//
// Consecutive failures, an ejection time that grows and the re-admission by trial are
// those of the outlier detection and circuit breakers of service proxies; the trial in
// place of a plain return is what keeps a dead server from failing a burst each time.
type Ejection struct {
	o   EjectionOptions
	key *types.Key[*dispatch]

	// now is what a request that is sent now is given to keep. Each ejection, under
	// the lock of table, puts a new one there.
	now atomic.Pointer[dispatch]
	// How many endpoints are ejected or on probation, and of how many a success would
	// change anything: while there are none, nobody takes the lock.
	out, watched atomic.Int64

	// Endpoints that have ever failed, until they are forgotten.
	table endpointTable[suspect]
}

// dispatch is what a request keeps of the moment when it was sent. All that are sent
// between two ejections keep the same one, so that it costs them no memory.
type dispatch struct {
	ejections uint64    // how many there had been
	begun     *dispatch // what it keeps when its first token was seen; nil: this is it
}

func newDispatch(ejections uint64) *dispatch {
	return &dispatch{ejections, &dispatch{ejections: ejections}}
}

// suspect is an endpoint that has failed. Guarded by the lock of the table.
type suspect struct {
	failures int // in a row
	doubted  int // failures before the last first token: a broken response goes on with them

	out      bool          // ejected, or on probation
	until    time.Time     // while out: when probation begins
	probing  int           // while out: requests in flight that were sent since the ejection
	ejection uint64        // number of the last one; 0: there was none
	lasted   time.Duration // how long that was
	cause    string        // of that, for people
	doubling int           // how often Base is doubled next time
	served   time.Time     // when a request was first served to its end since; zero: none was

	countedOut, watched bool // is in Ejection.out and Ejection.watched
}

// NewEjection returns an Ejection, or what is wrong with o.
func NewEjection(o EjectionOptions) (*Ejection, error) {
	switch {
	case o.Failures < 0 || o.Failures > LimitEjectionFailures:
		return nil, fmt.Errorf("plugins: ejection Failures is %d, want 1 to %d, or 0 for the default %d", o.Failures, LimitEjectionFailures, DefaultEjectionFailures)
	case o.Base < 0 || o.Base > LimitEjectionMax:
		return nil, fmt.Errorf("plugins: ejection Base is %v, want more than 0 and at most %v, or 0 for the default %v", o.Base, LimitEjectionMax, DefaultEjectionBase)
	case o.Max < 0 || o.Max > LimitEjectionMax:
		return nil, fmt.Errorf("plugins: ejection Max is %v, want more than 0 and at most %v, or 0 for the default %v", o.Max, LimitEjectionMax, DefaultEjectionMax)
	case o.Max > 0 && o.Max < o.Base:
		return nil, fmt.Errorf("plugins: ejection Max is %v, want at least Base, which is %v", o.Max, o.Base)
	}
	if o.Failures == 0 {
		o.Failures = DefaultEjectionFailures
	}
	if o.Max == 0 {
		o.Max = max(DefaultEjectionMax, o.Base)
	}
	if o.Base == 0 {
		o.Base = min(DefaultEjectionBase, o.Max)
	}
	f := &Ejection{o: o, key: types.NewKey[*dispatch]("ejection")}
	f.now.Store(newDispatch(0))
	return f, nil
}

// newEjectionFrom is the Factory of Ejection.
func newEjectionFrom(p json.RawMessage) (any, error) {
	var c struct {
		Failures   int    `json:"failures"`
		Base       string `json:"base"`
		Max        string `json:"max"`
		FailClosed bool   `json:"failClosed"`
	}
	if err := Parameters(p, &c); err != nil {
		return nil, err
	}
	o := EjectionOptions{Failures: c.Failures, FailClosed: c.FailClosed}
	for _, d := range []struct {
		name, text string
		to         *time.Duration
	}{{"base", c.Base, &o.Base}, {"max", c.Max, &o.Max}} {
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
		if s := f.table.lookup(ep); s != nil && s.barred(req.Now) {
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
	switch {
	case s == nil || !s.out:
		return ""
	case req.Now.Before(s.until):
		return fmt.Sprintf("ejected for %v more after %s", s.until.Sub(req.Now).Round(time.Millisecond), s.cause)
	case s.probing > 0:
		return "on probation, with a request in flight"
	}
	return "on probation"
}

// Picked implements scheduling.Tracker.
func (f *Ejection) Picked(req *types.Request, ep *types.Endpoint) {
	// The order of these two matters: an ejection changes out first. So a request
	// that keeps its number was also counted as probing.
	d := f.now.Load()
	if f.out.Load() > 0 {
		f.table.mu.Lock()
		d = f.now.Load()
		if s := f.table.lookup(ep); s != nil && s.out {
			s.probing++
		}
		f.table.mu.Unlock()
	}
	f.key.Set(&req.Attrs, d)
}

// FirstToken implements scheduling.Tracker.
func (f *Ejection) FirstToken(req *types.Request, ep *types.Endpoint) {
	d := f.sent(req)
	if d.begun != nil {
		f.key.Set(&req.Attrs, d.begun)
	}
	if f.watched.Load() == 0 {
		return
	}
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.table.lookup(ep); s != nil && d.ejections >= s.ejection {
		s.begins(f.o.Failures)
		f.account(s)
	}
}

// Finished implements scheduling.Tracker.
func (f *Ejection) Finished(req *types.Request, ep *types.Endpoint, out types.Outcome) {
	d := f.sent(req)
	begun := d.begun == nil
	v := judge(out, begun)
	bad := v == failure || v == noAnswer
	if !bad && f.watched.Load() == 0 {
		return
	}
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	s := f.table.lookup(ep)
	if s == nil && bad {
		s = f.table.enter(ep, func(*suspect) {})
	}
	if s == nil || d.ejections < s.ejection {
		return
	}
	if s.probing > 0 {
		s.probing--
	}
	switch v {
	case success:
		s.ends(req.Now)
	case failure:
		if begun {
			s.failures, s.doubted = s.failures+s.doubted, 0
		}
		s.failures++
		switch {
		case s.out:
			f.eject(s, req.Now, "a failure on probation")
		case s.failures >= f.o.Failures:
			f.eject(s, req.Now, counted(s.failures, "failure"))
		}
	case noAnswer:
		f.eject(s, req.Now, "a request without an answer")
	}
	f.account(s)
}

// Forget implements scheduling.Forgetter. A server that restarted is a new one.
func (f *Ejection) Forget(ep *types.Endpoint) {
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if s := f.table.remove(ep); s != nil {
		*s = suspect{countedOut: s.countedOut, watched: s.watched}
		f.account(s)
	}
}

// Ejected returns how many endpoints are ejected or on probation.
func (f *Ejection) Ejected() int { return int(f.out.Load()) }

// sent returns what req keeps of the moment when it was sent.
func (f *Ejection) sent(req *types.Request) *dispatch {
	if d, ok := f.key.Get(&req.Attrs); ok {
		return d
	}
	return f.now.Load()
}

// eject ejects s, or ejects it again after its probation. While it is ejected,
// failures of requests that came there all the same change nothing. Caller must hold
// the lock for writing.
func (f *Ejection) eject(s *suspect, now time.Time, cause string) {
	if s.out && now.Before(s.until) {
		return
	}
	if s.doubling > 0 && !s.served.IsZero() {
		s.doubling -= int(min(max(now.Sub(s.served)/s.lasted, 0), time.Duration(s.doubling)))
	}
	s.lasted = f.o.Base
	for range s.doubling {
		if s.lasted > f.o.Max/2 {
			s.lasted = f.o.Max
			break
		}
		s.lasted *= 2
	}
	if s.lasted < f.o.Max {
		s.doubling++
	}
	number := f.now.Load().ejections + 1
	s.out, s.until, s.cause, s.ejection = true, now.Add(s.lasted), cause, number
	s.probing, s.failures, s.doubted, s.served = 0, 0, 0, time.Time{}
	f.account(s)
	f.now.Store(newDispatch(number)) // after account: see Picked
}

// account brings the counters that are read without the lock up to date with s.
// Caller must hold the lock for writing.
func (f *Ejection) account(s *suspect) {
	count := func(n *atomic.Int64, was *bool, is bool) {
		if is && !*was {
			n.Add(1)
		} else if !is && *was {
			n.Add(-1)
		}
		*was = is
	}
	count(&f.watched, &s.watched, s.failures+s.doubted > 0 || s.ejection > 0 && s.served.IsZero())
	count(&f.out, &s.countedOut, s.out)
}

// barred reports whether s gets no request now.
func (s *suspect) barred(now time.Time) bool {
	return s.out && (s.probing > 0 || now.Before(s.until))
}

// begins is told that a response began. That is enough to end a probation, but if one
// breaks off before any was served to its end, the endpoint is ejected again.
func (s *suspect) begins(failures int) {
	if s.out {
		s.out, s.doubted = false, failures-1
	} else if s.failures > 0 {
		s.doubted = s.failures
	}
	s.failures = 0
}

// ends is told that a request was served to its end.
func (s *suspect) ends(now time.Time) {
	s.out, s.failures, s.doubted = false, 0, 0
	if s.served.IsZero() {
		s.served = now
	}
}

// verdict is what an outcome says of the endpoint.
type verdict uint8

const (
	nothing  verdict = iota
	success          // it served the request to its end
	failure          // it failed
	noAnswer         // it is not there
)

// judge returns what an outcome says of the endpoint; begun: a first token was seen.
func judge(out types.Outcome, begun bool) verdict {
	switch {
	case out.Cancelled, errors.Is(out.Err, scheduling.ErrExpired):
		return nothing
	case out.Retried:
		return noAnswer
	case errors.Is(out.Err, context.DeadlineExceeded):
		if begun {
			return nothing
		}
		return failure
	case out.Err != nil && out.Status == 0 && !begun:
		return noAnswer
	case out.Failed():
		return failure
	case out.Status >= 400:
		return nothing
	}
	return success
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
)
