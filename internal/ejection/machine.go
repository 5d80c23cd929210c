package ejection

import (
	"fmt"
	"time"

	"github.com/inferpick/inferpick/types"
)

// State is the state of a server.
type State uint8

// The states of a server.
const (
	In      State = iota // gets requests
	Suspect              // gets requests, but failed recently or has served none completely since its ejection
	Doubted              // gets one at a time, since peers say that it fails
	Out                  // gets none until a time, when Trial begins
	Trial                // gets one at a time
	states  = iota
)

// Event is what happened at a server.
type Event uint8

// The events. Served to Ended are ends of a request.
const (
	Sent        Event = iota // a request was sent
	Began                    // the first token of a request arrived
	Stalled                  // requests waited in vain, one after the other: see Stalls
	Served                   // a request was served completely
	Failed                   // a request failed
	rowFull                  // and completed a row of failures
	rowVoted                 // and completed it with the votes of peers
	Unanswered               // a request got no answer
	Left                     // a request was abandoned before its first token
	leftLong                 // and such requests waited long enough in total
	Busy                     // the server said that it is overloaded
	Ended                    // a request ended in a way that says nothing about the server
	Told                     // a peer says that it has ejected the server
	toldEnough               // and that is enough to doubt it
	toldLater                // and there is no need to try it before the peer does
	Quiet                    // time has passed, in which peers may have stopped to say so
	quietSooner              // and the server can be tried sooner
	timeOver                 // the time of an ejection is over
	events      = iota
)

// action is what a step does besides changing the state.
type action uint8

const (
	never   action = iota // there is no such step
	ignore                // nothing
	admit                 // end the pause of a busy server, if it is over
	flight                // one more request is in flight
	count                 // one more failure in a row
	carry                 // suspend the row until a request is served; it continues if this one breaks off
	excuse                // restart the row, but one failure is enough if this request breaks off
	restore               // end the row and the ejection; good time begins
	wait                  // add the time that the request waited
	spare                 // pause a busy server
	eject                 // eject for Base, or twice as long as the last time
	doubt                 // allow one request at a time
	putOff                // extend an ejection
	hasten                // extend it less
)

// step is what an event does in a state.
type step struct {
	do action
	to State
}

// table defines what each event does in each state. Ends of requests also reduce those in flight.
var table = [events][states]step{
	//            In               Suspect            Doubted            Out               Trial
	Sent:        {{admit, In}, {admit, Suspect}, {flight, Doubted}, {flight, Out}, {flight, Trial}},
	Began:       {{ignore, In}, {carry, Suspect}, {carry, Suspect}, {excuse, Suspect}, {excuse, Suspect}},
	Stalled:     {{eject, Out}, {eject, Out}, {eject, Out}, {ignore, Out}, {ignore, Trial}},
	Served:      {{restore, In}, {restore, In}, {restore, In}, {restore, In}, {restore, In}},
	Failed:      {{count, Suspect}, {count, Suspect}, {eject, Out}, {ignore, Out}, {eject, Out}},
	rowFull:     {{eject, Out}, {eject, Out}, {eject, Out}, {ignore, Out}, {eject, Out}},
	rowVoted:    {{doubt, Doubted}, {doubt, Doubted}, {never, Doubted}, {never, Out}, {never, Trial}},
	Unanswered:  {{eject, Out}, {eject, Out}, {eject, Out}, {ignore, Out}, {eject, Out}},
	Left:        {{ignore, In}, {ignore, Suspect}, {wait, Doubted}, {wait, Out}, {wait, Trial}},
	leftLong:    {{ignore, In}, {ignore, Suspect}, {eject, Out}, {wait, Out}, {eject, Out}},
	Busy:        {{spare, In}, {spare, Suspect}, {spare, Doubted}, {spare, Out}, {spare, Trial}},
	Ended:       {{ignore, In}, {ignore, Suspect}, {ignore, Doubted}, {ignore, Out}, {ignore, Trial}},
	Told:        {{ignore, In}, {ignore, Suspect}, {ignore, Doubted}, {ignore, Out}, {ignore, Trial}},
	toldEnough:  {{doubt, Doubted}, {doubt, Doubted}, {never, Doubted}, {never, Out}, {never, Trial}},
	toldLater:   {{never, In}, {never, Suspect}, {never, Doubted}, {putOff, Out}, {putOff, Out}},
	Quiet:       {{ignore, In}, {ignore, Suspect}, {ignore, Doubted}, {ignore, Out}, {ignore, Trial}},
	quietSooner: {{never, In}, {never, Suspect}, {never, Doubted}, {hasten, Out}, {never, Trial}},
	timeOver:    {{never, In}, {never, Suspect}, {never, Doubted}, {ignore, Trial}, {never, Trial}},
}

// Rules define when a server is ejected, and for how long.
type Rules struct {
	Failures  int           // in a row
	Base, Max time.Duration // durations of the first and of the longest ejection
}

// Input is an event with its parameters.
type Input struct {
	Event    Event
	Now      time.Time
	Sent     time.Time     // Began, Served: when the request was sent
	Early    bool          // Began to Ended: the request was sent before the server was last doubted
	Begun    bool          // Failed: after its first token
	Refused  bool          // Unanswered, Told: there was no connection
	Waited   time.Duration // Left: the wait, if it is long enough to count
	Patience time.Duration // Left: the total wait that counts as a failure
	Spare    time.Duration // Busy: duration of the pause
	Luck     float64       // what may eject: a random number in [0, 1), by which gateways differ

	Peer      int           // Told: who says so
	Number    uint64        // Told: of its ejection
	Remaining time.Duration // Told: how much longer that lasts; 0: the server is on probation there
}

// Server is the state of a server. The zero value is In. Its fields are read-only.
type Server struct {
	Until    time.Time // Out: when Trial begins
	Cause    string    // of the last ejection or doubt
	Refused  bool      // the last ejection was for want of a connection
	InFlight int       // Doubted, Out and Trial: requests sent since it came there
	Spared   time.Time // end of the pause because it is busy; zero: it is not

	state     State
	row       int           // consecutive failures
	carried   int           // failures before the last first token, until a request is served
	waited    time.Duration // Doubted, Out and Trial: total wait of abandoned requests
	lasted    time.Duration // duration of the last ejection
	ends      time.Time     // end of the last ejection
	own       time.Time     // when to try the server after it, if peers do not put it off
	luck      float64       // of the last ejection
	doublings int           // of Base, for the next ejection
	good      time.Time     // when a request was first served completely since the ejection; zero: none was
	asked     time.Time     // when it last said that it is busy
	doubted   time.Time     // when it was last doubted
	votes     []vote        // one per peer
}

// State returns the state at now: only time turns Out into Trial.
func (s *Server) State(now time.Time) State {
	if s.state == Out && !now.Before(s.Until) {
		return table[timeOver][Out].to
	}
	return s.state
}

// Found reports whether the state is Out or Trial: this gateway itself saw the server fail.
func (s *Server) Found() bool { return s.state == Out || s.state == Trial }

// Doubted reports whether the state is Doubted: only peers say that the server fails.
func (s *Server) Doubted() bool { return s.state == Doubted }

// Ejected reports whether the state is Out, Trial or Doubted.
func (s *Server) Ejected() bool { return s.Found() || s.Doubted() }

// Settled reports whether a served request would change nothing.
func (s *Server) Settled() bool { return s.state == In && s.Spared.IsZero() && !s.pending() }

// Left returns how much longer the last ejection lasts, whatever peers say.
func (s *Server) Left(now time.Time) time.Duration { return clamp(s.ends.Sub(now), s.lasted) }

// Barred returns until when it gets no requests; zero if it gets them now.
func (s *Server) Barred() time.Time {
	switch {
	case s.Ejected() && s.InFlight > 0:
		return types.Forever
	case s.Found() && s.Until.After(s.Spared):
		return s.Until
	}
	return s.Spared
}

// Apply applies an input. It reports whether the server was ejected, and whether the request counts
// against it.
func (s *Server) Apply(r Rules, in Input) (ejected, counted bool) {
	if in.Event == Told {
		s.hear(r, in)
	}
	from, event := s.State(in.Now), s.refine(r, in)
	if in.Event >= Served && in.Event <= Ended && !in.Early && s.InFlight > 0 {
		s.InFlight--
	}
	step := table[event][from]
	ejected = step.do == eject
	if ejected || step.do == doubt {
		s.Cause = s.why(from, event, in)
	}
	s.act(step.do, r, in)
	if step.to != from {
		s.state = step.to
	}
	return ejected, ejected || in.Event == Failed || in.Event == Busy
}

// refine returns the event of in as it is in the table.
func (s *Server) refine(r Rules, in Input) Event {
	switch from := s.State(in.Now); in.Event {
	case Began, Served, Left, Failed:
		switch {
		case in.Early: // may be the last that it finishes, and failures are one event
			return Ended
		case in.Event == Failed && s.failures(in.Begun) >= r.Failures:
			return rowFull
		case in.Event == Failed && from <= Suspect && s.votedFor(r, s.failures(in.Begun), in.Now):
			return rowVoted
		case in.Event == Left && s.waited+in.Waited >= in.Patience:
			return leftLong
		}
	case Told:
		switch {
		case from <= Suspect && s.convinces(r, in):
			return toldEnough
		case from >= Out && s.InFlight == 0 && s.said(in) != nil && s.due(in.Now).After(s.Until):
			return toldLater
		}
	case Quiet:
		if from == Out && s.due(in.Now).Before(s.Until) {
			return quietSooner
		}
	}
	return in.Event
}

// failures returns the length of the row with one more failure, of a response that had begun or not.
func (s *Server) failures(begun bool) int {
	if begun {
		return s.row + s.carried + 1
	}
	return s.row + 1
}

func (s *Server) act(do action, r Rules, in Input) {
	switch do {
	case admit:
		if !in.Now.Before(s.Spared) {
			s.Spared = time.Time{}
		}
	case flight:
		s.InFlight++
	case count:
		s.count(in.Begun)
	case carry:
		if s.state == Doubted {
			s.disprove(r, in)
		}
		if s.row > 0 {
			s.row, s.carried = 0, s.row
		}
	case excuse:
		s.disprove(r, in)
		s.row, s.carried = 0, r.Failures-1
	case restore:
		s.disprove(r, in)
		s.row, s.carried = 0, 0
		if s.good.IsZero() {
			s.good = in.Now
		}
		if in.Sent.After(s.asked) {
			s.Spared = time.Time{}
		}
	case wait:
		s.waited += in.Waited
	case spare:
		s.asked = in.Now
		if until := in.Now.Add(in.Spare); until.After(s.Spared) {
			s.Spared = until
		}
	case eject:
		s.eject(r, in)
	case doubt:
		if in.Event == Failed {
			s.count(in.Begun)
		}
		s.doubted, s.InFlight, s.waited = in.Now, 0, 0
	case putOff, hasten:
		s.Until = s.due(in.Now)
	}
}

// count adds a failure to the row.
func (s *Server) count(begun bool) {
	s.row = s.failures(begun)
	if begun {
		s.carried = 0
	}
}

// eject begins an ejection. Each lasts at least twice as long as the previous one, and as long as that was
// put off; one doubling is taken back per period of good time as long as the last ejection. While peers say
// that the server is dead, they and this gateway do not all try it at the end.
func (s *Server) eject(r Rules, in Input) {
	if s.doublings > 0 && !s.good.IsZero() {
		s.doublings -= int(min(max(in.Now.Sub(s.good)/s.lasted, 0), time.Duration(s.doublings)))
	}
	var last time.Duration
	if s.Found() {
		last = min(s.lasted+s.Until.Sub(s.ends), r.Max)
	}
	s.lasted = r.Base
	for i := 0; i < s.doublings || s.lasted < last; i++ {
		s.doublings = max(s.doublings, i+1)
		if s.lasted > r.Max/2 {
			s.lasted = r.Max
			break
		}
		s.lasted *= 2
	}
	if s.lasted < r.Max {
		s.doublings++
	}
	s.ends, s.luck, s.good, s.Refused = in.Now.Add(s.lasted), in.Luck, time.Time{}, in.Refused
	s.own = s.ends
	if s.Peers(in.Now) > 0 {
		s.own = s.ends.Add(s.jitter(s.lasted))
	}
	s.Until = s.own
	s.row, s.carried, s.InFlight, s.waited = 0, 0, 0, 0
	s.confirm()
}

// why describes why an event ejects a server, or makes it doubted.
func (s *Server) why(from State, event Event, in Input) string {
	switch n := s.failures(in.Begun); {
	case event == Unanswered:
		return "a request without an answer"
	case event == leftLong:
		return "a request on probation without a sign of life"
	case event == Stalled:
		return fmt.Sprintf("%d requests without a sign of life", stallStrikes)
	case event == toldEnough && in.Refused:
		return "a peer cannot connect to it"
	case event == toldEnough:
		return s.word(s.row, in.Now)
	case event == rowVoted:
		return s.word(n, in.Now)
	case from == Trial, from == Doubted:
		return "a failure on probation"
	case n > 1:
		return fmt.Sprintf("%d failures", n)
	}
	return "1 failure"
}
