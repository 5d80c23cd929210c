package hearsay

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBook(t *testing.T) {
	b := NewBook([][]uint64{{1, 0, 2, 3}, nil, {2, 1 << 63}, {2, 0, 0}})
	for hash, who := range map[uint64][]uint32{1: {0}, 2: {0, 2, 3}, 3: {0}, 1 << 63: {2}, 4: nil, 0: nil} {
		known, fresh := b.Look(hash, 1)
		require.Equal(t, who != nil, known)
		require.Equal(t, known, fresh)
		require.Equal(t, who, b.Take(hash, 1))
		require.Empty(t, b.Take(hash, 1))
		known, fresh = b.Look(hash, 1)
		require.Equal(t, who != nil, known)
		require.False(t, fresh)
		_, fresh = b.Look(hash, 2)
		require.Equal(t, known, fresh)
		require.Equal(t, who, b.Take(hash, 3))
		require.Empty(t, b.Take(hash, 2))
	}
	empty := NewBook(nil)
	known, fresh := empty.Look(7, 1)
	require.False(t, known || fresh)
	require.Empty(t, empty.Take(0, 1))
}

// Nothing is lost, and each hash is taken by one.
func TestBookConcurrently(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	held := make([][]uint64, 50)
	want := 0
	var hashes []uint64
	for range 2000 {
		h := r.Uint64()
		hashes = append(hashes, h)
		for who := range held {
			if r.IntN(10) == 0 {
				held[who] = append(held[who], h)
				want++
			}
		}
	}
	b := NewBook(held)
	for round := range uint32(3) {
		var took atomic.Int64
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for _, h := range hashes {
					took.Add(int64(len(b.Take(h, round+1))))
				}
			})
		}
		all.Wait()
		require.EqualValues(t, want, took.Load())
	}
}
