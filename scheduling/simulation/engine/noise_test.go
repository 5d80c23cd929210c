package engine_test

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/stretchr/testify/require"
)

// durations are those of n steps that take 10 ms without noise.
func durations(t testing.TB, n int, noise engine.Noise) []time.Duration {
	t.Helper()
	e := newEngine(t, engine.Config{Calibration: plain(.010, 0), Noise: noise})
	submit(t, e, engine.Request{ID: 1, Prompt: 1, Output: n})
	ds := make([]time.Duration, n)
	for i := range ds {
		step, _ := e.Step(0)
		ds[i] = step.Duration
	}
	return ds
}

// TestSpread: the factor is lognormal with mean 1 and the standard deviation that
// was asked for.
func TestSpread(t *testing.T) {
	const n = 200_000
	for _, spread := range []float64{.05, .25, .5} {
		ds := durations(t, n, engine.Noise{Spread: spread, Seed: 3})
		sum, squares := 0.0, 0.0
		for _, d := range ds {
			if d <= 0 {
				t.Fatalf("spread %v: a step of %v", spread, d)
			}
			f := d.Seconds() / .010
			sum += f
			squares += f * f
		}
		mean := sum / n
		if math.Abs(mean-1) > 5*spread/math.Sqrt(n) {
			t.Errorf("spread %v: mean factor %v, want 1", spread, mean)
		}
		if got := math.Sqrt(squares/n - mean*mean); math.Abs(got/spread-1) > .03 {
			t.Errorf("spread %v: standard deviation %v", spread, got)
		}
		// Quantiles of the normal distribution, of the logarithm.
		slices.Sort(ds)
		sigma := math.Sqrt(math.Log(1 + spread*spread))
		for _, q := range []struct{ part, z float64 }{{.02275, -2}, {.15866, -1}, {.5, 0}, {.84134, 1}, {.97725, 2}} {
			got, want := ds[int(q.part*n)].Seconds()/.010, math.Exp(sigma*q.z-sigma*sigma/2)
			if math.Abs(got/want-1) > .03*spread {
				t.Errorf("spread %v: %v of the factors are below %v, want below %v", spread, q.part, got, want)
			}
		}
	}
}

// TestLargestSpread: steps take some time still.
func TestLargestSpread(t *testing.T) {
	ds := durations(t, 100_000, engine.Noise{Spread: 2})
	if least := slices.Min(ds); least <= 0 {
		t.Errorf("a step of %v", least)
	}
}

// TestStalls: one step in StallEvery, with no memory of the last one.
func TestStalls(t *testing.T) {
	const n, every, stall = 200_000, 50, 200 * time.Millisecond
	last, count, early := -1, 0, 0
	for i, d := range durations(t, n, engine.Noise{StallEvery: every, Stall: stall, Seed: 4}) {
		switch d {
		case 10 * time.Millisecond:
		case 10*time.Millisecond + stall:
			count++
			if i-last <= every/5 {
				early++
			}
			last = i
		default:
			t.Fatalf("a step of %v", d)
		}
	}
	if want := n / every; math.Abs(float64(count-want)) > 4*math.Sqrt(float64(want)) {
		t.Errorf("%d of %d steps stall, want about %d", count, n, want)
	}
	want := 1 - math.Pow(1-1./every, every/5)
	if got := float64(early) / float64(count); math.Abs(got-want) > .03 {
		t.Errorf("%.3f of the stalls follow the last within %d steps, want %.3f", got, every/5, want)
	}
	for _, d := range durations(t, 100, engine.Noise{StallEvery: 1, Stall: stall}) {
		if d != 10*time.Millisecond+stall {
			t.Fatalf("a step of %v where each stalls", d)
		}
	}
}

// TestNoiseHasTwoParts: stalls leave the factors as they are, and a stall is as
// long on any machine.
func TestNoiseHasTwoParts(t *testing.T) {
	const n, stall = 5000, 300 * time.Millisecond
	one := durations(t, n, engine.Noise{Spread: .25, Seed: 8})
	both := durations(t, n, engine.Noise{Spread: .25, StallEvery: 20, Stall: stall, Seed: 8})
	stalls := durations(t, n, engine.Noise{StallEvery: 20, Stall: stall, Seed: 8})
	for i := range n {
		if both[i] != one[i]+stalls[i]-10*time.Millisecond {
			t.Fatalf("step %d takes %v with a factor, %v with stalls, %v with both", i, one[i], stalls[i], both[i])
		}
	}
}

// TestNoNoiseChangesNothing: a seed alone is no noise.
func TestNoNoiseChangesNothing(t *testing.T) {
	noisy := tight()
	noisy.Noise.Seed = 7
	if one, two := traffic(t, 1, tight()), traffic(t, 1, noisy); !reflect.DeepEqual(one, two) {
		t.Error("a seed without noise changes the run")
	}
}

// TestNoiseIsRepeatable: a run is that of its seed.
func TestNoiseIsRepeatable(t *testing.T) {
	run := func(seed uint64) []timed {
		cfg := tight()
		cfg.Noise = engine.Noise{Spread: .5, StallEvery: 30, Stall: time.Second, Seed: seed}
		return traffic(t, 1, cfg)
	}
	if !reflect.DeepEqual(run(1), run(1)) {
		t.Error("two runs with one seed differ")
	}
	require.False(t, reflect.DeepEqual(run(1), run(2)), "two seeds give the same run")
}

// TestNoiseChangesDurationsOnly: fed step by step, a noisy engine does the same in
// each step.
func TestNoiseChangesDurationsOnly(t *testing.T) {
	cfg := tight()
	quiet := newEngine(t, cfg)
	cfg.Noise = engine.Noise{Spread: .5, StallEvery: 10, Stall: time.Second}
	noisy := newEngine(t, cfg)
	arrivals := mixed(5, 300, 30)
	for i, differ := 0, 0; ; i++ {
		if i < len(arrivals) {
			arrivals[i].ID = uint64(i)
			submit(t, quiet, arrivals[i].Request)
			submit(t, noisy, arrivals[i].Request)
		}
		a, ok := quiet.Step(0)
		b, _ := noisy.Step(0)
		if !slices.Equal(a.Events, b.Events) || a.Sequences != b.Sequences || a.Tokens != b.Tokens {
			t.Fatalf("step %d: quiet %+v, noisy %+v", i, a, b)
		}
		if a.Duration != b.Duration {
			differ++
		}
		if !ok && i >= len(arrivals) {
			if differ < i/2 {
				t.Errorf("%d of %d steps take another time", differ, i)
			}
			return
		}
	}
}

func TestNoiseErrors(t *testing.T) {
	for _, tt := range []struct {
		noise engine.Noise
		want  string
	}{
		{engine.Noise{Spread: -.1}, "Noise.Spread is -0.1"},
		{engine.Noise{Spread: 2.1}, "Noise.Spread is 2.1"},
		{engine.Noise{Spread: math.NaN()}, "Noise.Spread is NaN"},
		{engine.Noise{Spread: math.Inf(1)}, "Noise.Spread is +Inf"},
		{engine.Noise{StallEvery: -1}, "Noise.StallEvery is -1"},
		{engine.Noise{StallEvery: 10, Stall: -time.Second}, "Noise.Stall is -1s"},
		{engine.Noise{StallEvery: 10, Stall: time.Hour}, "Noise.Stall is 1h"},
		{engine.Noise{StallEvery: 10}, "Noise.Stall 0s"},
		{engine.Noise{Stall: time.Second}, "Noise.StallEvery is 0"},
	} {
		if _, err := engine.New(engine.Config{Noise: tt.noise}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New with %+v = %v, want an error with %q", tt.noise, err, tt.want)
		}
	}
}

func TestNoiseAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	e := newEngine(t, engine.Config{Noise: engine.Noise{Spread: .25, StallEvery: 10, Stall: time.Second}})
	submit(t, e, engine.Request{ID: 1, Prompt: 100, Output: 10_000})
	for range 50 {
		e.Step(0)
	}
	if got := testing.AllocsPerRun(100, func() { e.Step(0) }); got > 0.5 {
		t.Errorf("%v allocations in a step with noise, want 0", got)
	}
}
