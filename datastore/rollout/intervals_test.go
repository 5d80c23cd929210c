package rollout

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNewcombe: examples of the paper (table II, method 10), and those of the package's comment.
func TestNewcombe(t *testing.T) {
	for _, c := range []struct{ a, n, b, m, low, high float64 }{
		{56, 70, 48, 80, .0524, .3339},
		{9, 10, 3, 10, .1705, .8090},
		{6, 7, 2, 7, .0582, .8062},
		{5, 56, 0, 29, -.0381, .1926},
		{0, 10, 0, 20, -.1611, .2775},
		{0, 10, 0, 10, -.2775, .2775},
		{10, 10, 0, 20, .6791, 1},
		{10, 10, 0, 10, .6075, 1},
		{0, 381, 0, 1000, math.NaN(), .00998},
		{0, 300, 0, 1000, math.NaN(), .01264},
		{3, 20, 0, 1000, .0522, math.NaN()},
	} {
		low, high := newcombe(c.a, c.n, c.b, c.m, sure95)
		if !math.IsNaN(c.low) {
			require.InDelta(t, c.low, low, 2e-4, "%v", c)
		}
		if !math.IsNaN(c.high) {
			require.InDelta(t, c.high, high, 2e-4, "%v", c)
		}
	}
	low, high := newcombe(0, 0, 0, 0, 3)
	require.True(t, low <= -.5 && high >= .5, "nothing is known of nothing")
}

// TestRanks: the quantile lies between the order statistics as often as it should, also far out, where a normal
// distribution would be wrong.
func TestRanks(t *testing.T) {
	for _, n := range []int{20, 50, 92, 200, 1000} {
		for _, q := range []float64{.5, .9} {
			low, high := ranks(float64(n), q, sureFail)
			// P(at most r of n are below the quantile), exactly.
			below := func(r int) (p float64) {
				for k := 0; k <= r; k++ {
					p += math.Exp(logChoose(n, k) + float64(k)*math.Log(q) + float64(n-k)*math.Log(1-q))
				}
				return p
			}
			if r := int(math.Ceil(low * float64(n))); r > 0 {
				require.Less(t, below(r-1), 9e-4, "value %d of %d is above the quantile %g", r, n, q)
			}
			if r := int(math.Ceil(high * float64(n))); r <= n {
				require.Less(t, 1-below(r-1), 9e-4, "value %d of %d is below the quantile %g", r, n, q)
			}
		}
	}
	_, high := ranks(50, .9, sureFail)
	require.Greater(t, high, 1., "50 values have no upper bound of the 90th percentile")
}

// TestChance against drawing at random.
func TestChance(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ a, n, b, m int }{{3, 20, 7, 80}, {1, 10, 0, 50}, {5, 30, 40, 200}, {0, 5, 3, 9}} {
		const draws = 40_000
		more := 0
		for range draws {
			bad, left, k := c.a+c.b, c.n+c.m, 0
			for range c.n {
				if rng.IntN(left) < bad {
					bad--
					k++
				}
				left--
			}
			if k >= c.a {
				more++
			}
		}
		require.InDelta(t, float64(more)/draws, chance(c.a, c.n, c.b, c.m), .01, "%v", c)
	}
	require.InDelta(t, 1, chance(0, 10, 0, 10), 1e-9)
	require.Less(t, chance(500, 1000, 0, 100_000), 1e-100)
}
