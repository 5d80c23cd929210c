package simulation

import (
	"context"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// mirror is a KVSink that keeps what replicas say that they hold.
type mirror struct {
	held     map[string]map[uint64]bool
	ever     map[uint64]bool
	states   map[string][]types.KVState
	sessions map[string]bool
	orphans  int // blocks behind others that were not there
	unknown  int // blocks that were removed and not there
	resets   int
}

func newMirror() *mirror {
	return &mirror{map[string]map[uint64]bool{}, map[uint64]bool{}, map[string][]types.KVState{}, map[string]bool{}, 0, 0, 0}
}

func (m *mirror) Apply(endpoint string, _ int, batch []types.KVEvent) {
	held := m.held[endpoint]
	for _, ev := range batch {
		if ev.HasParent && !held[ev.Parent] {
			m.orphans++
		}
		for _, h := range ev.Hashes {
			if ev.Kind == types.KVRemoved {
				if !held[h] {
					m.unknown++
				}
				delete(held, h)
				continue
			}
			held[h], m.ever[h] = true, true
			m.sessions[ev.SessionID] = true
		}
	}
}

func (m *mirror) Reset(endpoint string, _ int) { m.held[endpoint] = map[uint64]bool{}; m.resets++ }
func (m *mirror) Remove(endpoint string)       { delete(m.held, endpoint) }
func (m *mirror) State(endpoint string, _ int, s types.KVState) {
	if m.held[endpoint] == nil {
		m.held[endpoint] = map[uint64]bool{}
	}
	m.states[endpoint] = append(m.states[endpoint], s)
}

// tell plays a run on two small replicas whose caches evict, and returns what its gateways were told.
func tell(t *testing.T, gateways int, e Events, faults ...Fault) (*sim, []*mirror) {
	t.Helper()
	var mirrors []*mirror
	c := Config{
		Fleet: Uniform(2, engine.Config{Blocks: 1500}), Duration: 30 * time.Second, Seed: 3, Gateways: gateways,
		Workload: SharedPrefix{Rate: 10, Groups: 30, SystemTokens: 1000, Skew: 1},
		World:    World{Events: e}, Faults: faults,
		Policy: Policy{Name: "told", Profile: fewestInFlight, Sink: func(scheduling.Profile) (KVSink, error) {
			mirrors = append(mirrors, newMirror())
			return mirrors[len(mirrors)-1], nil
		}},
	}
	require.NoError(t, c.Validate())
	s, err := newSim(c.withDefaults())
	require.NoError(t, err)
	require.NoError(t, s.play(context.Background()))
	for len(s.queue.heap) > 0 { // what is on its way still
		if ev := s.queue.pop(); ev.kind == told || ev.kind == replayed {
			s.now = ev.at
			s.handle(ev)
		}
	}
	return s, mirrors
}

// wrong counts blocks of which a gateway believes something else than is true.
func (m *mirror) wrong(s *sim) (n int) {
	for _, r := range s.replicas {
		if r.dead {
			continue
		}
		for h := range m.ever {
			if m.held[r.Name][h] != (r.engine.Cached([]uint64{h}, 0) == 1) {
				n++
			}
		}
	}
	return n
}

func TestEventsTellWhatIsHeld(t *testing.T) {
	restart := Fault{At: 15 * time.Second, Kind: Restart, Index: 1}
	tests := []struct {
		name   string
		events Events
		faults []Fault
		resets int
		gaps   bool
	}{
		{"at once", Events{Delay: -1}, nil, 0, false},
		{"late", Events{Delay: 2 * time.Second}, nil, 0, false},
		{"after a restart", Events{}, []Fault{restart}, 1, false},
		{"after replays", Events{Lost: .1}, nil, 0, true},
		{"after replays and a restart", Events{Lost: .1, Delay: time.Second, Replay: time.Second}, []Fault{restart}, 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, mirrors := tell(t, 2, tt.events, tt.faults...)
			require.Len(t, mirrors, 2)
			for _, m := range mirrors {
				require.Greater(t, len(m.ever), 3*1500, "caches evict")
				require.Greater(t, len(m.sessions), 250, "all gateways hear of all requests")
				require.Equal(t, tt.resets, m.resets)
				require.Zero(t, m.wrong(s))
				require.Zero(t, m.orphans+m.unknown, "in order")
				require.Equal(t, types.KVLive, m.states["r0"][0])
				require.Equal(t, tt.gaps, len(m.states["r0"]) > 1)
			}
		})
	}
}

func TestEventsThatAreLostForGood(t *testing.T) {
	s, mirrors := tell(t, 1, Events{Lost: .1, Replay: -1})
	require.Contains(t, mirrors[0].states["r0"], types.KVPartial)
	require.Positive(t, mirrors[0].wrong(s))
}

func TestEventsEndWithTheReplica(t *testing.T) {
	_, mirrors := tell(t, 1, Events{Delay: time.Second}, Fault{At: 10 * time.Second, Kind: Remove, Index: 1}, Fault{At: 20 * time.Second, Kind: Die, Index: 0})
	require.NotContains(t, mirrors[0].held, "r1")
	require.Equal(t, []types.KVState{types.KVLive, types.KVUnsynced}, mirrors[0].states["r0"])
}

// A policy that takes no events sees requests without a session, as before there were any.
func TestNoEvents(t *testing.T) {
	c := Config{
		Fleet: Uniform(1, engine.Config{}), Workload: SharedPrefix{Rate: 10, Groups: 3}, Duration: 5 * time.Second,
		Policy: Policy{Name: "plain", Profile: func() scheduling.Profile {
			p := fewestInFlight()
			p.Hooks.Scheduled = func(e scheduling.Event) { require.Empty(t, e.Request.EngineSession) }
			return p
		}},
	}
	_, err := Run(context.Background(), c)
	require.NoError(t, err)
	c.World.Events.Lost = 1
	require.ErrorContains(t, c.Validate(), "World.Events.Lost is 1")
}
