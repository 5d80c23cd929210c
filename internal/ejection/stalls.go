package ejection

import (
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

const (
	// A server stalls after stallStrikes requests, in windows of time that do not overlap,
	// waited for an outlier of the Baseline while nobody got a response.
	stallStrikes = 3
	// No wait is an outlier that is shorter than leastSilence.
	leastSilence = 100 * time.Millisecond
	// Nor one of a class of which nothing is known that is shorter than unknownSilence.
	unknownSilence = 30 * time.Second
)

// Wait is a request that waits for its first response.
type Wait struct {
	Sent  time.Time
	Class int
	// Trial says that it was sent to a server that was ejected, which is judged otherwise.
	Trial bool
	// Counted says that it has counted against some server, which it does only once.
	Counted bool

	listed list.Node[Wait]
}

// Stalls notices when a server stalls: it accepts requests and answers none.
type Stalls struct {
	listed   list.List[Wait] // those that wait, and are no strike
	waiting  [classes]int32
	response time.Time // the last one
	strikes  int       // since then
	struck   time.Time // when the last of them was
	left     [8]left   // since then
	nLeft    int
}

// left is a request that nobody waited for to the end.
type left struct {
	class  int
	waited time.Duration
}

// First returns the request that has waited for the longest, or nil.
func (s *Stalls) First() *Wait {
	if s.listed.Head == nil {
		return nil
	}
	return s.listed.Head.Of
}

// Add is told that a request begins to wait.
func (s *Stalls) Add(w *Wait) {
	if w.Counted || w.Trial {
		return
	}
	s.listed.Push(w, &w.listed)
	s.waiting[w.Class]++
}

// Remove is told that a request waits no more. It may be told so twice.
func (s *Stalls) Remove(w *Wait) {
	if w.listed.Of == nil {
		return
	}
	s.listed.Remove(&w.listed)
	s.waiting[w.Class]--
}

// AnyLeft reports whether Responded has something to teach.
func (s *Stalls) AnyLeft() bool { return s.nLeft > 0 }

// Responded is told of a response. It teaches b how long those would have had to wait that
// were left before: at a server that responds, longer than they did. b may be nil unless
// AnyLeft.
func (s *Stalls) Responded(now time.Time, b *Baseline) {
	s.response, s.strikes = now, 0
	for _, l := range s.left[:s.nLeft] {
		b.classes[l.class].add(2 * l.waited)
	}
	s.nLeft = 0
}

// Left is told of a request that nobody waits for any more.
func (s *Stalls) Left(w *Wait, now time.Time) {
	if s.nLeft < len(s.left) {
		s.left[s.nLeft] = left{w.Class, now.Sub(w.Sent)}
		s.nLeft++
	}
}

// Silent reports whether Strike has to be asked about w, without the Baseline.
func (s *Stalls) Silent(w *Wait, now time.Time) bool {
	return !w.Counted && !w.Trial && now.Sub(s.since(w)) > leastSilence
}

// since returns when the silence began that w can tell of.
func (s *Stalls) since(w *Wait) time.Time { return later(w.Sent, later(s.response, s.struck)) }

// Strike reports whether the server stalls, of which w, that waits, is the last of
// stallStrikes signs.
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
	for class, n := range s.waiting { // it may be busy with a long one
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
