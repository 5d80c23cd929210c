package policies_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// CostOptions.FavorTTFT moves along a frontier: first tokens come sooner, and the others more slowly. Of
// runs that differ in nothing else, 2 % says nothing.
func TestFavorTTFT(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("simulated runs")
	}
	normal := func(mean, sd float64) simulation.Length {
		return simulation.Length{Kind: simulation.LengthNormal, Mean: mean, SD: sd}
	}
	for _, tt := range []struct {
		name     string
		servers  int
		engine   engine.Calibration
		workload simulation.Spec
	}{
		{"customers at half load", 4, engine.Llama31H100(), simulation.B2B{
			Rate: 8, Customers: 20, SystemTokens: 4000, Questions: 4, QuestionTokens: 200, Output: normal(760, 228),
		}},
		{"short and long prompts", 9, engine.Qwen3H100x2(), simulation.Mix{Parts: []simulation.Spec{
			simulation.ShareGPT{Rate: 123}, simulation.ShareGPT{Rate: 11, Input: normal(5700, 1140), Output: normal(220, 110)},
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ttft, tpot []float64
			for _, favor := range []float64{-1, 0, 1} {
				report, err := simulation.Run(ctx, simulation.Config{
					Fleet: simulation.Uniform(tt.servers, engine.Config{Calibration: tt.engine}), Workload: tt.workload,
					Policy: simulation.Policy{Name: "favor", Profile: func() scheduling.Profile {
						p, err := plugins.DefaultWith(plugins.CostOptions{FavorTTFT: favor})
						require.NoError(t, err)
						return p
					}},
					Duration: 60 * time.Second, Warmup: 15 * time.Second, Seed: 5,
				})
				require.NoError(t, err)
				ttft, tpot = append(ttft, report.TTFT.P99), append(tpot, report.TPOT.P90)
			}
			for i := 1; i < len(ttft); i++ {
				require.LessOrEqual(t, ttft[i], 1.02*ttft[i-1], "TTFT p99: %v", ttft)
				require.GreaterOrEqual(t, tpot[i], .98*tpot[i-1], "TPOT p90: %v", tpot)
			}
			require.Less(t, ttft[2], .95*ttft[0])
			require.Greater(t, tpot[2], 1.05*tpot[0])
		})
	}
}
