package prefixindex_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/stretchr/testify/require"
)

func check(t *testing.T, x *prefixindex.Index) {
	t.Helper()
	require.NoError(t, x.Check())
}

func wantHeld(t *testing.T, x *prefixindex.Index, e prefixindex.Endpoint, p []uint64, want int) {
	t.Helper()
	require.Equal(t, want, x.MatchOne(e, p), "MatchOne(slot %d) blocks", e.Slot())
	out := make([]uint32, x.Slots())
	x.Match(p, out)
	require.Equal(t, want, int(out[e.Slot()]), "Match at slot %d blocks", e.Slot())
}

func TestMatch(t *testing.T) {
	x, eps := newIndex(t, prefixindex.Options{}, 4)
	head := prompt(nil, 10, 1)
	a, b, other := prompt(head, 20, 2), prompt(head, 15, 3), prompt(nil, 5, 4)
	x.Record(eps[0], a)
	x.Record(eps[1], b)
	x.Record(eps[1], other)
	x.Record(eps[2], head[:3])
	check(t, x)
	tests := []struct {
		name   string
		prompt []uint64
		want   []uint32
		n      int
	}{
		{"empty", nil, []uint32{0, 0, 0, 0}, 0},
		{"unknown", prompt(nil, 9, 9), []uint32{0, 0, 0, 0}, 0},
		{"a", a, []uint32{20, 10, 3, 0}, 3},
		{"b", b, []uint32{10, 15, 3, 0}, 3},
		{"part of the head", head[:2], []uint32{2, 2, 2, 0}, 3},
		{"goes on after a", prompt(a, 30, 5), []uint32{20, 10, 3, 0}, 3},
		{"leaves a in the middle of a run", prompt(a[:13], 30, 6), []uint32{13, 10, 3, 0}, 3},
		{"other", other, []uint32{0, 5, 0, 0}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := []uint32{9, 9, 9, 9} // must be overwritten
			if n := x.Match(tt.prompt, out); n != tt.n || !slices.Equal(out, tt.want) {
				t.Errorf("Match = %d %v, want %d %v", n, out, tt.n, tt.want)
			}
			longer := make([]uint32, 7)
			if n := x.Match(tt.prompt, longer); n != tt.n || !slices.Equal(longer[:4], tt.want) {
				t.Errorf("Match with room = %d %v, want %d %v", n, longer, tt.n, tt.want)
			}
			short := make([]uint32, 1)
			if n := x.Match(tt.prompt, short); n > 1 || short[0] != tt.want[0] {
				t.Errorf("Match with one slot = %d %v, want %v", n, short, tt.want[:1])
			}
		})
	}
}

func TestTrapPrefixCountedAlthoughFirstBlockMissing(t *testing.T) {
	x, eps := newIndex(t, prefixindex.Options{DefaultCapacity: 8}, 1)
	e := eps[0]
	p := prompt(nil, 6, 1)
	x.Record(e, p)
	// The same blocks without the first one are another prompt.
	wantHeld(t, x, e, p[1:], 0)
	// Once the first block is gone nothing behind it counts, on whatever branch.
	x.Record(e, prompt(p[:3], 5, 2))
	if got := x.Truncate(e, p, 0); got != 8 {
		t.Errorf("Truncate at 0 dropped %d blocks, want 8", got)
	}
	wantHeld(t, x, e, p, 0)
	wantHeld(t, x, e, prompt(p[:3], 5, 2), 0)
	check(t, x)
	if s := x.Stats(); s.Held != 0 || s.Nodes != 0 {
		t.Errorf("stats = %+v, want nothing held", s)
	}
}

func TestTrapEvictionDropsHeadBeforeTail(t *testing.T) {
	x, eps := newIndex(t, prefixindex.Options{DefaultCapacity: 10}, 1)
	e := eps[0]
	old := prompt(nil, 10, 1)
	x.Record(e, old)
	for n := 1; n <= 9; n++ { // each makes the old one lose one block more, at its end
		x.Record(e, prompt(nil, n, 2))
		wantHeld(t, x, e, old, 10-n)
		wantHeld(t, x, e, prompt(nil, n, 2), n)
		check(t, x)
	}
	// A head that others go on from outlives their tails.
	x.Reset(e)
	head := prompt(nil, 4, 3)
	for i := range 20 {
		x.Record(e, prompt(head, 7, uint64(10+i)))
		wantHeld(t, x, e, head, 4)
		check(t, x)
	}
	wantHeld(t, x, e, prompt(head, 7, 29), 7)
	wantHeld(t, x, e, prompt(head, 7, 28), 7)
	wantHeld(t, x, e, prompt(head, 7, 27), 4)
	// A prompt longer than all there is keeps its beginning.
	long := prompt(nil, 25, 4)
	x.Record(e, long)
	wantHeld(t, x, e, long, 10)
	check(t, x)
}

func TestTrapCapacityInOneBlockSizeUsedWithAnother(t *testing.T) {
	// An engine with 31,250 blocks of 16 tokens, at 4 bytes a token.
	const engineBlocks, tokensPerBlock = 31250, 16
	for _, tt := range []struct {
		blockBytes int
		perToken   float64
		want       int
	}{{64, 0, 31250}, {256, 0, 7812}, {1024, 0, 1953}, {256, 3.2, 6250}} {
		x, eps := newIndex(t, prefixindex.Options{BlockBytes: tt.blockBytes, BytesPerToken: tt.perToken, DefaultCapacity: 5}, 1)
		x.SetCapacityTokens(eps[0], engineBlocks*tokensPerBlock)
		if _, got := x.Usage(eps[0]); got != tt.want {
			t.Errorf("capacity in blocks of %d bytes = %d, want %d", tt.blockBytes, got, tt.want)
		}
		x.SetCapacityTokens(eps[0], 0)
		if _, got := x.Usage(eps[0]); got != 5 {
			t.Errorf("capacity when unknown = %d, want the default of 5", got)
		}
		// The default has the same size in bytes whatever the block.
		y, eps := newIndex(t, prefixindex.Options{BlockBytes: tt.blockBytes}, 1)
		if _, got := y.Usage(eps[0]); got != 500_000*4/tt.blockBytes {
			t.Errorf("default capacity in blocks of %d bytes = %d", tt.blockBytes, got)
		}
	}
}

func TestTrapEntryOutlivesEndpoint(t *testing.T) {
	x, eps := newIndex(t, prefixindex.Options{}, 3)
	p := prompt(nil, 20, 1)
	for _, e := range eps {
		x.Record(e, p)
		x.Record(e, prompt(p[:5], 9, 2))
	}
	gone := eps[1]
	x.Remove(gone)
	check(t, x)
	out := make([]uint32, 3)
	if n := x.Match(p, out); n != 2 || !slices.Equal(out, []uint32{20, 0, 20}) {
		t.Errorf("after Remove, Match = %d %v", n, out)
	}
	next := x.Add()
	if next.Slot() != gone.Slot() {
		t.Errorf("slot %d is free and %d was given", gone.Slot(), next.Slot())
	}
	wantHeld(t, x, next, p, 0)
	// What comes late for the one that has gone does not count for its successor.
	x.Record(gone, p)
	x.SetCapacity(gone, 1)
	x.Observe(gone, 9, 0)
	wantHeld(t, x, next, p, 0)
	x.Record(next, p)
	x.Truncate(gone, p, 0)
	x.Reset(gone)
	x.Remove(gone)
	wantHeld(t, x, next, p, 20)
	if n := x.MatchOne(gone, p); n != 0 {
		t.Errorf("a removed endpoint holds %d blocks", n)
	}
	if _, c := x.Usage(next); c != x.Options().DefaultCapacity {
		t.Errorf("capacity %d was changed through a removed endpoint", c)
	}
	var zero prefixindex.Endpoint
	x.Remove(zero)
	if n := x.Record(zero, p); n != 0 {
		t.Errorf("Record for the zero Endpoint = %d", n)
	}
	// Restarted: it is there and has nothing.
	x.Reset(eps[0])
	wantHeld(t, x, eps[0], p, 0)
	wantHeld(t, x, eps[2], p, 20)
	check(t, x)
}

func TestTruncate(t *testing.T) {
	head := prompt(nil, 6, 1)
	a, b, c := prompt(head, 10, 2), prompt(head, 9, 3), prompt(a10(head), 14, 4)
	tests := []struct {
		name    string
		prompt  []uint64
		keep    int
		dropped int
		a, b, c int
	}{
		{"nothing", a, 10, 0, 10, 9, 14},
		{"beyond what is held", prompt(b, 12, 5), 10, 0, 10, 9, 14},
		{"another prompt", prompt(nil, 3, 7), 0, 0, 10, 9, 14},
		{"tail", b, 8, 1, 10, 8, 14},
		{"whole branch", b, 6, 3, 10, 6, 14},
		{"the branch and what grew on it", a, 9, 5, 9, 9, 9},
		{"inside the shared head", b, 5, 1 + 3 + 8, 5, 5, 5},
		{"all", head, 0, 17, 0, 0, 0},
		{"all, keep below zero", head, -1, 17, 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, eps := newIndex(t, prefixindex.Options{}, 2)
			for _, e := range eps {
				for _, p := range [][]uint64{a, b, c} {
					x.Record(e, p)
				}
			}
			require.Equal(t, tt.dropped, x.Truncate(eps[0], tt.prompt, tt.keep), "Truncate")
			check(t, x)
			wantHeld(t, x, eps[0], a, tt.a)
			wantHeld(t, x, eps[0], b, tt.b)
			wantHeld(t, x, eps[0], c, tt.c)
			wantHeld(t, x, eps[1], a, 10)
			wantHeld(t, x, eps[1], b, 9)
			wantHeld(t, x, eps[1], c, 14)
		})
	}
}

func a10(head []uint64) []uint64 { return prompt(head, 10, 2) }

func TestObserve(t *testing.T) {
	x, eps := newIndex(t, prefixindex.Options{}, 1)
	e := eps[0]
	capacity := func() int {
		_, c := x.Usage(e)
		return c
	}
	x.SetCapacity(e, 10000)
	x.Record(e, prompt(nil, 8000, 1))
	x.Observe(e, 10, 9)
	require.Equal(t, 9900, capacity(), "after one prediction too long, capacity")
	x.Observe(e, 10, 10)
	x.Observe(e, 0, 3)
	if got, want := capacity(), 9909; got != want {
		t.Errorf("after two that held, capacity = %d, want %d", got, want)
	}
	before := capacity()
	x.Observe(e, 0, 0)
	if got := capacity(); got != before {
		t.Errorf("nothing predicted and nothing found moved the capacity from %d to %d", before, got)
	}
	for range 1000 {
		x.Observe(e, 10, 0)
	}
	if got := capacity(); got != 312 {
		t.Errorf("capacity fell to %d, want to stop at 312", got)
	}
	wantHeld(t, x, e, prompt(nil, 8000, 1), 312)
	check(t, x)
	x.SetCapacity(e, 10000) // told again what was told before
	if got := capacity(); got != 312 {
		t.Errorf("the same capacity again made it %d", got)
	}
	for range 10000 {
		x.Observe(e, 10, 10)
	}
	if got := capacity(); got != 10000 {
		t.Errorf("capacity grew to %d, want to stop at 10000", got)
	}
	x.Observe(e, 10, 0)
	x.SetCapacity(e, 500)
	if got := capacity(); got != 500 {
		t.Errorf("capacity = %d after it was set to 500", got)
	}
	x.SetCapacity(e, math.MaxInt)
	x.SetCapacity(e, -1)
	if got := capacity(); got != 7812 {
		t.Errorf("capacity = %d after it was said to be unknown", got)
	}
	check(t, x)
}

func TestMaxPromptBlocks(t *testing.T) {
	x, eps := newIndex(t, prefixindex.Options{MaxPromptBlocks: 100}, 1)
	p := prompt(nil, 300, 1)
	require.Equal(t, 100, x.Record(eps[0], p), "Record")
	wantHeld(t, x, eps[0], p, 100)
	check(t, x)
}

// Memory stays within its bound under every mix, and what was used last stays.
func TestMaxBytes(t *testing.T) {
	if raceEnabled {
		t.Skip("it is one goroutine, and long")
	}
	const limit = 2 << 20
	x, eps := newIndex(t, prefixindex.Options{MaxBytes: limit}, 50)
	r := rand.New(rand.NewPCG(1, 1))
	head := prompt(nil, 30, 1)
	phases := []func(i int) []uint64{
		func(i int) []uint64 { return prompt(nil, 1, uint64(i)) },                       // many small nodes
		func(i int) []uint64 { return prompt(nil, 2000, uint64(i)) },                    // few large ones
		func(i int) []uint64 { return prompt(head[:r.IntN(30)], 40, uint64(i)) },        // branches everywhere
		func(i int) []uint64 { return prompt(nil, 200, uint64(i%5))[:1+r.IntN(199)] },   // ends everywhere
		func(i int) []uint64 { return prompt(nil, 1+r.IntN(500), uint64(r.IntN(300))) }, // returning
	}
	for round := range 2 {
		for k, phase := range phases {
			for i := range 15000 / (1 + 4*(k%2)) {
				p := phase(1 + i + 100000*(k+10*round))
				e := eps[r.IntN(len(eps))]
				x.Record(e, p)
				if got := x.MatchOne(e, p); got != len(p) {
					t.Fatalf("phase %d: %d of %d blocks are left of what was just recorded", k, got, len(p))
				}
				if s := x.Stats(); s.Bytes > limit {
					t.Fatalf("phase %d: %d bytes, want at most %d", k, s.Bytes, limit)
				}
			}
			check(t, x)
			if s := x.Stats(); s.Held*10 < 20000 {
				t.Errorf("phase %d: only %+v fits", k, s)
			}
		}
	}
	for _, e := range eps {
		x.Remove(e)
	}
	check(t, x)
	if s := x.Stats(); s.Bytes > limit/10 || s.Evicted == 0 {
		t.Errorf("emptied: %+v", s)
	}
}

// Who was used least recently goes first, over all endpoints.
func TestMaxBytesEvictsGloballyLeastRecent(t *testing.T) {
	x, eps := newIndex(t, prefixindex.Options{MaxBytes: 1 << 20, DefaultCapacity: 1 << 20}, 10)
	kept := prompt(nil, 100, 1)
	x.Record(eps[3], kept)
	for i := range 5000 {
		x.Record(eps[i%10], prompt(nil, 100, uint64(10+i)))
		if i%100 == 0 {
			x.Record(eps[3], kept)
		}
	}
	check(t, x)
	wantHeld(t, x, eps[3], kept, 100)
	wantHeld(t, x, eps[9], prompt(nil, 100, 5009), 100)
	wantHeld(t, x, eps[0], prompt(nil, 100, 10), 0)
	oldest := 0
	for i := range 5000 {
		n := x.MatchOne(eps[i%10], prompt(nil, 100, uint64(10+i)))
		if n == 0 && oldest > 0 {
			t.Fatalf("prompt %d is gone and an older one is there", i)
		}
		if n > 0 {
			oldest++
		}
	}
}

// A million tokens on top of a head that everybody has, parting at every block:
// time and nodes grow with what is sent, not with its square.
func TestAdversarialDivergences(t *testing.T) {
	if raceEnabled {
		t.Skip("it is one goroutine, and long")
	}
	x, eps := newIndex(t, prefixindex.Options{DefaultCapacity: 20000}, 20)
	long := prompt(nil, 4096, 1)
	for _, e := range eps {
		x.Record(e, long)
	}
	if s := x.Stats(); s.Nodes != 1 || s.Blocks != 4096 {
		t.Errorf("one prompt: %+v", s)
	}
	for i := 1; i < 4096; i++ {
		x.Record(eps[i%20], prompt(long[:i], i+1, uint64(i+10)))
	}
	check(t, x)
	if s := x.Stats(); s.Nodes > 2*4096 || s.Bytes > 32<<20 {
		t.Errorf("after 4095 divergences: %+v", s)
	}
	for _, e := range eps {
		wantHeld(t, x, e, long, 4096)
	}
	// The branches go, the trunk is whole again where nothing keeps it apart.
	for _, e := range eps[1:] {
		x.Remove(e)
	}
	for i := 20; i < 4096; i += 20 {
		x.Truncate(eps[0], prompt(long[:i], i+1, uint64(i+10)), i)
	}
	for range 4096 / 10 {
		x.Record(eps[0], long)
	}
	check(t, x)
	wantHeld(t, x, eps[0], long, 4096)
	if s := x.Stats(); s.Blocks != 4096 || s.Nodes > 2 {
		t.Errorf("after the branches have gone: %+v", s)
	}
}

// Equal hashes where none should be, which somebody who knows the seed could
// construct, may mislead but must not break anything.
func TestForgedHashes(t *testing.T) {
	if raceEnabled {
		t.Skip("it is one goroutine, and long")
	}
	x, eps := newIndex(t, prefixindex.Options{DefaultCapacity: 50}, 3)
	r := rand.New(rand.NewPCG(5, 6))
	out := make([]uint32, 3)
	for i := range 20000 {
		p := make([]uint64, r.IntN(12))
		for j := range p {
			p[j] = uint64(r.IntN(4))
		}
		e := eps[r.IntN(3)]
		switch r.IntN(4) {
		case 0:
			x.Truncate(e, p, r.IntN(len(p)+1))
		default:
			x.Record(e, p)
		}
		x.Match(p, out)
		require.NoError(t, x.Check(), "step %d", i)
	}
}

func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	x, eps := newIndex(t, prefixindex.Options{}, 200)
	p := conversation(x, eps, 40)
	text := noise(32<<10, 1)
	hashes := make([]uint64, 0, 128)
	out := make([]uint32, x.Slots())
	i := 0
	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"hash", func() {
			h := x.Hasher(prefixindex.Seed("model", "adapter", "salt"))
			hashes = h.Append(hashes[:0], text[:1000])
			hashes = h.Append(hashes, text[1000:])
		}},
		{"Match", func() { x.Match(p, out) }},
		{"MatchOne", func() { x.MatchOne(eps[7], p) }},
		{"Record of what is held", func() { x.Record(eps[i%200], p); i++ }},
		{"Record of a beginning and the whole", func() { x.Record(eps[5], p[:50]); x.Record(eps[5], p) }},
		{"Truncate and Record of a tail", func() { x.Truncate(eps[5], p, 119); x.Record(eps[5], p) }},
		{"Observe", func() { x.Observe(eps[1], 1, 2) }},
		{"Stats", func() { x.Stats() }},
	} {
		if n := testing.AllocsPerRun(100, tt.f); n != 0 {
			t.Errorf("%s allocates %v times", tt.name, n)
		}
	}
	check(t, x)
}

func TestConcurrentUse(t *testing.T) {
	x, eps := newIndex(t, prefixindex.Options{DefaultCapacity: 300, MaxBytes: 1 << 20}, 20)
	heads := [][]uint64{prompt(nil, 10, 1), prompt(nil, 30, 2), prompt(nil, 3, 3)}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			own := x.Add()
			for range 1500 {
				head := heads[r.IntN(3)]
				p := prompt(head[:1+r.IntN(len(head))], 40, uint64(r.IntN(50)))
				e := eps[r.IntN(len(eps))]
				switch r.IntN(12) {
				case 0:
					x.Truncate(e, p, r.IntN(40))
				case 1:
					x.Observe(e, 10, r.IntN(20))
				case 2:
					x.Remove(own)
					x.Record(own, p)
					own = x.Add()
				case 3:
					x.Reset(own)
				case 4:
					x.SetCapacity(e, 100+r.IntN(300))
				case 5:
					x.Record(own, p)
				case 6, 7:
					x.Record(e, p)
				case 8:
					x.Stats()
					x.Usage(e)
				default:
					out := make([]uint32, x.Slots())
					n, positive := x.Match(p, out), 0
					for _, v := range out {
						if v > 0 {
							positive++
						}
						if v > 40 {
							t.Errorf("Match says %d of 40 blocks", v)
						}
					}
					if n != positive {
						t.Errorf("Match = %d, and %d slots are positive", n, positive)
					}
					x.MatchOne(e, p)
					x.AppendAnchors(nil, e, 1+r.IntN(50))
				}
			}
			x.Remove(own)
		})
	}
	for range 20 {
		require.NoError(t, x.Check())
	}
	wg.Wait()
	check(t, x)
}

func TestNewRefusesOptions(t *testing.T) {
	for _, tt := range []struct {
		o    prefixindex.Options
		want string
	}{
		{prefixindex.Options{BlockBytes: 100}, "blockBytes is 100, want a multiple of 64 from 64 to 65536, or 0 for the default 256"},
		{prefixindex.Options{BlockBytes: -64}, "blockBytes is -64"},
		{prefixindex.Options{BlockBytes: 1 << 17}, "blockBytes is 131072"},
		{prefixindex.Options{MaxBytes: 1000}, "maxBytes is 1000, want at least 1048576"},
		{prefixindex.Options{MaxBytes: -1}, "maxBytes is -1"},
		{prefixindex.Options{DefaultCapacity: -5}, "capacityBlocks is -5, want 1 to 1073741824, or 0 for the default 7812"},
		{prefixindex.Options{MaxPromptBlocks: -5}, "maxPromptBlocks is -5"},
		{prefixindex.Options{BytesPerToken: -0.5}, "bytesPerToken is -0.5"},
		{prefixindex.Options{BytesPerToken: math.NaN()}, "bytesPerToken is NaN"},
	} {
		if _, err := prefixindex.New(tt.o); err == nil || !strings.HasPrefix(err.Error(), "prefixindex: "+tt.want) {
			t.Errorf("New(%+v) = %v, want %q", tt.o, err, tt.want)
		}
	}
}

// The same calls give the same answers, whatever was drawn for the table.
func TestDeterministic(t *testing.T) {
	run := func() string {
		x, eps := newIndex(t, prefixindex.Options{MaxBytes: 1 << 20}, 30)
		r := rand.New(rand.NewPCG(1, 2))
		var log strings.Builder
		out := make([]uint32, 30)
		for range 3000 {
			p := prompt(prompt(nil, 20, uint64(r.IntN(20)))[:1+r.IntN(20)], 60, uint64(r.IntN(200)))
			x.Record(eps[r.IntN(30)], p)
			fmt.Fprintln(&log, x.Match(p, out), out)
		}
		s := x.Stats()
		fmt.Fprintln(&log, s)
		return log.String()
	}
	if first, second := run(), run(); first != second {
		t.Error("two runs of the same calls differ")
	}
}
