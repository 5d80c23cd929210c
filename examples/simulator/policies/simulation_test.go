package policies_test

import (
	"bytes"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// met is a tracker that remembers which endpoints were chosen, to look at their
// ledgers.
type met struct {
	mu    sync.Mutex
	loads map[*types.Load]string
}

func (m *met) Picked(_ *types.Request, ep *types.Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads[ep.Load] = ep.ID
}
func (*met) FirstToken(*types.Request, *types.Endpoint)              {}
func (*met) Finished(*types.Request, *types.Endpoint, types.Outcome) {}

// watched returns p with m among its trackers.
func watched(p simulation.Policy, m *met) simulation.Policy {
	with := func(profile scheduling.Profile) scheduling.Profile {
		profile.Trackers = append(profile.Trackers, m)
		return profile
	}
	if plain := p.Profile; plain != nil {
		p.Profile = func() scheduling.Profile { return with(plain()) }
	} else {
		knowing := p.Clairvoyant
		p.Clairvoyant = func(t simulation.Truth) scheduling.Profile { return with(knowing(t)) }
	}
	return p
}

// Every policy plays every workload to its end: nothing fails or is shed, the
// ledgers are empty afterwards, and the same seed gives the same report.
func TestSimulation(t *testing.T) {
	if testing.Short() {
		t.Skip("many simulated runs")
	}
	small := engine.Config{Blocks: 4000, MaxLoRAs: 2}
	tests := []struct {
		name     string
		workload simulation.Spec
		gateways int
		faults   []simulation.Fault
	}{
		{"share-gpt", simulation.ShareGPT{Rate: 40}, 1, nil},
		{"shared-prefix", simulation.SharedPrefix{Rate: 20, Groups: 30, SystemTokens: 1024}, 2, nil},
		{"multi-lora", simulation.MultiLoRA{Rate: 30}, 1, nil},
		{"a server dies", simulation.SharedPrefix{Rate: 10, Groups: 30, SystemTokens: 1024}, 1, []simulation.Fault{
			{At: 500 * time.Millisecond, Kind: simulation.Hang, Index: 2, For: 200 * time.Millisecond},
			{At: time.Second, Kind: simulation.Remove, Index: 0},
			{At: time.Second, Kind: simulation.Add, Replica: simulation.Replica{Engine: small}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, p := range policies.All() {
				var reports [2][]byte
				for i := range reports {
					m := &met{loads: map[*types.Load]string{}}
					report, err := simulation.Run(ctx, simulation.Config{
						Fleet: simulation.Uniform(4, small), Workload: tt.workload, Policy: watched(p, m), Gateways: tt.gateways,
						Duration: 3 * time.Second, Seed: 7, Faults: tt.faults,
					})
					require.NoError(t, err, "%s", p.Name)
					if report.Completed != report.Arrived || report.Arrived < 20 {
						t.Errorf("%s: %d completed of %d, %d failed, %d shed, %d unfinished", p.Name,
							report.Completed, report.Arrived, report.Failed, report.Shed, report.Unfinished)
					}
					for l, id := range m.loads {
						if l.Requests() != 0 || l.PrefillTokens() != 0 || l.ContextTokens() != 0 {
							t.Errorf("%s: the ledger of %s ends with %d requests, %d and %d tokens", p.Name, id, l.Requests(), l.PrefillTokens(), l.ContextTokens())
						}
					}
					if reports[i], err = json.Marshal(report); err != nil {
						t.Fatal(err)
					}
					if i == 0 {
						t.Logf("%-18s TTFT p90 %.3f s, end-to-end p90 %.2f s, prefix hits %.2f", p.Name, report.TTFT.P90, report.E2E.P90, report.PrefixHits)
					}
				}
				if !bytes.Equal(reports[0], reports[1]) {
					t.Errorf("%s: two runs with the same seed give different reports", p.Name)
				}
			}
		})
	}
}
