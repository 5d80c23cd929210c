package plugins

import (
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/ejection"
	"github.com/inferpick/inferpick/types"
)

// attempt is the state of a request from Picked to Finished.
type attempt struct {
	owner     *types.Request // a copy of a request has no attempt
	stalls    *stalls        // of its endpoint; nil: that was removed
	ejections uint64         // number of all ejections when it was sent
	begun     bool           // a first token was seen
	wait      ejection.Wait  // guarded by stalls.mu while stalls is not nil
}

// stalls is an endpoint's ejection.Stalls under a lock. The lock of the Baseline is taken second.
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

// send adds a request that was sent, and reports whether the endpoint stalls for those that wait
// there already.
func (s *stalls) send(w *ejection.Wait, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.First()
	stalled := first != nil && s.strike(first, now)
	s.Add(w)
	return stalled
}

// begin notes the first token of a request.
func (s *stalls) begin(w *ejection.Wait, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond(w, now, true)
}

// end removes a request that ended, and reports whether the endpoint stalls. unseen means that
// it was served without a first token being seen.
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

// forget removes a request.
func (s *stalls) forget(w *ejection.Wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Remove(w)
}

// respond notes a response, whose time is a sample for the baseline if took is set. Caller must
// hold s.mu.
func (s *stalls) respond(w *ejection.Wait, now time.Time, took bool) {
	s.Remove(w)
	if !took && !s.AnyLeft() {
		s.Responded(now, nil) // avoids the lock that all endpoints share
		return
	}
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
		return false // nearly always
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

// patience returns how long to wait for an endpoint on probation.
func (b *baseline) patience(class int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	high, known := b.High(class)
	if !known {
		return UnknownPatience
	}
	return max(high+high/2, MinPatience)
}

// endpointHealth is the state of an endpoint that has failed or was busy.
type endpointHealth struct {
	ejection.Server
	load   *types.Load
	number uint64 // of its last ejection; 0: none

	barred                        time.Time // gets no requests until then, as its Load says too
	struckOut, ejected, unsettled bool      // whether it is counted in the fields of Ejection
}
