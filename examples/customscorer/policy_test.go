package customscorer

import (
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	st "github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// Preferring the own zone must not cost the tail: on a fleet in two zones the p90 of
// the time to first token stays within a tenth of that of the profile in use.
func TestZonesDoNotCostLatency(t *testing.T) {
	play := func(policy string, profile func() scheduling.Profile) *simulation.Report {
		fleet := simulation.Uniform(6, engine.Config{})
		for i := range fleet.Replicas {
			fleet.Replicas[i].Labels = map[string]string{"zone": string("ab"[i%2])}
		}
		return st.Simulate(t, simulation.Config{
			Fleet: fleet, Workload: simulation.SharedPrefix{Rate: 60, Groups: 100},
			Policy:   simulation.Policy{Name: policy, Profile: profile},
			Duration: 40 * time.Second, Warmup: 10 * time.Second,
		})
	}
	committed := play("committed", plugins.ClassicWithInFlight)
	zoned := play("zoned", func() scheduling.Profile {
		p := plugins.ClassicWithInFlight()
		p.Scorers = append(p.Scorers, scheduling.Weighted{Name: "zone", Scorer: SameZone("a"), Weight: 0.1})
		return p
	})
	if limit := 1.1 * committed.TTFT.P90; zoned.TTFT.P90 > limit {
		t.Errorf("TTFT p90 = %.0f ms, want at most %.0f ms", 1000*zoned.TTFT.P90, 1000*limit)
	}
}
