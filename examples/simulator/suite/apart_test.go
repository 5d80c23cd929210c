package suite_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/suite"
)

const grid = `{
  "seeds": [3], "duration": "12s", "capacity": "least-req",
  "grid": {
    "workloads": [{"name": "long", "workload": {"kind": "sharegpt", "input": {"kind": "fixed", "tokens": 4000}, "output": {"kind": "fixed", "tokens": 60}}}],
    "fleets": [{"replicas": 4, "both": true}, {"replicas": 4, "prefill": 2, "decode": 2}],
    "links": [20, 400], "loads": [0.5], "goodput": {"ttft": "2s"}
  }
}`

func TestGrid(t *testing.T) {
	s, err := suite.Parse([]byte(grid))
	require.NoError(t, err)
	r, err := suite.Run(context.Background(), s, policiesOf(t, "default,together,apart"), suite.Options{})
	require.NoError(t, err)
	require.Len(t, r.Cases, 4)
	require.Equal(t, "long, all both, 20 Gb/s", r.Cases[0].Scenario)
	require.Equal(t, "2+2", r.Cases[3].Family)
	for _, c := range r.Cases {
		require.Equal(t, r.Cases[0].Rate, c.Rate, "capacity is that of the servers, whatever they do and lies between them")
		require.Zero(t, c.Rows[1].Apart)
		require.InDelta(t, 1, c.Rows[2].Apart, 1e-9)
		require.Positive(t, c.Rows[2].Transfer)
		require.Positive(t, c.Rows[0].More.E2EP99)
	}
	require.Greater(t, r.Cases[2].Rows[2].Transfer, 8*r.Cases[3].Rows[2].Transfer, "links of 20 and 400 Gb/s")
	require.Greater(t, r.Cases[3].Rows[1].Ratio[2], 1., "two of four servers are not enough")

	traffics := r.Traffics()
	require.Len(t, traffics, 2)
	require.Equal(t, []string{"all both", "2+2"}, traffics[1].Deployments)
	require.Len(t, traffics[1].Ratios[0], 3)
	var out strings.Builder
	r.Write(&out)
	for _, want := range []string{"handed over in", "CELLS: E2E p90", "FLEETS of as many servers", "REGRET, 2+2", "worst"} {
		require.Contains(t, out.String(), want)
	}
	require.NotContains(t, out.String(), "ABOVE THE BOUND", "none is known")

	var svg strings.Builder
	require.NoError(t, r.WriteProfile(&svg))
	require.Equal(t, 3, strings.Count(svg.String(), "<polyline"))
	require.Contains(t, svg.String(), ">together</text>")
}

func TestGridErrors(t *testing.T) {
	for _, tt := range []struct{ from, to, want string }{
		{`"links": [20, 400]`, `"links": []`, "grid has 1 workloads, 2 fleets, 0 links and 1 loads"},
		{`{"replicas": 4, "both": true}`, `{"replicas": 4}`, "want roles, and no link"},
		{`{"replicas": 4, "both": true}`, `{"replicas": 4, "both": true, "link": 3}`, "want roles, and no link"},
		{`"prefill": 2, "decode": 2`, `"prefill": 3, "decode": 2`, "fleet.prefill is 3 and fleet.decode 2"},
		{`"prefill": 2, "decode": 2`, `"prefill": 4`, "none would answer"},
		{`"prefill": 2, "decode": 2`, `"decode": 4`, "none would compute prompts for others"},
		{`"links": [20, 400]`, `"links": [-1]`, "fleet.link is -1"},
		{`"loads": [0.5]`, `"loads": [0]`, "loads has 0"},
		{`"sharegpt"`, `"nonsense"`, "nonsense"},
		{`"goodput"`, `"badput"`, "badput"},
	} {
		text := strings.Replace(grid, tt.from, tt.to, 1)
		require.NotEqual(t, grid, text)
		_, err := suite.Parse([]byte(text))
		require.ErrorContains(t, err, tt.want, tt.to)
	}
}

// The suites that are given can be read.
func TestDisaggregationSuite(t *testing.T) {
	s, err := suite.Load("disaggregation.json")
	require.NoError(t, err)
	require.Len(t, s.Scenarios, 60)
	require.Equal(t, "default", strings.Split(s.Policies, ",")[0], "ours is the first")
	policiesOf(t, s.Policies)
	policiesOf(t, s.Quick.Policies)
	seen := map[string]bool{}
	for _, c := range s.Scenarios {
		require.False(t, seen[fmt.Sprint(c.Name)])
		seen[c.Name] = true
	}
}
