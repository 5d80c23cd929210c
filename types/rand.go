package types

import "math/bits"

// Rand is a random number generator with one word of state, a math/rand/v2.Source: SplitMix64
// (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). A copy
// draws the same numbers, which a dry run makes use of. The zero value is a fixed seed. It is
// not for secrets and not safe for concurrent use.
type Rand struct{ state uint64 }

// NewRand returns a generator that starts from seed.
func NewRand(seed uint64) Rand { return Rand{seed} }

// Uint64 returns 64 random bits.
func (r *Rand) Uint64() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// IntN returns a number in [0, n), with a bias of less than n/2^64. It panics if n <= 0.
func (r *Rand) IntN(n int) int {
	if n <= 0 {
		panic("types: Rand.IntN of a number that is not positive")
	}
	hi, _ := bits.Mul64(r.Uint64(), uint64(n))
	return int(hi)
}

// Float64 returns a number in [0, 1).
func (r *Rand) Float64() float64 { return float64(r.Uint64()>>11) / (1 << 53) }
