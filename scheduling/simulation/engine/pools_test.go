package engine_test

import (
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/stretchr/testify/require"
)

func TestPools(t *testing.T) {
	c := engine.Llama31H100()
	e := newEngine(t, engine.Config{Calibration: c})
	submit(t, e, engine.Request{ID: 1, Prompt: 1000, Pools: true, Hashes: hashes(1, 1000)})
	log := drain(t, e)
	require.Len(t, log, 1)
	require.True(t, log[0].First && log[0].Last && near(log[0].at, seconds(c, 1, 1000, 0, 1000*500)), "%+v", log[0])
	m := e.Metrics(time.Hour)
	require.Equal(t, []uint64{1000, 0}, []uint64{m.PromptTokens, m.GeneratedTokens})
	require.Equal(t, m.Blocks, m.FreeBlocks)
	require.Equal(t, 62, e.Cached(hashes(1, 1000), 0), "blocks stay in the prefix cache")
}

// Items attend to themselves alone, and are computed in chunks, beside what decodes.
func TestPoolsItems(t *testing.T) {
	c := engine.Llama31H100()
	e := newEngine(t, engine.Config{Calibration: c, MaxBatchedTokens: 4000})
	submit(t, e, engine.Request{ID: 1, Prompt: 10_000, Items: 100, Pools: true, Hashes: hashes(1, 10_000)})
	now := time.Duration(0)
	for i, want := range []struct{ tokens, items, left int }{{4000, 40, 60}, {4000, 40, 20}, {2000, 20, 0}} {
		s, ok := e.Step(now)
		require.True(t, ok)
		require.NoError(t, e.Check())
		require.Equal(t, want.tokens, s.Tokens)
		require.True(t, near(s.Duration, seconds(c, want.items, want.tokens, 0, float64(want.tokens)*50)), "step %d: %v", i, s.Duration)
		now += s.Duration
		m := e.Metrics(now)
		require.Equal(t, want.left, m.Running+m.Waiting)
		require.Equal(t, m.Blocks, m.FreeBlocks, "nothing is kept")
	}
	require.Zero(t, e.Cached(hashes(1, 10_000), 0))

	for _, r := range []engine.Request{
		{Prompt: 10, Pools: true, Output: 1}, {Pools: true}, {Prompt: 10, Pools: true, Items: 11}, {Prompt: 10, Pools: true, Items: -1},
		{Prompt: 10, Pools: true, Pin: true}, {Prompt: 10, Pools: true, Remote: true}, {Prompt: 10, Output: 1, Items: 2}, {Prompt: 10},
	} {
		require.ErrorIs(t, e.Submit(r), engine.ErrInvalid, "%+v", r)
	}
}
