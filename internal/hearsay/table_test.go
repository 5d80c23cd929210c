package hearsay

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTable(t *testing.T) {
	x := New(1000, time.Minute)
	const a, b = 0x123456789abcdef0, 0x123456789abcdef1 // in one bucket
	x.Put(a, 1, 0)
	x.Put(a, 2, time.Second)
	x.Put(a, 1, 2*time.Second)
	x.Put(b, 3, 0)
	x.Put(0, 9, 0)
	look := func(hash uint64, known, fresh bool) {
		t.Helper()
		k, f := x.Look(hash)
		require.Equal(t, [2]bool{known, fresh}, [2]bool{k, f})
	}
	look(a, true, true)
	look(a+2, false, false)
	require.ElementsMatch(t, []uint32{1, 2}, x.Take(a, nil, time.Minute))
	look(a, true, false)
	require.Empty(t, x.Take(a, nil, time.Minute))
	require.Equal(t, []uint32{7, 3}, x.Take(b, []uint32{7}, time.Minute))
	require.Empty(t, x.Take(0, nil, 0))

	x.Put(a, 1, 0)
	look(a, true, true)
	require.Empty(t, x.Take(a, nil, time.Minute+1), "too long ago")
}

// Where a bucket is full, what was said the longest ago makes room.
func TestOldestMakesRoom(t *testing.T) {
	x := New(1, time.Hour)
	const hash = 1 << 40
	for i := range uint32(20) {
		x.Put(hash, i+1, time.Duration(i))
	}
	who := x.Take(hash, nil, 20)
	slices.Sort(who)
	require.Equal(t, []uint32{14, 15, 16, 17, 18, 19, 20}, who)
}

// Of what fits, hardly anything is lost.
func TestFewAreLost(t *testing.T) {
	x := New(1<<16, time.Hour)
	r := rand.New(rand.NewPCG(1, 2))
	said := map[uint64][]uint32{}
	for i := range 2000 {
		h := r.Uint64()
		for n := range uint32(1 + r.IntN(2)) {
			x.Put(h, n, time.Duration(i))
			said[h] = append(said[h], n)
		}
	}
	lost := 0
	for h, who := range said {
		took := x.Take(h, nil, 2000)
		require.Subset(t, who, took)
		lost += len(who) - len(took)
	}
	require.Less(t, lost, 100, "of 3,000")
}

// A table that grows keeps what was taken and what was not.
func TestGrows(t *testing.T) {
	x := New(1<<14, time.Hour)
	r := rand.New(rand.NewPCG(3, 4))
	var taken, fresh []uint64
	for i := range 5000 {
		h := r.Uint64()
		x.Put(h, uint32(i), time.Duration(i))
		if i%2 == 0 {
			require.Equal(t, []uint32{uint32(i)}, x.Take(h, nil, time.Duration(i)))
			taken = append(taken, h)
		} else {
			fresh = append(fresh, h)
		}
	}
	count := func(hashes []uint64) (known, new int) {
		for _, h := range hashes {
			k, f := x.Look(h)
			if k {
				known++
			}
			if f {
				new++
			}
		}
		return known, new
	}
	known, new := count(taken)
	require.Greater(t, known, 2480, "where buckets are full, some are forgotten")
	require.Zero(t, new)
	known, new = count(fresh)
	require.Greater(t, known, 2480)
	require.Equal(t, known, new)
}

func TestFresh(t *testing.T) {
	x := New(1<<14, time.Minute)
	x.Put(1, 1, 0)
	x.Put(2, 3, 20*time.Second)
	x.Take(2, nil, 0)
	for i := range uint64(2000) {
		x.Put(i*0x9e3779b97f4a7c15, uint32(i), 10*time.Second)
	}
	words := x.Fresh(nil, 65*time.Second)
	require.Greater(t, len(words), 1980)
	for _, w := range words {
		require.Equal(t, Word{uint64(w.Who) * 0x9e3779b97f4a7c15, w.Who, 55 * time.Second}, w)
	}
}

func TestConcurrently(t *testing.T) {
	x := New(64, time.Hour)
	var all sync.WaitGroup
	for g := range uint32(4) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 0))
			for i := range 5000 {
				h := r.Uint64N(100) << 57
				x.Put(h, g, time.Duration(i))
				if known, _ := x.Look(h); known {
					x.Take(h, nil, time.Duration(i))
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkLook(b *testing.B) {
	x := New(1<<20, time.Hour)
	r := rand.New(rand.NewPCG(1, 2))
	for range 1 << 19 {
		x.Put(r.Uint64(), 1, 0)
	}
	hashes := make([]uint64, 1<<16)
	for i := range hashes {
		hashes[i] = r.Uint64()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.Look(hashes[i%len(hashes)])
	}
}
