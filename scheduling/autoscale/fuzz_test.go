package autoscale_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/autoscale"
)

// What was saved by whoever is refused or can be gone on with.
func FuzzHistories(f *testing.F) {
	f.Add([]byte(`{"pools":[{"pool":{"Namespace":"default","Name":"llama"},"history":{"at":"2001-09-09T01:46:40Z","last":4,"recent":[{"at":"2001-09-09T01:46:40Z","replicas":4}],"slow":1.5,"bias":0.2}}]}`))
	f.Add([]byte(`{"pools":[{"history":{"last":-4,"startUp":1e300,"asked":[{"replicas":-1}]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := autoscale.ReadHistories(data)
		if err != nil {
			return
		}
		for _, h := range all {
			for i := range 3 {
				r := autoscale.Desired(load(start.Add(time.Duration(i)*time.Second), 4, 2), autoscale.Policy{}, h)
				require.GreaterOrEqual(t, r.Replicas, 1)
				require.LessOrEqual(t, r.Replicas, autoscale.DefaultMax)
			}
		}
	})
}

// A policy that is read is written and read as the same.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"min":2,"max":8,"toZero":true,"idleAfter":"5m","ttft":"1s","tpot":"50ms","startUp":"90s","utilization":0.6,"window":"3m"}`))
	f.Add([]byte(`{"max":0.5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := autoscale.LoadPolicy(data)
		if err != nil {
			return
		}
		out, err := json.Marshal(p)
		require.NoError(t, err)
		again, err := autoscale.LoadPolicy(out)
		require.NoError(t, err, "%s", out)
		require.Equal(t, p, again)
	})
}

func TestLoadPolicy(t *testing.T) {
	p, err := autoscale.LoadPolicy([]byte(`{"min": 2, "max": 8, "startUp": "90s", "utilization": 0.6}`))
	require.NoError(t, err)
	require.Equal(t, autoscale.Policy{Min: 2, Max: 8, StartUp: 90 * time.Second, Tuning: autoscale.Tuning{Utilization: .6}}, p)
	for in, want := range map[string]string{
		`{"max": 8, "min": 9}`:   "line 1, column 2: max is 8, want 9 to 100000",
		`{"utilisation": 1}`:     "utilization",
		`{"utilization": 1.5}`:   "utilization is 1.5, want 0.05 to 1",
		`{"startUp": 90}`:        "startUp is 90",
		`{"window": "-3m"}`:      "window",
		`{"max": 8} {"max": 9}`:  "",
		`{"idleAfter": "100ms"}`: "idleAfter is 100ms",
	} {
		_, err := autoscale.LoadPolicy([]byte(in))
		require.ErrorContains(t, err, want, in)
	}
}
