package picker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"

	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/types"
)

// TestRanks: a server is told which of its ranks is meant, and Envoy goes on to no endpoint for which the header would be
// another.
func TestRanks(t *testing.T) {
	f := newFixture(t, func(_ *picker.Options, _ *director.Options, p *scheduling.Profile) { p.Picker = byName{} })
	specs := datastore.EndpointSpec{ID: "a", Address: addresses[0], Labels: map[string]string{"app": "llama"}}.PerRank(2)
	specs = append(specs, datastore.EndpointSpec{ID: "b", Address: addresses[1], Labels: map[string]string{"app": "llama"}})
	require.NoError(t, f.store.SetEndpoints(types.NamespacedName{Name: "llama"}, specs))
	s := open(t, f.dial(t), duplex, none)
	s.send(requestHeaders(false, ":path", "/v1/chat/completions", "x-data-parallel-rank", "7"))
	s.send(requestBody(`{"model": "chat", "messages": [{"role": "user", "content": "hi"}]}`, true))
	m := s.recv()
	mutated := m.GetRequestHeaders().GetResponse().GetHeaderMutation()
	require.Equal(t, addresses[0], destinationOf(t, m, mutated))
	got := mutationOf(t, mutated)
	require.Equal(t, "0", got.set["x-data-parallel-rank"])
	require.NotContains(t, got.removed, "x-data-parallel-rank")
	s.chunks()
	s.s.CloseSend()
	require.NoError(t, s.ends())
	f.free(t)
}
