package fair

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/heap"
	"github.com/inferpick/inferpick/internal/list"
)

// check looks at all that Queues keep: the parts must fit each other.
func (q *Queues) check(t *testing.T) {
	t.Helper()
	queued, bytes, running := 0, int64(0), 0
	lanes := map[*Lane]int{}
	for i, b := range q.bands {
		require.True(t, i == 0 || b.Priority < q.bands[i-1].Priority, "bands are out of order")
		require.Equal(t, q.ClassOf(b.Priority), b.Class)
		b.check(t, q, lanes)
		queued += b.Queued
		bytes += b.Bytes
		running += b.Running
	}
	require.Equal(t, []any{q.queued, q.bytes, q.running}, []any{queued, bytes, running}, "requests, bytes and running of all bands")
	require.LessOrEqual(t, len(q.bands), q.c.MaxBands)
	for l, n := range lanes {
		require.Equal(t, l.Queued, n, "in lane %v", l.Of)
	}
	require.Len(t, q.deadlines, queued)
	checkHeap(t, q.deadlines, func(it *Item) heap.Item[Item] {
		return heap.Item[Item]{Key: int64(it.Deadline), Seq: it.Seq, At: &it.due, Of: it}
	})
}

func (b *Band) check(t *testing.T, q *Queues, lanes map[*Lane]int) {
	queued, bytes, running, resting, named := 0, int64(0), 0, 0, 0
	shares := map[*queue]int{}
	for name, f := range b.flows {
		n := 0
		for _, s := range f.shares {
			require.True(t, s.flow == f && f.name == name)
			shares[s.queue]++
			bytes += s.check(t, b, q)
			n += s.n
		}
		require.Equal(t, f.queued, n, "of tenant %q", name)
		require.Equal(t, f.queued == 0 && f.running == 0, f.resting, "tenant %q rests", name)
		require.False(t, math.IsNaN(f.at()) || math.IsInf(f.at(), 0) || f.running < 0)
		require.True(t, f.band == b && (f.elsewhere != nil) == slices.Contains(b.elsewhere.active, f), "tenant %q is active elsewhere", name)
		named += f.checkPrograms(t, &q.c)
		queued += n
		running += f.running
		if f.resting {
			resting++
		}
	}
	require.Equal(t, []any{b.Queued, b.Bytes, b.Running}, []any{queued, bytes, running}, "at priority %d", b.Priority)
	require.Equal(t, b.programs, named, "programs")
	require.GreaterOrEqual(t, b.owed, 0.0)
	for _, queue := range b.queues {
		require.Equal(t, shares[queue], queue.shares)
		n := 0
		for _, e := range queue.heap {
			n += e.Of.n
		}
		require.Equal(t, queue.queued, n)
		checkHeap(t, queue.heap, func(s *share) heap.Item[share] { return s.turn(queue.quantum) })
		lanes[queue.lane] += n
		delete(shares, queue)
	}
	require.Empty(t, shares, "shares of queues that the band does not have")
	listed, longest := 0, 0
	for n := range b.byLen {
		for _, f := range inList(t, &b.byLen[n], func(f *flow) *list.Node[flow] { return &f.links }) {
			require.Equal(t, n, f.queued)
			listed += n
			longest = n
		}
	}
	require.Equal(t, []int{b.Queued, b.longest}, []int{listed, longest}, "tenants by the length of their queues")
	require.Len(t, inList(t, &b.idle, func(f *flow) *list.Node[flow] { return &f.links }), resting)
}

func (s *share) check(t *testing.T, b *Band, q *Queues) (bytes int64) {
	items := inList(t, &s.List, func(it *Item) *list.Node[Item] { return &it.inShare })
	require.Len(t, items, s.n)
	require.Equal(t, s.n > 0, s.index >= 0, "is in the heap")
	for i, it := range items {
		require.True(t, it.share == s && it.flow == s.flow && it.band == b && it.Lane == s.queue.lane)
		require.True(t, i == 0 || items[i-1].Seq < it.Seq, "out of order")
		bytes += it.Bytes
	}
	if q.c.EarliestDeadline {
		require.Len(t, s.byDeadline, s.n)
		checkHeap(t, s.byDeadline, func(it *Item) heap.Item[Item] {
			return heap.Item[Item]{Key: int64(it.Deadline), Seq: it.Seq, At: &it.place, Of: it}
		})
	} else {
		require.Empty(t, s.byDeadline)
	}
	grouped := 0
	for key, g := range s.groups {
		of := inList(t, &g.List, func(it *Item) *list.Node[Item] { return &it.inGroup })
		require.NotEmpty(t, of)
		for _, it := range of {
			require.True(t, g.key == key && it.group == g && it.prefix == key)
		}
		grouped += len(of)
	}
	if q.c.Prefix != nil {
		require.Equal(t, s.n, grouped)
	} else {
		require.Zero(t, grouped)
	}
	require.True(t, s.group == nil || s.groups[s.group.key] == s.group, "goes on with a group that is gone")
	return bytes
}

// inList returns what is in a list, and checks its links.
func inList[T any](t *testing.T, l *list.List[T], node func(*T) *list.Node[T]) (all []*T) {
	var before *list.Node[T]
	for n := l.Head; n != nil; n = n.Next {
		require.True(t, n.Prev == before && n == node(n.Of), "a link is wrong")
		all = append(all, n.Of)
		before = n
	}
	require.True(t, l.Tail == before)
	return all
}

// checkHeap compares a heap with what its items are now.
func checkHeap[T any](t *testing.T, h heap.Heap[T], now func(*T) heap.Item[T]) {
	for i := range h {
		require.Equal(t, i, *h[i].At)
		require.Equal(t, now(h[i].Of), h[i])
		if i > 0 {
			require.False(t, h[i].Before(&h[(i-1)/heap.Width]), "goes before its parent")
		}
	}
}

// everywhere has room but at the lanes in it.
type everywhere map[*Lane]bool

func (full everywhere) has(it *Item, _ bool) bool { return !full[it.Lane] }

func testConfig() Config {
	return Config{
		Classes:     []Class{{Priority: 10, Displace: true}, {Priority: 0, Floor: 0.1}, {Priority: math.MinInt}},
		MaxRequests: 1000, MaxBytes: 1 << 20, MaxBands: 6, MaxFlows: 8, FlowIdle: time.Minute,
		Credit: 500, InputWeight: 1, OutputWeight: 2, OutputTokens: 100,
	}
}
