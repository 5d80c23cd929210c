package ejection

import (
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

const (
	// A server stalls if stallStrikes requests, in intervals that do not overlap, waited for an
	// outlier of the Baseline while it gave no response.
	stallStrikes = 3
	// leastSilence is the shortest wait that can be an outlier.
	leastSilence = 100 * time.Millisecond
	// unknownSilence is the same for classes without a baseline.
	unknownSilence = 30 * time.Second
)

// Wait is a request that waits for its first response.
type Wait struct {
	Sent  time.Time
	Class int
	// Trial is set for requests to an ejected server, to which other rules apply.
	Trial bool
	// Counted is set once the request has counted against a server.
	Counted bool

	listed list.Node[Wait]
}

// Stalls detects when a server stalls: it accepts requests but answers none.
type Stalls struct {
	listed   list.List[Wait] // those that wait and are not a strike
	waiting  [classes]int32
	response time.Time // last response
	strikes  int       // since then
	struck   time.Time // time of the last strike
	left     [8]left   // since the last response
	nLeft    int
}

// left is an abandoned request.
type left struct {
	class  int
	waited time.Duration
}

// First returns the request that has waited longest, or nil.
func (s *Stalls) First() *Wait {
	if s.listed.Head == nil {
		return nil
	}
	return s.listed.Head.Of
}

// Add adds a request that begins to wait.
func (s *Stalls) Add(w *Wait) {
	if w.Counted || w.Trial {
		return
	}
	s.listed.Push(w, &w.listed)
	s.waiting[w.Class]++
}

// Remove removes a request that no longer waits. It may be called twice.
func (s *Stalls) Remove(w *Wait) {
	if w.listed.Of == nil {
		return
	}
	s.listed.Remove(&w.listed)
	s.waiting[w.Class]--
}

// AnyLeft reports whether Responded needs the Baseline.
func (s *Stalls) AnyLeft() bool { return s.nLeft > 0 }

// Responded records a response. It adds abandoned requests to b, with twice the time that they waited:
// since the server responds, they would have been answered, only later. b may be nil unless AnyLeft.
func (s *Stalls) Responded(now time.Time, b *Baseline) {
	s.response, s.strikes = now, 0
	for _, l := range s.left[:s.nLeft] {
		b.classes[l.class].add(2 * l.waited)
	}
	s.nLeft = 0
}

// Left records an abandoned request.
func (s *Stalls) Left(w *Wait, now time.Time) {
	if s.nLeft < len(s.left) {
		s.left[s.nLeft] = left{w.Class, now.Sub(w.Sent)}
		s.nLeft++
	}
}

// Silent reports whether Strike must be called for w. It needs no Baseline.
func (s *Stalls) Silent(w *Wait, now time.Time) bool {
	return !w.Counted && !w.Trial && now.Sub(s.since(w)) > leastSilence
}

// since returns the start of the silence that w has experienced.
func (s *Stalls) since(w *Wait) time.Time { return later(w.Sent, later(s.response, s.struck)) }

// Strike checks whether w, which waits, is a strike, and reports whether it is the last of
// stallStrikes, so that the server stalls.
func (s *Stalls) Strike(w *Wait, now time.Time, b *Baseline) bool {
	since := s.since(w)
	silence := now.Sub(since)
	if !s.Silent(w, now) {
		return false
	}
	outlier, known := b.outlier(w.Class)
	if !known || silence <= outlier || !b.elsewhere(w.Class, s, since) {
		return false
	}
	for class, n := range s.waiting { // the server may be busy with a long one
		if n == 0 || class == w.Class {
			continue
		}
		if outlier, known = b.outlier(class); !known {
			outlier = unknownSilence
		}
		if silence <= outlier {
			return false
		}
	}
	w.Counted, s.struck = true, now
	s.Remove(w)
	s.strikes++
	if s.strikes < stallStrikes {
		return false
	}
	s.strikes = 0
	return true
}
