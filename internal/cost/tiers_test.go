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

// Pulling is worth what it saves of the time to compute, by brute force in seconds.
func TestPull(t *testing.T) {
	const prompt = Tokens(20000)
	for _, perToken := range []Seconds{5e-6, 24e-6, 400e-6} {
		for held := Tokens(0); held <= prompt; held += 700 {
			for peer := held; peer <= prompt; peer += 900 {
				var p TierPrices
				alone := Seconds(prompt-held) * perToken
				pulled := pullOnce + Seconds(peer-held)*perToken*.55 + Seconds(prompt-peer)*perToken
				got := Seconds(prompt-held-p.Pull(held, peer, perToken)) * perToken
				require.InDelta(t, float64(min(alone, pulled)), float64(got), 1e-9)
			}
		}
	}
	var p TierPrices
	require.Zero(t, p.Pull(0, 1000, 0))
}
