package rollout

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBuckets: a value is in a bucket whose middle is near, and larger values are in no lower one.
func TestBuckets(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		d := time.Duration(math.Exp(rng.Float64()*math.Log(float64(2000*time.Second)/1000)) * 1000)
		b := bucketOf(d)
		require.True(t, b >= 0 && b < buckets)
		if d >= 1<<leastLog && d < 1<<(leastLog+doublings) {
			require.InEpsilon(t, d.Seconds(), valueOf(b), .0157, "%v", d)
		}
		require.LessOrEqual(t, b, bucketOf(d+1+d/10))
	}
	require.Equal(t, 0, bucketOf(-1))
	require.Equal(t, buckets-1, bucketOf(math.MaxInt64))
	require.InEpsilon(t, 100., countOf(bucketOfCount(100)), .02)
}

// TestAlike: two targets that are the same in each stratum are the same, however different their prompts are. Without
// strata one would be twice as slow.
func TestAlike(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	draw := func(n int, cold float64) (*strata, []float64) {
		s, all := new(strata), []float64(nil)
		for range n {
			tokens := 100
			if rng.Float64() < cold {
				tokens = 2000
			}
			v := float64(tokens) * 1e-4 * math.Exp(.3*rng.NormFloat64())
			s.count(stratumOf(tokens), bucketOf(time.Duration(v*float64(time.Second))))
			all = append(all, v)
		}
		slices.Sort(all)
		return s, all
	}
	canary, a := draw(2000, .5)
	stable, b := draw(5000, .02)
	require.Greater(t, a[1800], 4*b[4500], "as they are they differ")
	first, second, covered, n := alike(canary, stable, 3)
	require.Equal(t, 1., covered)
	require.Equal(t, 2000, n)
	x, y := first.quantile(.9, sure95), second.quantile(.9, sure95)
	require.InEpsilon(t, a[1800], valueOf(x.middle), .03)
	require.True(t, x.middle > y.low && x.middle < y.high, "%v in %v", x, y)
	require.True(t, y.low < y.middle && y.middle < y.high)
	wide := second.effective(.9, y.middle)
	require.Less(t, wide, 400., "of the stable target only the 100 prompts that are cold tell anything")
	require.Greater(t, wide, 50.)
}

// TestQuantileHolds: the interval at 95 % has the true quantile in it 95 times of 100, also where strata are weighed.
func TestQuantileHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	truth := math.Exp(.5 * 1.2815515) // p90 of a log-normal distribution, the same in both strata
	const runs = 1000
	out := 0
	for range runs {
		a, b := new(strata), new(strata)
		fill := func(s *strata, stratum, n int) {
			for range n {
				s.count(stratum, bucketOf(time.Duration(math.Exp(.5*rng.NormFloat64())*float64(time.Second))))
			}
		}
		fill(a, 1, 200)
		fill(a, 2, 200)
		fill(b, 1, 900)
		fill(b, 2, 60)
		_, weighed, _, _ := alike(a, b, 3)
		e := weighed.quantile(.9, sure95)
		if e.low >= 0 && valueOf(e.low) > truth*1.016 || e.high < buckets && valueOf(e.high) < truth/1.016 {
			out++
		}
	}
	require.Less(t, out, runs*7/100)
}

// TestKept: what is kept has about the same quantiles as what it was made of, and counts add up.
func TestKept(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	var c Counts
	for range 3000 {
		c.observe(&Sample{
			Told: true, Tokens: 1 + rng.IntN(500), Uncached: rng.IntN(3000), TTFT: time.Duration(math.Exp(.5*rng.NormFloat64()) * 1e8),
			TPOT: time.Duration(math.Exp(.2*rng.NormFloat64()) * 1e7),
		}, false)
	}
	k := keep(nil, &c)
	require.True(t, k.check())
	back := k.counts()
	require.Equal(t, c.TPOTs(), back.TPOTs())
	for _, pair := range [][2]*strata{{&c.tpot, &back.tpot}, {&c.ttft, &back.ttft}, {&c.length, &back.length}} {
		for i, h := range pair[0] {
			if h == nil || pair[1][i] == nil || h.n < 100 {
				continue
			}
			for _, q := range []float64{.1, .5, .9, .95} {
				require.InEpsilon(t, valueOf(only(h).at(q)), valueOf(only(pair[1][i]).at(q)), .05, "stratum %d, quantile %g", i, q)
			}
		}
	}
	twice := keep(k, &c)
	require.Equal(t, 2*k.Requests, twice.Requests)
	require.Equal(t, k.TPOT, twice.TPOT)
	require.Same(t, k, keep(k, &Counts{Requests: 10}), "too little to replace what is kept")
}
