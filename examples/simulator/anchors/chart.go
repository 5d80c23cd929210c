package anchors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sort"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// The published chart was made by a client that sends 60 s worth of requests at a
// nominal rate, waits for all of them, and divides by the time that this took. The
// client was slower than its nominal rate: what it sent follows from the tokens
// and the tails that it reports.
var (
	chartRates = []int{100, 200, 300, 400, 500, 600, 700, 800, 900, 1000}
	// effective is the rate at which the client must have sent, by nominal rate;
	// beyond 600 it sends no faster.
	effective = map[int]float64{100: 99, 200: 190, 300: 255, 400: 285, 500: 299, 600: 312}
)

const (
	clientCeiling = 312.0
	clientSeconds = 60
)

func effectiveRate(nominal int) float64 {
	if r, ok := effective[nominal]; ok {
		return r
	}
	return clientCeiling
}

func nominal(what string, qps int) string { return fmt.Sprintf("%s at %d nominal QPS", what, qps) }

func chartKey(policy string, qps int, figure string) string {
	return fmt.Sprintf("chart/%s/%d/%s", policy, qps, figure)
}

// lpg is the workload of the chart: independent requests with the lengths of
// ShareGPT as the published raw data have them.
type lpg struct{ Rate float64 }

// Validate implements simulation.Spec.
func (w lpg) Validate() error {
	if !(w.Rate > 0) {
		return fmt.Errorf("rate is %v, want more than 0", w.Rate)
	}
	return nil
}

// MeanRate implements simulation.RatedSpec.
func (w lpg) MeanRate() float64 { return w.Rate }

// AtRate implements simulation.RatedSpec.
func (lpg) AtRate(rate float64) (simulation.Spec, error) { return lpg{rate}, nil }

// Start implements simulation.Spec.
func (w lpg) Start(seed uint64) simulation.Source {
	return &lpgSource{rate: w.Rate, rng: rand.New(rand.NewPCG(seed, 0x6c7067))}
}

type lpgSource struct {
	rate float64
	rng  *rand.Rand
	at   float64 // seconds
	id   uint64
}

// Next implements simulation.Source.
func (s *lpgSource) Next() (simulation.Job, bool) {
	s.at += s.rng.ExpFloat64() / s.rate
	s.id++
	return simulation.Job{
		Arrival:  time.Duration(s.at * float64(time.Second)),
		Content:  []simulation.Segment{{ID: s.id, Tokens: quantile(s.rng.Float64(), promptLengths)}},
		Output:   quantile(s.rng.Float64(), outputLengths),
		Priority: types.PriorityCritical,
	}, true
}

// Done implements simulation.Source.
func (s *lpgSource) Done(*simulation.Job, time.Duration, bool) (simulation.Job, bool) {
	return simulation.Job{}, false
}

// The quantiles of the published raw data, to be joined by straight lines.
var (
	lengthQuantiles = []float64{0, .10, .25, .50, .75, .90, .99, 1}
	promptLengths   = []float64{4, 13, 28, 109, 385, 714, 987, 1024}
	outputLengths   = []float64{3, 14, 46, 144, 300, 564, 948, 1024}
)

// quantile returns the u-quantile of a distribution given at lengthQuantiles.
func quantile(u float64, values []float64) int {
	i := max(sort.SearchFloat64s(lengthQuantiles, u), 1)
	low, high := lengthQuantiles[i-1], lengthQuantiles[i]
	return int(values[i-1] + (u-low)/(high-low)*(values[i]-values[i-1]) + .5)
}

// chartTasks plays the chart.
func chartTasks(o Options, a arms) []task {
	var tasks []task
	arm := func(policy simulation.Policy, name string, rates []int, seeds int) {
		for _, qps := range rates {
			for seed := range seeds {
				c := simulation.Config{
					Fleet:    simulation.Uniform(10, quiet(engine.Llama2H100())),
					Workload: lpg{effectiveRate(qps)},
					Policy:   policy,
					Jobs:     o.requests(clientSeconds * qps),
					Seed:     uint64(seed) + 1,
				}
				tasks = append(tasks, task{
					name: fmt.Sprintf("chart, %s, %d QPS, seed %d", name, qps, seed+1), weight: float64(c.Jobs) * chartCost,
					run: func(ctx context.Context, part func(float64)) (figures, error) {
						r, err := play(ctx, c, part)
						if err != nil {
							return nil, err
						}
						return figures{
							chartKey(name, qps, "tokens"): r.OutputRate * 60 / 1e6,
							chartKey(name, qps, "e2e"):    r.E2E.P90,
							chartKey(name, qps, "ntpot"):  r.NTPOT.P90,
						}, nil
					},
				})
			}
		}
	}
	arm(a.tree, "tree", chartRates, o.seeds(3))
	arm(a.random, "random", []int{200, 400, 500, 600, 800, 1000}, 1)
	return tasks
}

// sampleTasks plays the run of which the raw data are published: 60,000 prompts.
func sampleTasks(o Options, a arms) []task {
	var tasks []task
	for seed := range o.seeds(2) {
		c := simulation.Config{
			Fleet:    simulation.Uniform(6, quiet(engine.Llama2H100())),
			Workload: lpg{effectiveRate(200)},
			Policy:   a.tree,
			Jobs:     o.requests(60_000),
			Seed:     uint64(seed) + 1,
		}
		tasks = append(tasks, task{
			name: fmt.Sprintf("sample.json, seed %d", seed+1), weight: float64(c.Jobs) * chartCost,
			run: func(ctx context.Context, part func(float64)) (figures, error) {
				r, err := play(ctx, c, part)
				if err != nil {
					return nil, err
				}
				return figures{"sample/tokens": r.OutputRate / 6, "sample/e2e50": r.E2E.P50, "sample/e2e90": r.E2E.P90}, nil
			},
		})
	}
	return tasks
}
