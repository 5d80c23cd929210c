package heap_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/heap"
)

type value struct {
	key int64
	seq uint64
	at  int
}

func (v *value) item() heap.Item[value] {
	return heap.Item[value]{Key: v.key, Seq: v.seq, At: &v.at, Of: v}
}

// TestHeap plays random changes beside a slice that is sorted each time.
func TestHeap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var h heap.Heap[value]
	var all []*value
	for seq := range uint64(3000) {
		switch pick := rnd.IntN(len(all) + 1); {
		case rnd.IntN(3) > 0 || pick == len(all):
			v := &value{key: rnd.Int64N(40), seq: seq}
			h.Push(v.item())
			all = append(all, v)
		case rnd.IntN(2) == 0:
			all[pick].key = rnd.Int64N(40)
			h.Fix(all[pick].at, all[pick].item())
		default:
			v := all[pick]
			h.Remove(v.at)
			require.Equal(t, -1, v.at)
			all = slices.Delete(all, pick, pick+1)
		}
		require.Len(t, h, len(all))
		if seq%32 == 0 {
			for i := range h {
				require.Equal(t, i, h[i].Of.at)
			}
		}
		if len(all) > 0 {
			least := slices.MinFunc(all, func(a, b *value) int {
				x, y := a.item(), b.item()
				if x.Before(&y) {
					return -1
				}
				return 1
			})
			require.Same(t, least, h[0].Of)
		}
	}
}

func TestOrdered(t *testing.T) {
	numbers := []float64{math.Inf(-1), -math.MaxFloat64, -1, -math.SmallestNonzeroFloat64, 0, math.SmallestNonzeroFloat64, 0.5, 2, math.Inf(1)}
	for i, f := range numbers[1:] {
		require.Less(t, heap.Ordered(numbers[i]), heap.Ordered(f))
	}
	require.Equal(t, heap.Ordered(0), heap.Ordered(math.Copysign(0, -1)))
}
