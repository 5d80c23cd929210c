package prefixindex_test

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/stretchr/testify/require"
)

// Run the benchmarks and compare two versions with
//
//	go test -run '^$' -bench . -count 10 ./internal/prefixindex > new.txt
//	benchstat old.txt new.txt

// prompt makes the chained hashes of a prompt of n blocks: those of head, then
// n-len(head) that nobody else has unless made with the same id.
func prompt(head []uint64, n int, id uint64) []uint64 {
	out := append(make([]uint64, 0, n), head...)
	h := id * 0xd1342543de82ef95
	if len(head) > 0 {
		h ^= head[len(head)-1]
	}
	for i := len(head); i < n; i++ {
		h = (h ^ uint64(i+1)) * 0x9e3779b97f4a7c15
		h ^= h >> 32
		h *= 0xd6e8feb86659fd93
		h ^= h >> 32
		out = append(out, h)
	}
	return out
}

func newIndex(tb testing.TB, o prefixindex.Options, endpoints int) (*prefixindex.Index, []prefixindex.Endpoint) {
	tb.Helper()
	x, err := prefixindex.New(o)
	require.NoError(tb, err)
	eps := make([]prefixindex.Endpoint, endpoints)
	for i := range eps {
		eps[i] = x.Add()
	}
	return x, eps
}

const blocks32KiB = 32 << 10 / 256

// conversation enters turns of 3 blocks each on all endpoints such that each
// turn is a node of its own, and returns the whole.
func conversation(x *prefixindex.Index, eps []prefixindex.Endpoint, turns int) []uint64 {
	whole := prompt(nil, 3*turns, 1)
	for _, e := range eps {
		x.Record(e, whole)
	}
	for i := 1; i < turns; i++ {
		x.Record(eps[i%len(eps)], prompt(whole[:3*i], 3*i+1, uint64(1000+i))) // another way to go on
	}
	for _, e := range eps {
		x.Record(e, whole)
	}
	return whole
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10000} {
		for _, held := range []string{"none", "one", "all"} {
			b.Run(fmt.Sprintf("endpoints=%d/held=%s", n, held), func(b *testing.B) {
				x, eps := newIndex(b, prefixindex.Options{}, n)
				p := prompt(nil, blocks32KiB, 1)
				for i, e := range eps {
					x.Record(e, prompt(nil, blocks32KiB, uint64(100+i)))
					if held == "all" || held == "one" && i == n/2 {
						x.Record(e, p)
					}
				}
				out := make([]uint32, x.Slots())
				b.ReportAllocs()
				for b.Loop() {
					x.Match(p, out)
				}
			})
		}
		b.Run(fmt.Sprintf("endpoints=%d/held=all/nodes=40", n), func(b *testing.B) {
			x, eps := newIndex(b, prefixindex.Options{}, n)
			p := conversation(x, eps, 40)
			out := make([]uint32, x.Slots())
			b.ReportAllocs()
			for b.Loop() {
				x.Match(p, out)
			}
		})
		// The worst case for Match: no two nodes on the way have as many holders.
		b.Run(fmt.Sprintf("endpoints=%d/held=fewer/nodes=40", n), func(b *testing.B) {
			x, eps := newIndex(b, prefixindex.Options{}, n)
			p := conversation(x, eps, 40)
			for i, e := range eps[:min(39, n)] {
				x.Truncate(e, p, 3*(i+1))
			}
			out := make([]uint32, x.Slots())
			b.ReportAllocs()
			for b.Loop() {
				x.Match(p, out)
			}
		})
	}
	b.Run("endpoints=1000/held=all/blocks=4096", func(b *testing.B) {
		x, eps := newIndex(b, prefixindex.Options{}, 1000)
		p := prompt(nil, 4096, 1)
		for _, e := range eps {
			x.Record(e, p)
		}
		out := make([]uint32, x.Slots())
		b.ReportAllocs()
		for b.Loop() {
			x.Match(p, out)
		}
	})
}

func BenchmarkMatchParallel(b *testing.B) {
	x, eps := newIndex(b, prefixindex.Options{}, 1000)
	p := prompt(nil, blocks32KiB, 1)
	for _, e := range eps {
		x.Record(e, p)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		out := make([]uint32, x.Slots())
		for pb.Next() {
			x.Match(p, out)
		}
	})
}

func BenchmarkMatchOne(b *testing.B) {
	x, eps := newIndex(b, prefixindex.Options{}, 1000)
	p := prompt(nil, blocks32KiB, 1)
	for _, e := range eps {
		x.Record(e, p)
	}
	b.ReportAllocs()
	for b.Loop() {
		x.MatchOne(eps[500], p)
	}
}

// BenchmarkRecord shows what one decision costs the index in the steady state.
func BenchmarkRecord(b *testing.B) {
	for _, n := range []int{1, 1000, 10000} {
		// A prompt that every endpoint has, again.
		b.Run(fmt.Sprintf("endpoints=%d/held=all", n), func(b *testing.B) {
			x, eps := newIndex(b, prefixindex.Options{}, n)
			p := prompt(nil, blocks32KiB, 1)
			for _, e := range eps {
				x.Record(e, p)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				x.Record(eps[i%n], p)
				i += 7
			}
		})
		b.Run(fmt.Sprintf("endpoints=%d/held=all/nodes=40", n), func(b *testing.B) {
			x, eps := newIndex(b, prefixindex.Options{}, n)
			p := conversation(x, eps, 40)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				x.Record(eps[i%n], p)
				i += 7
			}
		})
		// A prompt that all others have, new on this one and gone again after.
		b.Run(fmt.Sprintf("endpoints=%d/held=others", n), func(b *testing.B) {
			if n == 1 {
				b.Skip("there are no others")
			}
			x, eps := newIndex(b, prefixindex.Options{}, n)
			p := prompt(nil, blocks32KiB, 1)
			for _, e := range eps[1:] {
				x.Record(e, p)
			}
			b.ReportAllocs()
			for b.Loop() {
				x.Record(eps[0], p)
				x.Truncate(eps[0], p, 0)
			}
		})
		// A new prompt each time, into endpoints that are full.
		b.Run(fmt.Sprintf("endpoints=%d/held=none", n), func(b *testing.B) {
			x, eps := newIndex(b, prefixindex.Options{DefaultCapacity: 2 * blocks32KiB}, n)
			prompts := make([][]uint64, 5*n+1000)
			for i := range prompts {
				prompts[i] = prompt(nil, blocks32KiB, uint64(i))
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				x.Record(eps[i%n], prompts[i%len(prompts)])
				i++
			}
		})
	}
	// A new prompt each time, into an index that is full.
	b.Run("endpoints=1000/held=none/memory=full", func(b *testing.B) {
		x, eps := newIndex(b, prefixindex.Options{MaxBytes: 4 << 20}, 1000)
		prompts := make([][]uint64, 10000)
		for i := range prompts {
			prompts[i] = prompt(nil, blocks32KiB, uint64(i))
		}
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			x.Record(eps[i%1000], prompts[i%len(prompts)])
			i++
		}
	})
	// A conversation that goes on by three blocks a turn, and begins anew.
	b.Run("endpoints=1/held=turns", func(b *testing.B) {
		x, eps := newIndex(b, prefixindex.Options{}, 1)
		p := prompt(nil, 120, 1)
		b.ReportAllocs()
		for b.Loop() {
			for n := 3; n <= len(p); n += 3 {
				x.Record(eps[0], p[:n])
			}
			x.Reset(eps[0])
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*40), "ns/turn")
	})
	b.Run("endpoints=1000/held=none/blocks=4096", func(b *testing.B) {
		x, eps := newIndex(b, prefixindex.Options{}, 1000)
		head := prompt(nil, 100, 1)
		for i, e := range eps {
			x.Record(e, prompt(head, 110, uint64(i)))
		}
		long := make([][]uint64, 50) // gone by the time each comes again
		for i := range long {
			long[i] = prompt(head, 4096, uint64(5000+i))
		}
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			x.Record(eps[0], long[i%len(long)])
			i++
		}
	})
}

func BenchmarkRemove(b *testing.B) {
	x, eps := newIndex(b, prefixindex.Options{}, 1000)
	p := prompt(nil, blocks32KiB, 1)
	for _, e := range eps {
		x.Record(e, p)
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range 60 {
			x.Record(eps[0], prompt(nil, blocks32KiB, uint64(10+i)))
		}
		x.Remove(eps[0])
		eps[0] = x.Add()
	}
}

type memory struct {
	heap, self int64 // bytes, as the runtime and as the index counts them
	held       int   // (endpoint, block) pairs
}

// measureMemory fills an index and reads the heap before and after.
func measureMemory(tb testing.TB, endpoints int, fill func(*prefixindex.Index, []prefixindex.Endpoint)) memory {
	tb.Helper()
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	eps := make([]prefixindex.Endpoint, endpoints)
	before := heap()
	x, err := prefixindex.New(prefixindex.Options{MaxBytes: 4 << 30})
	require.NoError(tb, err)
	for i := range eps {
		eps[i] = x.Add()
	}
	fill(x, eps)
	after := heap()
	s := x.Stats()
	runtime.KeepAlive(x)
	return memory{heap: after - before, self: s.Bytes, held: s.Held}
}

var memoryCases = []struct {
	name      string
	endpoints int
	limit     float64 // bytes per endpoint and block
	fill      func(*prefixindex.Index, []prefixindex.Endpoint)
}{
	{"prompt=32KiB/shared=no", 100, 48, distinct(60, blocks32KiB)},
	{"prompt=4KiB/shared=no", 100, 48, distinct(480, 16)},
	{"prompt=1KiB/shared=no", 100, 48, distinct(1900, 4)},
	{"prompt=32KiB/shared=head", 100, 48, func(x *prefixindex.Index, eps []prefixindex.Endpoint) {
		head := prompt(nil, blocks32KiB/2, 1)
		for i := range 60 * len(eps) {
			x.Record(eps[i%len(eps)], prompt(head, blocks32KiB, uint64(i+10)))
		}
	}},
	{"prompt=32KiB/shared=all", 1000, 1.5, func(x *prefixindex.Index, eps []prefixindex.Endpoint) {
		for _, e := range eps {
			x.Record(e, prompt(nil, blocks32KiB, 1))
		}
	}},
	{"turns=40/shared=all", 1000, 16, func(x *prefixindex.Index, eps []prefixindex.Endpoint) {
		conversation(x, eps, 40)
	}},
}

func distinct(prompts, blocks int) func(*prefixindex.Index, []prefixindex.Endpoint) {
	return func(x *prefixindex.Index, eps []prefixindex.Endpoint) {
		for i := range prompts * len(eps) {
			x.Record(eps[i%len(eps)], prompt(nil, blocks, uint64(i+1)))
		}
	}
}

// BenchmarkMemory reports what one block on one endpoint costs.
func BenchmarkMemory(b *testing.B) {
	for _, c := range memoryCases {
		b.Run(c.name, func(b *testing.B) {
			var m memory
			for b.Loop() {
				m = measureMemory(b, c.endpoints, c.fill)
			}
			b.ReportMetric(float64(m.heap)/float64(m.held), "B/block")
			b.ReportMetric(float64(m.self)/float64(m.held), "self-B/block")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// The memory budget is kept, and what the index says of itself is what the
// runtime finds.
func TestMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("it is one goroutine, and long")
	}
	if raceEnabled {
		t.Skip("the race detector changes what is allocated")
	}
	for _, c := range memoryCases {
		t.Run(c.name, func(t *testing.T) {
			m := measureMemory(t, c.endpoints, c.fill)
			per := float64(m.heap) / float64(m.held)
			t.Logf("%d blocks held, %.2f B each, %.2f B by own account", m.held, per, float64(m.self)/float64(m.held))
			if per > c.limit {
				t.Errorf("a block on an endpoint costs %.1f bytes, want at most %v", per, c.limit)
			}
			most := 1.2
			if math.MaxInt == math.MaxInt32 {
				most = 1.5 // pointers count as those of 64 bits
			}
			if q := float64(m.self) / float64(m.heap); q < 0.85 || q > most {
				t.Errorf("own account %d is %.2f of the heap's %d", m.self, q, m.heap)
			}
		})
	}
}
