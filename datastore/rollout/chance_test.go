package rollout_test

import (
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
)

// The seeds on which the limits of this file hold are none of those on which constants were chosen, which are below
// 10,000.
const firstSeed = 1_000_000

// runs returns how many runs of a simulation there is time for.
func runs(whole int) int {
	switch {
	case raceEnabled: // which finds nothing in what is for one goroutine
		return max(whole/200, 1)
	case testing.Short():
		return max(whole/20, 1)
	}
	return whole
}

// TestIdenticalCanary: of whole rollouts of a canary that is as good as the stable target, at most 1 in 100 is aborted,
// whatever share of requests fails anyway, and however the load of the pool changes. In one half of the runs the caches
// of the canary are colder, in some part of the answers is not streamed, and in one third half of all requests of both targets fail now and then.
func TestIdenticalCanary(t *testing.T) {
	t.Parallel()
	whole := runs(1020)
	var wrong, stuck []string
	for i := range whole {
		seed := uint64(firstSeed + i)
		base := []float64{0, .005, .02, .05}[i%4]
		first := []float64{10, 25, 5, 10, 25, 10, 2, 25, 10, 1}[i/4%10]
		r := newRig(plan(first, 50, 100))
		tr := newTraffic(seed, 200, target{errors: base, empty: .003, cached: .5})
		tr.streamed = []float64{1, 0, 1, .5, .03}[i/2%5]
		if i%2 == 1 {
			tr.canary.cached = .2
		}
		if i%3 == 2 {
			tr.bursts = 1. / 200
		}
		tr.run(r, 10_000)
		what := fmt.Sprintf("seed %d, base %g, from %g %%: %v", seed, base, first, r.m.State())
		switch r.phase() {
		case rollout.Done:
		case rollout.Stepping:
			stuck = append(stuck, what)
		default:
			wrong = append(wrong, what)
		}
	}
	t.Logf("%d runs, aborted: %d %q, without an end: %d %q", whole, len(wrong), wrong, len(stuck), stuck)
	require.LessOrEqual(t, len(wrong), whole/100)
	require.LessOrEqual(t, len(stuck), whole/50)
}

// TestFinds: within how many requests of a bad canary 95 of 100 runs have stopped it, as the package's comment says.
func TestFinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		base   float64
		bad    func(*target)
		within map[float64]int // by weight
		whole  float64         // share of answers that are not streamed
	}{
		{"5 points more errors", 0, func(c *target) { c.errors += .05 }, map[float64]int{1: 400, 5: 400, 25: 700, 50: 900}, 0},
		{"5 points more errors, of 2 %", .02, func(c *target) { c.errors += .05 }, map[float64]int{1: 1000, 5: 1000,
			25: 1300, 50: 2000}, 0},
		{"5 points more empty answers", 0, func(c *target) { c.empty += .05 }, map[float64]int{5: 400, 25: 700, 50: 900}, 0},
		{"1.5 times the time per token", .01, func(c *target) { c.tpot = 1.5 }, map[float64]int{1: 200, 5: 200, 25: 400,
			50: 800}, 0},
		{"2 times the time per token", .01, func(c *target) { c.tpot = 2 }, map[float64]int{1: 60, 5: 60, 25: 160, 50: 400}, 0},
		{"1.5 times the time to first token", .01, func(c *target) { c.ttft = 1.5 }, map[float64]int{5: 2000, 25: 2800,
			50: 4500}, 0},
		{"2 times the time to first token", .01, func(c *target) { c.ttft = 2 }, map[float64]int{5: 400, 25: 600, 50: 1000}, 0},
		{"all errors", .01, func(c *target) { c.errors = 1 }, map[float64]int{1: 5, 50: 5}, 0},
		{"2 times the time, not streamed", .01, func(c *target) { c.ttft, c.tpot = 2, 2 }, map[float64]int{5: 200, 25: 300,
			50: 600}, 1},
		{"2 times the time, half of it streamed", .01, func(c *target) { c.ttft, c.tpot = 2, 2 }, map[float64]int{5: 150,
			25: 300, 50: 700}, .5},
	} {
		for weight, within := range c.within {
			whole := runs(40)
			var took []int
			passed := 0
			for i := range whole {
				r := newRig(plan(weight, 100))
				tr := newTraffic(uint64(firstSeed+i), 100, target{errors: c.base, cached: .5})
				c.bad(&tr.canary)
				tr.streamed = 1 - c.whole
				n := 0
				for range 20_000 {
					r.tick(time.Second)
					if r.m.State().Step > 0 || r.phase() == rollout.Aborting || r.m.Over() {
						break
					}
					n += tr.second(r, r.m.Observe)
				}
				if r.m.State().Step == 0 && r.share() == 0 {
					took = append(took, n)
				} else {
					passed++
				}
			}
			slices.Sort(took)
			require.LessOrEqual(t, passed, whole/20, "%s at %g %%: a step was passed", c.name, weight)
			require.NotEmpty(t, took)
			t.Logf("%s at %g %%: in 95 of 100 runs within %d requests of the canary", c.name, weight, took[len(took)*95/100])
			late := len(took) - sort.SearchInts(took, within+int(weight)+2) // in the second in which it is stopped more may end
			require.LessOrEqual(t, late, max(whole/20, 1), "%s at %g %%: after %v", c.name, weight, took)
		}
	}
}

// TestRestored: whenever it is restored from its state, it comes to the same end.
func TestRestored(t *testing.T) {
	p := plan(10, 50, 100)
	p.Load = rollout.LoadPlan{Unload: true, Grace: 3 * time.Second}
	play := func(bad bool, at int) (end rollout.Phase, ticks int) {
		r := newRig(p)
		tr := newTraffic(firstSeed, 400, target{errors: .01, cached: .5})
		for ; !r.m.Over() && ticks < 600; ticks++ {
			if ticks == at || at < 0 && ticks%-at == -at-1 {
				m, err := rollout.Open(p, *r.home.read(), r.now)
				require.NoError(t, err)
				r.m = m
			}
			if bad && r.m.State().Step == 1 {
				tr.canary.errors = .1
			}
			r.tick(time.Second)
			tr.second(r, r.m.Observe)
		}
		return r.phase(), ticks
	}
	for _, bad := range []bool{false, true} {
		want, ticks := play(bad, 1<<30)
		require.Equal(t, map[bool]rollout.Phase{false: rollout.Done, true: rollout.Failed}[bad], want)
		require.Less(t, ticks, 200)
		for at := 0; at < ticks; at += 40 / runs(40) {
			end, _ := play(bad, at)
			require.Equal(t, want, end, "restored at tick %d", at)
		}
		end, _ := play(bad, -20) // each 20 seconds, again and again
		require.Equal(t, want, end, "restored at each 20th tick")
	}
}

// TestWeightsOnlyRise: until it fails the weights never fall, afterwards they never rise, and they sum to the same.
func TestWeightsOnlyRise(t *testing.T) {
	for i := range runs(40) {
		r := newRig(plan(5, 20, 50, 100))
		tr := newTraffic(uint64(firstSeed+i), 200, target{errors: .01, cached: .5})
		if i%2 == 1 {
			tr.canary.errors = .04
		}
		share, failed := 0., false
		for range 3000 {
			r.tick(time.Second)
			if r.m.Over() {
				break
			}
			sum := int32(0)
			for _, w := range r.home.Weights {
				sum += w.Weight
			}
			require.EqualValues(t, rollout.TotalWeight, sum)
			failed = failed || r.phase() == rollout.Aborting
			if failed {
				require.Zero(t, r.share())
			} else {
				require.GreaterOrEqual(t, r.share(), share)
			}
			share = r.share()
			tr.second(r, r.m.Observe)
		}
		require.True(t, r.m.Over(), "%v", r.m.State())
	}
}
