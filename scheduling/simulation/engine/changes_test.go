package engine_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/stretchr/testify/require"
)

// What is listed as stored and dropped is what the prefix cache holds, each block behind one that was
// listed before, and listing it changes nothing else.
func TestChanges(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	e, err := engine.New(engine.Config{Blocks: 60, Changes: true})
	require.NoError(t, err)
	plain, err := engine.New(engine.Config{Blocks: 60})
	require.NoError(t, err)
	held, dropped := map[uint64]bool{}, 0
	ever := map[uint64]bool{}
	now := time.Duration(0)
	for n := uint64(1); n < 2000; n++ {
		if r.IntN(3) == 0 {
			req := engine.Request{ID: n, Prompt: 20 + r.IntN(300), Output: 1 + r.IntN(60)}
			group := uint64(1+r.IntN(6)) << 32
			for i := range uint64((req.Prompt + req.Output) / engine.BlockTokens) {
				if i == 8 {
					group = n << 40
				}
				req.Hashes = append(req.Hashes, group|i+1)
			}
			require.NoError(t, e.Submit(req))
			require.NoError(t, plain.Submit(req))
		}
		step, ok := e.Step(now)
		other, _ := plain.Step(now)
		require.Equal(t, other.Duration, step.Duration)
		require.Empty(t, other.Changes)
		if !ok {
			require.Empty(t, step.Changes)
			continue
		}
		now += step.Duration
		for _, c := range step.Changes {
			if c.Dropped {
				require.True(t, held[c.Key])
				delete(held, c.Key)
				dropped++
				continue
			}
			require.False(t, held[c.Key])
			require.True(t, c.Before == 0 || ever[c.Before])
			require.NotZero(t, c.ID)
			held[c.Key], ever[c.Key] = true, true
		}
		if n%50 != 0 {
			continue
		}
		for key := range ever {
			require.Equal(t, held[key], e.Cached([]uint64{key}, 0) == 1)
		}
	}
	require.Greater(t, dropped, 1000)
}
