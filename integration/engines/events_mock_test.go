package engines_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/integration/engines/peers"
	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// mocks starts Dynamo's mock engines, until the end of the test.
func mocks(t *testing.T, n int, flags ...string) (all []*peers.Mock) {
	t.Helper()
	in, err := peers.Find(os.Getenv)
	if errors.Is(err, peers.ErrNone) {
		t.Skip(err)
	}
	require.NoError(t, err)
	for range n {
		m, err := in.Mock(t.TempDir(), 640, vllm.BlockSize, flags...)
		require.NoError(t, err)
		t.Cleanup(func() { _ = m.Close() })
		all = append(all, m)
	}
	for _, m := range all {
		require.True(t, answers(t, m.Address, 3*time.Minute))
	}
	return all
}

// An engine that repeats no session_id: what it tells is followed, is bound to no prompt,
// and spoils no prediction.
func TestEventsOfMocks(t *testing.T) {
	all := mocks(t, 2)
	sources, addresses := map[string]*peers.Mock{}, []string(nil)
	for _, m := range all {
		sources[m.Address], addresses = m, append(addresses, m.Address)
	}
	profile := plugins.Default()
	without := newShadow(t, plugins.PrefixOptions{})
	profile.Trackers = append(profile.Trackers, without)
	g := newGatewayWith(t, setup{profile: &profile, unnamed: true, listen: &kvevents.Options{
		Sources: func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
			m := sources[ep.Address]
			return []kvevents.Source{{Endpoint: m.Live, Replay: m.Replay}}
		},
	}}, addresses...)
	within(t, time.Minute, "both to be listened to", func() bool { return g.ledger.all(addresses, types.KVLive) })

	w := mix{tenants: 24, questions: 200, chats: 8, turns: 4, words: 300, seed: 7}.make()
	got := w.run("mock", 2, g.URL)
	told, predicted := misses{of: "with events"}, misses{of: "predicted"}
	cached, prompts := 0, 0
	for i, a := range got {
		require.NoError(t, a.good())
		part, _, ok := g.saidCached(requestID("mock", i))
		require.True(t, ok)
		cached, prompts = cached+a.cached, prompts+a.prompt
		told.add(a, part, 256) // its tokens are bytes
		predicted.add(a, without.parts[requestID("mock", i)], 256)
	}
	t.Logf("%.3f of %d tokens were cached; %v", float64(cached)/float64(prompts), prompts, count(got))
	t.Log(predicted)
	t.Log(told)
	t.Logf("index: %+v", g.sink.Stats())
	t.Logf("events: %+v", g.events.Stats())
	require.InDelta(t, predicted.within(1, 1), told.within(1, 1), .05)
	require.Zero(t, g.sink.Stats().Bound)
	held := 0
	for _, a := range addresses {
		acc := g.ledger.look(a)
		require.NotZero(t, acc.removed, "nothing was evicted")
		held += len(acc.held)
		late := newLedger(nil)
		listenTo(t, late, a, kvevents.Source{Endpoint: sources[a].Live, Replay: sources[a].Replay})
		within(t, time.Minute, "a replay", func() bool { return late.all([]string{a}, types.KVLive) })
		heldAlike(t, g.ledger, late, a)
	}
	require.Equal(t, held, g.sink.Stats().Held)
}

// Dynamo's front refuses what it does not know, so that a gateway before it must not name
// requests.
func TestEventsMocksRefuseSessions(t *testing.T) {
	m := mocks(t, 1)[0]
	g := newGatewayWith(t, setup{listen: &kvevents.Options{
		Sources: func(types.NamespacedName, *types.Endpoint) []kvevents.Source { return []kvevents.Source{} },
	}}, m.Address)
	a := ask(context.Background(), g.URL, question{prompt: "a name"})
	require.Equal(t, http.StatusBadRequest, a.status, "%s", a.body)
	require.Contains(t, string(a.body), "session_id")
}
