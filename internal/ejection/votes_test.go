package ejection

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// told is what a peer says of an ejection that lasts for a second more.
func told(peer int, number uint64, refused bool) Input {
	return Input{Event: Told, Now: start, Peer: peer, Number: number, Refused: refused, Remaining: time.Second}
}

// TestVotes: what is enough to doubt a server.
func TestVotes(t *testing.T) {
	failed, served := Input{Event: Failed, Now: start}, Input{Event: Served, Now: start, Sent: start}
	for _, tt := range []struct {
		name     string
		failures int
		inputs   []Input
		want     State
		cause    string
	}{
		{"refused", 3, []Input{told(1, 1, true)}, Doubted, "a peer cannot connect to it"},
		{"one peer", 3, []Input{told(1, 1, false)}, In, ""},
		{"one peer, again and again", 3, []Input{told(1, 1, false), told(1, 1, false), told(1, 2, false), told(1, 3, false), told(1, 4, false)}, In, ""},
		{"two peers", 3, []Input{told(1, 1, false), told(2, 1, false)}, In, ""},
		{"three peers", 3, []Input{told(1, 1, false), told(2, 1, false), told(3, 7, false)}, Doubted, "3 peers say it is dead"},
		{"one peer where one failure is enough", 1, []Input{told(1, 1, false)}, In, ""},
		{"two peers where one failure is enough", 1, []Input{told(1, 1, false), told(2, 1, false)}, Doubted, "2 peers say it is dead"},
		{"two peers where two failures are", 2, []Input{told(1, 1, false), told(2, 1, false)}, Doubted, "2 peers say it is dead"},
		{"a peer, a failure", 2, []Input{told(1, 1, false), failed}, Doubted, "1 failure, and 1 peer says it is dead"},
		{"a failure, a peer", 2, []Input{failed, told(1, 1, false)}, Doubted, "1 failure, and 1 peer says it is dead"},
		{"a failure, a peer, of three", 3, []Input{failed, told(1, 1, false)}, Suspect, ""},
		{"two failures, a peer", 3, []Input{failed, failed, told(1, 1, false)}, Doubted, "2 failures, and 1 peer says it is dead"},
		{"a peer, two failures", 3, []Input{told(1, 1, false), failed, failed}, Doubted, "2 failures, and 1 peer says it is dead"},
		{"a failure, two peers", 3, []Input{failed, told(1, 1, false), told(2, 1, false)}, Doubted, "1 failure, and 2 peers say it is dead"},
		{"own failures alone", 2, []Input{told(1, 1, false), {Event: Sent, Now: start.Add(time.Hour)}, {Event: Failed, Now: start.Add(time.Hour)}, {Event: Failed, Now: start.Add(time.Hour)}}, Out, "2 failures"},
		{"a served request between", 3, []Input{told(1, 1, false), told(2, 1, false), served, told(3, 1, false)}, In, ""},
		{"what a served request has settled", 3, []Input{told(1, 1, false), told(2, 1, false), served, told(1, 1, false), told(2, 1, false), told(3, 1, false)}, In, ""},
		{"a refused connection that it has settled", 3, []Input{told(1, 1, true), served, told(1, 1, true)}, In, "a peer cannot connect to it"},
		{"a first token", 3, []Input{told(1, 1, true), {Event: Began, Now: start, Sent: start}, told(1, 1, true)}, Suspect, "a peer cannot connect to it"},
		{"a request of before the peer spoke", 3, []Input{told(1, 1, true), {Event: Served, Now: start, Sent: start.Add(-1), Early: true}}, Doubted, "a peer cannot connect to it"},
		{"its failure", 3, []Input{told(1, 1, true), {Event: Failed, Now: start, Early: true}}, Doubted, "a peer cannot connect to it"},
		{"its end without an answer", 3, []Input{told(1, 1, true), {Event: Unanswered, Now: start, Early: true}}, Out, "a request without an answer"},
		{"an older ejection, told late", 3, []Input{told(1, 5, false), told(1, 4, true)}, In, ""},
		{"from the one who is on probation", 3, []Input{{Event: Told, Now: start, Peer: 1, Number: 1, Refused: true}}, Doubted, "a peer cannot connect to it"},
		{"no ejection", 3, []Input{told(1, 0, true)}, In, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, r := new(Server), Rules{Failures: tt.failures, Base: time.Second, Max: time.Minute}
			for _, in := range tt.inputs {
				s.Apply(r, in)
			}
			last := tt.inputs[len(tt.inputs)-1].Now
			require.Equal(t, stateNames[tt.want], stateNames[s.State(last)])
			require.Equal(t, tt.cause, s.Cause)
			require.Equal(t, tt.want == Out, s.Found())
		})
	}
}

// TestVotesPass: a vote counts as long as the peer says so, and a while longer; a doubt stays.
func TestVotesPass(t *testing.T) {
	s := new(Server)
	for i, want := range []int{1, 2} {
		s.Apply(rules, told(i, 1, false))
		require.Equal(t, want, s.Peers(start))
	}
	require.Equal(t, 2, s.Peers(start.Add(voteLife-1)))
	require.Zero(t, s.Peers(start.Add(voteLife)))
	in := told(2, 1, false)
	in.Now = start.Add(voteLife)
	s.Apply(rules, in)
	require.Equal(t, In, s.State(in.Now), "the others have fallen silent")
	in.Peer, in.Refused = 7, true
	s.Apply(rules, in)
	require.Equal(t, Doubted, s.State(in.Now.Add(24*time.Hour)), "silence proves nothing")
	s.Lose(7)
	require.Equal(t, Doubted, s.State(in.Now), "nor does a peer that has gone")
	for i := range 3 {
		s.Lose(i)
	}
	require.Nil(t, s.votes)
}

// TestTrapPeersPutOut: whatever peers say, however many, they put no server out.
func TestTrapPeersPutOut(t *testing.T) {
	for seed := range uint64(200) {
		rnd, s, now := rand.New(rand.NewPCG(seed, 2)), new(Server), start
		for range 300 {
			now = now.Add(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			s.Apply(rules, Input{
				Event: Told, Now: now, Peer: rnd.IntN(200), Number: rnd.Uint64N(50), Refused: rnd.IntN(2) == 0,
				Remaining: time.Duration(rnd.Int64()) - 1<<62,
			})
			require.False(t, s.Found())
			require.Zero(t, s.Barred(), "it gets a request")
			require.LessOrEqual(t, len(s.votes), maxVotes)
			if rnd.IntN(10) == 0 {
				s.Lose(rnd.IntN(200))
			}
		}
	}
}

// TestTrapLyingPeer: a peer says all the time that it cannot connect to a server that serves.
func TestTrapLyingPeer(t *testing.T) {
	for _, takes := range []time.Duration{10 * time.Millisecond, time.Second, time.Minute} {
		const hours = 4
		s, now, number := new(Server), start, uint64(0)
		var doubts int
		var sent time.Time
		var inDoubt time.Duration
		for now.Before(start.Add(hours * time.Hour)) {
			number++
			before := s.State(now)
			s.Apply(rules, Input{Event: Told, Now: now, Peer: 1, Number: number, Refused: true, Remaining: time.Hour})
			if before != Doubted && s.State(now) == Doubted {
				doubts++
				sent = now
				s.Apply(rules, Input{Event: Sent, Now: sent})
			}
			step := 10 * time.Millisecond
			if now = now.Add(step); s.State(now) == Doubted {
				if inDoubt += step; now.Sub(sent) >= takes {
					s.Apply(rules, Input{Event: Served, Now: now, Sent: sent})
				}
			}
		}
		t.Logf("requests of %v: %d trials, %v in doubt", takes, doubts, inDoubt)
		require.LessOrEqual(t, doubts, 12+hours, "twelve doublings, and then one an hour")
		require.LessOrEqual(t, inDoubt, hours*time.Hour/8)
	}
}

// TestTrapPeerKeepsOut: a server that was ejected here serves again. A peer says that it is out for as
// long as can be.
func TestTrapPeerKeepsOut(t *testing.T) {
	for _, luck := range []float64{0, 0.5, 0.999} {
		for n := range 3 {
			s := new(Server)
			s.Apply(rules, Input{Event: Unanswered, Now: start, Luck: luck})
			now := start
			for i := uint64(1); s.State(now) == Out; i++ {
				for peer := range n {
					s.Apply(rules, Input{Event: Told, Now: now, Peer: peer, Number: i, Refused: true, Remaining: time.Hour})
				}
				now = now.Add(10 * time.Millisecond)
			}
			most := time.Duration(1+n)*rules.Base + 10*time.Millisecond
			if n > 0 {
				most += time.Duration(luck * float64(rules.Base/2))
			}
			require.InDelta(t, most, now.Sub(start), float64(20*time.Millisecond), "%d peers", n)
		}
	}
}

// TestTrialsOfAll: gateways that hear each other a tenth of a second later try a dead server about once
// per period, all together.
func TestTrialsOfAll(t *testing.T) {
	const gateways, delay, tick = 8, 100 * time.Millisecond, 10 * time.Millisecond
	run := func(talk bool) (early, late int) {
		rnd := rand.New(rand.NewPCG(1, 3))
		type message struct {
			at time.Time
			in Input
		}
		var servers [gateways]Server
		var numbers [gateways]uint64
		var wire []message
		end := start.Add(30 * time.Minute)
		for now := start; now.Before(end); now = now.Add(tick) {
			for len(wire) > 0 && !now.Before(wire[0].at) {
				for i := range servers {
					if in := wire[0].in; in.Peer != i {
						in.Now = now
						servers[i].Apply(rules, in)
					}
				}
				wire = wire[1:]
			}
			for i := range servers {
				s := &servers[i]
				if barred := s.Barred(); !now.Before(barred) { // it looks idle: whoever may send does
					s.Apply(rules, Input{Event: Sent, Now: now})
					s.Apply(rules, Input{Event: Unanswered, Now: now, Refused: true, Luck: rnd.Float64()})
					numbers[i]++
					if now.Sub(start) < time.Minute {
						early++
					} else {
						late++
					}
				}
				if s.Apply(rules, Input{Event: Quiet, Now: now}); talk && s.Found() && int(now.Sub(start)/tick)%10 == i {
					wire = append(wire, message{now.Add(delay), Input{
						Event: Told, Peer: i, Number: numbers[i], Refused: s.Refused, Remaining: s.Left(now),
					}})
				}
			}
		}
		return early, late
	}
	early, late := run(false)
	earlyTold, lateTold := run(true)
	t.Logf("in the first minute: %d alone, %d together; in the 29 minutes after it: %d alone, %d together", early, earlyTold, late, lateTold)
	require.Less(t, earlyTold, early*3/4, "each of them still sees for itself that it is dead")
	require.LessOrEqual(t, lateTold, 60, "a period is a minute")
	require.Greater(t, lateTold, 15, "it is tried all the same")
}

func TestRecord(t *testing.T) {
	s := inState(Trial)
	s.Apply(rules, Input{Event: Unanswered, Now: start, Refused: true})
	got, ok := s.Record(start.Add(500 * time.Millisecond))
	require.True(t, ok)
	require.NoError(t, got.Check())
	require.Equal(t, Record{1500 * time.Millisecond, 2 * time.Second, 2, true, "a request without an answer"}, got)
	later := start.Add(time.Hour)
	again := Resume(rules, got, later)
	require.Equal(t, Out, again.State(later))
	require.Equal(t, Trial, again.State(later.Add(1500*time.Millisecond)))
	again.Apply(rules, Input{Event: Unanswered, Now: later.Add(2 * time.Second)})
	require.Equal(t, 4*time.Second, again.Left(later.Add(2*time.Second)))

	for _, state := range []State{In, Suspect, Doubted} {
		_, ok := inState(state).Record(start)
		require.False(t, ok, stateNames[state])
	}
	for _, bad := range []Record{{}, {Left: 2, Lasted: 1}, {Left: -1, Lasted: 1}, {Lasted: 1, Doublings: -1}, {Lasted: 1, Doublings: maxDoublings + 1}} {
		require.Error(t, bad.Check(), fmt.Sprintf("%+v", bad))
	}
	long := Resume(rules, Record{Left: time.Hour, Lasted: time.Hour}, start)
	require.Equal(t, rules.Max, long.Left(start), "no longer than is allowed now")
}

func TestSamples(t *testing.T) {
	var b, again Baseline
	server, rnd := new(int), rand.New(rand.NewPCG(1, 4))
	for range 5000 {
		b.Answered(rnd.IntN(classes), time.Duration(rnd.ExpFloat64()*float64(time.Second)), server, start)
	}
	all := b.Samples()
	for _, m := range all {
		require.NoError(t, m.Check())
	}
	again.Learn(all)
	for class := range classes {
		want, known := b.High(class)
		got, ok := again.High(class)
		require.Equal(t, want, got)
		require.Equal(t, known, ok)
	}
	again.Learn(all)
	require.Equal(t, all, again.Samples(), "what is known already stays")
	for _, bad := range []Sample{{-1, 0, 1}, {classes, 0, 1}, {0, -1, 1}, {0, buckets, 1}, {0, 0, 0}, {0, 0, fullAt + 1}} {
		require.Error(t, bad.Check(), fmt.Sprintf("%+v", bad))
	}
}
