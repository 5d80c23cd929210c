package plugins_test

import (
	"math"
	"slices"
	"testing"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// shares asks p n times with different seeds and returns how often it picks each.
func shares(t *testing.T, p scheduling.Picker, scores []float64, n int) []float64 {
	t.Helper()
	eps := idle(len(scores))
	picks := make([]float64, len(scores))
	for seed := range n {
		req := schedulingtest.Request("hello")
		req.Rand = types.NewRand(uint64(seed))
		i, err := p.Pick(ctx, req, eps, scores)
		require.NoError(t, err)
		picks[i] += 1 / float64(n)
	}
	return picks
}

// TestPickerShares checks the distribution that each picker promises. With 20,000
// draws the standard deviation of a share is at most 0.0036.
func TestPickerShares(t *testing.T) {
	oneGoroutine(t)
	third := 1. / 3
	tests := []struct {
		name   string
		p      scheduling.Picker
		scores []float64
		want   []float64
	}{
		{"max: the highest", plugins.MaxScore{}, []float64{1, 3, 2}, []float64{0, 1, 0}},
		{"max: the highest by a hair", plugins.MaxScore{}, []float64{1, math.Nextafter(1, 2), 1}, []float64{0, 1, 0}},
		{"max: ties at random", plugins.MaxScore{}, []float64{3, 1, 3, 0, 3}, []float64{third, 0, third, 0, third}},
		{"max: ties behind a lower one", plugins.MaxScore{}, []float64{1, 2, 2}, []float64{0, .5, .5}},
		{"max: all 0", plugins.MaxScore{}, []float64{0, 0}, []float64{.5, .5}},
		{"max: one", plugins.MaxScore{}, []float64{0}, []float64{1}},

		{"weighted: in proportion", plugins.WeightedRandom{}, []float64{1, 2, 5}, []float64{.125, .25, .625}},
		{"weighted: never a 0", plugins.WeightedRandom{}, []float64{0, 1, 0, 3, 0}, []float64{0, .25, 0, .75, 0}},
		{"weighted: all 0", plugins.WeightedRandom{}, []float64{0, 0, 0}, []float64{third, third, third}},
		{"weighted: tiny", plugins.WeightedRandom{}, []float64{1e-300, 3e-300}, []float64{.25, .75}},
		{"weighted: one", plugins.WeightedRandom{}, []float64{7}, []float64{1}},

		{"random: whatever the scores", plugins.Random{}, []float64{0, 100, 1}, []float64{third, third, third}},
		{"random: one", plugins.Random{}, []float64{0}, []float64{1}},

		// Of the 3 pairs, the best wins 2, the middle 1.
		{"two: the better of a pair", plugins.PowerOfTwo{}, []float64{1, 3, 2}, []float64{0, 2 * third, third}},
		{"two: all equal", plugins.PowerOfTwo{}, []float64{1, 1, 1}, []float64{third, third, third}},
		{"two: of two, the better", plugins.PowerOfTwo{}, []float64{1, 2}, []float64{0, 1}},
		{"two: one", plugins.PowerOfTwo{}, []float64{1}, []float64{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i, got := range shares(t, tt.p, tt.scores, 20000) {
				if want := tt.want[i]; math.Abs(got-want) > .02 || (want == 0) != (got == 0) {
					t.Errorf("share of endpoint %d = %.3f, want %.3f", i, got, want)
				}
			}
		})
	}
}

// TestWeightedRandomFallbacks: asked again without the first, it is sampling
// without replacement, whose second draw has a closed form.
func TestWeightedRandomFallbacks(t *testing.T) {
	weights := map[string]float64{"ep-0": .1, "ep-1": .3, "ep-2": .6}
	p := seeded(scheduling.Profile{
		Scorers: []scheduling.Weighted{{Name: "w", Weight: 1, Scorer: scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 {
			return weights[ep.ID]
		})}},
		Picker:    plugins.WeightedRandom{},
		Fallbacks: 1,
	})
	s, eps := mustNew(t, p), idle(3)
	const n = 20000
	got := map[[2]string]float64{}
	for range n {
		d := mustSchedule(t, s, schedulingtest.Request("hello"), eps)
		got[[2]string{d.Endpoint.ID, d.Fallbacks[0].ID}] += 1. / n
		d.Done(types.Outcome{})
	}
	for a, wa := range weights {
		for b, wb := range weights {
			if a == b {
				continue
			}
			if want := wa * wb / (1 - wa); math.Abs(got[[2]string{a, b}]-want) > .02 {
				t.Errorf("share of %s then %s = %.3f, want %.3f", a, b, got[[2]string{a, b}], want)
			}
		}
	}
}

func TestRoundRobin(t *testing.T) {
	s, eps := mustNew(t, seeded(plugins.RoundRobinProfile())), idle(3)
	for turn := range 9 {
		for range 2 { // an explanation takes no turn
			ex, err := s.Explain(ctx, schedulingtest.Request("hello"), eps)
			if err != nil || ex.Endpoint != eps[turn%3] {
				t.Fatalf("turn %d: Explain = %v, %v, want %s", turn, ex.Endpoint, err, eps[turn%3].ID)
			}
		}
		d := mustSchedule(t, s, schedulingtest.Request("hello"), eps)
		if d.Endpoint != eps[turn%3] {
			t.Errorf("turn %d goes to %s, want %s", turn, d.Endpoint.ID, eps[turn%3].ID)
		}
		d.Done(types.Outcome{})
	}
}

// TestProfilesAreReady schedules with each ready-made profile, and checks that
// two calls share nothing.
func TestProfilesAreReady(t *testing.T) {
	for name, profile := range map[string]func() scheduling.Profile{
		"Default": plugins.Default, "Classic": plugins.Classic, "ClassicWithInFlight": plugins.ClassicWithInFlight, "DecisionTree": plugins.DecisionTree,
		"LeastRequests": plugins.LeastRequests, "RoundRobinProfile": plugins.RoundRobinProfile, "RandomProfile": plugins.RandomProfile,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := mustNew(t, seeded(profile())), mustNew(t, seeded(profile()))
			eps := idle(4)
			c := counts{}
			for i := range 400 {
				d := mustSchedule(t, a, schedulingtest.Request(text(i, 600)), eps)
				require.Len(t, d.Fallbacks, plugins.DefaultFallbacks, "fallbacks")
				c[d.Endpoint.ID]++
				d.FirstToken()
				d.Done(types.Outcome{Status: 200})
			}
			if id, n := c.most(); len(c) != 4 || n > 200 {
				t.Errorf("400 requests over 4 equal endpoints: %v; %s has more than half, or some have none", c, id)
			}
			// Every endpoint that a knows is new to b.
			ex, err := b.Explain(ctx, schedulingtest.Request(text(0, 600)), eps)
			require.NoError(t, err)
			for _, cand := range ex.Candidates {
				for _, term := range cand.Terms {
					if term.Scorer == "prefix-cache" && term.Score != 0 {
						t.Errorf("a second profile knows the first one's prefixes")
					}
				}
			}
		})
	}
}

// TestLeastRequests keeps the numbers in flight as equal as they can be, however
// long the prompts are and whether the first token was seen or not.
func TestLeastRequests(t *testing.T) {
	s, eps := mustNew(t, seeded(plugins.LeastRequests())), idle(7)
	for i := range 100 {
		d := mustSchedule(t, s, schedulingtest.Request(text(i, 1+i*i)), eps)
		if i%3 == 0 {
			d.FirstToken()
		}
		lo, hi := int64(math.MaxInt64), int64(0)
		for _, ep := range eps {
			lo, hi = min(lo, ep.Load.Requests()), max(hi, ep.Load.Requests())
		}
		if hi-lo > 1 {
			t.Fatalf("after %d requests the numbers in flight differ by %d", i+1, hi-lo)
		}
	}
}

// What MaxScore ranks is what it picks one after the other, the last put in place of what was
// taken; and it leaves to Pick what is left to chance.
func TestMaxScoreRank(t *testing.T) {
	rnd, picker := types.NewRand(7), plugins.MaxScore{}
	ranked := 0
	for n := 1; n <= 40; n++ {
		for range 200 {
			scores := make([]float64, n)
			for i := range scores {
				scores[i] = -float64(rnd.IntN(300)) / 8
			}
			best := make([]int, 1+rnd.IntN(min(n, scheduling.MaxFallbacks+1)))
			if !picker.Rank(scores, best) {
				continue
			}
			ranked++
			left, places := slices.Clone(scores), make([]int, n)
			for i := range places {
				places[i] = i
			}
			for _, want := range best {
				i, err := picker.Pick(ctx, &types.Request{}, nil, left)
				require.NoError(t, err)
				require.Equal(t, places[i], want, "%v", scores)
				last := len(left) - 1
				left[i], places[i] = left[last], places[last]
				left, places = left[:last], places[:last]
			}
		}
	}
	require.Greater(t, ranked, 1000)
	for _, scores := range [][]float64{{1, 1}, {3, 2, 2}, {2, 3, 2}, {1, math.NaN()}, {math.NaN(), 1}, {math.Inf(-1), 1}} {
		require.False(t, picker.Rank(scores, make([]int, 2)), "%v", scores)
	}
	require.True(t, picker.Rank([]float64{3, 1, 2, 1, 1}, make([]int, 2)), "equals that are not asked for")
}
