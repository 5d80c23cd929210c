package plugins

import (
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/ejection"
	"github.com/inferpick/inferpick/types"
)

// attempt is the state of a request at an endpoint: from Picked to Finished, or of its prompt from
// PrefillPicked to PrefillFinished.
type attempt struct {
	owner     *types.Request // a copy of a request has no attempt
	endpoint  *types.Endpoint
	stalls    *stalls       // of endpoint; nil: that was removed
	ejections uint64        // number of all ejections when it was sent
	begun     bool          // a first token was seen
	held      bool          // it waits for a prompt from elsewhere: endpoint has not been sent all it needs
	wait      ejection.Wait // guarded by stalls.mu while stalls is not nil and held is not set
	prefill   *attempt      // of the prompt at another endpoint, while that lasts
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

// begin notes the first token of a request, whose time is a sample for the baseline if took is set.
func (s *stalls) begin(w *ejection.Wait, now time.Time, took bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond(w, now, took)
}

// end removes a request that ended, and reports whether the endpoint stalls. left means that it was
// abandoned, and unseen that it was served without a first token being seen.
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

// patience returns how long to wait for an endpoint on probation: for one class after the other.
func (b *baseline) patience(classes ...int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all time.Duration
	for _, class := range classes {
		high, known := b.High(class)
		if !known {
			return UnknownPatience
		}
		all += high
	}
	return max(all+all/2, MinPatience)
}

// knows reports whether the usual time of a class is known.
func (b *baseline) knows(class int) bool {
	_, known := b.median(class)
	return known
}

// endpointHealth is the state of an endpoint that has failed or was busy, here or for peers.
type endpointHealth struct {
	ejection.Server
	id     string
	load   *types.Load
	number uint64 // of its last ejection; 0: none
	doubt  uint64 // the same of when peers last had it doubted

	barred                        time.Time // gets no requests until then, as its Load says too
	struckOut, ejected, unsettled bool      // whether it is counted in the fields of Ejection
}
