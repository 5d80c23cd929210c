package ejection

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

var (
	start = time.Unix(1_000_000, 0)
	rules = Rules{Failures: 3, Base: time.Second, Max: time.Minute}

	stateNames  = [states]string{"In", "Suspect", "Doubted", "Out", "Trial"}
	actionNames = [...]string{"never", "", "admit", "flight", "count", "carry", "excuse", "restore", "wait", "spare", "eject", "doubt", "put off", "hasten"}
	eventNames  = [events]string{
		"Sent", "Began", "Stalled", "Served", "Failed", "Failed, row", "Failed, votes", "Unanswered", "Left", "Left, long", "Busy", "Ended",
		"Told", "Told, enough", "Told, later", "Quiet", "Quiet, sooner", "time is over",
	}
)

// TestTableIsWhole: nothing was left out of the table, and the package's documentation shows it.
func TestTableIsWhole(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for event, row := range table {
		line := fmt.Sprintf("//\t%-14s", eventNames[event])
		for from, step := range row {
			require.Equal(t, !possible(Event(event), State(from)), step.do == never, "%s, %s", eventNames[event], stateNames[from])
			cell := actionNames[step.do]
			if step.to != State(from) {
				cell += " > " + stateNames[step.to]
			}
			if cell = strings.TrimSpace(cell); cell == "" {
				cell = "."
			}
			line += fmt.Sprintf("%-18s", cell)
		}
		require.Contains(t, string(doc), strings.TrimSpace(line)+"\n")
	}
}

// possible reports whether an event can happen in a state.
func possible(event Event, from State) bool {
	switch event {
	case rowVoted, toldEnough:
		return from <= Suspect
	case toldLater:
		return from >= Out
	case quietSooner, timeOver:
		return from == Out
	}
	return true
}

// inState returns a server that came into a state in the plainest way.
func inState(state State) *Server {
	s := new(Server)
	switch state {
	case Suspect:
		s.Apply(rules, Input{Event: Failed, Now: start})
	case Doubted:
		s.Apply(rules, Input{Event: Told, Now: start, Peer: 9, Number: 1, Refused: true})
	case Out:
		s.Apply(rules, Input{Event: Unanswered, Now: start})
	case Trial:
		s.Apply(rules, Input{Event: Unanswered, Now: start.Add(-rules.Base)})
	}
	return s
}

// TestEveryStep: each step of the table, by itself: where it leads, and what is seen of what
// it does.
func TestEveryStep(t *testing.T) {
	for event := range Event(timeOver) {
		for from := range State(states) {
			if !possible(event, from) {
				continue
			}
			t.Run(stateNames[from]+"/"+eventNames[event], func(t *testing.T) {
				s := inState(from)
				require.Equal(t, from, s.State(start))
				in := Input{
					Event: event, Now: start, Sent: start, Patience: time.Minute, Waited: time.Second, Spare: 5 * time.Second,
					Peer: 1, Number: 1,
				}
				switch event {
				case rowFull:
					in.Event = Failed
					s.row = max(s.row, rules.Failures-1)
				case rowVoted:
					in.Event = Failed
					s.row = rules.Failures - 2
					s.hear(rules, in)
				case leftLong:
					in.Event, in.Waited = Left, in.Patience
				case toldEnough:
					in.Event, in.Refused = Told, true
				case toldLater:
					in.Event, in.Remaining = Told, time.Minute
				case quietSooner:
					s.Apply(rules, Input{Event: Told, Now: start.Add(-voteLife), Peer: 2, Number: 1, Remaining: time.Minute})
					in.Event = Quiet
				}
				before := *s
				ejected, counted := s.Apply(rules, in)
				step := table[event][from]
				require.Equal(t, step.to, s.State(start))
				require.Equal(t, step.do == eject, ejected)
				require.Equal(t, ejected || in.Event == Failed || in.Event == Busy, counted)
				if in.Event == Told {
					require.Equal(t, uint64(1), s.voteOf(1).number)
					s.Lose(1)
				}
				switch step.do {
				case ignore, admit:
					require.Equal(t, before, *s)
				case flight:
					require.Equal(t, types.Forever, s.Barred())
				case count:
					require.Equal(t, before.row+1, s.row)
				case carry:
					require.Equal(t, [2]int{0, before.row}, [2]int{s.row, s.carried})
				case excuse:
					require.False(t, s.Settled())
					require.Zero(t, s.Barred())
				case restore:
					require.True(t, s.Settled())
					require.Zero(t, s.row+s.carried)
				case wait:
					require.Equal(t, in.Waited, s.waited)
				case spare:
					require.Equal(t, start.Add(in.Spare), s.Barred())
				case eject:
					want := rules.Base
					if from == Trial {
						want *= 2
					}
					require.Equal(t, start.Add(want), s.Barred())
					require.Equal(t, Trial, s.State(start.Add(want)))
				case doubt:
					require.True(t, s.Ejected())
					require.False(t, s.Found())
					require.Zero(t, s.Barred())
					require.Equal(t, Doubted, s.State(start.Add(rules.Max)))
				case putOff:
					require.Equal(t, before.ends.Add(rules.Base), s.Barred())
					require.Equal(t, before.ends, s.ends)
				case hasten:
					require.Equal(t, s.ends.Add(rules.Base), before.Until)
					require.Equal(t, s.ends, s.Barred())
				default:
					t.Fatal("no such step")
				}
			})
		}
	}
}

func TestCauses(t *testing.T) {
	for _, tt := range []struct {
		from State
		in   Input
		want string
	}{
		{In, Input{Event: Unanswered}, "a request without an answer"},
		{In, Input{Event: Stalled}, "3 requests without a sign of life"},
		{Trial, Input{Event: Failed}, "a failure on probation"},
		{Doubted, Input{Event: Failed}, "a failure on probation"},
		{Trial, Input{Event: Left}, "a request on probation without a sign of life"},
	} {
		s := inState(tt.from)
		tt.in.Now = start
		ejected, _ := s.Apply(rules, tt.in)
		require.True(t, ejected)
		require.Equal(t, tt.want, s.Cause)
	}
	for n := 1; n < 4; n++ {
		s := new(Server)
		for range n {
			s.Apply(Rules{Failures: n, Base: 1, Max: 1}, Input{Event: Failed, Now: start})
		}
		require.Equal(t, map[int]string{1: "1 failure", 2: "2 failures", 3: "3 failures"}[n], s.Cause)
	}
}

// naive is a Server without states: flags and conditions, as one writes it at first.
type naive struct {
	row, before, flight, doublings int
	out, doubt, unsure             bool
	until, good, spared, asked     time.Time
	end, alone, doubted            time.Time
	silent, lasted                 time.Duration
	luck                           float64
	words                          map[int]*word
}

// word is what a peer said last.
type word struct {
	number, checked                  uint64
	refused                          bool
	first, said, probation, distrust time.Time
	long                             time.Duration
	wrong                            int
}

func (w *word) holds(now time.Time) bool {
	return w.said.After(now.Add(-3*time.Second)) && !now.Before(w.distrust)
}

func (n *naive) state(now time.Time, wasEjected bool) State {
	switch {
	case n.doubt:
		return Doubted
	case n.out && now.Before(n.until):
		return Out
	case n.out:
		return Trial
	case n.row+n.before > 0, wasEjected && n.good.IsZero(), n.unsure:
		return Suspect
	}
	return In
}

// out and news count the peers that say that it is out, and those whose word was not checked.
func (n *naive) peers(now time.Time) (out, news int) {
	for _, w := range n.words {
		if w.holds(now) {
			out++
			if w.number > w.checked {
				news++
			}
		}
	}
	return out, news
}

func (n *naive) eject(r Rules, in Input) bool {
	now := in.Now
	if n.out && now.Before(n.until) {
		return false
	}
	for n.doublings > 0 && !n.good.IsZero() && now.Sub(n.good) >= n.lasted {
		n.doublings, n.good = n.doublings-1, n.good.Add(n.lasted)
	}
	for n.out && r.Base<<n.doublings < min(n.lasted+n.until.Sub(n.end), r.Max) {
		n.doublings++
	}
	n.lasted = min(r.Base<<n.doublings, r.Max)
	if n.lasted < r.Max {
		n.doublings++
	}
	for _, w := range n.words {
		if w.number > w.checked {
			w.wrong = 0
		}
	}
	end := now.Add(n.lasted)
	until := end
	if out, _ := n.peers(now); out > 0 {
		until = end.Add(time.Duration(in.Luck * float64(n.lasted/2)))
	}
	*n = naive{
		out: true, until: until, alone: until, end: end, lasted: n.lasted, doublings: n.doublings, spared: n.spared, asked: n.asked,
		luck: in.Luck, words: n.words,
	}
	return true
}

// told is what a peer says.
func (n *naive) told(r Rules, in Input) {
	w := n.words[in.Peer]
	if w == nil {
		w = new(word)
		n.words[in.Peer] = w
	}
	if in.Number < w.number {
		return
	}
	left := min(in.Remaining, r.Max)
	if in.Number > w.number {
		if w.number == w.checked {
			w.first = in.Now
		}
		w.number, w.long, w.probation = in.Number, 0, in.Now
	}
	w.long = max(w.long, left)
	if over := in.Now.Add(left); left > 0 || w.probation.After(over) {
		w.probation = over
	}
	w.refused, w.said = in.Refused, in.Now
	_, news := n.peers(in.Now)
	switch {
	case n.doubt:
	case n.out && n.flight == 0:
		n.until = later(n.until, n.patient(in.Now))
	case n.out || w.number == w.checked || in.Now.Before(w.distrust):
	case in.Refused, n.row+news >= r.Failures && (n.row > 0 || news > 1):
		n.doubting(in.Now)
	}
}

// patient returns how long to wait as long as peers say so.
func (n *naive) patient(now time.Time) time.Time {
	wait := n.alone
	for _, w := range n.words {
		if w.holds(now) {
			wait = later(wait, w.probation.Add(time.Duration(n.luck*float64(w.long/2))))
		}
	}
	out, _ := n.peers(now)
	if most := n.end.Add(time.Duration(out) * n.lasted).Add(time.Duration(n.luck * float64(n.lasted/2))); wait.After(most) {
		wait = later(most, n.alone)
	}
	return wait
}

func (n *naive) doubting(now time.Time) {
	n.doubt, n.doubted, n.flight, n.silent, n.unsure = true, now, 0, 0, false
}

// answered checks the words of peers against an answer.
func (n *naive) answered(r Rules, in Input) {
	for _, w := range n.words {
		if w.number == w.checked || w.first.After(in.Sent) {
			continue
		}
		w.checked = w.number
		if n.out || in.Now.Before(w.distrust) {
			continue
		}
		wait := 60 * r.Max
		if w.wrong < 20 {
			wait = min(wait, r.Base<<w.wrong)
		}
		if n.doubt {
			wait = min(max(wait, 8*in.Now.Sub(n.doubted)), 60*r.Max)
		}
		w.distrust = in.Now.Add(wait)
		w.wrong++
	}
}

func (n *naive) apply(r Rules, in Input) (ejected bool) {
	switch in.Event {
	case Sent:
		if n.out || n.doubt {
			n.flight++
		} else if !in.Now.Before(n.spared) {
			n.spared = time.Time{}
		}
		return false
	case Began:
		if in.Early {
			return false
		}
		if n.out || n.doubt {
			n.answered(r, in)
		}
		if n.out {
			n.out, n.before = false, r.Failures-1
		} else if n.row > 0 {
			n.before = n.row
		}
		n.unsure, n.doubt = n.unsure || n.doubt, false
		n.row = 0
		return false
	case Stalled:
		return !n.out && n.eject(r, in)
	case Told:
		n.told(r, in)
		return false
	case Quiet:
		if wait := n.patient(in.Now); n.out && in.Now.Before(n.until) && wait.Before(n.until) {
			n.until = wait
		}
		return false
	}
	if in.Early && in.Event != Unanswered && in.Event != Busy {
		return false
	}
	if !in.Early {
		n.flight = max(n.flight-1, 0)
	}
	switch in.Event {
	case Served:
		n.answered(r, in)
		n.out, n.doubt, n.unsure, n.row, n.before = false, false, false, 0, 0
		if n.good.IsZero() {
			n.good = in.Now
		}
		if in.Sent.After(n.asked) {
			n.spared = time.Time{}
		}
	case Failed:
		n.row++
		if in.Begun {
			n.row, n.before = n.row+n.before, 0
		}
		if n.out || n.doubt || n.row >= r.Failures {
			return n.eject(r, in)
		}
		if _, news := n.peers(in.Now); news > 0 && n.row+news >= r.Failures {
			n.doubting(in.Now)
		}
	case Unanswered:
		return n.eject(r, in)
	case Left:
		if n.out || n.doubt {
			n.silent += in.Waited
		}
		return (n.out || n.doubt) && n.silent >= in.Patience && n.eject(r, in)
	case Busy:
		n.spared, n.asked = later(n.spared, in.Now.Add(in.Spare)), in.Now
	}
	return false
}

// TestAgainstNaive lets the machine and its naive twin live through the same events, first without
// peers, and checks that each step of the table was taken.
func TestAgainstNaive(t *testing.T) {
	var taken [events][states]int
	own := []Event{Sent, Sent, Began, Stalled, Served, Failed, Failed, Failed, Unanswered, Left, Left, Busy, Ended}
	for seed := range uint64(1500) {
		peers := seed >= 500
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := Rules{Failures: 1 + rnd.IntN(4), Base: time.Second, Max: time.Second<<rnd.IntN(4) + time.Duration(rnd.IntN(2))*500*time.Millisecond}
		s, n, now, wasEjected := new(Server), &naive{words: map[int]*word{}}, start, false
		for i := range 60 {
			now = now.Add(time.Duration(rnd.IntN(4)) * 300 * time.Millisecond)
			in := Input{
				Event: own[rnd.IntN(len(own))],
				Now:   now, Sent: now.Add(-time.Duration(rnd.IntN(3000)) * time.Millisecond), Begun: rnd.IntN(2) == 0,
				Waited: time.Duration(rnd.IntN(3)) * time.Second, Patience: 4 * time.Second, Spare: time.Duration(rnd.IntN(2000)) * time.Millisecond,
			}
			if peers {
				in.Luck, in.Refused, in.Early = rnd.Float64(), rnd.IntN(4) == 0, rnd.IntN(4) == 0
				in.Peer, in.Number, in.Remaining = rnd.IntN(4), uint64(1+i/4-rnd.IntN(2)*rnd.IntN(i/4+1)), time.Duration(rnd.IntN(12))*500*time.Millisecond
				switch rnd.IntN(6) {
				case 0, 1:
					in.Event = Told
				case 2:
					in.Event = Quiet
				}
			}
			if s.state == Out && s.State(now) == Trial {
				taken[timeOver][Out]++
			}
			if in.Event != Told { // what a peer says is heard first: see below
				taken[s.refine(r, in)][s.State(now)]++
			}
			from := s.State(now)
			when := fmt.Sprintf("seed %d, event %d, %s in %s after %v", seed, i, eventNames[in.Event], stateNames[from], now.Sub(start))
			until := s.Until
			ejected, _ := s.Apply(r, in)
			if in.Event == Told {
				event := Told
				if from <= Suspect && s.State(now) == Doubted {
					event = toldEnough
				} else if s.Until != until {
					event = toldLater
				}
				taken[event][from]++
			}
			require.Equal(t, n.apply(r, in), ejected, when)
			wasEjected = wasEjected || ejected
			for _, at := range []time.Time{now, now.Add(r.Base - 1), now.Add(r.Base), now.Add(r.Max)} {
				require.Equal(t, stateNames[n.state(at, wasEjected)], stateNames[s.State(at)], when)
			}
			barred := n.spared
			if n.out {
				barred = later(n.until, n.spared)
			}
			if (n.out || n.doubt) && n.flight > 0 {
				barred = types.Forever
			}
			news := false
			for _, w := range n.words {
				news = news || w.number > w.checked
			}
			require.Equal(t, barred, s.Barred(), when)
			require.Equal(t, n.state(now, wasEjected) == In && n.spared.IsZero() && !news, s.Settled(), when)
			require.Equal(t, n.out, s.Found(), when)
			require.Equal(t, n.out || n.doubt, s.Ejected(), when)
			out, _ := n.peers(now)
			require.Equal(t, out, s.Peers(now), when)
		}
	}
	for event, row := range table {
		for from, step := range row {
			require.Equal(t, step.do == never, taken[event][from] == 0, "%s in %s", eventNames[event], stateNames[from])
		}
	}
}
