package plugins_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// With Agents a session goes back to where it was; without one decisions are those of Default.
func TestAgents(t *testing.T) {
	play := func(p scheduling.Profile, session bool) (servers []string) {
		now := time.Unix(1000, 0)
		p.Seed, p.Now = 1, func() time.Time { return now }
		s, err := scheduling.New(p)
		require.NoError(t, err)
		var eps []*types.Endpoint
		for i := range 4 {
			eps = append(eps, types.NewEndpoint(fmt.Sprint("e", i), fmt.Sprintf("10.0.0.%d:80", i+1)))
		}
		for i := range 40 {
			req := &types.Request{Prompt: types.TextPrompt(fmt.Sprint("a prompt of its own ", i%8, i))}
			if session {
				req.SessionID = fmt.Sprint("s", i%8)
			}
			d, err := s.Schedule(t.Context(), req, eps)
			require.NoError(t, err)
			servers = append(servers, d.Endpoint.ID)
			now = now.Add(50 * time.Millisecond)
			d.FirstToken()
			now = now.Add(50 * time.Millisecond)
			d.Done(types.Outcome{Status: 200})
		}
		return servers
	}
	require.Equal(t, play(plugins.Default(), false), play(plugins.Agents(), false))
	back := play(plugins.Agents(), true)
	for i := 8; i < len(back); i++ {
		require.Equal(t, back[i-8], back[i], "turn %d", i)
	}
	require.NotEqual(t, back, play(plugins.Default(), true))
}
