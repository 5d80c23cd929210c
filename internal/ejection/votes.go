package ejection

import (
	"fmt"
	"slices"
	"time"
)

const (
	// voteLife is how long what a peer says counts after it was last said.
	voteLife = 3 * time.Second
	// maxVotes bounds the peers that are listened to about one server.
	maxVotes = 64
	// A peer whose vote was disproved is not believed for Rules.Base, twice as long each time, at least
	// muteFactor times as long as the server was doubted, and at most muteMax times Rules.Max.
	muteFactor = 8
	muteMax    = 60
	// leastPeers is how many peers must say so to have a server doubted that has not failed here.
	leastPeers = 2
)

// vote is what a peer says of the server.
type vote struct {
	peer    int
	refused bool          // the peer could not connect to it
	number  uint64        // of its last ejection there
	settled uint64        // ejections up to that number no longer count
	since   time.Time     // when one was first heard of that is not settled
	heard   time.Time     // when it was last said
	left    time.Duration // how much longer the ejection lasted when it was first heard of
	until   time.Time     // when that was, or will be, over
	mute    time.Time     // the peer is not believed until then
	strikes int           // how often it was disproved since it was last right
}

// believed reports whether the peer is taken to have the server out at now.
func (v *vote) believed(now time.Time) bool {
	return now.Sub(v.heard) < voteLife && !now.Before(v.mute)
}

// pending reports whether the server has not been tried here since the peer ejected it.
func (v *vote) pending() bool { return v.number > v.settled }

// counts reports whether it counts as a failure.
func (v *vote) counts(now time.Time) bool { return v.pending() && v.believed(now) }

// hear notes what a peer says. A number that has passed says nothing: it was late.
func (s *Server) hear(r Rules, in Input) {
	v := s.voteOf(in.Peer)
	if v == nil {
		if v = s.voter(in); v == nil {
			return
		}
	}
	if in.Number < v.number {
		return
	}
	left := clamp(in.Remaining, r.Max)
	if in.Number > v.number {
		if !v.pending() {
			v.since = in.Now
		}
		v.number, v.left, v.until = in.Number, left, in.Now
	}
	v.refused, v.heard, v.left = in.Refused, in.Now, max(v.left, left)
	if left > 0 || v.until.After(in.Now) {
		v.until = in.Now.Add(left)
	}
}

// voteOf returns the vote of a peer, or nil.
func (s *Server) voteOf(peer int) *vote {
	for i := range s.votes {
		if s.votes[i].peer == peer {
			return &s.votes[i]
		}
	}
	return nil
}

// said returns the vote that was heard just now, or nil if it was late.
func (s *Server) said(in Input) *vote {
	if v := s.voteOf(in.Peer); v != nil && v.number == in.Number {
		return v
	}
	return nil
}

// voter returns a vote for a new peer, or nil if there is no room.
func (s *Server) voter(in Input) *vote {
	if len(s.votes) < maxVotes {
		s.votes = append(s.votes, vote{peer: in.Peer})
		return &s.votes[len(s.votes)-1]
	}
	for i := range s.votes {
		if v := &s.votes[i]; in.Now.Sub(v.heard) >= voteLife && !in.Now.Before(v.mute) {
			*v = vote{peer: in.Peer}
			return v
		}
	}
	return nil
}

// Lose forgets what a peer said.
func (s *Server) Lose(peer int) {
	s.votes = slices.DeleteFunc(s.votes, func(v vote) bool { return v.peer == peer })
	if len(s.votes) == 0 {
		s.votes = nil
	}
}

// Peers returns how many peers are taken to have the server out at now.
func (s *Server) Peers(now time.Time) (n int) {
	for i := range s.votes {
		if s.votes[i].believed(now) {
			n++
		}
	}
	return n
}

// pending reports whether a served request may disprove a vote.
func (s *Server) pending() bool {
	for i := range s.votes {
		if s.votes[i].pending() {
			return true
		}
	}
	return false
}

// counting returns how many votes count as failures.
func (s *Server) counting(now time.Time) (n int) {
	for i := range s.votes {
		if s.votes[i].counts(now) {
			n++
		}
	}
	return n
}

// convinces reports whether what a peer says is enough to doubt the server. It was heard before.
func (s *Server) convinces(r Rules, in Input) bool {
	v := s.said(in)
	return v != nil && v.counts(in.Now) && (v.refused || s.votedFor(r, s.row, in.Now))
}

// votedFor reports whether votes complete a row of failures. Those of peers alone do if several say so.
func (s *Server) votedFor(r Rules, row int, now time.Time) bool {
	n := s.counting(now)
	return n > 0 && row+n >= r.Failures && (row > 0 || n >= leastPeers)
}

// due returns when to try the server, as far as is known at now. While peers have it out for longer that is
// when they try it, too. Each may extend the ejection by as much as it lasts, so that none keeps the server
// out for long alone.
func (s *Server) due(now time.Time) time.Time {
	due, n := s.own, 0
	for i := range s.votes {
		if v := &s.votes[i]; v.believed(now) {
			n++
			due = later(due, v.until.Add(s.jitter(v.left)))
		}
	}
	if most := s.ends.Add(time.Duration(n)*s.lasted + s.jitter(s.lasted)); due.After(most) {
		return later(most, s.own)
	}
	return due
}

// jitter spreads the trials of the gateways over half the duration of an ejection.
func (s *Server) jitter(d time.Duration) time.Duration { return time.Duration(s.luck * float64(d/2)) }

// confirm makes the peers that say so right: the server fails here, too.
func (s *Server) confirm() {
	for i := range s.votes {
		if v := &s.votes[i]; v.pending() {
			v.strikes = 0
		}
	}
}

// disprove settles the votes that were heard before a request was sent that the server has answered. If
// the server has not failed here, the peers that were believed are not for a while.
func (s *Server) disprove(r Rules, in Input) {
	for i := range s.votes {
		v := &s.votes[i]
		if !v.pending() || v.since.After(in.Sent) {
			continue
		}
		v.settled = v.number
		if !s.Found() && !in.Now.Before(v.mute) {
			v.mute = in.Now.Add(s.muted(r, v.strikes, in.Now))
			v.strikes++
		}
	}
}

// muted returns for how long a peer is not believed that was disproved so often before.
func (s *Server) muted(r Rules, strikes int, now time.Time) time.Duration {
	most := muteMax * r.Max
	d := most
	if strikes < 62 && r.Base <= most>>strikes {
		d = r.Base << strikes
	}
	if s.state == Doubted {
		d = max(d, muteFactor*now.Sub(s.doubted))
	}
	return min(d, most)
}

// word describes failures and votes together.
func (s *Server) word(failures int, now time.Time) string {
	said := "1 peer says it is dead"
	if n := s.counting(now); n != 1 {
		said = fmt.Sprintf("%d peers say it is dead", n)
	}
	switch failures {
	case 0:
		return said
	case 1:
		return "1 failure, and " + said
	}
	return fmt.Sprintf("%d failures, and %s", failures, said)
}

// clamp returns d within 0 and most.
func clamp(d, most time.Duration) time.Duration { return min(max(d, 0), most) }
