package cost

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// How fast prompts are computed is learned right where many of very different lengths are there at a time, one behind the
// other.
func TestPoolingIsLearnedInAQueue(t *testing.T) {
	for _, factor := range []float64{.3, 1, 5} {
		rnd := rand.New(rand.NewPCG(7, 8))
		m, v := model(), view()
		m.Engine = reference
		l := NewLearner(v.Rates)
		s := NewServer(Start{})
		var queue []*Request
		var ends []Seconds
		now, free := Seconds(0), Seconds(0)
		done := func(until Seconds) {
			for len(queue) > 0 && ends[0] <= until {
				r, at := queue[0], ends[0]
				out := &types.Outcome{Status: 200}
				s.Served(r)
				l.Observe(m, v, s, r, out, at)
				s.Remove(r, at)
				v.Rates, v.Common, v.Late = l.Believed()
				s.Derive(m, v, 0, at)
				s.StepEnded(v, at)
				queue, ends = queue[1:], ends[1:]
			}
		}
		for range 500 {
			now += Seconds(factor * .06 * rnd.ExpFloat64())
			done(now)
			items := math.Ceil(math.Exp(2 * rnd.NormFloat64()))
			r := &Request{Kind: types.Pools, Items: items, Prompt: Tokens(100 * items)}
			s.Add(r, 0, m, v, now)
			s.Derive(m, v, 0, now)
			steps := 1 + math.Floor(float64(r.Prompt)/m.Engine.Batch)
			free = max(free, now+.003) + Seconds(factor*(steps*m.Engine.Step+r.base))
			queue, ends = append(queue, r), append(ends, free)
		}
		require.True(t, within(v.Rates.Token, factor, 1.15), "%+v, want %v", v.Rates, factor)
	}
}

// What is long holds up those that come until another server is free, and only where these would have gone.
func TestHoldsUp(t *testing.T) {
	for _, c := range []struct {
		least, next, wait, own, until Seconds
	}{
		{1, 3, 1, 1, 2},
		{1, 3, 1, 5, 3},
		{1, 3, 3, 5, 3},
		{1, 3, 4, 5, 4},
		{1, 1, 1, 5, 1},
		{0, 0, 1, 5, 1}, // not known
	} {
		q := &Query{Coming: 10, Least: c.least, Next: c.next}
		n, sum := q.HoldsUp(c.wait, c.own)
		require.InDelta(t, 10*float64(c.until-c.wait), n, 1e-9, "%+v", c)
		require.InDelta(t, 10*float64(c.until-c.wait)*float64(c.until+c.wait)/2, float64(sum), 1e-9, "%+v", c)
	}
}
