package picker_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRanks: a server is told which of its ranks is meant, and Envoy goes on to no endpoint for which the header would be
// another.
func TestRanks(t *testing.T) {
	f := newFixture(t, nil)
	f.Ranks(t)
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
	f.Free(t)
}
