package simulation_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, p := range parts {
		require.Contains(t, err.Error(), p)
	}
	if n := strings.Count(err.Error(), "simulation: "); n != 1 {
		t.Errorf("error %q names the package %d times", err, n)
	}
}

func TestLengths(t *testing.T) {
	phi := func(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }
	// The mean of a normal that is kept above 0 lies higher.
	clipped := func(m, s float64) float64 { return m*phi(m/s) + s*math.Exp(-m*m/s/s/2)/math.Sqrt(2*math.Pi) }
	for _, c := range []struct {
		name          string
		l             simulation.Length
		mean, sd      float64 // 0: not checked
		p50, p90, p99 float64
	}{
		// The published statistics of the dataset: mean 251.5, sd 281.6 and, for
		// outputs, mean 225 to 227, sd 234.5.
		{"sharegpt inputs", simulation.Length{Kind: simulation.LengthShareGPTInputs}, 251.5, 279, 109, 714, 987},
		{"sharegpt outputs", simulation.Length{Kind: simulation.LengthShareGPTOutputs}, 227.0, 234, 144, 564, 948},
		{"normal", simulation.Length{Kind: simulation.LengthNormal, Mean: 1000, SD: 50}, 1000, 50, 1000, 1064.1, 1116.3},
		{"clipped normal", simulation.Length{Kind: simulation.LengthNormal, Mean: 256, SD: 128}, clipped(256, 128), 0, 256, 420, 553.8},
		{"lognormal", simulation.Length{Kind: simulation.LengthLogNormal, Median: 400, Sigma: 1}, 400 * math.Exp(0.5), 0, 400, 1441, 4096},
		{"exponential", simulation.Length{Kind: simulation.LengthExponential, Mean: 500}, 500, 500, 346.6, 1151.3, 2302.6},
		{"fixed", simulation.Length{Kind: simulation.LengthFixed, Tokens: 77}, 77, 0, 77, 77, 77},
		{"table", simulation.Length{Kind: simulation.LengthInverseCDF, Points: [][2]float64{{0, 100}, {1, 300}}}, 200, 57.7, 200, 280, 298},
		{"bounds", simulation.Length{Kind: simulation.LengthExponential, Mean: 500, Min: 300, Max: 400}, 0, 0, 346.6, 400, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, c.l.Validate())
			const n = 400_000
			s, r := c.l.Sampler(), types.NewRand(1)
			all := make([]int, n)
			sum, squares := 0.0, 0.0
			for i := range all {
				all[i] = s.Sample(&r)
				sum += float64(all[i])
				squares += float64(all[i]) * float64(all[i])
			}
			slices.Sort(all)
			mean := sum / n
			sd := math.Sqrt(max(0, squares/n-mean*mean))
			if bound := 4*sd/math.Sqrt(n) + 0.6; c.mean != 0 && math.Abs(mean-c.mean) > bound {
				t.Errorf("mean %v, want %v ± %v", mean, c.mean, bound)
			}
			if bound := 4*sd/math.Sqrt(n) + 0.004*mean + 0.01; math.Abs(mean-s.Mean()) > bound {
				t.Errorf("Mean() = %v, but lengths have %v", s.Mean(), mean)
			}
			if c.sd != 0 && math.Abs(sd/c.sd-1) > 0.01 {
				t.Errorf("standard deviation %v, want %v", sd, c.sd)
			}
			for q, want := range map[float64]float64{0.5: c.p50, 0.9: c.p90, 0.99: c.p99} {
				if got := float64(s.Quantile(q)); math.Abs(got-want) > 1 {
					t.Errorf("Quantile(%v) = %v, want %v", q, got, want)
				}
				if got := float64(all[int(q*n)]); math.Abs(got-want) > 2+0.02*want {
					t.Errorf("percentile %v is %v, want %v", 100*q, got, want)
				}
			}
		})
	}
}

func TestLongTable(t *testing.T) {
	var points [][2]float64
	for i := range 1001 {
		points = append(points, [2]float64{float64(i) / 1000, float64(i * i)})
	}
	s := simulation.Length{Kind: simulation.LengthInverseCDF, Points: points}.Sampler()
	for _, i := range []int{2, 3, 17, 500, 999, 1000} {
		require.Equal(t, i*i, s.Quantile(float64(i)/1000), "Quantile(%v)", float64(i)/1000)
	}
}

func TestLengthValidate(t *testing.T) {
	for want, l := range map[string]simulation.Length{
		"kind is missing":          {Tokens: 3},
		"kind is \"gauss\", want ": {Kind: "gauss"},
		"tokens of fixed is 0":     {Kind: "fixed"},
		"tokens of fixed is -1":    {Kind: "fixed", Tokens: -1},
		"mean of normal is 0":      {Kind: "normal"},
		"sd of normal is -1":       {Kind: "normal", Mean: 1, SD: -1},
		"mean of normal is NaN":    {Kind: "normal", Mean: math.NaN()},
		"median of lognormal is 0": {Kind: "lognormal"},
		"sigma of lognormal is 11": {Kind: "lognormal", Median: 1, Sigma: 11},
		"mean of exponential is":   {Kind: "exponential", Mean: math.Inf(1)},
		"points has 0":             {Kind: "cdf"},
		"points has 2":             {Kind: "cdf", Points: [][2]float64{{0.1, 1}, {1, 2}}},
		"points[1] is":             {Kind: "cdf", Points: [][2]float64{{0, 3}, {1, 2}}},
		"points[1] has length -2":  {Kind: "cdf", Points: [][2]float64{{0, 3}, {1, -2}}},
		"min and max are 5 and 4":  {Kind: "fixed", Tokens: 1, Min: 5, Max: 4},
	} {
		wantError(t, l.Validate(), "simulation: length: ", want)
	}
	require.NoError(t, (simulation.Length{}).Validate())
}
