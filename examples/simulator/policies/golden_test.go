package policies_test

import (
	"context"
	"flag"
	"fmt"
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

var update = flag.Bool("update", false, "write the golden file anew")

// What each policy does on a small fleet is written down: a change of the scheduler,
// the engine or a workload that changes what a baseline does is seen here, and
// needs a reason in the commit that writes the file anew (go test -run Golden
// ./policies -update).
func TestGolden(t *testing.T) {
	if testing.Short() {
		t.Skip("many simulated runs")
	}
	var got strings.Builder
	for _, w := range []struct {
		name string
		spec simulation.Spec
	}{
		{"sharegpt", simulation.ShareGPT{Rate: 80}},
		{"shared-prefix", simulation.SharedPrefix{Rate: 40, Groups: 100, Skew: 1}},
	} {
		fmt.Fprintf(&got, "%s: jobs, TTFT p90, TPOT p90, E2E p90 in seconds, prefix hits\n", w.name)
		for _, p := range policies.All() {
			r, err := simulation.Run(context.Background(), simulation.Config{
				Fleet: simulation.Uniform(4, engine.Config{}), Workload: w.spec, Policy: p, Duration: 20 * time.Second, Seed: 1,
			})
			require.NoError(t, err)
			fmt.Fprintf(&got, "  %-18s %5d %.5f %.5f %.4f %.4f\n", p.Name, r.Completed, r.TTFT.P90, r.TPOT.P90, r.E2E.P90, r.PrefixHits)
		}
	}
	golden := filepath.Join("testdata", "golden.txt")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	if got.String() != string(want) {
		t.Errorf("policies do something else than written down:\n%s\nwant:\n%s", got.String(), want)
	}
}
