package suite_test

import (
	"context"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/suite"
)

const cross = `{
  "seeds": [3, 4], "duration": "12s", "capacity": "least-req",
  "cross": {
    "workloads": [
      {"name": "agents", "workload": {"kind": "agentic", "rate": 2}},
      {"name": "chat", "workload": {"kind": "sharegpt"}, "loads": [0.4], "duration": "8s"}],
    "conditions": [
      {"name": "one"},
      {"name": "all lost", "gateways": 4, "sharing": {"lost": 1}},
      {"name": "odd", "gateways": 4, "sharing": {"every": "200ms", "delay": "20ms", "jitter": "20ms", "lost": 0.1, "partitions": [{"at": "3s", "until": "5s", "groups": [[0, 1], [2]]}]},
       "shares": [3, 1, 1, 1], "sticky": true, "fleet": {"replicas": 10}, "faults": [{"at": "4s", "kind": "die-gateway", "gateways": [1, 2]}, {"at": "6s", "kind": "restart-gateway", "gateways": [2]}]}]
  },
  "require": [{"policy": "default+sharing", "figure": "ttft", "case": "agents, all lost", "against": 0.5}]
}`

func TestCross(t *testing.T) {
	s, err := suite.Parse([]byte(cross))
	require.NoError(t, err)
	file := t.TempDir() + "/records"
	run := func() *suite.Result {
		records, err := suite.OpenRecords(file, nil)
		require.NoError(t, err)
		defer records.Close()
		r, err := suite.Run(context.Background(), s, policiesOf(t, "default,default+sharing"), suite.Options{Records: records})
		require.NoError(t, err)
		return r
	}
	r := run()
	require.Len(t, r.Cases, 6)
	for i, name := range []string{"agents, one", "agents, all lost", "agents, odd", "chat, one", "chat, all lost", "chat, odd"} {
		c := &r.Cases[i]
		require.Equal(t, name, c.Scenario)
		ratios := r.Against(c, func(row *suite.Row) float64 { return row.TTFTMean })
		if i%3 == 0 {
			require.Empty(t, c.Against)
			require.True(t, math.IsNaN(ratios[0]))
		} else {
			require.Equal(t, r.Cases[i-i%3].Scenario, c.Against)
			require.InDelta(t, c.Rows[0].TTFTMean/r.Cases[i-i%3].Rows[0].TTFTMean, ratios[0], 1e-9)
		}
		plain, shared := c.Rows[0], c.Rows[1]
		shared.Policy = plain.Policy
		for k := range shared.Runs {
			shared.Runs[k].Policy = plain.Policy
		}
		shared.Ratio, shared.Low, shared.High = plain.Ratio, plain.Low, plain.High
		if i%3 < 2 {
			require.Equal(t, plain, shared, "who is alone, or hears nothing, is as without sharing")
		} else {
			require.NotEqual(t, plain.P90, shared.P90)
			require.Positive(t, plain.Incomplete, "a gateway died")
		}
	}
	require.Equal(t, r.Cases[3].Rate, r.Cases[5].Rate, "the same jobs")
	require.Len(t, r.Broken(), 1)
	require.Contains(t, r.Broken()[0], "default+sharing: ttft p90 of agents, all lost is")
	var out strings.Builder
	r.Write(&out)
	for _, want := range []string{"AGAINST agents, one: seconds", "AGAINST chat, one", "REGRET, chat"} {
		require.Contains(t, out.String(), want)
	}

	before, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, r.Cases[2].Rows[0].P90, run().Cases[2].Rows[0].P90)
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(before), string(after), "all of them were recorded")
}

func TestCrossErrors(t *testing.T) {
	for _, tt := range []struct{ from, to, want string }{
		{`{"name": "one"},`, `{"name": "one", "loads": [1]},`, "cross.conditions[0] has a workload"},
		{`{"name": "all lost"`, `{"name": "one"`, `name is "agents, one"`},
		{`"lost": 1}`, `"lost": 2}`, "lost 2, want"},
		{`"every": "200ms"`, `"every": "never"`, "sharing has every"},
		{`[[0, 1], [2]]`, `[[0, 1], [4]]`, "partitions[0].groups has gateway 4, want 0 to 3"},
		{`"until": "5s"`, `"until": "2s"`, "partitions[0] is from 3s until 2s"},
		{`[3, 1, 1, 1]`, `[3, 1, 1]`, "shares is [3 1 1], want one"},
		{`"gateways": [1, 2]}`, `"gateways": [1, 7]}`, "gateways has 7, want 0 to 3"},
		{`"gateways": [1, 2]}`, `"replicas": [1, 2]}`, "want gateways for die-gateway"},
		{`"kind": "die-gateway"`, `"kind": "die"`, "want gateways for die-gateway"},
		{`"case": "agents, all lost"`, `"case": "agents, one"`, "require[0]: policy"},
		{`"against": 0.5`, `"worst": 0.5`, "require[0]: policy"},
	} {
		require.Contains(t, cross, tt.from)
		_, err := suite.Parse([]byte(strings.Replace(cross, tt.from, tt.to, 1)))
		require.ErrorContains(t, err, tt.want)
	}
	_, err := suite.Parse([]byte(`{"seeds": [1], "duration": "1s", "capacity": "x", "cross": {"workloads": [], "conditions": []}}`))
	require.ErrorContains(t, err, "cross has 0 workloads and 0 conditions")
	_, err = suite.Parse([]byte(`{"seeds": [1], "duration": "1s", "capacity": "x", "scenarios": [{"name": "a", "workload": {"kind": "sharegpt"}, "against": "b"}]}`))
	require.ErrorContains(t, err, `scenario "a": against is "b"`)
}
