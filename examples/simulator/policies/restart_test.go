package policies_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// restartAt is when gateways are replaced by new ones, and restartFor how much of the time after that counts.
const (
	restartAt  = 60 * time.Second
	restartFor = 5 * time.Second
)

// restarted is what the first seconds after a restart come to, as means of seeds.
type restarted struct{ hits, mean, p90, p99 float64 }

// restart runs a workload in which the first gateways, so many, are replaced by new ones.
func restart(t *testing.T, c simulation.Config, replaced, seeds int, warm bool, o sharing.Options) (r restarted) {
	c.Fleet = simulation.Uniform(10, engine.Config{})
	c.Duration, c.Warmup = restartAt+restartFor, restartAt
	c.Sharing = simulation.Sharing{Delay: 10 * time.Millisecond, Every: 50 * time.Millisecond, Snapshots: 5 * time.Second}
	c.Policy = simulation.Policy{Name: "default", Profile: policies.Default, Sharer: policies.SharerWith(o)}
	for i := range replaced {
		c.Faults = append(c.Faults, simulation.Fault{At: restartAt, Kind: simulation.ReplaceGateway, Index: i, Warm: warm})
	}
	for seed := range uint64(seeds) {
		c.Seed = 301 + seed
		report := mustRun(t, c)
		n := float64(seeds)
		r.hits += report.PrefixHits / n
		r.mean += 1000 * report.TTFT.Mean / n
		r.p90 += 1000 * report.TTFT.P90 / n
		r.p99 += 1000 * report.TTFT.P99 / n
	}
	return r
}

var noPeers = sharing.Options{Without: sharing.Kinds{Snapshots: true}}

// A gateway that begins with what the one before it knew finds prompts in caches as if that went on.
func TestWarmRestart(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("many simulated runs")
	}
	seeds := 4
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "case\tgateways\treplaced\tbegins with\thits\tTTFT mean ms\tp90\tp99")
	for _, tt := range []struct {
		name               string
		workload           simulation.Spec
		gateways, replaced int
	}{
		{"agents", simulation.Agentic{Rate: 3.7}, 1, 1},
		{"agents", simulation.Agentic{Rate: 3.7}, 4, 1},
		{"agents", simulation.Agentic{Rate: 3.7}, 4, 4},
		{"tenants", simulation.SharedPrefix{Rate: 124, Groups: 500, Skew: 1}, 1, 1},
		{"tenants", simulation.SharedPrefix{Rate: 124, Groups: 500, Skew: 1}, 4, 4},
		{"chat", simulation.ShareGPT{Rate: 421}, 1, 1},
		{"chat", simulation.ShareGPT{Rate: 421}, 4, 4},
	} {
		c := simulation.Config{Workload: tt.workload, Gateways: tt.gateways}
		row := func(how string, r restarted) restarted {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%.1f %%\t%.1f\t%.1f\t%.1f\n", tt.name, tt.gateways, tt.replaced, how, 100*r.hits, r.mean, r.p90, r.p99)
			return r
		}
		on := row("(no restart)", restart(t, c, 0, seeds, false, sharing.Options{}))
		cold := row("nothing", restart(t, c, tt.replaced, seeds, false, noPeers))
		peer := row("a peer's", restart(t, c, tt.replaced, seeds, false, sharing.Options{}))
		own := row("its own", restart(t, c, tt.replaced, seeds, true, sharing.Options{}))
		_, _, _, _ = on, cold, peer, own
	}
	w.Flush()
	t.Log("\n" + table.String())
	if path := os.Getenv("FIGURES"); path != "" {
		_ = os.WriteFile(path, []byte(table.String()), 0o644)
	}
}
