package cost

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

// model is an engine of which figures are easy to work out.
func model() *Model {
	return &Model{
		Weights: Weights{FirstToken: 5, Output: .2, Recompute: 1.5, LongPrefill: .3, LongSteps: 6, Join: 2, KVPressure: .15, AdapterSlot: 15, AdapterLoad: .1},
		Engine:  Engine{Step: .01, Sequence: 1e-5, Context: 1e-8, Token: 1e-5, Batch: 8192},
	}
}

func view() *View { return &View{Rates: Rates{Transport: .003, Step: 1, Token: 1}} }

// What follows from a state: a server with two requests of which one decodes.
func TestDerive(t *testing.T) {
	m, v := model(), view()
	s := NewServer(Start{})
	s.Derive(m, v, 0, 0)
	first, second := &Request{Prompt: 1000, Output: 100}, &Request{Prompt: 500, Output: 50}
	s.Add(first, 0, m, v, 1)
	s.Derive(m, v, 1, 1)
	s.First(first, 2)
	s.Derive(m, v, 1, 2)
	s.Began(first, v, 2)
	s.Add(second, 400, m, v, 2)
	s.Derive(m, v, 2, 2)
	want := Facts{
		Prefilling: 1, Decoding: 1, Step: Seconds(.01 + 1e-5 + 1e-8*1575/2), Token: 1e-5,
		StepFactor: 1, TokenFactor: 1,
	}
	require.Empty(t, cmp.Diff(want, s.Facts(), about))
	f := s.Figures()
	require.EqualValues(t, 100, f.Queued, "tokens that are cached are not computed")
	require.InDelta(t, 1e-3, f.Pending, 1e-9)

	// Another Scheduler of this process books in the same ledger.
	s.Derive(m, v, 5, 2)
	require.InDelta(t, 4, s.Facts().Decoding, 1e-9)
}

// What peers have there counts as what this gateway has, and readings add what neither explains.
func TestPeers(t *testing.T) {
	m, v := model(), view()
	s := NewServer(Start{})
	s.Derive(m, v, 0, -9)
	require.EqualValues(t, 5, s.SetPeers(Peers{Requests: 5, Prefilling: 2, Context: 4000}))
	s.Derive(m, v, 0, -9)
	require.Zero(t, s.Facts().Decoding, "a word counts within a moment")
	s.Derive(m, v, 0, -9+peersMoment)
	require.InDelta(t, 3*(1-math.Exp(-1)), s.Facts().Decoding, 1e-9)
	s.Derive(m, v, 0, 0)
	require.InDelta(t, 3, s.Facts().Decoding, 1e-9)

	for at := range time.Duration(20) { // 5 of peers, 4 of somebody who tells nothing
		s.Read(Reading{At: at * time.Second, Read: true, Counts: true, There: 9, Sent: 5, Told: 5})
	}
	s.Trusted(19)
	for _, follow := range []float64{0, .5, 1} {
		v.Peers = follow
		s.Derive(m, v, 0, 19)
		require.InDelta(t, 7, s.Facts().Decoding, 1e-6, "all agree")
	}
	require.EqualValues(t, -5, s.SetPeers(Peers{}))
	s.Derive(m, v, 0, 29)
	require.InDelta(t, 4, s.Facts().Decoding, 1e-6)
}

// Peers are followed as far as they have foretold readings: who lies, or is late, is not for long.
func TestWitness(t *testing.T) {
	var w Witness
	require.InDelta(t, .5, w.Peers(), 1e-9)
	for range 1000 {
		w.Saw(.5, 5)
	}
	require.Greater(t, w.Peers(), .95)
	w.Saw(10_000, 5)
	require.Less(t, w.Peers(), .01)

	m, v := model(), view()
	s := NewServer(Start{})
	s.SetPeers(Peers{Requests: 10_000, Prefilling: 5000, Context: 1e7})
	for at := range time.Duration(20) {
		s.Read(Reading{At: at * time.Second, Read: true, Counts: true, There: 4, Sent: 10_000, Told: 10_000})
	}
	s.Trusted(19)
	v.Peers = 0
	s.Derive(m, v, 0, 19)
	require.InDelta(t, 2, s.Facts().Decoding, 1e-3, "of 4 that are there, half decode, as peers have it")
}

// Whatever happens to requests, nothing is left of them.
func TestServerEndsAtNothing(t *testing.T) {
	m, v := model(), view()
	s := NewServer(Start{})
	s.Derive(m, v, 0, 0)
	idle := s.Figures()
	rnd, now := types.NewRand(3), Seconds(0)
	var there []*Request
	for i := range 2000 {
		now += Seconds(rnd.Float64() / 100)
		r := &Request{Prompt: Tokens(10 + rnd.IntN(3000)), Output: Tokens(1 + rnd.IntN(200)), Streamed: i%2 == 0}
		s.Add(r, Tokens(rnd.IntN(10)), m, v, now)
		there = append(there, r)
		for len(there) > 40 || i == 1999 && len(there) > 0 {
			k := rnd.IntN(len(there))
			if r := there[k]; rnd.IntN(2) == 0 && !r.Begun() {
				s.First(r, now)
				s.Derive(m, v, 0, now)
				s.Began(r, v, now)
				continue
			}
			s.Remove(there[k], now)
			s.Derive(m, v, 0, now)
			s.Settle(m, now)
			there = append(there[:k], there[k+1:]...)
		}
	}
	n, prefilling := s.Requests()
	require.Zero(t, n)
	require.Zero(t, prefilling)
	require.NotZero(t, s.Figures().Stalled, "an average of some seconds")
	s.Derive(m, v, 0, now+10_000)
	got := s.Figures()
	got.Mine = idle.Mine // an average
	require.Equal(t, idle, got)
}

// Those whose prefills come in the next step are known, and how much of the time prefills take.
func TestJoiningAndStalled(t *testing.T) {
	m, v := model(), view()
	s := NewServer(Start{})
	s.Derive(m, v, 0, 0)
	send := func(now Seconds) *Request {
		r := &Request{Prompt: 1000, Output: 100, Streamed: true}
		s.Add(r, 0, m, v, now)
		s.Derive(m, v, 0, now)
		return r
	}
	joined := func(at Seconds) float64 { f := s.Figures(); return f.JoinedAt(at) }
	first := send(0) // its step begins when it is there
	require.EqualValues(t, 1, joined(.001))
	require.Zero(t, joined(.004), "it has begun")
	second := send(.005)
	send(.006)
	require.EqualValues(t, 2, joined(.01), "both wait for the step of the first")
	s.First(first, .02)
	s.Began(first, v, .02)
	require.Zero(t, joined(.021), "both are in the step that begins")
	send(.022)
	require.EqualValues(t, 1, joined(.023))
	s.First(second, .06)
	s.Began(second, v, .06)
	require.Zero(t, joined(.061))

	// One prefill of 10 ms each 40 ms.
	now := Seconds(1)
	for range 2000 {
		r := send(now)
		s.First(r, now+.02)
		s.Remove(r, now+.03)
		now += .04
	}
	s.Derive(m, v, 0, now)
	require.InDelta(t, .25, s.Figures().Stalled, .005)
	busy := s.Figures().OutputCost
	s.Derive(m, v, 0, now+100)
	require.InDelta(t, 0, s.Figures().Stalled, 1e-6)
	require.InDelta(t, float64(s.Figures().OutputCost), float64(busy)*.75, .05*float64(busy))
}

// A response that is not streamed shows no first token: its prefill is taken to be over when
// it should be.
func TestExpire(t *testing.T) {
	m, v := model(), view()
	s := NewServer(Start{})
	s.Derive(m, v, 0, 0)
	s.Add(&Request{Prompt: 1000, Output: 1}, 0, m, v, 0)
	s.Add(&Request{Prompt: 1000, Output: 1, Streamed: true}, 0, m, v, 0)
	s.expire(.001)
	require.Equal(t, 2, s.prefilling)
	s.expire(10)
	require.Equal(t, 1, s.prefilling, "of the streamed one nobody has seen a token")
}

// More requests than a server is known to carry are taken to wait for others to end.
func TestCrowded(t *testing.T) {
	m := model()
	s := &Server{step: .02}
	for _, tt := range []struct{ carried, sent, want float64 }{
		{0, 8, 0}, {0, 9, .2 * .02 * (10 - 8.8) / 8.8}, {100, 109, 0}, {100, 119, .2 * .02 * 10 / 110},
	} {
		s.carried = tt.carried
		require.InDelta(t, tt.want, s.crowded(m, tt.sent), 1e-12, "%+v", tt)
	}
}

// What a page says beyond what was sent is of others: averaged, without those of one's own
// that ended since, and believed for as long as it is fresh.
func TestReadings(t *testing.T) {
	at := func(ms int, there, sent float64) Reading {
		return Reading{At: time.Duration(ms) * time.Millisecond, Read: true, Counts: true, There: there, Sent: sent}
	}
	s := NewServer(Start{})
	s.Read(at(0, 12, 2))
	foreign, believed := s.Trusted(0)
	require.Equal(t, 10., foreign, "the first reading counts in full")
	require.Equal(t, 1., believed)
	s.Read(at(1000, 2, 2))
	foreign, _ = s.Trusted(1)
	require.InDelta(t, 10*math.Exp(-1)-10, foreign, 1e-9, "by how much it changes")
	s.endsOne(1.5)
	s.endsOne(2.5)
	s.Read(at(2000, 6, 2))
	require.Len(t, s.ended, 1, "what ended before the page was asked for is forgotten")
	was, _ := s.Trust()
	s.Trusted(2)
	is, _ := s.Trust()
	require.InDelta(t, was+(1-math.Exp(-1))*(4-1-was), is, 1e-9)
	for _, tt := range []struct{ age, want float64 }{{.5, 1}, {2.75, .5}, {5, 0}, {60, 0}} {
		s.Trusted(Seconds(2 + tt.age))
		_, believed := s.Trust()
		require.InDelta(t, tt.want, believed, 1e-9, "%v s old", tt.age)
	}
	before := s.raw
	s.Read(at(1999, 100, 0))
	require.Equal(t, before, s.raw, "an older page tells nothing")
	s.Read(Reading{})
	require.Equal(t, before, s.raw, "nor does one that was never read")
	for range 3 * maxEnded {
		s.endsOne(1)
	}
	require.LessOrEqual(t, len(s.ended), maxEnded)
}

// When the trust in a reading is to be looked at again.
func TestRecheck(t *testing.T) {
	s := NewServer(Start{})
	require.True(t, math.IsInf(float64(s.Recheck(0)), 1), "it was never read")
	s.Read(Reading{Read: true, Counts: true})
	for now, want := range map[Seconds]float64{0: .5, .2: .5, 1: 1.25, 5: math.Inf(1)} {
		require.Equal(t, want, math.Round(1e6*float64(s.Recheck(now)))/1e6, "at %v", now)
	}
}
