package engine

import (
	"fmt"
	"math"
	"time"
)

// Noise makes steps take longer or shorter than the [Calibration] says, as they
// do on real machines: each duration is multiplied by a random factor, and now and
// then a step stalls, as for a garbage collection or a neighbour on the same host.
// What a step computes stays the same. The zero value is no noise.
//
// The noise follows from Seed and the number of the step alone, not from what is
// in the step. Two engines with the same Noise have the same: give each a Seed of
// its own, as package simulation does.
type Noise struct {
	// Spread is the standard deviation of the factor, whose mean is 1: 0.25 is a
	// quarter of a step's duration. The factor is lognormal, so that durations stay
	// above 0. 0 to 2. Default 0: none.
	Spread float64
	// StallEvery is the mean number of steps from one stall to the next; each step
	// stalls with probability 1/StallEvery. Default 0: none stalls.
	StallEvery int
	// Stall is how much longer a step takes that stalls, whatever the machine's speed
	// and the factor. At most a minute. Required if there is StallEvery.
	Stall time.Duration
	// Seed of the draws. Without Spread and StallEvery it changes nothing.
	Seed uint64
}

const (
	maxSpread = 2
	maxStall  = time.Minute
)

func (n *Noise) check() error {
	switch {
	case !(n.Spread >= 0 && n.Spread <= maxSpread): // NaN included
		return fmt.Errorf("engine: Noise.Spread is %v: want 0 to %d", n.Spread, maxSpread)
	case n.StallEvery < 0:
		return fmt.Errorf("engine: Noise.StallEvery is %d: want at least 1, or 0 for no stalls", n.StallEvery)
	case n.Stall < 0 || n.Stall > maxStall:
		return fmt.Errorf("engine: Noise.Stall is %v: want 0 to %v", n.Stall, maxStall)
	case (n.StallEvery > 0) != (n.Stall > 0):
		return fmt.Errorf("engine: Noise.StallEvery is %d and Noise.Stall %v: want both or neither", n.StallEvery, n.Stall)
	}
	return nil
}

// noise is the state of an engine's Noise.
type noise struct {
	Noise
	sigma float64 // standard deviation of the factor's logarithm
	state uint64  // of SplitMix64
}

func newNoise(n Noise) noise {
	return noise{Noise: n, sigma: math.Sqrt(math.Log1p(float64(n.Spread * n.Spread))), state: n.Seed}
}

// apply returns how long the next step takes, of which the formula says d.
func (n *noise) apply(d time.Duration) time.Duration {
	if n.Spread == 0 && n.StallEvery == 0 {
		return d
	}
	// Each step takes both draws, so that the factors are the same with stalls and
	// without, and the other way round.
	factor, stall := n.unit(), n.unit()
	if n.Spread > 0 {
		d = time.Duration(math.Round(float64(d) * n.factor(factor)))
	}
	if n.StallEvery > 0 && stall*float64(n.StallEvery) < 1 {
		d += n.Stall
	}
	return d
}

// factor returns the factor that a part u of the factors, 0 to 1, stays below.
func (n *noise) factor(u float64) float64 {
	z := math.Sqrt2 * math.Erfinv(float64(2*u)-1)
	f := math.Exp(float64(n.sigma*z) - float64(n.sigma*n.sigma)/2)
	// The last bits of these functions are not the same on every processor. With
	// fewer bits than that it all but never shows in a duration.
	const steps = 1 << 16
	return max(1, math.Round(f*steps)) / steps
}

// unit draws a number between 0 and 1, without either end.
func (n *noise) unit() float64 {
	n.state += 0x9e3779b97f4a7c15
	return (float64(finalize(n.state)>>12) + 0.5) / (1 << 52)
}

// finalize is the output function of SplitMix64: a bijection of 64-bit words.
func finalize(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
