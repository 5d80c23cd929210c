package policies_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

func named(t *testing.T, name string) simulation.Policy {
	t.Helper()
	chosen, err := policies.ByName(name)
	require.NoError(t, err)
	return chosen[0]
}

func mustRun(t *testing.T, c simulation.Config) *simulation.Report {
	t.Helper()
	r, err := simulation.Run(ctx, c)
	require.NoError(t, err)
	return r
}

// agents is sessions of agents whose turns go to so many gateways in turn, in front of ten servers.
func agents(gateways int, seed uint64) simulation.Config {
	return simulation.Config{
		Fleet: simulation.Uniform(10, engine.Config{}), Workload: simulation.Agentic{Rate: 3.7}, Gateways: gateways,
		Duration: time.Minute, Warmup: 15 * time.Second, Seed: seed,
	}
}

// Gateways none of whose messages come do what those do that share nothing, to the last bit.
func TestAllLostIsNotShared(t *testing.T) {
	four := simulation.Uniform(4, engine.Config{})
	for name, c := range map[string]simulation.Config{
		"agents":  {Fleet: four, Workload: simulation.Agentic{Rate: 1.5}, Gateways: 8},
		"chat":    {Fleet: four, Workload: simulation.ShareGPT{Rate: 60}, Gateways: 3},
		"tenants": {Fleet: four, Workload: simulation.SharedPrefix{Rate: 40, Groups: 100, Skew: 1}, Gateways: 4, Admission: func() admission.Options { return admission.Options{} }},
		"one":     {Fleet: four, Workload: simulation.SharedPrefix{Rate: 40, Groups: 100, Skew: 1}, Gateways: 1},
	} {
		for _, policy := range []string{"default", "default+events"} {
			if testing.Short() && (name != "agents" || policy != "default") {
				continue
			}
			c.Duration, c.Seed, c.Policy, c.Sharing = 20*time.Second, 1, named(t, policy), simulation.Sharing{Lost: 1}
			alone := mustRun(t, c)
			c.Policy = named(t, policy+"+sharing")
			lost := mustRun(t, c)
			require.NotNil(t, lost.Sharing)
			lost.Sharing, lost.Policy = nil, alone.Policy
			require.Equal(t, alone, lost, "%s of %s", policy, name)
		}
	}
}

// What gateways know of each other brings agents, whose turns go to all of them, near to one gateway, and does no harm to
// anybody else. (On chats one gateway is better by what no message can carry: it knows when each step ends.)
func TestSharedIsNearOne(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("many simulated runs")
	}
	ten := simulation.Uniform(10, engine.Config{})
	for name, tt := range map[string]struct {
		workload simulation.Spec
		duration time.Duration
		seeds    uint64
		// Times what one gateway has of the TTFT p90, at most, and what eight have that share nothing.
		one, alone float64
	}{
		"agents":  {simulation.Agentic{Rate: 3.7}, time.Minute, 4, 1.10, .8},
		"chat":    {simulation.ShareGPT{Rate: 400}, 16 * time.Second, 1, 1.18, 1.04},
		"tenants": {simulation.SharedPrefix{Rate: 124, Groups: 500, Skew: 1}, time.Minute, 1, 1.15, 1.05},
	} {
		t.Run(name, func(t *testing.T) {
			p90 := func(policy string, gateways int) (sum float64) {
				for seed := range tt.seeds {
					sum += mustRun(t, simulation.Config{
						Fleet: ten, Workload: tt.workload, Duration: tt.duration, Warmup: tt.duration / 4, Seed: 101 + seed,
						Policy: named(t, policy), Gateways: gateways,
						Sharing: simulation.Sharing{Delay: 100 * time.Millisecond, Lost: .01},
					}).TTFT.P90
				}
				return sum / float64(tt.seeds)
			}
			one, alone, shared := p90("default", 1), p90("default", 8), p90("default+sharing", 8)
			t.Logf("TTFT p90 of 8 gateways %.1f ms, %.3f times that of one and %.3f times that without sharing", 1000*shared, shared/one, shared/alone)
			require.Less(t, shared/one, tt.one)
			require.Less(t, shared/alone, tt.alone)
		})
	}
}

// told is a Sharer whose gateway is looked at before it tells and after it has heard.
type told struct {
	simulation.Sharer
	before, after func(now time.Time)
}

func (t told) Tell(now time.Time, send func([]byte)) {
	t.before(now)
	t.Sharer.Tell(now, send)
}

func (t told) Hear(from string, msg []byte, now time.Time) {
	t.Sharer.Hear(from, msg, now)
	t.after(now)
}

// looked returns default+sharing with told gateways.
func looked(t *testing.T, before, after func(g simulation.Gateway, now time.Time)) simulation.Policy {
	p := named(t, "default+sharing")
	sharer := p.Sharer
	p.Sharer = func(g simulation.Gateway) (simulation.Sharer, error) {
		s, err := sharer(g)
		return told{s, func(now time.Time) { before(g, now) }, func(now time.Time) { after(g, now) }}, err
	}
	return p
}

func nothing(simulation.Gateway, time.Time) {}

// What a gateway believes of the others is the sum of what they had when they told it last.
func TestPeersAreWhatTheyHave(t *testing.T) {
	had := map[string]map[string]types.Booking{}
	checked := 0
	c := agents(5, 3)
	c.Duration, c.Sharing = 20*time.Second, simulation.Sharing{Delay: -1}
	c.Policy = looked(t, func(g simulation.Gateway, _ time.Time) {
		mine := map[string]types.Booking{}
		for _, ep := range g.Endpoints() {
			mine[ep.ID] = ep.Load.Held()
			var want types.Booking
			for name, other := range had {
				if name != g.Name {
					want = want.Plus(other[ep.ID])
				}
			}
			require.Equal(t, want, ep.Load.Peers(), "%s at %s", ep.ID, g.Name)
			if want.Requests > 0 {
				checked++
			}
		}
		had[g.Name] = mine
	}, nothing)
	mustRun(t, c)
	require.Greater(t, checked, 2000)
}

// Four seconds after a gateway has died nobody believes that it has anything, and it is told of at once when it is back.
func TestDeadGatewayIsForgotten(t *testing.T) {
	for _, w := range []simulation.Sharing{{}, {Delay: 100 * time.Millisecond, Lost: .1}, {Delay: 50 * time.Millisecond, Jitter: 50 * time.Millisecond}} {
		const dies, back = 10, 20
		last := map[string]float64{} // when anything was believed of a gateway that has nothing, in seconds
		heard, start := 0., time.Time{}
		c := simulation.Config{
			Fleet: simulation.Uniform(4, engine.Config{}), Workload: simulation.ShareGPT{Rate: 40}, Gateways: 2, Seed: 5,
			Duration: 30 * time.Second, Sharing: w,
			Faults: []simulation.Fault{
				{At: dies * time.Second, Kind: simulation.DieGateway, Index: 1}, {At: back * time.Second, Kind: simulation.RestartGateway, Index: 1},
			},
		}
		peers := func(g simulation.Gateway) (n int64) {
			for _, ep := range g.Endpoints() {
				n += ep.Load.Peers().Requests
			}
			return n
		}
		look := func(g simulation.Gateway, now time.Time) {
			if start.IsZero() {
				start = now.Truncate(24 * time.Hour)
			}
			at := now.Sub(start).Seconds()
			if g.Name != "g0" || peers(g) == 0 {
				return
			}
			if at < back {
				last[g.Name] = at
			} else if heard == 0 {
				heard = at
			}
		}
		c.Policy = looked(t, look, look)
		mustRun(t, c)
		require.Greater(t, last["g0"], dies+2., "it is not lost at the first message that does not come")
		// The last message may be as late as any, and is looked at when others are told.
		late := max(w.Delay, time.Millisecond) + 4*w.Jitter + 100*time.Millisecond
		require.LessOrEqual(t, last["g0"], dies+4+late.Seconds(), "with %+v", w)
		require.Less(t, heard, back+2.)
	}
}

// Whatever becomes of messages and gateways, all jobs end, Run finds that in the end nobody believes that others have
// any, and a seed says all.
func TestSharedThroughFaults(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		rnd := types.NewRand(seed + 9)
		c := agents(2+rnd.IntN(6), seed)
		c.Duration, c.Warmup = 20*time.Second, 0
		c.Policy = named(t, "default+sharing")
		if rnd.IntN(2) == 0 {
			c.Policy = named(t, "default+events+sharing")
		}
		c.Sharing = simulation.Sharing{
			Delay: time.Duration(rnd.IntN(500)) * time.Millisecond, Jitter: time.Duration(rnd.IntN(500)) * time.Millisecond, Lost: rnd.Float64(),
			Partitions: []simulation.Partition{{At: 3 * time.Second, Until: time.Duration(rnd.IntN(2)) * 9 * time.Second, Groups: [][]int{{0}}}},
		}
		for range 4 {
			c.Faults = append(c.Faults,
				simulation.Fault{At: time.Duration(rnd.Float64() * 25e9), Kind: simulation.DieGateway + simulation.FaultKind(rnd.IntN(2)), Index: rnd.IntN(c.Gateways)},
				simulation.Fault{At: time.Duration(rnd.Float64() * 25e9), Kind: simulation.Restart, Index: rnd.IntN(10)})
		}
		c.Faults = append(c.Faults, simulation.Fault{At: 8 * time.Second, Kind: simulation.Remove, Index: 9}, simulation.Fault{At: 9 * time.Second, Kind: simulation.Add})
		r := mustRun(t, c)
		require.Equal(t, r.Arrived, r.Completed+r.Failed+r.Shed)
		require.Greater(t, r.Completed, r.Arrived/3)
		require.Equal(t, r, mustRun(t, c), "it is the same again")
	}
}

// A gateway that takes the place of another is as good as that from the first second on if it starts from a snapshot, or
// if a peer tells it.
func TestWarmStart(t *testing.T) {
	if testing.Short() {
		t.Skip("many simulated runs")
	}
	const at, seeds = 60 * time.Second, 2
	type figures struct{ hits, ttft float64 }
	run := func(gateways int, policy string, faults ...simulation.Fault) (f figures) {
		for seed := range uint64(seeds) {
			// Jobs that come in the first five seconds count.
			r := mustRun(t, simulation.Config{
				Fleet: simulation.Uniform(4, engine.Config{}), Workload: simulation.SharedPrefix{Rate: 48, Groups: 200, Skew: 1}, Gateways: gateways,
				Duration: at + 5*time.Second, Warmup: at, Seed: 31 + seed, Policy: named(t, policy), Faults: faults,
				Sharing: simulation.Sharing{Snapshots: 5 * time.Second},
			})
			f.hits += r.PrefixHits / seeds
			f.ttft += r.TTFT.P90 / seeds
		}
		return f
	}
	again := func(kind simulation.FaultKind, warm bool) simulation.Fault {
		return simulation.Fault{At: at, Kind: kind, Warm: warm}
	}
	same, cold, warm := run(1, "default+sharing"), run(1, "default", again(simulation.RestartGateway, false)), run(1, "default+sharing", again(simulation.RestartGateway, true))
	t.Logf("the first 5 s of one gateway: hits %.1f %%, cold %.1f %%, warm %.1f %%; TTFT p90 %.0f, %.0f and %.0f ms",
		100*same.hits, 100*cold.hits, 100*warm.hits, 1000*same.ttft, 1000*cold.ttft, 1000*warm.ttft)
	cold2, warm2 := run(1, "default", again(simulation.ReplaceGateway, false)), run(1, "default+sharing", again(simulation.ReplaceGateway, true))
	t.Logf("replaced: cold %.1f %%, warm %.1f %%; TTFT p90 %.0f and %.0f ms", 100*cold2.hits, 100*warm2.hits, 1000*cold2.ttft, 1000*warm2.ttft)
	three, peers := run(3, "default+sharing"), run(3, "default+sharing", again(simulation.ReplaceGateway, false))
	t.Logf("of three, one of which is replaced: hits %.1f %%, told by peers %.1f %%; TTFT p90 %.0f and %.0f ms",
		100*three.hits, 100*peers.hits, 1000*three.ttft, 1000*peers.ttft)
	require.Less(t, cold.hits, same.hits-.1, "a cold start is to cost something")
	require.Greater(t, warm.hits, same.hits-.03, "from a snapshot that is up to five seconds old")
	require.Less(t, warm.ttft, 1.25*same.ttft)
	require.Greater(t, warm2.hits, same.hits-.03)
	require.Greater(t, peers.hits, three.hits-.03)
	require.Less(t, peers.ttft, 1.25*three.ttft)
}
