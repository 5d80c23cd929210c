package suite_test

import (
	"context"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/examples/simulator/suite"
	"github.com/stretchr/testify/require"
)

// Work without first tokens has a table that does not speak of them.
func TestWhole(t *testing.T) {
	s, err := suite.Parse([]byte(`{
	  "seeds": [1], "duration": "2m", "capacity": "least-req",
	  "scenarios": [
	    {"name": "pictures", "workload": {"kind": "diffusion", "rate": 0.1}, "fleet": {"replicas": 2, "engine": "qwen-image-h100", "batch": 2, "speeds": [1, 2]}, "duration": "10m"},
	    {"name": "both", "workload": {"kind": "mix", "parts": [{"kind": "embeddings", "rate": 2}, {"kind": "sharegpt", "rate": 3}]}, "fleet": {"replicas": 2}}
	  ]}`))
	require.NoError(t, err)
	r, err := suite.Run(context.Background(), s, policiesOf(t, "round-robin,least-req"), suite.Options{})
	require.NoError(t, err)
	var out strings.Builder
	r.Write(&out)
	_, text, _ := strings.Cut(out.String(), "\npictures\n")
	pictures, both, ok := strings.Cut(text, "\nboth\n")
	require.True(t, ok, out.String())
	require.NotContains(t, pictures, "TTFT")
	require.Contains(t, pictures, "latency p50")
	table, rest, ok := strings.Cut(both, "without first tokens")
	require.True(t, ok, both)
	require.Contains(t, table, "TTFT")
	require.Contains(t, rest, "latency p50")
	for _, c := range r.Cases {
		for _, row := range c.Rows {
			require.NoError(t, row.Err)
			require.Positive(t, row.Whole.LatencyP99)
			require.Positive(t, row.Whole.Items)
			require.Equal(t, c.Scenario == "both", row.P90[0] > 0)
		}
	}
	for bad, want := range map[string]string{
		`{"replicas": 2, "batch": 2}`:                                "fleet.batch is 2, and the engine is none",
		`{"replicas": 2, "engine": "qwen-image-h100", "batch": 65}`:  "fleet.batch is 65",
		`{"replicas": 2, "engine": "qwen-image-h100", "prefill": 1}`: "no roles",
		`{"replicas": 2, "engine": "flux"}`:                          "wan2.2-ti2v-5b-a800",
	} {
		_, err := suite.Parse([]byte(`{"seeds": [1], "duration": "1s", "capacity": "p2c", "scenarios": [{"name": "x", "workload": {"kind": "diffusion"}, "fleet": ` + bad + `}]}`))
		require.ErrorContains(t, err, want)
	}
}
