package simulation_test

import (
	"context"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// Policies that read no metrics do not feel how late metrics are.
func TestScrapePeriodDoesNotMatterToWhoReadsNothing(t *testing.T) {
	for _, p := range []simulation.Policy{{Name: "random", Profile: plugins.RandomProfile}, {Name: "least", Profile: plugins.LeastRequests}} {
		var e2e []simulation.Distribution
		for _, period := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, -1} {
			c := simulation.Config{Fleet: simulation.Uniform(4, engine.Config{}), Workload: poisson(2000, 100), Policy: p, Duration: time.Minute}
			c.Scrape.Period = period
			e2e = append(e2e, mustRun(t, c).E2E)
		}
		if e2e[0] != e2e[1] || e2e[0] != e2e[2] {
			t.Errorf("%s: end-to-end times change with the scrape period: %+v", p.Name, e2e)
		}
	}
}

// A machine k times as slow, fed k times as slowly, has latencies k times as long.
func TestTimeScales(t *testing.T) {
	run := func(k float64) *simulation.Report {
		w := poisson(500, 50/k)
		for i := range w.jobs {
			w.jobs[i].Arrival = w.jobs[i].Arrival / 1000 * 1000
		}
		cal := engine.Llama31H100()
		cal.Speed = 1 / k
		return mustRun(t, simulation.Config{
			Fleet: simulation.Uniform(2, engine.Config{Calibration: cal}), Workload: w, Policy: roundRobin(),
			Duration: time.Hour, APIIn: -1, APIOut: -1,
		})
	}
	one, four := run(1), run(4)
	for name, d := range map[string][2]float64{"TTFT": {one.TTFT.P50, four.TTFT.P50}, "TPOT": {one.TPOT.P90, four.TPOT.P90}, "E2E": {one.E2E.Mean, four.E2E.Mean}} {
		if r := d[1] / d[0]; r < 3.99 || r > 4.01 {
			t.Errorf("%s: %v and, four times as slow, %v", name, d[0], d[1])
		}
	}
}

// More KV cache never lowers the share of prefixes found with one replica: LRU is
// a stack algorithm.
func TestMoreKVNeverLowersHits(t *testing.T) {
	var w script
	rnd := types.NewRand(9)
	for i := range 600 {
		group := uint64(rnd.IntN(30)) + 1
		w.jobs = append(w.jobs, simulation.Job{Arrival: time.Duration(i) * 200 * time.Millisecond, Output: 1,
			Content: []simulation.Segment{{ID: group, Tokens: 320 + 16*int(group)}, {ID: uint64(1000 + i), Tokens: 40}}})
	}
	last := -1.0
	for _, blocks := range []int{100, 200, 300, 500, 1000} {
		r := mustRun(t, simulation.Config{Fleet: simulation.Uniform(1, engine.Config{Blocks: blocks}), Workload: w, Policy: roundRobin(), Duration: time.Hour})
		if r.PrefixHits < last {
			t.Errorf("with %d blocks the hits are %v, with fewer %v", blocks, r.PrefixHits, last)
		}
		last = r.PrefixHits
	}
	if last < 0.5 {
		t.Errorf("with room for everything the hits are %v", last)
	}
}

// The clairvoyant sees what is really there; nobody else can reach it.
func TestTruth(t *testing.T) {
	asked := 0
	profile := func(tr simulation.Truth) scheduling.Profile {
		return scheduling.Profile{Picker: scheduling.PickerFunc(func(_ context.Context, req *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
			asked++
			// At first; in the step that computes the first, whose blocks can be shared from its beginning
			// on; and when both are done.
			want := []int{0, 1599, 1599}[asked-1]
			if got := [2]int{tr.Cached(req, eps[0]), tr.Cached(req, eps[1])}; got != [2]int{want, 0} {
				t.Errorf("request %d: %d tokens are cached, want %d and 0", asked, got, want)
			}
			return 0, nil
		})}
	}
	r := mustRun(t, simulation.Config{
		Fleet:    simulation.Uniform(2, engine.Config{}),
		Workload: script{jobs: []simulation.Job{job(0, 7, 1600, 5), job(5*time.Millisecond, 7, 1600, 5), job(time.Second, 7, 1600, 5)}},
		Policy:   simulation.Policy{Name: "truth", Clairvoyant: profile}, Duration: 2 * time.Second,
	})
	if asked != 3 || r.Completed != 3 {
		t.Errorf("asked %d times, %d completed", asked, r.Completed)
	}
}
