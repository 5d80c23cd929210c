package engine

import (
	"github.com/stretchr/testify/require"
	"math/rand/v2"
	"slices"
	"testing"
)

// naivePool does what a pool does with a slice and no cleverness.
type naivePool struct {
	free []int32 // reused from the front
	refs map[int32]int
	keys map[int32]uint64
}

func (n *naivePool) find(key uint64) (int32, bool) {
	for i, k := range n.keys {
		if k == key {
			return i, true
		}
	}
	return 0, false
}

func (n *naivePool) take() int32 {
	i := n.free[0]
	n.free = n.free[1:]
	delete(n.keys, i)
	n.refs[i] = 1
	return i
}

func (n *naivePool) retain(i int32) {
	n.free = slices.DeleteFunc(n.free, func(x int32) bool { return x == i })
	n.refs[i]++
}

func (n *naivePool) release(i int32) {
	if n.refs[i]--; n.refs[i] == 0 {
		n.free = append(n.free, i)
	}
}

func (n *naivePool) name(i int32, key uint64) {
	if _, ok := n.find(key); !ok {
		n.keys[i] = key
	}
}

func TestPoolMatchesNaiveLRU(t *testing.T) {
	const size = 24
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := newPool(size, false)
		n := &naivePool{refs: map[int32]int{}, keys: map[int32]uint64{}}
		for i := range int32(size) {
			n.free = append(n.free, i)
		}
		var held []int32 // one entry per reference
		for op := range 3000 {
			switch key := uint64(rng.IntN(40) + 1); {
			case len(held) > 0 && (p.free == 0 || rng.IntN(2) == 0):
				at := rng.IntN(len(held))
				p.release(held[at])
				n.release(held[at])
				held = slices.Delete(held, at, at+1)
			default:
				got, ok := p.cached[key]
				want, wantOK := n.find(key)
				if ok != wantOK || ok && got != want {
					t.Fatalf("seed %d, operation %d: key %d is in block %d, %t, want %d, %t", seed, op, key, got, ok, want, wantOK)
				}
				if ok {
					p.retain(got)
					n.retain(got)
				} else {
					got, want = p.take(), n.take()
					if got != want {
						t.Fatalf("seed %d, operation %d: took block %d, want %d", seed, op, got, want)
					}
					p.name(got, key, 0, 0)
					n.name(got, key)
				}
				held = append(held, got)
			}
			require.Equal(t, len(n.free), p.free, "seed %d, operation %d blocks free", seed, op)
		}
	}
}
