package bound_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/bound"
	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// firstFew sends to the first n servers in turn: as few and as large steps as one likes.
func firstFew(n int) simulation.Policy {
	return simulation.Policy{Name: fmt.Sprintf("the first %d", n), Profile: func() scheduling.Profile {
		turn := 0
		return scheduling.Profile{Picker: scheduling.PickerFunc(
			func(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) {
				turn++
				return turn % n, nil
			})}
	}}
}

// play returns the report of a policy and the bound of its case, and sees that it is one.
func play(t *testing.T, c simulation.Config, p simulation.Policy) (*simulation.Report, bound.Bound) {
	t.Helper()
	c.Policy = p
	r, err := simulation.Run(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, r.Arrived, r.Completed, "%s: all are served", p.Name)
	b, err := bound.Of(c, time.Duration(r.Simulated*float64(time.Second)))
	require.NoError(t, err)
	for name, d := range map[string][2]simulation.Distribution{"TTFT": {r.TTFT, b.TTFT}, "TPOT": {r.TPOT, b.TPOT}, "E2E": {r.E2E, b.E2E}} {
		for q, of := range map[string]func(simulation.Distribution) float64{
			"mean": func(d simulation.Distribution) float64 { return d.Mean }, "p50": func(d simulation.Distribution) float64 { return d.P50 },
			"p90": func(d simulation.Distribution) float64 { return d.P90 }, "p99": func(d simulation.Distribution) float64 { return d.P99 },
		} {
			require.Equal(t, of(d[1]) > 0, d[0].Count > 0 && (name != "TPOT" || c.World.Jitter == 0), "%s %s", name, q)
			require.GreaterOrEqual(t, of(d[0])*1.001, of(d[1]), "%s: %s %s", p.Name, name, q) // a histogram's width
		}
	}
	return r, b
}

// No policy goes below the bound, good or bad, whatever is played.
func TestBound(t *testing.T) {
	all := append(policies.All(), firstFew(1), firstFew(2))
	if testing.Short() {
		all = []simulation.Policy{policies.All()[0], firstFew(2)}
	}
	small := engine.Config{Blocks: 4000, MaxBatchedTokens: 2048, MaxSeqs: 256}
	unequal := simulation.Uniform(3, engine.Config{Calibration: engine.Llama2H100()})
	unequal.Replicas[1].Engine.Calibration.Speed = .5
	long := simulation.Length{Kind: simulation.LengthLogNormal, Median: 3000, Sigma: .6, Max: 12_000}
	four := simulation.Uniform(4, engine.Config{})
	for _, tt := range []struct {
		name   string
		config simulation.Config
	}{
		{"idle", simulation.Config{Fleet: four, Workload: simulation.ShareGPT{Rate: 3}}},
		{"chat", simulation.Config{Fleet: four, Workload: simulation.ShareGPT{Rate: 150}}},
		{"bursts", simulation.Config{Fleet: four, Workload: simulation.ShareGPT{Rate: 100, CV: 4}, Gateways: 3}},
		{"overload", simulation.Config{Fleet: simulation.Uniform(2, small), Workload: simulation.ShareGPT{Rate: 200}}},
		{"tenants", simulation.Config{Fleet: four, Workload: simulation.SharedPrefix{Rate: 40, Groups: 40, Skew: 1}}},
		{"RAG, small chunks", simulation.Config{Fleet: simulation.Uniform(4, small), Workload: simulation.RAG{Rate: 8, Corpus: 300}}},
		{"long prompts", simulation.Config{Fleet: four, Workload: simulation.ShareGPT{Rate: 12, Input: long}}},
		{"unequal servers", simulation.Config{Fleet: unequal, Workload: simulation.ShareGPT{Rate: 40}}},
		{"mixture of experts", simulation.Config{
			Fleet: simulation.Uniform(4, engine.Config{Calibration: engine.Qwen3MoEH100()}), Workload: simulation.SharedPrefix{Rate: 20, SystemTokens: 900},
		}},
		{"adapters, late APIs", simulation.Config{Fleet: four, Workload: simulation.MultiLoRA{Rate: 40}, World: simulation.World{Jitter: 5 * time.Millisecond, Unstreamed: .5}}},
		{"a server hangs, one comes", simulation.Config{Fleet: four, Workload: simulation.SharedPrefix{Rate: 20, Groups: 10}, Faults: []simulation.Fault{
			{At: 3 * time.Second, Kind: simulation.Hang, For: 2 * time.Second}, {At: 4 * time.Second, Kind: simulation.Add},
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.config.Duration, tt.config.Warmup, tt.config.Seed = 8*time.Second, 2*time.Second, 7
			for _, p := range all {
				play(t, tt.config, p)
			}
		})
	}
}

// Nor in cases that nobody thought of.
func TestBoundAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 9))
	length := func(most int) simulation.Length {
		if rnd.IntN(2) == 0 {
			return simulation.Length{Kind: simulation.LengthFixed, Tokens: 1 + rnd.IntN(most)}
		}
		return simulation.Length{Kind: simulation.LengthLogNormal, Median: float64(1 + rnd.IntN(most/4)), Sigma: .1 + rnd.Float64(), Max: most}
	}
	for range 60 {
		n := 1 + rnd.IntN(3)
		e := engine.Config{Calibration: engine.Calibrations()[rnd.IntN(5)]}
		if rnd.IntN(3) == 0 {
			e.MaxBatchedTokens, e.MaxSeqs = 300+rnd.IntN(3000), 100
		}
		class := rnd.IntN(3)
		c := simulation.Config{
			Fleet: simulation.Uniform(n, e), Duration: time.Duration(2+rnd.IntN(6)) * time.Second, Warmup: time.Duration(rnd.IntN(2)) * time.Second, Seed: rnd.Uint64(),
			Workload: simulation.ShareGPT{
				Rate: 5 + rnd.Float64()*[]float64{400, 80, 8}[class], CV: []float64{0, 3}[rnd.IntN(2)], Input: length([]int{30, 500, 6000}[class]), Output: length(600),
			},
		}
		if rnd.IntN(3) == 0 {
			c.Workload = simulation.SharedPrefix{Rate: 5 + rnd.Float64()*30, Groups: 1 + rnd.IntN(30), SystemTokens: 1 + rnd.IntN(3000), Question: length(200), Output: length(300)}
		}
		play(t, c, firstFew(1+rnd.IntN(n)))
	}
}

// The bound says something: jobs that are alone are as fast as it says; where nothing is to be
// prefilled, taking servers in turn comes within a few per cent; and with chats at half of what
// a fleet can do the default policy is not far from it.
func TestBoundIsNear(t *testing.T) {
	fixed := func(n int) simulation.Length { return simulation.Length{Kind: simulation.LengthFixed, Tokens: n} }
	for _, tt := range []struct {
		name             string
		replicas         int
		workload         simulation.ShareGPT
		policy           simulation.Policy
		ttft, tpot, mean float64 // p90, p90, and the mean end-to-end time, over the bound
	}{
		{"alone", 8, simulation.ShareGPT{Rate: .5}, policies.All()[0], 1.01, 1.01, 1.005},
		{"decodes", 2, simulation.ShareGPT{Rate: 60, Input: fixed(8), Output: fixed(300)}, firstFew(2), 2, 1.09, 1.04},
		{"chat", 4, simulation.ShareGPT{Rate: 100}, policies.All()[0], 1.35, 1.4, 1.2},
	} {
		r, b := play(t, simulation.Config{
			Fleet: simulation.Uniform(tt.replicas, engine.Config{}), Workload: tt.workload, Duration: 80 * time.Second, Warmup: 20 * time.Second, Seed: 1,
		}, tt.policy)
		require.Less(t, r.TTFT.P90/b.TTFT.P90, tt.ttft, tt.name)
		require.Less(t, r.TPOT.P90/b.TPOT.P90, tt.tpot, tt.name)
		require.Less(t, r.E2E.Mean/b.E2E.Mean, tt.mean, tt.name)
	}
}

// One job by hand: 4 and 1 ms of API, a prefill of 100 tokens and two decodes.
func TestBoundOfOne(t *testing.T) {
	fixed := func(n int) simulation.Length { return simulation.Length{Kind: simulation.LengthFixed, Tokens: n} }
	b, err := bound.Of(simulation.Config{
		Fleet: simulation.Uniform(1, engine.Config{}), Workload: simulation.ShareGPT{Rate: 1, Input: fixed(100), Output: fixed(3)}, Jobs: 1, Seed: 1,
	}, 0)
	require.NoError(t, err)
	ttft := .005 + 2.2e-3 + 8e-6 + math.Hypot(5.4e-3, 24e-6*100) + 1.3e-9*100*100/2
	tpot := 2.2e-3 + 8e-6 + math.Hypot(5.4e-3, 24e-6) + .047e-6*101.5
	require.InDelta(t, ttft, b.TTFT.P99, 1e-9)
	require.InDelta(t, tpot, b.TPOT.P99, 1e-9)
	require.InDelta(t, ttft+2*tpot, b.E2E.Mean, 1e-9)
}

// A prompt costs what no other prompt of the run has.
func TestBoundOfSharedPrompts(t *testing.T) {
	c := simulation.Config{Fleet: simulation.Uniform(4, engine.Config{}), Workload: simulation.SharedPrefix{Rate: 20, Groups: 3}, Duration: 30 * time.Second, Warmup: 10 * time.Second, Seed: 1}
	shared, err := bound.Of(c, 0)
	require.NoError(t, err)
	for i := range c.Fleet.Replicas {
		c.Fleet.Replicas[i].Engine.NoPrefixCache = true
	}
	alone, err := bound.Of(c, 0)
	require.NoError(t, err)
	require.Less(t, shared.TTFT.P50*3, alone.TTFT.P50)
}

func TestUnknown(t *testing.T) {
	plain := simulation.Config{Fleet: simulation.Uniform(2, engine.Config{}), Workload: simulation.ShareGPT{Rate: 5}, Duration: time.Second, Seed: 1}
	_, err := bound.Of(plain, 0)
	require.NoError(t, err)
	for want, change := range map[string]func(*simulation.Config){
		"turns of a session": func(c *simulation.Config) { c.Workload = simulation.Agentic{Rate: 20} },
		"closed loop":        func(c *simulation.Config) { c.ClosedLoop = 3 },
		"steps are irregular": func(c *simulation.Config) {
			c.Fleet = simulation.Uniform(2, engine.Config{Noise: engine.Noise{Spread: .1}})
		},
		"more than their speed": func(c *simulation.Config) {
			c.Fleet.Replicas = append(c.Fleet.Replicas, simulation.Replica{Engine: engine.Config{Calibration: engine.Llama2H100()}})
		},
		"no job counts": func(c *simulation.Config) { c.Warmup = 2 * time.Second },
	} {
		c := plain
		change(&c)
		_, err := bound.Of(c, 0)
		require.ErrorIs(t, err, bound.ErrUnknown)
		require.ErrorContains(t, err, want)
	}
}
