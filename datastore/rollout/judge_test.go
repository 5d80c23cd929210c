package rollout

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

// verdict judges one metric of a plan with defaults.
func verdict(t *testing.T, c comparison, m Metric) Verdict {
	t.Helper()
	p, err := Plan{
		Object: Object{Kind: "InferenceModel", Name: types.NamespacedName{Name: "m"}},
		Stable: "a", Canary: "b", Metrics: []Metric{m},
	}.WithDefaults()
	require.NoError(t, err)
	c.least = p.MinRequests
	return c.judge(&p.Metrics[0])
}

// A canary that refuses most requests, which the stable target does not, is bad; clients that ask for nonsense, or one whose
// requests are all the canary's, are not its fault.
func TestRefusedVerdict(t *testing.T) {
	for _, c := range []struct {
		refused, n, others, of int
		want                   Result
	}{
		{20, 0, 0, 1000, Fail},
		{19, 0, 0, 1000, Unsure},
		{20, 0, 1000, 0, Unsure},
		{90, 10, 0, 1000, Fail},
		{300, 700, 0, 1000, Pass},
		{20, 0, 0, 0, Unsure},
	} {
		v := verdict(t, comparison{canary: &Counts{Requests: c.n, Refused: c.refused}, stable: &Counts{Requests: c.of, Refused: c.others}, weight: 10}, Metric{Name: Errors})
		require.Equal(t, c.want, v.Result, "%+v: %s", c, v.Reason)
	}
	v := verdict(t, comparison{canary: &Counts{Refused: 50}, stable: &Counts{Requests: 990, Refused: 10}, weight: 10}, Metric{Name: Errors})
	require.Equal(t, "50 of 50 requests were refused (4xx), against 10 of 1000", v.Reason)
}

func TestErrorsVerdict(t *testing.T) {
	for _, c := range []struct {
		k, n, others, of int
		want             Result
		reason           string
	}{
		{3, 20, 0, 1000, Fail, "3 of 20 requests failed, against 0 of 1000: at least 2.8 points more, 1.0 allowed"},
		{1, 20, 0, 1000, Unsure, "1 of 20 requests failed, against 0 of 1000: 0.9 to 23.6 points more, 1.0 allowed: more requests will tell"},
		{0, 381, 0, 1000, Pass, "0 of 381 requests failed, against 0 of 1000: less than 1.0 points more"},
		{0, 300, 0, 1000, Unsure, "0 of 300 requests failed, against 0 of 1000: -0.4 to 1.3 points more, 1.0 allowed: more requests will tell"},
		{0, 19, 0, 1000, Unsure, "19 of at least 20 requests"},
		{0, 0, 0, 1000, Unsure, "0 of at least 20 requests"},
		{5, 20, 38, 780, Unsure, ""}, // by the interval alone it would fail: 1 of 400 canaries that are as good has so many
		{50, 1000, 50, 1000, Unsure, ""},
		{500, 10_000, 500, 10_000, Pass, ""},
		{800, 10_000, 500, 10_000, Fail, ""},
		{20, 20, 0, 0, Unsure, ""}, // the stable target may be as bad
	} {
		v := verdict(t, comparison{canary: &Counts{Requests: c.n, Errors: c.k}, stable: &Counts{Requests: c.of,
			Errors: c.others}, weight: 10}, Metric{Name: Errors})
		require.Equal(t, c.want, v.Result, "%+v: %s", c, v.Reason)
		if c.reason != "" {
			require.Equal(t, c.reason, v.Reason)
		}
	}
	// At the end there is nothing but what was kept, or nothing at all.
	all := comparison{canary: &Counts{Requests: 500, Errors: 20}, stable: new(Counts), weight: 100, kept: true}
	v := verdict(t, all, Metric{Name: Errors})
	require.Equal(t, Fail, v.Result)
	require.Contains(t, v.Reason, "of the stable target nothing is known")
	all.stable = &Counts{Requests: 500, Errors: 18}
	v = verdict(t, all, Metric{Name: Errors})
	require.Equal(t, Pass, v.Result, "it is not surely worse")
	require.Contains(t, v.Reason, "against 18 of 500 before")
}

func TestEmptyVerdict(t *testing.T) {
	c := comparison{canary: &Counts{Requests: 500, Told: 500, Empty: 20}, stable: &Counts{Requests: 900, Told: 900,
		Empty: 1}, weight: 10}
	require.Equal(t, Fail, verdict(t, c, Metric{Name: Empty}).Result)
	c.canary.Empty = 0
	require.Equal(t, Pass, verdict(t, c, Metric{Name: Empty}).Result)
	c.canary.Told = 0
	require.Equal(t, Unsure, verdict(t, c, Metric{Name: Empty}).Result, "the stable target's servers tell")
	c.canary.Unreadable = 500
	v := verdict(t, c, Metric{Name: Empty})
	require.Equal(t, Fail, v.Result)
	require.Equal(t, "500 of 500 answers have nothing that an answer has, against 0 of 900", v.Reason)
	c.canary.Unreadable = 200
	require.Equal(t, Unsure, verdict(t, c, Metric{Name: Empty}).Result, "they may be those of one client")
	c.canary.Unreadable, c.stable.Unreadable = 500, 900
	require.Equal(t, Unsure, verdict(t, c, Metric{Name: Empty}).Result, "so it is with both")
	c.canary.Unreadable, c.stable.Unreadable = 0, 0
	c.stable.Told, c.stable.Empty = 0, 0
	require.Equal(t, NotJudged, verdict(t, c, Metric{Name: Empty}).Result)
}

// answered fills counts with n answers whose times are log-normal.
func answered(rng *rand.Rand, n, uncached int, seconds float64, told bool) *Counts {
	c := new(Counts)
	for range n {
		v := time.Duration(seconds * math.Exp(.3*rng.NormFloat64()) * float64(time.Second))
		c.observe(&Sample{TTFT: v, TPOT: v / 20, Uncached: uncached, CacheTold: told, Tokens: -1}, false)
	}
	return c
}

func TestTimesVerdict(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	stable := answered(rng, 3000, 500, 1, true)
	judge := func(canary, stable *Counts, weight float64, kept bool) Verdict {
		return verdict(t, comparison{canary: canary, stable: stable, weight: weight, kept: kept}, Metric{Name: TTFT})
	}
	v := judge(answered(rng, 300, 500, 1, true), stable, 10, false)
	require.Equal(t, Pass, v.Result, v.Reason)
	v = judge(answered(rng, 300, 500, 2, true), stable, 10, false)
	require.Equal(t, Fail, v.Result, v.Reason)
	require.Regexp(t, `^p90 of the time to first token \S+ s against \S+ s of 300 and 3000 answers: at least 1\.[5-9]\d times, 1\.20 allowed$`, v.Reason)
	require.InDelta(t, 2.9, v.Canary, .4)
	v = judge(answered(rng, 30, 500, 1.1, true), stable, 10, false)
	require.Equal(t, Unsure, v.Result, v.Reason)
	v = judge(answered(rng, 1000, 500, 1.1, true), stable, 10, false)
	require.Equal(t, Pass, v.Result, v.Reason)

	v = judge(answered(rng, 300, 500, 9, true), stable, 4.9, false)
	require.Equal(t, NotJudged, v.Result)
	require.Equal(t, "it is judged from 5 % on", v.Reason)
	v = judge(answered(rng, 300, 9000, 9, true), stable, 10, false)
	require.Equal(t, Unsure, v.Result, "no prompts like those of the stable target: never a failure")
	require.Contains(t, v.Reason, "of 300 requests only 0 have prompts like those of the stable target")
	v = judge(answered(rng, 300, 500, 9, false), answered(rng, 3000, 500, 1, false), 25, false)
	require.Equal(t, NotJudged, v.Result)
	require.Contains(t, v.Reason, "servers do not say how much of a prompt was cached")
	v = judge(answered(rng, 300, 500, 9, false), answered(rng, 3000, 500, 1, false), 50, false)
	require.Equal(t, Fail, v.Result)
	v = judge(answered(rng, 300, 500, 9, true), stable, 100, true)
	require.True(t, v.Result == Fail && v.WarnOnly, "what was before may have been with less load")
	v = judge(answered(rng, 300, 500, 9, true), new(Counts), 100, true)
	require.Equal(t, NotJudged, v.Result)
	v = judge(answered(rng, 300, 500, 9, true), new(Counts), 50, false)
	require.Equal(t, Unsure, v.Result)
	v = judge(answered(rng, 300, 500, 9, true), answered(rng, 60, 500, 1, true), 50, false)
	require.Equal(t, Unsure, v.Result, "60 values have no upper bound of their 90th percentile")

	v = judge(&Counts{Requests: 400}, &Counts{Requests: 4000}, 50, false)
	require.Equal(t, NotJudged, v.Result, "nobody streams")
	v = judge(&Counts{Requests: 400}, stable, 50, false)
	require.Equal(t, Unsure, v.Result, "the answers of the stable target are streamed")
}

// wholes fills counts with n answers that were not streamed.
func wholes(rng *rand.Rand, n int, each float64, s Sample) *Counts {
	c := new(Counts)
	for range n {
		s := s
		v := each * math.Exp(.3*rng.NormFloat64())
		if s.Tokens > 0 {
			s.Tokens = 1 + int(float64(s.Tokens)*math.Exp(.8*rng.NormFloat64()))
			v = .2 + float64(s.Tokens)*v
		}
		s.Whole = time.Duration(v * float64(time.Second))
		c.observe(&s, false)
	}
	return c
}

func TestWholeVerdict(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	judge := func(metric string, canary, stable *Counts, weight float64) Verdict {
		return verdict(t, comparison{canary: canary, stable: stable, weight: weight}, Metric{Name: metric})
	}
	both := func(a, b *Counts) *Counts {
		a.merge(b)
		return a
	}
	answer, embedding := Sample{Tokens: 100, Uncached: 300}, Sample{Tokens: -1, Bytes: 9000}
	long := Sample{Tokens: 3, Uncached: 5000}
	for _, s := range []Sample{answer, embedding} {
		stable := wholes(rng, 3000, .02, s)
		v := judge(NTPOT, wholes(rng, 400, .02, s), stable, 10)
		require.Equal(t, Pass, v.Result, v.Reason)
		v = judge(NTPOT, wholes(rng, 400, .05, s), stable, 10)
		require.Equal(t, Fail, v.Result, v.Reason)
		require.Contains(t, v.Reason, "p90 of the time per token of whole answers")
		for _, metric := range []string{TTFT, TPOT} {
			v = judge(metric, wholes(rng, 400, .02, s), stable, 50)
			require.Equal(t, NotJudged, v.Result, "nobody streams")
		}
	}
	stable := wholes(rng, 3000, .02, answer)
	v := judge(NTPOT, wholes(rng, 400, .3, answer), stable, 1)
	require.Equal(t, "it is judged from 5 % on", v.Reason)
	short := answer
	short.Tokens = 10
	v = judge(NTPOT, wholes(rng, 400, .02, short), both(wholes(rng, 600, .02, short), stable), 10)
	require.NotEqual(t, Fail, v.Result, "short answers have more of what is not the answer: %s", v.Reason)
	v = judge(NTPOT, wholes(rng, 400, .02, embedding), stable, 10)
	require.Equal(t, Unsure, v.Result)
	require.Contains(t, v.Reason, "only 0 have lengths like those")

	// Where prompts are long, what is cached makes the difference.
	v = judge(NTPOT, wholes(rng, 400, .5, long), wholes(rng, 3000, .02, long), 10)
	require.Equal(t, NotJudged, v.Result, v.Reason)
	require.Contains(t, v.Reason, "servers do not say how much of them was cached")
	v = judge(NTPOT, wholes(rng, 400, .5, long), wholes(rng, 3000, .02, long), 50)
	require.Equal(t, Fail, v.Result, v.Reason)
	long.CacheTold = true
	v = judge(NTPOT, wholes(rng, 400, .5, long), wholes(rng, 3000, .02, long), 10)
	require.Equal(t, Fail, v.Result, v.Reason)
	cached := long
	cached.Uncached = 50
	v = judge(NTPOT, wholes(rng, 400, .5, long), wholes(rng, 3000, .02, cached), 10)
	require.Equal(t, Unsure, v.Result, "the canary's caches are colder")

	// The few that are streamed, or are not, hold nothing up.
	for _, c := range []struct {
		streams, wholes int
		ttft, ntpot     Result
	}{{300, 0, Pass, NotJudged}, {300, 9, Pass, NotJudged}, {300, 300, Pass, Pass}, {9, 400, NotJudged, Pass}} {
		canary := both(answered(rng, c.streams, 500, 1, true), wholes(rng, c.wholes, .02, answer))
		stable := both(answered(rng, 10*c.streams, 500, 1, true), wholes(rng, 10*c.wholes, .02, answer))
		ttft, tpot, ntpot := judge(TTFT, canary, stable, 10), judge(TPOT, canary, stable, 10), judge(NTPOT, canary, stable, 10)
		require.Equal(t, []Result{c.ttft, c.ttft, c.ntpot}, []Result{ttft.Result, tpot.Result, ntpot.Result}, "%+v: %s; %s; %s",
			c, ttft.Reason, tpot.Reason, ntpot.Reason)
	}
}

func TestDrift(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	lengths := func(n, tokens int, finish types.Finish) *Counts {
		c := new(Counts)
		for range n {
			c.observe(&Sample{Tokens: 1 + int(float64(tokens)*math.Exp(.5*rng.NormFloat64())), Told: true, Finish: finish},
				false)
		}
		return c
	}
	stable := lengths(2000, 200, types.FinishStop)
	for _, c := range []struct {
		tokens int
		finish types.Finish
		length Result
		ends   Result
	}{
		{200, types.FinishStop, Pass, Pass},
		{400, types.FinishLength, Fail, Fail},
		{100, types.FinishStop, Fail, Pass},
		{200, types.FinishUnknown, Pass, Unsure},
	} {
		canary := lengths(300, c.tokens, c.finish)
		one := comparison{canary: canary, stable: stable, weight: 10}
		length, ends := verdict(t, one, Metric{Name: Length}), verdict(t, one, Metric{Name: Finish})
		require.Equal(t, c.length, length.Result, "%+v: %s", c, length.Reason)
		require.Equal(t, c.ends, ends.Result, "%+v: %s", c, ends.Reason)
		require.True(t, length.WarnOnly && ends.WarnOnly)
	}
	v := verdict(t, comparison{canary: lengths(300, 200, types.FinishLength), stable: stable, weight: 10},
		Metric{Name: Finish})
	require.Equal(t, `0 of 300 answers end with "stop", against 2000 of 2000: more than 10.0 points apart`, v.Reason)
}

// TestTrapOneOfOne: a single failure at the beginning stops nothing, whoever has asked for so few requests.
func TestTrapOneOfOne(t *testing.T) {
	w := &Window{stable: "a", canary: "b"}
	for range 4 {
		w.Observe(Sample{Target: "b", Failed: true})
		require.False(t, w.hard())
	}
	w.Observe(Sample{Target: "b", Failed: true})
	require.True(t, w.hard())
}

// TestTrapBursts: failures in a time in which both fail are no hard stop, also when the stable target is well again
// before the canary has had as many good requests.
func TestTrapBursts(t *testing.T) {
	w := &Window{stable: "a", canary: "b"}
	for i := range 20_000 {
		burst := i%2000 > 1000
		w.Observe(Sample{Target: "a", Failed: burst && i%2 == 0})
		if i%50 == 49 {
			w.Observe(Sample{Target: "b", Failed: burst})
		}
		require.False(t, w.hard(), "%d: %b of %d", i, w.Canary.recent, w.Canary.recents)
	}
}
