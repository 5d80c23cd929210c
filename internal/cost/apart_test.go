package cost

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Setup and time by the token are learned from hand-overs whose times scatter, for each class.
func TestHops(t *testing.T) {
	h := NewHops(2, Hop{Setup: .007, Token: 3e-6})
	require.InDelta(t, .007, float64(h.Of(0).Setup), 1e-9)
	require.InDelta(t, 3e-6, float64(h.Of(1).Token), 1e-12)
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		tokens := Tokens(500 + rnd.IntN(12_000))
		h.Learn(1, tokens, Seconds(.03+1e-5*float64(tokens)*(.8+.4*rnd.Float64())))
	}
	require.InDelta(t, .03, float64(h.Of(1).Setup), .005)
	require.InDelta(t, 1e-5, float64(h.Of(1).Token), 1e-6)
	require.InDelta(t, .007, float64(h.Of(0).Setup), 1e-9, "of the nearer ones nothing was seen")
	for range 300 {
		h.Learn(0, Tokens(rnd.IntN(12_000)), 5)
	}
	require.LessOrEqual(t, h.Of(0).Takes(8000), h.Of(1).Takes(8000), "who is nearer is no slower to reach")
}

func TestHopsOutliers(t *testing.T) {
	h := NewHops(1, Hop{Setup: .007, Token: 3e-6})
	before := h.Of(0).Takes(4000)
	for _, nonsense := range []struct {
		tokens Tokens
		took   Seconds
	}{{-1, 1}, {Tokens(math.NaN()), 1}, {1e12, 1}, {100, Seconds(math.NaN())}} {
		h.Learn(0, nonsense.tokens, nonsense.took)
	}
	require.Equal(t, before, h.Of(0).Takes(4000))
	h.Learn(0, 4000, 5) // the first time, engines get to know each other
	require.Less(t, float64(h.Of(0).Takes(4000)), 4*float64(before))
	for range 100 { // all of one length: the sum is right, whatever it is made of
		h.Learn(0, 4000, .05)
	}
	require.InDelta(t, .05, float64(h.Of(0).Takes(4000)), .006)
	for range 500 {
		h.Learn(0, 4000, -1)
	}
	require.GreaterOrEqual(t, float64(h.Of(0).Takes(0)), 0.)
	require.InDelta(t, 0, float64(h.Of(0).Takes(4000)), .002)
}

// The two best of each group are found, whatever the groups are.
func TestBest(t *testing.T) {
	var b Best
	for round := range 200 {
		rnd := rand.New(rand.NewPCG(uint64(round), 1))
		n := 1 + rnd.IntN(40)
		b.Reset(n)
		costs := map[uint64][]Seconds{}
		for at := range n {
			group := []uint64{1, 2, 3, 1 << 63, rnd.Uint64() | 1}[rnd.IntN(5)]
			cost := Seconds(rnd.IntN(20))
			costs[group] = append(costs[group], cost)
			b.Add(group, int32(at), cost)
		}
		for group, all := range costs {
			at, found := b.Find(group)
			least, second := Seconds(math.Inf(1)), Seconds(math.Inf(1))
			for _, c := range all {
				if c < least {
					least, second = c, least
				} else {
					second = min(second, c)
				}
			}
			require.Equal(t, least, found[0])
			require.GreaterOrEqual(t, at[0], int32(0))
			require.Equal(t, len(all) > 1, at[1] >= 0)
			if len(all) > 1 {
				require.Equal(t, second, found[1])
				require.NotEqual(t, at[0], at[1])
			}
		}
		at, _ := b.Find(77)
		require.Equal(t, [2]int32{-1, -1}, at, "of a group that was not entered")
	}
}

func TestAnswer(t *testing.T) {
	m := model()
	q := &Query{Prompt: 1000, Output: 100, PerBlock: 100, At: 1}
	f := Figures{StepEnds: .99, Step: .02, Token: 1e-4, Decoding: 10, OutputCost: .002, KV: .5, PerKV: 1e-4}
	var terms Terms
	sum := m.Answer(q, &f, &Place{Hit: 400}, &terms)
	require.InDelta(t, .03, float64(terms.Wait), 1e-6, "half a step and its own: nobody waits for its prefill")
	require.Zero(t, terms.Prefill+terms.Disturb+terms.Join)
	require.InDelta(t, float64(m.pressure(q, &f, 600)), float64(terms.KV), 1e-9, "what it lacks fills the cache")
	require.InDelta(t, float64(m.sum(&terms)), float64(sum), 1e-12)

	f.KV = .98
	m.Answer(q, &f, &Place{}, &terms)
	require.Greater(t, float64(terms.Wait), .1, "it waits for room")

	f.KV = .5
	require.InDelta(t, elsewhereWorth*10*m.Recompute*1e-4*999, float64(m.Elsewhere(q, &f, 0)), 1e-4, "all of it could be computed elsewhere")
	require.InDelta(t, elsewhereWorth*10*m.Recompute*1e-4*599, float64(m.Elsewhere(q, &f, 400)), 1e-4)
	q.Best, q.Share = 400, 1
	require.InDelta(t, elsewhereWorth*10*m.Recompute*1e-4*999, float64(m.Elsewhere(q, &f, 0)+m.disturb(q, &f, 0, 0)), 1e-2, "what is charged already is not charged twice")
}

func TestPrefillFor(t *testing.T) {
	m := model()
	q := &Query{Prompt: 1000, Output: 1, PerBlock: 100, At: 1, Best: 999, Share: 1}
	f := Figures{StepEnds: .99, Step: .02, Token: 1e-4, Decoding: 10, OutputCost: .002}
	var alone, leg Terms
	sum := m.Terms(q, &f, &Place{Hit: 300}, &alone)
	require.InDelta(t, float64(sum+(elsewhereWorth-1)*alone.Disturb), float64(m.PrefillFor(q, &f, &Place{Hit: 300}, &leg)), 1e-12)
	require.InDelta(t, float64(m.sum(&leg)), float64(m.PrefillFor(q, &f, &Place{Hit: 300}, &leg)), 1e-12)
}
