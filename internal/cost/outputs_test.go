package cost

import (
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// hash makes the nth model or tenant one of its own.
func hash(n uint64) uint64 { return n << 52 }

func TestOutputs(t *testing.T) {
	var o Outputs
	require.Equal(t, Tokens(100), o.Expect(hash(0), hash(1), 100), "nothing is known")
	for range 1000 {
		o.Add(hash(0), hash(1), 20)
		o.Add(hash(16), hash(2), 800)
	}
	require.InDelta(t, 20, float64(o.Expect(hash(0), hash(1), 100)), 5)
	require.InDelta(t, 800, float64(o.Expect(hash(16), hash(2), 100)), 40)
	require.InDelta(t, 40, float64(o.Expect(hash(0), hash(3), 100)), 25, "a new tenant of a model is like the others")
	for range 1000 {
		o.Add(hash(0), hash(1), 60)
	}
	require.InDelta(t, 60, float64(o.Expect(hash(0), hash(1), 100)), 5, "what was is forgotten")
	before := o.Expect(hash(0), hash(1), 100)
	for _, nonsense := range []Tokens{0, -1, 1e9, Tokens(math.NaN()), Tokens(math.Inf(1))} {
		o.Add(hash(0), hash(1), nonsense)
	}
	require.Equal(t, before, o.Expect(hash(0), hash(1), 100))
}

// None of the answers that many goroutines tell of is lost.
func TestMeanOfMany(t *testing.T) {
	var m mean
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range outputMemory / 4 {
				m.add(8)
			}
		})
	}
	all.Wait()
	value, n := m.of(m.packed.Load())
	require.EqualValues(t, 8, value)
	require.EqualValues(t, outputMemory, n)
}
