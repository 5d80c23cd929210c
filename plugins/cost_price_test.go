package plugins_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
)

// What servers cost matters for a request without an SLO only if somebody says so.
func TestCostPriceWithoutSLO(t *testing.T) {
	for price, want := range map[float64]string{0: "dear", 10: "cheap"} {
		b := newCostBench(t, plugins.CostOptions{PriceWithoutSLO: price}, unreadAll("cheap", "dear")...)
		b.eps[0].Capacity = types.Capacity{Speed: .5, CostPerHour: 1}
		b.eps[1].Capacity = types.Capacity{Speed: 2, CostPerHour: 8}
		ex, err := b.s.Explain(ctx, prompt("x", 2000), b.eps)
		require.NoError(t, err)
		require.Equal(t, want, ex.Chosen().ID)
		if price > 0 {
			c := b.explain(prompt("x", 2000)) // its items add up
			require.InDelta(t, -price/8, itemOf(t, c["cheap"], "price").Contribution, 1e-9)
		}
	}
}

// What was learned can be looked at, of all endpoints and of each.
func TestCostStats(t *testing.T) {
	oneGoroutine(t)
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("slow", "fast")...)
	require.Equal(t, plugins.FleetRates{Transport: .003, Step: 1, Token: 1, Encode: 1, Denoise: 1}, b.cost.Stats().Rates)
	_, known := b.cost.Rates(b.eps[0])
	require.False(t, known, "it was not met yet")
	for i := range 600 {
		factor := 2 - i%2
		d := mustSchedule(t, b.s, prompt(i, 4000), b.eps[i%2:i%2+1])
		b.serve(d, time.Duration(factor)*127*time.Millisecond, time.Duration(factor)*8*time.Millisecond, 50, 0)
	}
	slow, known := b.cost.Rates(b.eps[0])
	require.True(t, known)
	fast, _ := b.cost.Rates(b.eps[1])
	require.InDelta(t, 2, slow.Step/fast.Step, .4)
	require.InDelta(t, .016, slow.StepSeconds, .004)
	require.Positive(t, b.cost.Stats().Rates.Step)
	require.Equal(t, 2, b.cost.Stats().Endpoints)
}
