package schedulingtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// A change of policy is tested on the fleet and workload that it is for: here, that
// the tail does not become worse by more than a tenth.
func ExampleSimulate() {
	_ = func(t *testing.T) { // func TestPolicyDoesNotRegress(t *testing.T)
		play := func(name string, profile func() scheduling.Profile) *simulation.Report {
			return schedulingtest.Simulate(t, simulation.Config{
				Fleet:    simulation.Uniform(4, engine.Config{}),
				Workload: simulation.SharedPrefix{Rate: 40, Groups: 60},
				Policy:   simulation.Policy{Name: name, Profile: profile},
				Duration: 30 * time.Second,
				Warmup:   10 * time.Second,
			})
		}
		before := play("committed", plugins.Classic)
		after := play("changed", plugins.ClassicWithInFlight)
		if after.TTFT.P90 > 1.1*before.TTFT.P90 {
			t.Errorf("TTFT p90 = %.3f s, want at most 1.1 times the %.3f s before", after.TTFT.P90, before.TTFT.P90)
		}
	}
}

// witness is a testing.TB that keeps what it is told.
type witness struct {
	testing.TB
	fatal, log string
}

func (w *witness) Helper()                  {}
func (w *witness) Context() context.Context { return context.Background() }
func (w *witness) Logf(format string, _ ...any) {
	w.log += format
}
func (w *witness) Fatalf(format string, _ ...any) {
	w.fatal += format
}

func TestSimulate(t *testing.T) {
	random := func() scheduling.Profile { return scheduling.Profile{Picker: plugins.Random{}} } // refuses nothing
	c := simulation.Config{
		Fleet:    simulation.Uniform(2, engine.Config{}),
		Workload: simulation.ShareGPT{Rate: 5},
		Policy:   simulation.Policy{Name: "random", Profile: random},
		Duration: 5 * time.Second,
	}
	if r := schedulingtest.Simulate(t, c); r.Completed == 0 || r.Completed != r.Arrived || r.TTFT.P90 <= 0 {
		t.Errorf("Simulate = %+v, want all of some jobs completed", r)
	}
	if testing.Short() {
		return
	}

	overloaded := c
	overloaded.Workload, overloaded.Duration = simulation.ShareGPT{Rate: 400}, 20*time.Second
	w := &witness{TB: t}
	if r := schedulingtest.Simulate(w, overloaded); r.Steady || !strings.Contains(w.log, "overload") || w.fatal != "" {
		t.Errorf("overload: steady %v, log %q, fatal %q; want it to be logged only", r.Steady, w.log, w.fatal)
	}
}
