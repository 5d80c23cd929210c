package kvevents_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// A prompt goes to the rank of a server that holds it, as its engine tells, and to no other rank.
func TestPromptsGoToTheirRank(t *testing.T) {
	const block, tokens = 64, 16 // bytes and tokens
	cache, err := plugins.NewPrefixCache(plugins.PrefixOptions{BlockBytes: block})
	require.NoError(t, err)
	sink, err := cache.KVSink(plugins.KVOptions{Model: "m"})
	require.NoError(t, err)
	r := newRig(t, func(o *kvevents.Options) { o.Sink, o.Tokens = sink, true })
	p := []*kveventstest.Publisher{r.publisher(kveventstest.Options{}), r.publisher(kveventstest.Options{})}
	address := answers(t, "/kv_event_sources", fmt.Sprintf(`{"0": {"endpoint": %q}, "1": {"endpoint": %q}}`, p[0].Endpoint(), p[1].Endpoint()))
	require.NoError(t, r.store.SetEndpoints(pool, rankEndpoints(address, 2)))
	r.subscribed(p[0])
	r.subscribed(p[1])
	ids := make([]uint32, 4*tokens)
	for i := range ids {
		ids[i] = uint32(1+i/tokens+i*7919) % 128_000 // those that the publisher makes up for blocks 1 to 4
	}
	s, err := scheduling.New(scheduling.Profile{Scorers: []scheduling.Weighted{{Name: "prefix", Scorer: cache, Weight: 1}}, Picker: plugins.MaxScore{}})
	require.NoError(t, err)
	eps := r.store.Snapshot().Pool(pool).Endpoints()
	totals := func() (all []float64) {
		ex, err := s.Explain(t.Context(), &types.Request{Model: "m", Prompt: types.TokenPrompt(ids)}, eps)
		require.NoError(t, err)
		for _, c := range ex.Candidates {
			all = append(all, c.Total)
		}
		return all
	}
	totals() // now they are known
	p[1].Publish(kvevents.Event{Kind: kvevents.Stored, Hashes: []uint64{1, 2, 3, 4}, BlockSize: tokens, Full: true})
	eventually(t, "rank 1 holds it", func() bool { return totals()[1] > 0 })
	require.Zero(t, totals()[0])
}
