package bound

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// What is to be computed: whole blocks that an earlier prompt has, of the same adapter, are
// not; nor those of a later one, where that may overtake.
func TestPrefill(t *testing.T) {
	content := func(s ...simulation.Segment) job {
		j := job{content: s, complete: s}
		for _, one := range s {
			j.prompt += float64(one.Tokens)
		}
		return j
	}
	of := func(id uint64, tokens int) simulation.Segment { return simulation.Segment{ID: id, Tokens: tokens} }
	story := content(of(1, 100), of(2, 60))
	story.adapter = "story"
	jobs := func() []job {
		return []job{
			content(of(1, 100), of(2, 60)), // nothing before it; 100 and 40 tokens after it
			content(of(1, 100), of(2, 40)), // 140 tokens: 8 blocks
			content(of(1, 90), of(3, 10)),  // 90 tokens: 5 blocks
			story,
			content(of(1, 100), of(2, 60)), // all, but for the last token: 9 blocks
		}
	}
	computed := func(overtake, noCache bool) (tokens []float64) {
		e, err := engine.New(engine.Config{NoPrefixCache: noCache, MaxBatchedTokens: 64})
		require.NoError(t, err)
		c := e.Config()
		js := jobs()
		prefill(js, overtake, &c)
		for _, j := range js {
			tokens = append(tokens, j.compute)
			require.Equal(t, float64((int(j.compute)+63)/64), j.chunks)
		}
		return tokens
	}
	require.Equal(t, []float64{160, 140 - 128, 100 - 80, 160, 160 - 144}, computed(false, false))
	require.Equal(t, []float64{160 - 144, 140 - 128, 100 - 80, 160, 160 - 144}, computed(true, false))
	require.Equal(t, []float64{160, 140, 100, 160, 160}, computed(true, true))
}
