package plugins_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// Options of DefaultWith count, and without any it decides as Default does.
func TestDefaultWith(t *testing.T) {
	p, err := plugins.DefaultWith(plugins.CostOptions{})
	require.NoError(t, err)
	eps := schedulingtest.Fleet(20)
	def, now := plugins.Default(), time.Now()
	p.Now = func() time.Time { return now }
	def.Now = p.Now
	want, err := mustNew(t, seeded(def)).Explain(ctx, schedulingtest.Request("hello"), eps)
	require.NoError(t, err)
	got, err := mustNew(t, seeded(p)).Explain(ctx, schedulingtest.Request("hello"), eps)
	require.NoError(t, err)
	require.Equal(t, want.String(), got.String())

	dear, cheap := schedulingtest.Endpoint("dear"), schedulingtest.Endpoint("cheap", schedulingtest.Waiting(1))
	dear.Capacity.CostPerHour, cheap.Capacity.CostPerHour = 4, 1
	req := schedulingtest.Request("hello")
	req.SLO.TTFT = 1 << 40
	for price, want := range map[float64]string{0: "dear", 5: "cheap"} {
		p, err := plugins.DefaultWith(plugins.CostOptions{Price: price})
		require.NoError(t, err)
		why, err := mustNew(t, seeded(p)).Explain(ctx, again(req), []*types.Endpoint{dear, cheap})
		require.NoError(t, err)
		require.Equal(t, want, why.Endpoint.ID, "at a price of %v seconds", price)
	}

	_, err = plugins.DefaultWith(plugins.CostOptions{Price: -1})
	require.ErrorContains(t, err, "price")
	_, err = plugins.DefaultWith(plugins.CostOptions{FavorTTFT: 1.5})
	require.ErrorContains(t, err, "favorTTFT is 1.5, want -1 to 1")
}
