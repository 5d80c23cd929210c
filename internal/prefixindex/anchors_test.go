package prefixindex_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/prefixindex"
)

func TestAnchors(t *testing.T) {
	require.Equal(t, []int{1, 2, 4, 8, 12, 16}, prefixindex.Anchors(19))
	n := 0
	for d := range 3000 {
		if prefixindex.IsAnchor(d) {
			n++
		}
		require.Len(t, prefixindex.Anchors(d), n)
	}
}

// What is not touched meanwhile is all there, once and in order, however long it takes to walk and whatever changes
// beside it.
func TestAppendAnchorsBesideChanges(t *testing.T) {
	x, eps := newIndex(t, prefixindex.Options{DefaultCapacity: 1 << 20}, 3)
	head := prompt(nil, 40, 1)
	var prompts [][]uint64
	for i := range uint64(2000) {
		p := prompt(head[:i%40], 40+int(i%20), 100+i)
		x.Record(eps[0], p)
		prompts = append(prompts, p)
	}
	want := x.AppendAnchors(nil, eps[0], 1<<20)
	require.Greater(t, len(want), 2*2000)
	require.True(t, slices.Equal(want[:100], x.AppendAnchors([]uint64{7}, eps[0], 100)[1:]))

	still := map[uint64]bool{}
	for _, h := range want {
		still[h] = true
	}

	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		for i := uint64(0); !stop.Load(); i++ {
			own := prompt(nil, 30, 1<<40+i%50)
			x.Record(eps[0], own) // in front of all others
			x.Truncate(eps[0], own, 0)
			x.Record(eps[1], prompts[i%2000][:1+i%40]) // splits what the first holds
			x.Record(eps[2], prompt(prompts[i%2000], 70, i))
			if i%300 == 0 {
				x.Reset(eps[1])
				x.Reset(eps[2])
			}
		}
	})
	for range 30 {
		got := x.AppendAnchors(nil, eps[0], 1<<20)
		got = slices.DeleteFunc(got, func(h uint64) bool { return !still[h] })
		require.True(t, slices.Equal(want, got), "%d of %d", len(got), len(want))
	}
	stop.Store(true)
	all.Wait()
	check(t, x)
}

func TestRelearn(t *testing.T) {
	x, eps := newIndex(t, prefixindex.Options{DefaultCapacity: 1000}, 3)
	x.Observe(eps[0], 10, 5)
	set, learned := x.Learned(eps[0])
	require.Equal(t, 1000, set)
	require.InDelta(t, .99, learned, 1e-9)
	x.Record(eps[1], prompt(nil, 1000, 1))
	x.Relearn(eps[1], set, learned)
	held, capacity := x.Usage(eps[1])
	require.Equal(t, []int{990, 990}, []int{held, capacity})

	x.Relearn(eps[2], 500, .5)
	_, capacity = x.Usage(eps[2])
	require.Equal(t, 1000, capacity, "not yet")
	x.SetCapacity(eps[2], 500)
	_, capacity = x.Usage(eps[2])
	require.Equal(t, 250, capacity)
	x.SetCapacity(eps[2], 600)
	_, capacity = x.Usage(eps[2])
	require.Equal(t, 600, capacity)
	x.Relearn(eps[2], 600, 0)
	_, learned = x.Learned(eps[2])
	require.Equal(t, 1./32, learned)

	x.Remove(eps[2])
	x.Relearn(eps[2], 600, .5)
	set, learned = x.Learned(eps[2])
	require.Zero(t, set)
	require.Zero(t, learned)
	x.SetCapacity(x.Add(), 600)
	require.Empty(t, x.AppendAnchors(nil, eps[2], 10))
	check(t, x)
}

// BenchmarkAppendAnchors reads all that a full index holds, and says for how long it holds a change up at most.
func BenchmarkAppendAnchors(b *testing.B) {
	x, eps := newIndex(b, prefixindex.Options{DefaultCapacity: 1 << 20}, 20)
	head := prompt(nil, 20, 1)
	for i := range uint64(100_000) {
		x.Record(eps[i%20], prompt(head, 40, i))
	}
	var stop atomic.Bool
	var all sync.WaitGroup
	longest := time.Duration(0)
	all.Go(func() {
		for i := uint64(0); !stop.Load(); i++ {
			start := time.Now()
			x.Observe(eps[0], 1, 1)
			longest = max(longest, time.Since(start))
			time.Sleep(50 * time.Microsecond)
		}
	})
	var dst []uint64
	for b.Loop() {
		dst = dst[:0]
		for _, e := range eps {
			dst = x.AppendAnchors(dst, e, 1<<20)
		}
	}
	stop.Store(true)
	all.Wait()
	b.ReportMetric(float64(len(dst)), "anchors")
	b.ReportMetric(longest.Seconds()*1e6, "us-longest-wait")
}
