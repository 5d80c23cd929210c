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

	stateNames  = [states]string{"In", "Suspect", "Out", "Trial"}
	actionNames = [...]string{"never", "", "admit", "flight", "count", "carry", "excuse", "restore", "wait", "spare", "eject"}
	eventNames  = [events]string{
		"Sent", "Began", "Stalled", "Served", "Failed", "Failed, row", "Unanswered", "Left", "Left, long", "Busy", "Ended", "time is over",
	}
)

// TestTableIsWhole: nothing was left out of the table, and the package's documentation shows it.
func TestTableIsWhole(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for event, row := range table {
		line := fmt.Sprintf("//\t%-14s", eventNames[event])
		for from, step := range row {
			impossible := Event(event) == timeOver && State(from) != Out
			require.Equal(t, impossible, step.do == never, "%s, %s", eventNames[event], stateNames[from])
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

// inState returns a server that came into a state in the plainest way.
func inState(state State) *Server {
	s := new(Server)
	switch state {
	case Suspect:
		s.Apply(rules, Input{Event: Failed, Now: start})
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
			t.Run(stateNames[from]+"/"+eventNames[event], func(t *testing.T) {
				s := inState(from)
				require.Equal(t, from, s.State(start))
				in := Input{Event: event, Now: start, Sent: start, Patience: time.Minute, Waited: time.Second, Spare: 5 * time.Second}
				switch event {
				case rowFull:
					in.Event = Failed
					s.row = max(s.row, rules.Failures-1)
				case leftLong:
					in.Event, in.Waited = Left, in.Patience
				}
				before := *s
				ejected, counted := s.Apply(rules, in)
				step := table[event][from]
				require.Equal(t, step.to, s.State(start))
				require.Equal(t, step.do == eject, ejected)
				require.Equal(t, ejected || in.Event == Failed || in.Event == Busy, counted)
				switch step.do {
				case ignore, admit:
					require.Equal(t, before, *s)
				case flight:
					require.Equal(t, types.Forever, s.Barred())
				case count:
					require.Equal(t, before.row+1, s.row)
				case carry:
					require.Equal(t, [2]int{0, 1}, [2]int{s.row, s.carried})
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
	out                            bool
	until, good, spared, asked     time.Time
	silent, lasted                 time.Duration
}

func (n *naive) state(now time.Time, wasEjected bool) State {
	switch {
	case n.out && now.Before(n.until):
		return Out
	case n.out:
		return Trial
	case n.row+n.before > 0, wasEjected && n.good.IsZero():
		return Suspect
	}
	return In
}

func (n *naive) eject(r Rules, now time.Time) bool {
	if n.out && now.Before(n.until) {
		return false
	}
	for n.doublings > 0 && !n.good.IsZero() && now.Sub(n.good) >= n.lasted {
		n.doublings, n.good = n.doublings-1, n.good.Add(n.lasted)
	}
	n.lasted = min(r.Base<<n.doublings, r.Max)
	if n.lasted < r.Max {
		n.doublings++
	}
	*n = naive{out: true, until: now.Add(n.lasted), lasted: n.lasted, doublings: n.doublings, spared: n.spared, asked: n.asked}
	return true
}

func (n *naive) apply(r Rules, in Input) (ejected bool) {
	switch in.Event {
	case Sent:
		if n.out {
			n.flight++
		} else if !in.Now.Before(n.spared) {
			n.spared = time.Time{}
		}
		return false
	case Began:
		if n.out {
			n.out, n.before = false, r.Failures-1
		} else if n.row > 0 {
			n.before = n.row
		}
		n.row = 0
		return false
	case Stalled:
		return !n.out && n.eject(r, in.Now)
	}
	n.flight = max(n.flight-1, 0)
	switch in.Event {
	case Served:
		n.out, n.row, n.before = false, 0, 0
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
		return (n.out || n.row >= r.Failures) && n.eject(r, in.Now)
	case Unanswered:
		return n.eject(r, in.Now)
	case Left:
		if n.out {
			n.silent += in.Waited
		}
		return n.out && n.silent >= in.Patience && n.eject(r, in.Now)
	case Busy:
		n.spared, n.asked = later(n.spared, in.Now.Add(in.Spare)), in.Now
	}
	return false
}

// TestAgainstNaive lets the machine and its naive twin live through the same events, and
// checks that each step of the table was taken.
func TestAgainstNaive(t *testing.T) {
	var taken [events][states]int
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := Rules{Failures: 1 + rnd.IntN(4), Base: time.Second, Max: time.Second<<rnd.IntN(4) + time.Duration(rnd.IntN(2))*500*time.Millisecond}
		s, n, now, wasEjected := new(Server), new(naive), start, false
		for i := range 60 {
			now = now.Add(time.Duration(rnd.IntN(4)) * 300 * time.Millisecond)
			in := Input{
				Event: []Event{Sent, Sent, Began, Stalled, Served, Failed, Failed, Failed, Unanswered, Left, Left, Busy, Ended}[rnd.IntN(13)],
				Now:   now, Sent: now.Add(-time.Duration(rnd.IntN(3000)) * time.Millisecond), Begun: rnd.IntN(2) == 0,
				Waited: time.Duration(rnd.IntN(3)) * time.Second, Patience: 4 * time.Second, Spare: time.Duration(rnd.IntN(2000)) * time.Millisecond,
			}
			if s.state == Out && s.State(now) == Trial {
				taken[timeOver][Out]++
			}
			taken[s.refine(r, in)][s.State(now)]++
			when := fmt.Sprintf("seed %d, event %d, %s after %v", seed, i, eventNames[in.Event], now.Sub(start))
			ejected, _ := s.Apply(r, in)
			require.Equal(t, n.apply(r, in), ejected, when)
			wasEjected = wasEjected || ejected
			for _, at := range []time.Time{now, now.Add(r.Base - 1), now.Add(r.Base), now.Add(r.Max)} {
				require.Equal(t, stateNames[n.state(at, wasEjected)], stateNames[s.State(at)], when)
			}
			barred := n.spared
			if n.out {
				barred = later(n.until, n.spared)
			}
			if n.out && n.flight > 0 {
				barred = types.Forever
			}
			require.Equal(t, barred, s.Barred(), when)
			require.Equal(t, n.state(now, wasEjected) == In && n.spared.IsZero(), s.Settled(), when)
			require.Equal(t, n.out, s.Ejected(), when)
		}
	}
	for event, row := range table {
		for from, step := range row {
			require.Equal(t, step.do == never, taken[event][from] == 0, "%s in %s", eventNames[event], stateNames[from])
		}
	}
}
