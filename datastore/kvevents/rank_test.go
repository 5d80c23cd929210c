package kvevents_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/types"
)

// answers serves one body at one path.
func answers(t *testing.T, path, body string) (address string) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func rankEndpoints(address string, n int) []datastore.EndpointSpec {
	return datastore.EndpointSpec{ID: "a", Address: address}.PerRank(n)
}

// What rank r of a server holds, the endpoint that is rank r holds, and no other one.
func TestRanksAreEndpoints(t *testing.T) {
	r := newRig(t, nil)
	p := []*kveventstest.Publisher{r.publisher(kveventstest.Options{}), r.publisher(kveventstest.Options{})}
	address := answers(t, "/kv_event_sources", fmt.Sprintf(`{"0": {"endpoint": %q, "replay_endpoint": %q}, "1": {"endpoint": %q, "replay_endpoint": %q}}`,
		p[0].Endpoint(), p[0].ReplayEndpoint(), p[1].Endpoint(), p[1].ReplayEndpoint()))
	p[0].Publish(stored(1, 2))
	p[1].Publish(stored(7))
	require.NoError(t, r.store.SetEndpoints(pool, rankEndpoints(address, 2)))
	has := func(id string, rank int, hashes ...uint64) {
		t.Helper()
		eventually(t, fmt.Sprint(id, " holds ", hashes), func() bool {
			got := r.index.Held(id, rank)
			return got.State == kvevents.Live && fmt.Sprint(got.Hashes(kvevents.GPU)) == fmt.Sprint(hashes)
		})
	}
	has("a-rank-0", 0, 1, 2)
	has("a-rank-1", 1, 7)
	r.subscribed(p[0])
	r.subscribed(p[1])
	p[1].Publish(stored(8))
	p[0].Publish(removed(1))
	has("a-rank-0", 0, 2)
	has("a-rank-1", 1, 7, 8)
	require.Empty(t, r.index.Held("a-rank-0", 1).Hashes(kvevents.GPU))
	require.Empty(t, r.index.Held("a-rank-1", 0).Hashes(kvevents.GPU))
	require.Equal(t, 1, p[0].Subscribers())
	require.Equal(t, 1, p[1].Subscribers())

	require.Empty(t, r.failed())

	p[0].Restart()
	p[0].Publish(stored(3))
	has("a-rank-0", 0, 3)
	has("a-rank-1", 1, 7, 8)

	require.True(t, r.store.RemoveEndpoint(pool, "a-rank-0"))
	eventually(t, "nobody listens to rank 0", func() bool { return p[0].Subscribers() == 0 })
	has("a-rank-1", 1, 7, 8)
}

// A rank of which the engine says nothing, and events of all ranks at one place, are failures that say so.
func TestRanksWithoutEvents(t *testing.T) {
	r := newRig(t, nil)
	address := answers(t, "/kv_event_sources", `{"0": {"endpoint": "tcp://*:1"}}`)
	require.NoError(t, r.store.SetEndpoints(pool, rankEndpoints(address, 2)[1:]))
	eventually(t, "a failure", func() bool { return r.failed() != "" })
	require.Contains(t, r.failed(), "kvevents: 1 sources, and none of rank 1, which the endpoint is")

	r = newRig(t, sources(kvevents.Source{Endpoint: "http://:8000/kv_cache_events"}))
	require.NoError(t, r.store.SetEndpoints(pool, rankEndpoints("127.0.0.1:1", 2)))
	eventually(t, "a failure", func() bool { return r.failed() != "" })
	require.Contains(t, r.failed(), "kvevents: http://127.0.0.1:8000/kv_cache_events has the events of all ranks, and can be asked by one endpoint alone")
}

// Ranks that connect to us are those of the endpoints with that rank, at the port of that rank.
func TestListenRanksAreEndpoints(t *testing.T) {
	r, at := newInbound(t, 2, sources(kvevents.Source{Endpoint: "tcp://gateway:5557", Ranks: 2}))
	require.NoError(t, r.store.SetEndpoints(pool, rankEndpoints("127.0.0.1:1", 2)))
	for rank := range 2 {
		p := r.publisher(kveventstest.Options{Connect: at[rank]})
		r.subscribed(p)
		p.Publish(stored(uint64(10 + rank)))
	}
	for rank := range 2 {
		id := fmt.Sprint("a-rank-", rank)
		eventually(t, id, func() bool { return r.index.Held(id, rank).Blocks[kvevents.GPU][uint64(10+rank)] })
		require.Len(t, r.index.Held(id, rank).Blocks[kvevents.GPU], 1)
	}
	require.Empty(t, r.failed())

	// Of ranks that are not there nobody is let in.
	require.True(t, r.store.RemoveEndpoint(pool, "a-rank-1"))
	eventually(t, "a refusal", func() bool {
		c, in := greeted(t, at[1])
		c.Close()
		return !in
	})
	eventually(t, "what was refused", func() bool { return r.failed() != "" })
	require.Contains(t, r.failed(), "or of none that is rank 1")
}

// The load that a rank pushes is a reading of the endpoint that is that rank.
func TestLoadOfRanks(t *testing.T) {
	store := datastore.New(datastore.Options{})
	require.NoError(t, store.SetEndpoints(pool, rankEndpoints("127.0.0.1:1", 2)))
	take := kvevents.LoadInto(store)
	take("a-rank-0", 0, kvevents.Load{Waiting: 1})
	take("a-rank-1", 1, kvevents.Load{Waiting: 5})
	take("a-rank-0", 0, kvevents.Load{Waiting: 2})
	var got []types.Gauge
	for _, ep := range store.Snapshot().Pool(pool).Endpoints() {
		got = append(got, ep.Metrics.Waiting)
	}
	require.Equal(t, []types.Gauge{types.Known(2), types.Known(5)}, got)
}
