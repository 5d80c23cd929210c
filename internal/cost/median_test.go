package cost

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		name   string
		draw   func(*rand.Rand) float64
		median float64
		off    float64
	}{
		{"one value", func(*rand.Rand) float64 { return 3 }, 3, .01},
		{"around zero", func(r *rand.Rand) float64 { return r.NormFloat64() }, 0, .4},
		{"skewed", func(r *rand.Rand) float64 { return .2 * math.Exp(r.NormFloat64()) }, .2, .12},
		{"a tenth far off", func(r *rand.Rand) float64 {
			if r.IntN(10) == 0 {
				return 100
			}
			return 1 + .1*r.NormFloat64()
		}, 1, .3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(20) {
				rnd := rand.New(rand.NewPCG(seed, 5))
				var m Median
				for range 60 {
					m.Add(tt.draw(rnd))
				}
				sum := 0.
				for range 100 {
					m.Add(tt.draw(rnd))
					sum += m.Value() / 100
				}
				if math.Abs(sum-tt.median) > tt.off {
					t.Errorf("seed %d: %v, want %v", seed, sum, tt.median)
				}
			}
		})
	}
}

func TestMedianFollows(t *testing.T) {
	var m Median
	for range 50 {
		m.Add(.001)
	}
	for range 50 {
		m.Add(.5)
	}
	if v := m.Value(); math.Abs(v-.5) > .05 {
		t.Errorf("%v, want .5", v)
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		m.Add(v)
	}
	if v := m.Value(); math.Abs(v-.5) > .05 {
		t.Errorf("after what is no number: %v", v)
	}
}
