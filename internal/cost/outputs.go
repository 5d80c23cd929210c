package cost

import (
	"math"
	"sync/atomic"
)

// Outputs is how long the answers of each model and tenant were so far. It is a table of
// fixed size without keys, since tenants are named by clients: two that meet in it share
// their mean. The zero value knows nothing. Safe for concurrent use.
type Outputs struct {
	all    mean
	models [1 << 8]mean
	pairs  [1 << 12]mean
}

// mean is a mean of the last few hundred values, over all of them at first: a float32, and in
// the lower half how many they were as another.
type mean struct{ packed atomic.Uint64 }

func (m *mean) add(v float32) {
	for {
		old := m.packed.Load()
		value, n := m.of(old)
		n = min(n+1, outputMemory)
		value += (v - value) / n
		if m.packed.CompareAndSwap(old, uint64(math.Float32bits(value))<<32|uint64(math.Float32bits(n))) {
			return
		}
	}
}

func (*mean) of(packed uint64) (value, n float32) {
	return math.Float32frombits(uint32(packed >> 32)), math.Float32frombits(uint32(packed))
}

// from mixes the mean with that of a wider group.
func (m *mean) from(wider float32) float32 {
	value, n := m.of(m.packed.Load())
	return (n*value + outputPrior*wider) / (n + outputPrior)
}

func (o *Outputs) of(model, pair uint64) (*mean, *mean) {
	return &o.models[model>>(64-8)], &o.pairs[pair>>(64-12)]
}

// Expect returns the tokens to expect of a model, and of a pair of model and tenant, given by
// their hashes. Of the first answers, as many as preset are expected.
func (o *Outputs) Expect(model, pair uint64, preset float32) Tokens {
	m, p := o.of(model, pair)
	return Tokens(p.from(m.from(o.all.from(preset))))
}

// Add learns the length of an answer.
func (o *Outputs) Add(model, pair uint64, tokens Tokens) {
	if !(tokens > 0 && tokens <= mostTokens) || math.IsNaN(float64(tokens)) {
		return
	}
	m, p := o.of(model, pair)
	v := float32(tokens)
	o.all.add(v)
	m.add(v)
	p.add(v)
}
