package simulation_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// overloaded is two replicas with eight places each that are asked for about twice what
// they can do, by jobs of all three criticalities.
func overloaded(seed uint64) simulation.Config {
	return simulation.Config{
		Fleet: simulation.Uniform(2, engine.Config{MaxSeqs: 8}),
		Workload: simulation.Criticality{Workload: simulation.ShareGPT{Rate: 16}, Classes: []simulation.Class{
			{Name: "critical", Share: 0.2, Priority: types.PriorityCritical, TTFT: 1, Tenants: 2},
			{Name: "standard", Share: 0.5, Priority: types.PriorityStandard, TTFT: 3, Tenants: 5, Skew: 1},
			{Name: "sheddable", Share: 0.3, Priority: types.PrioritySheddable, Patience: 2},
		}},
		Policy:    simulation.Policy{Name: "least", Profile: plugins.LeastRequests},
		Admission: func() admission.Options { return admission.Options{} },
		Duration:  40 * time.Second, Warmup: 10 * time.Second, Seed: seed,
	}
}

func play(t *testing.T, c simulation.Config) *simulation.Report {
	t.Helper()
	r, err := simulation.Run(context.Background(), c)
	require.NoError(t, err)
	return r
}

func TestAdmission(t *testing.T) {
	with := play(t, overloaded(1))
	c := overloaded(1)
	c.Admission = nil
	without := play(t, c)

	if len(with.Classes) != 3 || with.Classes[0].Priority != types.PriorityCritical || with.Classes[2].Priority != types.PrioritySheddable {
		t.Fatalf("classes = %+v, want those of three priorities, the highest first", with.Classes)
	}
	arrived, completed, shed := 0, 0, 0
	for _, k := range with.Classes {
		if n := k.Completed + k.Shed + k.Failed + k.Cancelled; n != k.Arrived {
			t.Errorf("priority %d: %d jobs ended, %d arrived", k.Priority, n, k.Arrived)
		}
		arrived, completed, shed = arrived+k.Arrived, completed+k.Completed, shed+k.Shed
	}
	if arrived != with.Arrived || completed != with.Completed || shed != with.Shed {
		t.Errorf("classes add up to %d, %d and %d jobs, the report has %d, %d and %d", arrived, completed, shed, with.Arrived, with.Completed, with.Shed)
	}
	critical, standard, sheddable := with.Classes[0], with.Classes[1], with.Classes[2]
	if critical.Met < critical.Arrived*9/10 {
		t.Errorf("critical jobs: %+v, want nearly all within their SLO", critical)
	}
	if standard.Wait.P90 == 0 || sheddable.Wait.Max != 0 || sheddable.Shed < sheddable.Arrived/2 {
		t.Errorf("standard jobs wait for %+v, want some time; sheddable ones: %+v, want most of them refused at once", standard.Wait, sheddable)
	}
	if k := without.Classes[0]; k.Met > k.Arrived/2 {
		t.Errorf("without admission control %d of %d critical jobs met their SLO: is this an overload?", k.Met, k.Arrived)
	}
	if with.Throughput < 0.93*without.Throughput {
		t.Errorf("throughput %v, without admission control %v", with.Throughput, without.Throughput)
	}
	if n := len(with.Tenants); n != 7 || with.Tenants[0].Tenant != "critical-0" || with.Tenants[2].Arrived == 0 {
		t.Errorf("%d tenants %+v, want 7 by name", n, with.Tenants)
	}
}

func TestAdmissionRepeats(t *testing.T) {
	c := overloaded(2)
	c.Gateways = 2
	c.Faults = []simulation.Fault{
		{At: 12 * time.Second, Kind: simulation.Die, Index: 0},
		{At: 14 * time.Second, Kind: simulation.Restart, Index: 0},
		{At: 20 * time.Second, Kind: simulation.Remove, Index: 1},
		{At: 25 * time.Second, Kind: simulation.Add, Replica: simulation.Replica{Engine: engine.Config{MaxSeqs: 8}}},
	}
	first := play(t, c)
	if again := play(t, c); !reflect.DeepEqual(first, again) {
		t.Errorf("a second run differs:\n%+v\n%+v", first, again)
	}
	if first.Completed == 0 || first.Shed == 0 || first.Cancelled+first.Shed+first.Completed+first.Failed != first.Arrived {
		t.Errorf("report = %+v, want jobs that were served and refused, and none lost", first)
	}
}

// Who gives up while waiting leaves at once, and what waits when a pool is empty goes on
// when a replica comes.
func TestAdmissionWaitsForReplicas(t *testing.T) {
	c := overloaded(3)
	c.Fleet = simulation.Uniform(1, engine.Config{MaxSeqs: 8})
	c.Workload = simulation.Criticality{Workload: simulation.ShareGPT{Rate: 2}, Classes: []simulation.Class{
		{Name: "patient", Share: 1, Priority: 0}, {Name: "impatient", Share: 1, Priority: 1, Patience: 1},
	}}
	c.Warmup = 0
	c.Admission = func() admission.Options { return admission.Options{WaitForEndpoints: time.Minute} }
	c.Faults = []simulation.Fault{
		{At: 10 * time.Second, Kind: simulation.Remove, Index: 0},
		{At: 20 * time.Second, Kind: simulation.Add, Replica: simulation.Replica{Engine: engine.Config{MaxSeqs: 64}}},
	}
	r := play(t, c)
	impatient, patient := r.Classes[0], r.Classes[1]
	if patient.Completed != patient.Arrived || patient.Wait.Max < 5 {
		t.Errorf("patient jobs: %+v, want all served, some after a wait for a replica", patient)
	}
	if impatient.Cancelled == 0 || impatient.Completed == 0 {
		t.Errorf("impatient jobs: %+v, want some given up while there was no replica", impatient)
	}
}

func TestBadAdmission(t *testing.T) {
	c := overloaded(1)
	c.Admission = func() admission.Options { return admission.Options{MaxRequests: -2} }
	if _, err := simulation.Run(context.Background(), c); err == nil {
		t.Error("Run with options of admission that are wrong gave no error")
	}
}
