package scheduling_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
)

// splitServers are 200: half of them compute prompts for the others.
func splitServers() []*types.Endpoint {
	eps := servers(200)
	for i, ep := range eps {
		ep.Roles = types.RolePrefill
		if i%2 == 0 {
			ep.Roles = types.RoleDecode
		}
	}
	return eps
}

// BenchmarkSplit is a decision over 100 endpoints that compute prompts and 100 that answer, and over 200 that do both
// by themselves.
func BenchmarkSplit(b *testing.B) {
	for name, split := range map[string]bool{"roles=none": false, "roles=prefill,decode": true} {
		b.Run(name, func(b *testing.B) {
			eps := servers(200)
			if split {
				eps = splitServers()
			}
			schedule := splitOnce(b, eps)
			b.ReportAllocs()
			for b.Loop() {
				schedule(split)
			}
		})
	}
}

// splitOnce returns a function that schedules a request, has all of it done, and checks how it was decided.
func splitOnce(t testing.TB, eps []*types.Endpoint) func(apart bool) {
	// A prompt that is computed in no time would teach that prompts are.
	p, err := plugins.DefaultWith(plugins.CostOptions{FixedRates: true})
	require.NoError(t, err)
	p.Seed = 1
	s := mustNew(t, p)
	for i := range 20 * len(eps) { // that answers are under way makes it worth it
		d, err := s.Schedule(ctx, chat(100, fmt.Sprint(i)), eps)
		require.NoError(t, err)
		d.FirstToken()
	}
	req := *chat(32<<10, "ships")
	req.Split = true
	r := new(types.Request)
	return func(apart bool) {
		*r = req // nothing is left of the last decision
		d, err := s.Schedule(ctx, r, eps)
		if err != nil {
			t.Fatal(err)
		}
		if apart != (d.Prefill() != nil) {
			t.Fatalf("prompt computed at %v", d.Prefill())
		}
		d.PrefillDone(types.Outcome{})
		d.Done(types.Outcome{Cancelled: apart}) // so that it does not hold the prompt the next time
	}
}

func TestSplitAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	schedule := splitOnce(t, splitServers())
	for range 500 { // until every endpoint has been met
		schedule(true)
	}
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { schedule(true) }), 3.)
}
