package plugins

import (
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/ejection"
	"github.com/inferpick/inferpick/types"
)

// attempt is what a request keeps from Picked to Finished.
type attempt struct {
	owner     *types.Request // a copy of a request has no attempt
	stalls    *stalls        // of where it went; nil: that has gone
	ejections uint64         // how many there had been, of all endpoints
	begun     bool           // a first token was seen
	wait      ejection.Wait  // guarded by the lock of stalls while it is there
}

// stalls is ejection.Stalls of an endpoint under a lock, and the Baseline under another,
// which is taken second.
type stalls struct {
	mu       sync.Mutex
	baseline *baseline
	ejection.Stalls
}

// baseline is an ejection.Baseline under a lock.
type baseline struct {
	mu sync.Mutex
	ejection.Baseline
}

// send is told that a request was sent, and reports whether the endpoint stalls: others wait
// there already.
func (s *stalls) send(w *ejection.Wait, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.First()
	stalled := first != nil && s.strike(first, now)
	s.Add(w)
	return stalled
}

// begin is told that the first token of a request came.
func (s *stalls) begin(w *ejection.Wait, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond(w, now, true)
}

// end is told that a request ended, and reports whether the endpoint stalls; unseen: it was
// served, and no first token seen.
func (s *stalls) end(w *ejection.Wait, now time.Time, responded, left, unseen bool) (stalled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case responded:
		s.respond(w, now, unseen)
	case left:
		stalled = s.strike(w, now)
		s.Left(w, now)
	}
	s.Remove(w)
	return stalled
}

// forget takes a request out.
func (s *stalls) forget(w *ejection.Wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Remove(w)
}

// respond is told of a response; took: it says how long one takes. Caller must hold s.mu.
func (s *stalls) respond(w *ejection.Wait, now time.Time, took bool) {
	s.Remove(w)
	s.baseline.mu.Lock()
	defer s.baseline.mu.Unlock()
	s.Responded(now, &s.baseline.Baseline)
	if took {
		s.baseline.Answered(w.Class, now.Sub(w.Sent), &s.Stalls, w.Sent)
	}
}

// strike is Strike. Caller must hold s.mu.
func (s *stalls) strike(w *ejection.Wait, now time.Time) bool {
	if !s.Silent(w, now) {
		return false // as nearly always, without the lock that all endpoints share
	}
	s.baseline.mu.Lock()
	defer s.baseline.mu.Unlock()
	return s.Strike(w, now, &s.baseline.Baseline)
}

// median is Median.
func (b *baseline) median(class int) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Median(class)
}

// patience returns for how long to wait for an endpoint on probation.
func (b *baseline) patience(class int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	high, known := b.High(class)
	if !known {
		return UnknownPatience
	}
	return max(high+high/2, MinPatience)
}

// endpointHealth is an endpoint that has failed, or said that it is busy.
type endpointHealth struct {
	ejection.Server
	load   *types.Load
	number uint64 // of its last ejection; 0: there was none

	barred                        time.Time // until when it gets no requests, as its Load says too
	struckOut, ejected, unsettled bool      // is counted in the fields of Ejection
}
