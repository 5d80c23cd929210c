package policies_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/stretchr/testify/require"
)

// slip is by how much a ratio may grow before it is a regression.
const slip = 1.05

// The default policy's p90s, divided by those of the policy that is its hardest rival
// or the reference in that case, may not slip by more than 5 % from what is written
// down. After a change that makes them better: go test -run Regression ./policies
// -update.
func TestPolicyRegression(t *testing.T) {
	if testing.Short() {
		t.Skip("many simulated runs")
	}
	if raceEnabled {
		t.Skip("the figures are the same with the race detector, and take ten times as long")
	}
	unequal := simulation.Fleet{}
	for _, speed := range []float64{.5, 1, 2} {
		c := engine.Llama31H100()
		c.Speed = speed
		unequal.Replicas = append(unequal.Replicas, simulation.Replica{Engine: engine.Config{Calibration: c}})
	}
	four := simulation.Uniform(4, engine.Config{})
	moe := simulation.Uniform(4, engine.Config{Calibration: engine.Qwen3MoEH100()})
	dense := simulation.Uniform(4, engine.Config{Calibration: engine.Qwen3H100x2()})
	long := simulation.ShareGPT{Rate: 12, Input: simulation.Length{Kind: simulation.LengthNormal, Mean: 5000, SD: 1000}}
	irregular := simulation.World{Jitter: 5 * time.Millisecond, Unstreamed: .5, TokenError: .3}
	tests := []struct {
		name   string
		rival  string
		config simulation.Config
	}{
		{"chat", "lmetric", simulation.Config{Fleet: four, Workload: simulation.ShareGPT{Rate: 170}}},
		{"chat", "classic-223", simulation.Config{Fleet: four, Workload: simulation.ShareGPT{Rate: 170}}},
		{"unequal servers", "least-req", simulation.Config{Fleet: unequal, Workload: simulation.ShareGPT{Rate: 130}}},
		{"tenants", "lmetric", simulation.Config{Fleet: four, Workload: simulation.SharedPrefix{Rate: 50, Groups: 200, Skew: 1}}},
		{"tenants, 3 gateways", "chwbl", simulation.Config{Fleet: four, Gateways: 3, Workload: simulation.SharedPrefix{Rate: 45, Groups: 200, Skew: 1}}},
		{"agents", "lmetric", simulation.Config{Fleet: four, Workload: simulation.Agentic{Rate: 3}}},
		{"adapters", "classic+lora", simulation.Config{Fleet: four, Workload: simulation.MultiLoRA{Rate: 100}}},
		{"adapters", "lmetric+adapters", simulation.Config{Fleet: four, Workload: simulation.MultiLoRA{Rate: 100}}},
		{"short and long prompts", "lmetric", simulation.Config{Fleet: four, Workload: simulation.Mix{Parts: []simulation.Spec{simulation.ShareGPT{Rate: 60}, long}}}},
		{"RAG", "round-robin", simulation.Config{Fleet: four, Workload: simulation.RAG{Rate: 30}}},
		{"RAG, mixture of experts", "lmetric", simulation.Config{Fleet: moe, Workload: simulation.RAG{Rate: 35, Chunks: 9, ChunkTokens: 190, Corpus: 210}}},
		{"prompts that just fit, mixture of experts", "lmetric", simulation.Config{Fleet: moe, Workload: simulation.B2B{
			Rate: 11, Customers: 24, SystemTokens: 2800, Questions: 11, QuestionTokens: 1100, Output: simulation.Length{Kind: simulation.LengthNormal, Mean: 690, SD: 200},
		}}},
		{"prompts that do not fit, near saturation", "sglang", simulation.Config{Fleet: dense, Workload: simulation.B2B{
			Rate: 69, Customers: 80, SystemTokens: 2400, Questions: 14, QuestionTokens: 1200, Skew: .3, Output: simulation.Length{Kind: simulation.LengthNormal, Mean: 120, SD: 36},
		}}},
		{"chat, late APIs, half unstreamed", "lmetric", simulation.Config{Fleet: four, Workload: simulation.ShareGPT{Rate: 170}, World: irregular}},
		{"tenants, a restart", "lmetric", simulation.Config{Fleet: four, Workload: simulation.SharedPrefix{Rate: 40, Groups: 200, Skew: 1},
			Faults: []simulation.Fault{{At: 20 * time.Second, Kind: simulation.Restart, Index: 0}, {At: 20 * time.Second, Kind: simulation.Restart, Index: 1}}}},
	}
	var got strings.Builder
	fmt.Fprintln(&got, "# default over its rival: TTFT p90, TPOT p90, E2E p90")
	var ratios [][3]float64
	for _, tt := range tests {
		c := tt.config
		c.Duration, c.Warmup, c.Seed = 40*time.Second, 10*time.Second, 11
		var p90 [2][3]float64
		for i, name := range []string{"default", tt.rival} {
			chosen, err := policies.ByName(name)
			require.NoError(t, err)
			c.Policy = chosen[0]
			r, err := simulation.Run(ctx, c)
			require.NoError(t, err)
			p90[i] = [3]float64{r.TTFT.P90, r.TPOT.P90, r.E2E.P90}
		}
		var q [3]float64
		for f := range q {
			q[f] = p90[0][f] / p90[1][f]
		}
		ratios = append(ratios, q)
		fmt.Fprintf(&got, "%s over %s: %.3f %.3f %.3f\n", tt.name, tt.rival, q[0], q[1], q[2])
	}
	file := filepath.Join("testdata", "ratios.txt")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(want)), "\n")[1:]
	if len(lines) != len(tests) {
		t.Fatalf("%s has %d cases, want %d", file, len(lines), len(tests))
	}
	for i, line := range lines {
		var then [3]float64
		if _, err := fmt.Sscan(line[strings.LastIndex(line, ": ")+2:], &then[0], &then[1], &then[2]); err != nil {
			t.Fatalf("%s: %q: %v", file, line, err)
		}
		for f, name := range []string{"TTFT", "TPOT", "E2E"} {
			now := math.Round(ratios[i][f]*1000) / 1000
			if now > then[f]*slip {
				t.Errorf("%s: default's %s p90 is %.3f times that of %s, and was %.3f times", tests[i].name, name, now, tests[i].rival, then[f])
			}
			if now < then[f]/slip {
				t.Logf("%s: default's %s p90 is %.3f times that of %s, and was %.3f times: write it down with -update", tests[i].name, name, now, tests[i].rival, then[f])
			}
		}
	}
}
