package policies_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// withRoles returns endpoints a, b, c, … of these roles, with nothing to do.
func withRoles(c *clock, roles ...types.Roles) []*types.Endpoint {
	eps := idle(c, len(roles))
	for i := range eps {
		eps[i].Roles = roles[i]
	}
	return eps
}

const (
	prefill = types.RolePrefill
	decode  = types.RoleDecode
)

// split schedules a request that may be served by two, and returns who computes the prompt, empty for who answers.
func split(t *testing.T, s *scheduling.Scheduler, req *types.Request, eps []*types.Endpoint) (by, answer string, d *scheduling.Decision) {
	t.Helper()
	req.Split, req.Stream = true, true
	d, err := s.Schedule(ctx, req, eps)
	require.NoError(t, err)
	if p := d.Prefill(); p != nil {
		by = p.ID
	}
	return by, d.Endpoint.ID, d
}

// answered plays a decision to its end.
func answered(d *scheduling.Decision) {
	if d.Prefill() != nil {
		d.PrefillDone(types.Outcome{Status: 200})
	}
	d.FirstToken()
	d.Done(types.Outcome{Status: 200})
}

func TestLLMDApart(t *testing.T) {
	c := newClock()
	eps := withRoles(c, prefill, prefill, decode, decode)
	s := start(t, policies.LLMDApart(160), c)
	by, answer, d := split(t, s, blocks("x", 11), eps)
	require.Contains(t, []string{"a", "b"}, by, "11 blocks of 16 tokens are too many")
	require.Contains(t, []string{"c", "d"}, answer)
	answered(d)
	again, same, d := split(t, s, blocks("x", 11, "y", 9), eps)
	require.Empty(t, again, "9 blocks are few enough")
	require.Equal(t, answer, same, "it has the rest")
	answered(d)
	again, _, d = split(t, s, blocks("x", 11, "z", 10), eps)
	require.Equal(t, by, again, "it has computed the beginning before")
	answered(d)
}

func TestDynamoApart(t *testing.T) {
	c := newClock()
	eps := withRoles(c, prefill, prefill, decode)
	s := start(t, policies.DynamoApart(), c)
	by, _, d := split(t, s, blocks("x", 100), eps)
	require.NotEmpty(t, by, "all of 1,600 tokens is more than 0.7")
	answered(d)
	again, _, d := split(t, s, blocks("x", 100, "y", 120), eps)
	require.Empty(t, again, "1,920 tokens of 3,520 are neither 2,048 nor 0.7")
	answered(d)
	again, _, d = split(t, s, blocks("x", 100, "z", 129), eps)
	require.Equal(t, by, again, "2,064 tokens are, and a hundred blocks are there")
	other, _, _ := split(t, s, blocks("v", 129), eps)
	require.NotEqual(t, by, other, "where nothing is pending")
	answered(d)
}

// Busy servers do not compute prompts that they could.
func TestDynamoApartTuned(t *testing.T) {
	c := newClock()
	eps := withRoles(c, prefill, decode)
	s := start(t, policies.DynamoApartTuned(), c)
	_, _, d := split(t, s, blocks("x", 200), eps)
	answered(d)
	for i := range 2 {
		by, _, _ := split(t, s, blocks("x", 200, i, 110), eps)
		require.Empty(t, by, "request %d", i)
	}
	by, _, _ := split(t, s, blocks("x", 200, "y", 100), eps)
	require.Equal(t, "a", by, "more than 2,048 tokens are pending")
}

// Where all do both, the best to compute a prompt may be who answers.
func TestDecodeFirstAlone(t *testing.T) {
	c := newClock()
	eps := withRoles(c, prefill|decode)
	by, answer, _ := split(t, start(t, policies.LLMDApart(16), c), blocks("x", 100), eps)
	require.Empty(t, by)
	require.Equal(t, "a", answer)
}

// apartConfig is four servers, two of which compute prompts for others only.
func apartConfig(p simulation.Policy, gbits float64, rate float64) simulation.Config {
	f := simulation.Uniform(4, engine.Config{})
	for i, role := range []string{"prefill", "prefill", "decode", "decode"} {
		f.Replicas[i].Role = role
	}
	return simulation.Config{
		Fleet: f, Policy: p, Duration: 30 * time.Second, Seed: 2, Links: simulation.Links{BytesPerSecond: gbits / 8 * 1e9},
		Workload: simulation.ShareGPT{
			Rate: rate, Input: simulation.Length{Kind: simulation.LengthFixed, Tokens: 4000}, Output: simulation.Length{Kind: simulation.LengthFixed, Tokens: 100},
		},
	}
}

func TestApartShares(t *testing.T) {
	shares := map[string]float64{}
	for _, p := range policies.Apart() {
		r, err := simulation.Run(ctx, apartConfig(p, 400, 5))
		require.NoError(t, err)
		require.Equal(t, r.Arrived, r.Completed, p.Name)
		shares[p.Name] = r.Apart.Share
	}
	require.Equal(t, 1., shares["apart"])
	require.Zero(t, shares["together"])
	require.Zero(t, shares["llmd-pd-8192"])
	require.Equal(t, 1., shares["llmd-pd-2048"])
	require.Equal(t, 1., shares["dynamo-pd"])
}

// Over links that are next to none the default sees that being apart does not pay: at once if it is told, else by
// what it learns.
func TestDefaultStaysTogetherOverNoLink(t *testing.T) {
	told := simulation.Policy{Name: "told", Profile: func() scheduling.Profile {
		p, err := plugins.DefaultWith(plugins.CostOptions{Transfer: plugins.TransferRates{Token: 1}})
		require.NoError(t, err)
		return p
	}}
	r, err := simulation.Run(ctx, apartConfig(told, .01, 5))
	require.NoError(t, err)
	require.Zero(t, r.Apart.Jobs)
	learns := apartConfig(simulation.Policy{Name: "default", Profile: policies.Default}, 1, .5)
	learns.Duration, learns.Warmup = 4*time.Minute, time.Minute
	r, err = simulation.Run(ctx, learns)
	require.NoError(t, err)
	require.Less(t, r.Apart.Share, .05)
}

// Over good links, with long prompts and many that decode, being apart is worth it, and the default sees that.
func TestDefaultGoesApart(t *testing.T) {
	tpot := map[string]float64{}
	for _, p := range []simulation.Policy{{Name: "default", Profile: policies.Default}, {Name: "together", Profile: policies.Together}} {
		r, err := simulation.Run(ctx, apartConfig(p, 400, 7))
		require.NoError(t, err)
		tpot[p.Name] = r.TPOT.P90
		if p.Name == "default" {
			require.Greater(t, r.Apart.Share, .5)
		}
	}
	require.Greater(t, tpot["together"], 1.3*tpot["default"])
}
