package cost

import (
	"math"
	"testing"

	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestTierPricesAreLearned(t *testing.T) {
	const perToken, tokens = Seconds(20e-6), Tokens(4000)
	for _, price := range []float64{.05, .25, .6, 1, 3} {
		var p TierPrices
		for range 300 {
			late := Seconds((price - p.Of(types.KVCPU)) * float64(tokens) * float64(perToken))
			p.Learn(types.KVCPU, tokens, late, perToken)
		}
		require.InDelta(t, min(price, 1), p.Of(types.KVCPU), .01)
		require.Equal(t, .75, p.Of(types.KVDisk), "another tier's")
	}
}

func TestTierPricesStaySane(t *testing.T) {
	var p TierPrices
	p.Learn(types.KVDisk, 0, 1, 0)
	p.Learn(types.KVDisk, 100, Seconds(math.NaN()), 1e-6)
	p.Learn(types.KVDisk, 100, Seconds(math.Inf(1)), 1e-6)
	require.Equal(t, .75, p.Of(types.KVDisk))
	require.EqualValues(t, 38, p.Worth([types.KVTiers]int{10, 20, 40, 8})) // 10 + 15 + 10 + 3.6
	for range 1000 {
		p.Learn(types.KVDisk, 1, -1e6, 1e-6)
	}
	require.Equal(t, 0., p.Of(types.KVDisk))
}
