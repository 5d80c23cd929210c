package modelserver_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// A subscriber that finds the server's publisher by itself hears what the cache stores, for which
// request, and is told of a restart.
func TestEvents(t *testing.T) {
	s, err := modelserver.Start(t.Context(), modelserver.Options{
		TimeScale: 1000, KVBlocks: 64,
		Events: func() (modelserver.Publisher, error) { return kveventstest.New(kveventstest.Options{}) },
	})
	require.NoError(t, err)
	defer s.Close()
	store := datastore.New(datastore.Options{})
	name := types.NamespacedName{Namespace: "default", Name: "pool"}
	require.NoError(t, store.SetEndpoints(name, []datastore.EndpointSpec{{ID: "a", Address: s.Address()}}))
	var index kveventstest.Index
	sub, err := kvevents.New(store, kvevents.Options{Sink: &index, DiscoverInterval: time.Second, MinBackoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond})
	require.NoError(t, err)
	go sub.Run(t.Context())

	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // of a server that restarts
	ask := func(prompt string) {
		resp, err := client.Post(s.URL()+"/v1/completions", "application/json",
			strings.NewReader(fmt.Sprintf(`{"model":"simulated-llm","prompt":%q,"session_id":"s1","x-sim-output-tokens":1}`, prompt)))
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
	}
	held := func() int {
		h := index.Held("a", 0)
		return len(h.Hashes(types.KVGPU))
	}
	ask(strings.Repeat("word", 16*10))
	require.Eventually(t, func() bool { return held() == 10 }, 10*time.Second, 5*time.Millisecond)
	for i := range 10 {
		ask(strings.Repeat(fmt.Sprintf("%04d", i), 16*20))
	}
	require.Eventually(t, func() bool { return held() > 40 && held() <= 64 }, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, s.Restart())
	ask(strings.Repeat("anew", 16*5))
	require.Eventually(t, func() bool { return held() == 5 }, 20*time.Second, 5*time.Millisecond)
}
