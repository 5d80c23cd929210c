package plugins

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// suspect is an endpoint that has failed, or said that it is busy.
type suspect struct {
	load *types.Load

	failures int // in a row
	doubted  int // failures before the last first token: a broken response goes on with them

	out      bool          // ejected, or on probation
	until    time.Time     // while out: when probation begins
	probing  int           // while out: requests in flight that were sent since the ejection
	silent   time.Duration // while out: how long requests were waited for that were then left
	ejection uint64        // number of the last one; 0: there was none
	lasted   time.Duration // how long that was
	cause    string        // of that, for people
	doubling int           // how often Base is doubled next time
	served   time.Time     // when a request was first served to its end since; zero: none was

	spared   time.Time // until when, because it is busy; zero: it is not
	sparedAt time.Time // when it said so last

	barred                      time.Time // until when it gets no requests, as its Load says too
	struckOut, ejected, watched bool      // is counted in the fields of Ejection
}

// bar returns until when s gets no requests; zero: it gets some.
func (s *suspect) bar() time.Time {
	switch {
	case s.out && s.probing > 0:
		return types.Forever
	case s.out:
		return later(s.until, s.spared)
	}
	return s.spared
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

// ends is told that a request sent at that instant was served to its end.
func (s *suspect) ends(sent, now time.Time) {
	s.out, s.failures, s.doubted = false, 0, 0
	if s.served.IsZero() {
		s.served = now
	}
	if sent.After(s.sparedAt) {
		s.spared = time.Time{}
	}
}

// fails is told of a failure, in a response that had begun or not, and returns how many
// there have been in a row.
func (s *suspect) fails(begun bool) int {
	if begun {
		s.failures, s.doubted = s.failures+s.doubted, 0
	}
	s.failures++
	return s.failures
}

// spare is told that the endpoint is busy, and for how long.
func (s *suspect) spare(now time.Time, d time.Duration) {
	s.spared, s.sparedAt = later(s.spared, now.Add(d)), now
}

// eject ejects s, or ejects it again after its probation; number is that of the ejection.
// While it is ejected, failures of requests that came there all the same change nothing.
// It reports whether it did so.
func (s *suspect) eject(o *EjectionOptions, number uint64, now time.Time, cause string) bool {
	if s.out && now.Before(s.until) {
		return false
	}
	if s.doubling > 0 && !s.served.IsZero() {
		s.doubling -= int(min(max(now.Sub(s.served)/s.lasted, 0), time.Duration(s.doubling)))
	}
	s.lasted = o.Base
	for range s.doubling {
		if s.lasted > o.Max/2 {
			s.lasted = o.Max
			break
		}
		s.lasted *= 2
	}
	if s.lasted < o.Max {
		s.doubling++
	}
	s.out, s.until, s.cause, s.ejection = true, now.Add(s.lasted), cause, number
	s.probing, s.silent, s.failures, s.doubted, s.served = 0, 0, 0, 0, time.Time{}
	return true
}
