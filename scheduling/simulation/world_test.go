package simulation_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// worldly is a run on three servers, and what its gateway was told.
func worldly(t *testing.T, w simulation.World, faults ...simulation.Fault) (r *simulation.Report, streamed, firsts int, off []float64) {
	t.Helper()
	c := simulation.Config{
		Fleet:    simulation.Uniform(3, engine.Config{Calibration: engine.Llama31H100()}),
		Workload: simulation.SharedPrefix{Rate: 20, Groups: 5, SystemTokens: 1000},
		Duration: 30 * time.Second, Seed: 7, World: w, Faults: faults,
		Policy: simulation.Policy{Name: "default", Profile: func() scheduling.Profile {
			p := plugins.Default()
			p.Hooks.Scheduled = func(e scheduling.Event) {
				if e.Request.Stream {
					streamed++
				}
				off = append(off, float64(e.Request.Prompt.Tokens)*4/float64(e.Request.Prompt.Bytes))
			}
			p.Hooks.FirstToken = func(scheduling.Event) { firsts++ }
			return p
		}},
	}
	r, err := simulation.Run(ctx, c)
	require.NoError(t, err)
	return r, streamed, firsts, off
}

func TestWorld(t *testing.T) {
	plain, streamed, firsts, off := worldly(t, simulation.World{})
	require.Equal(t, streamed, firsts)
	require.Equal(t, plain.Arrived, streamed)
	for _, v := range off {
		require.Equal(t, 1., v)
	}
	late, _, _, _ := worldly(t, simulation.World{Jitter: 20 * time.Millisecond})
	require.InDelta(t, plain.TTFT.Mean+.04, late.TTFT.Mean, .015, "a request and its first token are late")
	require.Equal(t, plain.Completed, late.Completed)
	again, _, _, _ := worldly(t, simulation.World{Jitter: 20 * time.Millisecond})
	require.Equal(t, late, again)

	r, streamed, firsts, off := worldly(t, simulation.World{Unstreamed: .6, TokenError: .3})
	require.Equal(t, streamed, firsts, "there is no first token where nothing streams")
	require.InDelta(t, .4, float64(streamed)/float64(r.Arrived), .06)
	least, most := 1., 1.
	for _, v := range off {
		least, most = min(least, v), max(most, v)
	}
	require.InDelta(t, .7, least, .02)
	require.InDelta(t, 1.3, most, .02)
}

// Whatever is on its way when servers die, all of it is accounted for: Run checks that.
func TestWorldAndFaults(t *testing.T) {
	for at := range 20 {
		r, _, _, _ := worldly(t, simulation.World{Jitter: 200 * time.Millisecond, Unstreamed: .5},
			simulation.Fault{At: 5*time.Second + time.Duration(at)*17*time.Millisecond, Kind: simulation.Restart, Index: 0},
			simulation.Fault{At: 6 * time.Second, Kind: simulation.Hang, Index: 1, For: time.Second},
			simulation.Fault{At: 7 * time.Second, Kind: simulation.Die, Index: 2},
			simulation.Fault{At: 9 * time.Second, Kind: simulation.Restart, Index: 2},
		)
		require.Equal(t, r.Arrived, r.Completed+r.Failed)
		require.Less(t, r.Failed, r.Arrived/5)
	}
}

func TestWorldValidate(t *testing.T) {
	for _, w := range []simulation.World{{Jitter: -1}, {Unstreamed: 1.1}, {Unstreamed: -1}, {TokenError: .95}, {TokenError: -.1}} {
		c := simulation.Config{
			Fleet: simulation.Uniform(1, engine.Config{Calibration: engine.Llama31H100()}), Workload: simulation.ShareGPT{},
			Policy: simulation.Policy{Profile: plugins.Default}, Duration: time.Second, World: w,
		}
		require.ErrorContains(t, c.Validate(), "World is")
	}
}

// Goodput is the part of all jobs that met it, those that failed among them.
func TestGoodput(t *testing.T) {
	c := simulation.Config{
		Fleet: simulation.Uniform(1, engine.Config{Calibration: engine.Llama31H100()}), Workload: simulation.ShareGPT{Rate: 5},
		Policy: simulation.Policy{Profile: plugins.Default}, Duration: 20 * time.Second,
	}
	good := func(slo types.SLO) float64 {
		c.Goodput = slo
		r, err := simulation.Run(ctx, c)
		require.NoError(t, err)
		return r.Goodput
	}
	require.Equal(t, 1., good(types.SLO{}))
	require.Zero(t, good(types.SLO{TTFT: time.Microsecond}))
	require.Zero(t, good(types.SLO{TPOT: time.Microsecond}))
	r, err := simulation.Run(ctx, c)
	require.NoError(t, err)
	half := good(types.SLO{TTFT: time.Duration(r.TTFT.P50 * float64(time.Second))})
	require.InDelta(t, .5, half, .06)

	// A job's own targets count in their place.
	c.Workload = simulation.Criticality{Workload: c.Workload, Classes: []simulation.Class{{Share: 1}, {Share: 1, TTFT: 1e-6}}}
	require.InDelta(t, .5, good(types.SLO{}), .1)
	require.InDelta(t, .25, good(types.SLO{TTFT: time.Duration(r.TTFT.P50 * float64(time.Second))}), .1)
}

func TestRAG(t *testing.T) {
	src := simulation.RAG{Corpus: 40, Chunks: 6, SystemTokens: 100, ChunkTokens: 64}.Start(1)
	first := map[uint64]int{}
	for range 1000 {
		j, ok := src.Next()
		require.True(t, ok)
		require.Len(t, j.Content, 8)
		require.Equal(t, 100, j.Content[0].Tokens)
		seen := map[uint64]bool{}
		for _, s := range j.Content {
			require.False(t, seen[s.ID], "no chunk comes twice")
			seen[s.ID] = true
		}
		first[j.Content[1].ID]++
	}
	require.Len(t, first, 40)
	most := 0
	for _, n := range first {
		most = max(most, n)
	}
	require.Greater(t, most, 150, "some chunks are asked for more often")
}
