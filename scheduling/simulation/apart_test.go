package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// chance is a Splitter that has the prompt computed by anybody, in a part of the cases.
type chance struct{ part float64 }

func (c chance) Split(_ context.Context, req *types.Request, eps, prefill []*types.Endpoint, must bool, by []int32, _ []float64) error {
	for i := range eps {
		if must || req.Rand.Float64() < c.part {
			by[i] = int32(req.Rand.IntN(len(prefill)))
		}
	}
	return nil
}

// anywhere is a policy that goes apart in a part of the cases, with endpoints taken at random.
func anywhere(part float64, more ...func(*scheduling.Profile)) Policy {
	return Policy{Name: fmt.Sprintf("apart %v", part), Profile: func() scheduling.Profile {
		p := scheduling.Profile{Splitter: chance{part}, Fallbacks: 2, Picker: scheduling.PickerFunc(
			func(_ context.Context, req *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
				return req.Rand.IntN(len(eps)), nil
			})}
		for _, f := range more {
			f(&p)
		}
		return p
	}}
}

// roles is a fleet of so many replicas of each role.
func roles(c engine.Config, prefill, decode, both int) (f Fleet) {
	for i, role := range []string{"prefill", "decode", "prefill-decode"} {
		for range []int{prefill, decode, both}[i] {
			f.Replicas = append(f.Replicas, Replica{Engine: c, Role: role})
		}
	}
	return f
}

// played is a run with all that it leaves behind, whose engines are checked.
func played(t *testing.T, c Config) (*sim, *Report) {
	t.Helper()
	require.NoError(t, c.Validate())
	s, err := newSim(c.withDefaults())
	require.NoError(t, err)
	require.NoError(t, s.play(context.Background()))
	for _, r := range s.replicas {
		require.NoError(t, r.engine.Check())
	}
	return s, s.report()
}

// twoPieces is so many jobs a second, of two pieces of content, the first of which others have too.
func twoPieces(rate float64) Spec {
	return SharedPrefix{Rate: rate, Groups: 20, SystemTokens: 1000, Question: Length{Kind: LengthFixed, Tokens: 500}, Output: Length{Kind: LengthFixed, Tokens: 40}}
}

func TestApartAlone(t *testing.T) {
	one := Config{
		Fleet: roles(engine.Config{}, 1, 1, 0), Workload: ShareGPT{Rate: .1, Input: Length{Kind: LengthFixed, Tokens: 5000}, Output: Length{Kind: LengthFixed, Tokens: 2}},
		Policy: anywhere(1), Jobs: 1, APIIn: 7 * time.Millisecond, APIOut: 3 * time.Millisecond, Hop: 11 * time.Millisecond,
		Links: Links{Setup: 13 * time.Millisecond, BytesPerToken: 1000, BytesPerSecond: 1e8},
	}
	_, r := played(t, one)
	require.Equal(t, 1, r.Apart.Jobs)
	require.Equal(t, 1., r.Apart.Share)
	require.InDelta(t, .063, r.Apart.Transfer.Mean, 1e-4, "setup and 50 ms of bytes")
	require.InDelta(t, .018, r.Apart.Wait.Mean, 1e-4, "hop and API")
	require.Equal(t, []int{1, 0, 0}, []int{r.Replicas[0].Prompts, r.Replicas[0].Jobs, r.Replicas[1].Prompts})
	require.Equal(t, 5000, r.Replicas[1].Received)

	one.Policy = anywhere(0)
	_, alone := played(t, one)
	require.Zero(t, alone.Apart.Jobs)
	require.Equal(t, 1, alone.Replicas[1].Jobs)
	require.Greater(t, r.TTFT.Mean, alone.TTFT.Mean+.063+.018+.003)
	require.InDelta(t, alone.TPOT.Mean, r.TPOT.Mean, 1e-3)
}

// What gateways hear of a job in two parts: of the prompt from one, of the answer from the other.
func TestApartOutcomes(t *testing.T) {
	var prefilled, finished []scheduling.Event
	c := Config{
		Fleet: roles(engine.Config{}, 1, 1, 0), Workload: twoPieces(2), Duration: 40 * time.Second,
		Policy: anywhere(1, func(p *scheduling.Profile) {
			p.Hooks.Prefilled = func(e scheduling.Event) { prefilled = append(prefilled, e) }
			p.Hooks.Finished = func(e scheduling.Event) { finished = append(finished, e) }
		}),
	}
	s, r := played(t, c)
	require.Len(t, prefilled, r.Completed)
	require.Len(t, finished, r.Completed)
	hits := 0.
	for _, e := range prefilled {
		require.Equal(t, "r0", e.Prefill.ID)
		cached, known := e.Outcome.Usage.CachedTokens.Value()
		require.True(t, known)
		hits += cached
	}
	for _, e := range finished {
		require.Equal(t, "r1", e.Endpoint.ID)
		_, known := e.Outcome.Usage.CachedTokens.Value()
		require.False(t, known, "nobody can say what was in the cache of the one that answers")
		require.Positive(t, e.Outcome.TTFT)
	}
	require.InDelta(t, hits/1500/float64(r.Completed), r.PrefixHits, 1e-9)
	require.Positive(t, r.PrefixHits)
	require.Less(t, r.Replicas[1].Received, r.Completed*1500*3/4, "what the other has is not transferred")
	require.Equal(t, types.RolePrefill, s.gateways[0].eps[0].Roles)
	require.Equal(t, "prefill", s.gateways[0].eps[0].Labels[types.RoleLabel])
	require.Positive(t, r.Replicas[0].Busy)
}

// A fleet without such roles asks nobody, whatever the policy would do.
func TestNotApart(t *testing.T) {
	c := Config{Fleet: Uniform(3, engine.Config{}), Workload: twoPieces(20), Policy: anywhere(1), Duration: 10 * time.Second}
	_, r := played(t, c)
	require.Nil(t, r.Apart)
	require.Equal(t, r.Arrived, r.Completed)
}

// impatient is a workload whose clients give up at different times.
type impatient struct{ Spec }

func (i impatient) Start(seed uint64) Source {
	return &impatientSource{i.Spec.Start(seed), types.NewRand(seed)}
}

type impatientSource struct {
	Source
	rand types.Rand
}

func (s *impatientSource) Next() (Job, bool) {
	j, ok := s.Source.Next()
	if s.rand.Float64() < .5 {
		j.Patience = 1 + time.Duration(s.rand.Float64()*400e6)
	}
	return j, ok
}

// Whatever happens to servers and clients while prompts are computed, wait, move and are there:
// every job ends, every booking with it, and every block is free in the end, which Run checks.
func TestApartThroughFaults(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 8
	}
	var all Report
	leases, cancelled := 0, 0
	for seed := range seeds {
		rnd := types.NewRand(seed + 1)
		c := Config{
			Fleet:  roles(engine.Config{Blocks: 500 + rnd.IntN(3000), MaxBatchedTokens: 2048, KVLease: 500 * time.Millisecond}, 1+rnd.IntN(2), 2, rnd.IntN(3)),
			Policy: anywhere(.2+.8*rnd.Float64(), func(p *scheduling.Profile) { p.Alone.Share = 1 }), Workload: impatient{twoPieces(15)},
			Gateways: 1 + rnd.IntN(2), Duration: 12 * time.Second, Seed: seed,
			Links: Links{BytesPerSecond: 1e9, Handshake: time.Duration(rnd.IntN(2)) * 300 * time.Millisecond, Overlap: float64(rnd.IntN(2)) / 2},
			World: World{Jitter: time.Duration(rnd.IntN(2)) * 20 * time.Millisecond, Unstreamed: float64(rnd.IntN(2)) / 2},
		}
		if rnd.IntN(2) == 0 {
			for i := range c.Fleet.Replicas {
				if r := &c.Fleet.Replicas[i]; r.Role == "decode" {
					r.Role = "decode-only"
				}
			}
		}
		for range 12 {
			f := Fault{
				At: time.Duration(rnd.Float64() * 12e9), Kind: FaultKind(rnd.IntN(3)), Index: rnd.IntN(len(c.Fleet.Replicas)),
				For: time.Duration(rnd.Float64() * 2e9),
			}
			c.Faults = append(c.Faults, f)
			if f.Kind == Die {
				c.Faults = append(c.Faults, Fault{At: f.At + time.Duration(rnd.Float64()*3e9), Kind: Restart, Index: f.Index})
			}
		}
		_, r := played(t, c)
		require.Equal(t, r.Arrived, r.Completed+r.Failed+r.Cancelled+r.Unfinished)
		require.Zero(t, r.Unfinished)
		all.Completed += r.Completed
		all.Failed += r.Failed
		leases += r.Apart.LeasesEnded
		cancelled += r.Cancelled
		_, again := played(t, c)
		require.Equal(t, r, again, "it is the same again")
	}
	require.Positive(t, leases, "some prompts were computed for nobody")
	require.Positive(t, cancelled)
	require.Less(t, all.Failed, all.Completed/3)
}

// The death of the one that computes the prompt, before, in and after its part, costs time and no job.
func TestPrefillerDies(t *testing.T) {
	c := Config{
		Fleet: roles(engine.Config{}, 2, 2, 0), Policy: anywhere(1), Workload: ShareGPT{Input: Length{Kind: LengthFixed, Tokens: 4000}, Output: Length{Kind: LengthFixed, Tokens: 20}},
		Jobs: 1, Links: Links{BytesPerSecond: 5e9},
	}
	_, quiet := played(t, c)
	at, last := time.Duration(quiet.Simulated*1e9), time.Duration(quiet.E2E.Max*1e9)
	again, apart := 0, 0
	for i := range 60 {
		c.Faults = nil
		when := at - last + last*time.Duration(i)/60
		for k := range 2 {
			c.Faults = append(c.Faults, Fault{At: when, Kind: Die, Index: k}, Fault{At: when + time.Millisecond, Kind: Restart, Index: k})
		}
		_, r := played(t, c)
		require.Equal(t, 1, r.Completed, "at %v", when)
		again += r.Replicas[0].Prompts + r.Replicas[1].Prompts - 1
		apart += r.Apart.Jobs
	}
	require.Positive(t, again)
	require.Positive(t, apart)
}

// If nobody can compute the prompt any more, the others do so as far as Profile.Alone allows.
func TestPrefillersAreGone(t *testing.T) {
	c := Config{
		Fleet: roles(engine.Config{}, 1, 2, 0), Workload: twoPieces(5), Duration: 20 * time.Second,
		Faults: []Fault{{At: 10 * time.Second, Kind: Die, Index: 0}},
	}
	for share, lost := range map[float64]bool{1: false, .01: true} {
		c.Policy = anywhere(1, func(p *scheduling.Profile) { p.Alone.Share = share })
		_, r := played(t, c)
		require.Equal(t, lost, r.Failed > 1, "share %v: %d failed", share, r.Failed)
		require.Greater(t, r.Completed-r.Apart.Jobs, 5)
	}
}

// Who answers only where another computes the prompt never does so alone.
func TestDecodeOnly(t *testing.T) {
	c := Config{Fleet: roles(engine.Config{}, 1, 1, 1), Workload: twoPieces(5), Duration: 20 * time.Second, Policy: anywhere(.5)}
	c.Fleet.Replicas[1].Role = "decode-only"
	c.Faults = []Fault{{At: 10 * time.Second, Kind: Die, Index: 2}}
	c.Policy = anywhere(.5, func(p *scheduling.Profile) {
		p.Hooks.Scheduled = func(e scheduling.Event) {
			if e.Endpoint.ID == "r1" {
				require.NotNil(t, e.Prefill)
			}
		}
		p.Hooks.Retried = p.Hooks.Scheduled
	})
	_, r := played(t, c)
	require.Positive(t, r.Replicas[1].Jobs)
	require.Positive(t, r.Replicas[2].Jobs)
}

// Links without bounds, nothing to wait for and no load: nobody's tokens are held up.
func TestApartIsNoSlower(t *testing.T) {
	c := Config{
		Fleet: roles(engine.Config{}, 2, 2, 0), Workload: SharedPrefix{Rate: 3, Question: Length{Kind: LengthFixed, Tokens: 3000}}, Duration: 60 * time.Second,
		Links: Links{Setup: -1, BytesPerSecond: 1e15}, Hop: -1, Seed: 3,
	}
	c.Policy = anywhere(1)
	_, apart := played(t, c)
	c.Policy = anywhere(0)
	_, together := played(t, c)
	require.Equal(t, together.Completed, apart.Completed)
	require.LessOrEqual(t, apart.TPOT.Mean, together.TPOT.Mean)
	require.LessOrEqual(t, apart.TPOT.P99, together.TPOT.P99)
	require.Less(t, apart.TTFT.P50, together.TTFT.P50+.030, "a request and a step more")
}

// KV events of both: what was transferred can be hit, and is told of.
func TestApartEvents(t *testing.T) {
	stored := map[string]map[string]bool{}
	c := Config{Fleet: roles(engine.Config{}, 1, 1, 0), Workload: twoPieces(3), Duration: 10 * time.Second, Policy: anywhere(1)}
	c.Policy.Sink = func(scheduling.Profile) (KVSink, error) { return storedBy{stored}, nil }
	played(t, c)
	require.NotEmpty(t, stored["r0"])
	require.Equal(t, stored["r0"], stored["r1"], "of the same requests")
}

// storedBy notes whose blocks each replica says that it stored.
type storedBy struct{ stored map[string]map[string]bool }

func (s storedBy) Apply(endpoint string, _ int, batch []types.KVEvent) {
	for _, e := range batch {
		if s.stored[endpoint] == nil {
			s.stored[endpoint] = map[string]bool{}
		}
		s.stored[endpoint][e.SessionID] = true
	}
}
func (storedBy) Reset(string, int)                {}
func (storedBy) State(string, int, types.KVState) {}
func (storedBy) Remove(string)                    {}

func TestApartReportIsJSON(t *testing.T) {
	_, r := played(t, Config{Fleet: roles(engine.Config{}, 1, 1, 1), Workload: twoPieces(5), Duration: 5 * time.Second, Policy: anywhere(.5)})
	data, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(data), `"Apart":{"Jobs":`)
	require.Contains(t, string(data), `"Role":"prefill-decode"`)
}
