package anchors

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// The chart's nominal rates hide that from 500 on the fleet was overloaded. The
// sweep is the same fleet and workload, offered fractions of what it can serve.
var sweepLoads = []float64{.50, .80, .90, .95, 1.05}

// sweepTasks measures the capacity of the chart's fleet and plays the sweep.
func sweepTasks(o Options, a arms) []task {
	weight := float64(o.requests(600_000))
	return []task{{name: "sweep over load", weight: weight * chartCost, run: func(ctx context.Context, part func(float64)) (figures, error) {
		base := simulation.Config{
			Fleet:    simulation.Uniform(10, quiet(engine.Llama2H100())),
			Workload: lpg{1},
			Duration: 2 * time.Minute, Warmup: 30 * time.Second, Seed: 1,
		}
		if o.Short {
			base.Duration, base.Warmup = 20*time.Second, 5*time.Second
		}
		base.Policy = a.least
		capacity, err := simulation.Capacity(ctx, base)
		if err != nil {
			return nil, err
		}
		part(.4)
		f := figures{"sweep/capacity": capacity}
		for i, load := range sweepLoads {
			for _, arm := range []simulation.Policy{a.tree, a.random} {
				c := base
				c.Policy, c.Workload = arm, lpg{load * capacity}
				r, err := play(ctx, c, func(float64) {})
				if err != nil {
					return nil, err
				}
				key := fmt.Sprintf("sweep/%d/%s/", i, arm.Name)
				f[key+"ttft"], f[key+"tpot"], f[key+"e2e"] = r.TTFT.P90, r.TPOT.P90, r.E2E.P90
				f[key+"tokens"] = r.OutputRate * 60 / 1e6
				f[key+"steady"] = 0
				if r.Steady {
					f[key+"steady"] = 1
				}
			}
			part(.4 + .6*float64(i+1)/float64(len(sweepLoads)))
		}
		return f, nil
	}}}
}

// writeSweep prints the sweep. There is no published figure beside it.
func writeSweep(out io.Writer, f figures) {
	if _, ok := f["sweep/capacity"]; !ok {
		return
	}
	fmt.Fprintf(out, "\nThe chart's fleet and workload by load: capacity %.0f requests/s (the published chart saturates at 290 to 300)\n", f["sweep/capacity"])
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "load\tpolicy\toutput M/min\tTTFT p90 [s]\tTPOT p90 [s]\tend-to-end p90 [s]\tsteady\t")
	for i, load := range sweepLoads {
		for _, arm := range []string{treeName, randomName} {
			key := fmt.Sprintf("sweep/%d/%s/", i, arm)
			steady := "no"
			if f[key+"steady"] == 1 {
				steady = "yes"
			}
			fmt.Fprintf(w, "%.0f %%\t%s\t%s\t%s\t%s\t%s\t%s\t\n", 100*load, arm,
				number(f[key+"tokens"]), number(f[key+"ttft"]), number(f[key+"tpot"]), number(f[key+"e2e"]), steady)
		}
	}
	w.Flush()
}

// stickyTasks compares how many requests per second a fleet keeps up with under
// llm-d's sticky rule and under random choice, where prefills are what binds. The
// publication's workload is not known to us in full: this is the shape of the
// ladder above, with questions of one's own and a quarter of its output.
func stickyTasks(o Options, a arms) []task {
	var tasks []task
	for i, policy := range []simulation.Policy{a.sticky, a.random} {
		name := []string{"sticky", "random"}[i]
		tasks = append(tasks, task{name: "knee, " + name, weight: float64(o.requests(20_000)) * ladderCost, run: func(ctx context.Context, part func(float64)) (figures, error) {
			base := simulation.Config{
				Fleet:    simulation.Uniform(8, quiet(engine.Qwen3H100x2())),
				Workload: tenants{rate: 1, tenants: 150, system: 6000, question: 1200, reply: 250}, Policy: policy,
				Duration: 4 * time.Minute, Warmup: time.Minute, Seed: 1,
			}
			if o.Short {
				base.Duration, base.Warmup = 20*time.Second, 5*time.Second
			}
			rate, err := simulation.Capacity(ctx, base)
			if err != nil {
				return nil, err
			}
			return figures{"sticky/" + name: rate}, nil
		}})
	}
	return tasks
}
