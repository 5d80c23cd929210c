package suite

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Capacity is measured at a constant rate, whatever varies inside the workload.
func TestWithoutBursts(t *testing.T) {
	for workload, want := range map[string]string{
		`{"kind": "bursty", "rate": 3, "cv": 4}`: `{"kind":"sharegpt"}`,
		`{"kind": "mix", "parts": [{"kind": "sharegpt", "rate": 2, "cv": 2},
			{"kind": "shared-prefix", "rate": 1, "vary": {"kind": "sine", "amplitude": 1, "period_s": 9}}]}`: `{"kind":"mix","parts":[{"kind":"sharegpt","rate":2},{"kind":"shared-prefix","rate":1}]}`,
		`{"kind": "criticality", "workload": {"kind": "sharegpt", "cv": 2}}`: `{"kind":"criticality","workload":{"kind":"sharegpt"}}`,
	} {
		s := Scenario{Workload: []byte(workload)}
		_, smooth, err := s.withoutBursts()
		require.NoError(t, err)
		require.Equal(t, want, smooth)
	}
}

// Replicas that are added are those that the fleet would have next.
func TestAdd(t *testing.T) {
	s := Scenario{Fleet: Fleet{Replicas: 3, Speeds: []float64{1, 2, 3, 4}}, Faults: []Fault{
		{At: Duration(time.Second), Kind: "add", Replicas: []int{3, 4}},
		{At: Duration(time.Minute), Kind: "remove", Replicas: []int{4}},
	}, Workload: []byte(`{"kind": "sharegpt"}`)}
	require.NoError(t, s.check())
	all := s.faults()
	require.Len(t, all, 3)
	for i, speed := range []float64{4, 1} {
		require.Equal(t, simulation.Add, all[i].Kind)
		require.Equal(t, time.Second, all[i].At)
		require.Equal(t, speed, all[i].Replica.Engine.Calibration.Speed)
	}
	require.Equal(t, simulation.Fault{At: time.Minute, Kind: simulation.Remove, Index: 4}, all[2])
}
