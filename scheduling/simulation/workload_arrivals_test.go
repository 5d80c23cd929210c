package simulation_test

import (
	"math"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/stretchr/testify/require"
)

func TestArrivalGaps(t *testing.T) {
	for _, cv := range []float64{-1, 0.25, 0.5, 1, 1.5, 3} {
		a := simulation.Arrivals{Rate: 100, CV: cv}
		require.NoError(t, a.Validate())
		const n = 400_000
		times := a.Times(1)
		last, _ := times.Next()
		sum, squares := 0.0, 0.0
		for range n {
			at, ok := times.Next()
			if !ok || at < last {
				t.Fatalf("cv %v: arrival at %v after %v, %v", cv, at, last, ok)
			}
			g := (at - last).Seconds()
			sum, squares, last = sum+g, squares+g*g, at
		}
		mean := sum / n
		got := math.Sqrt(max(0, squares/n-mean*mean)) / mean
		want := max(0, cv)
		if tol := 0.01 * max(0.3, want); math.Abs(mean-0.01) > 0.01*max(0.001, 5*want/math.Sqrt(n)) || math.Abs(got-want) > tol*max(1, want) {
			t.Errorf("cv %v: gaps have mean %v and cv %v", cv, mean, got)
		}
	}
}

// In equilibrium the number of arrivals before any time has the mean rate·time, the
// first gap included.
func TestArrivalsStartInEquilibrium(t *testing.T) {
	for _, cv := range []float64{-1, 0.5, 1, 3} {
		for _, window := range []time.Duration{30 * time.Millisecond, 100 * time.Millisecond} {
			const runs = 20_000
			count, squares := 0.0, 0.0
			for seed := range uint64(runs) {
				times := simulation.Arrivals{Rate: 10, CV: cv}.Times(seed)
				n := 0.0
				for at, ok := times.Next(); ok && at < window; at, ok = times.Next() {
					n++
				}
				count, squares = count+n, squares+n*n
			}
			mean, want := count/runs, 10*window.Seconds()
			sd := math.Sqrt((squares/runs - mean*mean) / runs)
			if math.Abs(mean-want) > 5*sd+1e-3 {
				t.Errorf("cv %v: %v arrivals in %v, want %v", cv, mean, window, want)
			}
		}
	}
}

func TestArrivalsVary(t *testing.T) {
	count := func(v *simulation.Vary, bounds ...time.Duration) []int {
		times := simulation.Arrivals{Rate: 1000, CV: -1, Vary: v}.Times(1)
		n := make([]int, len(bounds))
		for i := 0; i < len(bounds); {
			at, ok := times.Next()
			if !ok {
				break
			}
			for i < len(bounds) && at >= bounds[i] {
				i++
			}
			if i < len(bounds) {
				n[i]++
			}
		}
		return n
	}
	steps := &simulation.Vary{Kind: simulation.VarySteps, Steps: []simulation.Step{
		{At: 10, Factor: 3}, {At: 20, Factor: 0}, {At: 30, Factor: 0.5}, {At: 40, Factor: 0},
	}}
	got := count(steps, 10*time.Second, 20*time.Second, 30*time.Second, 40*time.Second, time.Hour)
	for i, want := range []int{10_000, 30_000, 0, 5000, 0} {
		if d := got[i] - want; d < -1 || d > 1 {
			t.Errorf("steps: %d arrivals in part %d, want %d", got[i], i, want)
		}
	}
	for _, amplitude := range []float64{0, 0.5, 1} {
		sine := &simulation.Vary{Kind: simulation.VarySine, Amplitude: amplitude, Period: 40}
		got = count(sine, 10*time.Second, 20*time.Second, 30*time.Second, 40*time.Second, 80*time.Second)
		swing := amplitude * 40 / (2 * math.Pi) * 1000
		for i, want := range []float64{10_000 + swing, 10_000 + swing, 10_000 - swing, 10_000 - swing, 40_000} {
			if math.Abs(float64(got[i])-want) > 2 {
				t.Errorf("sine %v: %d arrivals in part %d, want %v", amplitude, got[i], i, want)
			}
		}
	}
}

func TestArrivalsValidate(t *testing.T) {
	for name, a := range map[string]simulation.Arrivals{
		"rate":           {Rate: -1},
		"rate is NaN":    {Rate: math.NaN()},
		"cv is":          {CV: 1e-9},
		"cv is 101":      {CV: 101},
		"kind is \"\"":   {Vary: &simulation.Vary{}},
		"amplitude is 2": {Vary: &simulation.Vary{Kind: "sine", Amplitude: 2, Period: 1}},
		"period_s is 0":  {Vary: &simulation.Vary{Kind: "sine", Amplitude: 1}},
		"steps has 0":    {Vary: &simulation.Vary{Kind: "steps"}},
		"steps[1]: at_s": {Vary: &simulation.Vary{Kind: "steps", Steps: []simulation.Step{{At: 1}, {At: 1}}}},
		"factor is -1":   {Vary: &simulation.Vary{Kind: "steps", Steps: []simulation.Step{{Factor: -1}}}},
	} {
		wantError(t, a.Validate(), "simulation: arrivals: ", name)
	}
}

// Between two points the factor is a straight line: evenly spaced arrivals are as many as the area under it.
func TestArrivalsOnRamps(t *testing.T) {
	a := simulation.Arrivals{Rate: 100, CV: -1, Vary: &simulation.Vary{Kind: simulation.VaryRamps, Steps: []simulation.Step{
		{At: 10, Factor: 1}, {At: 20, Factor: 3}, {At: 30, Factor: 0}, {At: 40, Factor: 0}, {At: 50, Factor: 2},
	}}}
	require.NoError(t, a.Validate())
	times := a.Times(3)
	counts := map[int]int{} // by five seconds
	for at, ok := times.Next(); ok && at < time.Minute; at, ok = times.Next() {
		counts[int(at/(5*time.Second))]++
	}
	for i, area := range []float64{5, 5, 7.5, 12.5, 11.25, 3.75, 0, 0, 2.5, 7.5, 10, 10} {
		require.InDelta(t, 100*area, counts[i], 2, "from %d s", 5*i)
	}
	a.Vary.Steps[4].Factor = 0
	times, n := a.Times(3), 0
	for _, ok := times.Next(); ok; _, ok = times.Next() {
		n++
	}
	require.InDelta(t, 100*45, n, 2, "it ends")
}
