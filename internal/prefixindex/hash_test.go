package prefixindex_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/stretchr/testify/require"
)

func hashOf(block int, seed uint64, spans ...[]byte) []uint64 {
	h := prefixindex.NewHasher(block, seed)
	var out []uint64
	for _, s := range spans {
		out = h.Append(out, s)
	}
	return out
}

func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestTrapHashIgnoresBytesOfBlock(t *testing.T) {
	for _, block := range []int{64, 128, 256, 1024} {
		for name, text := range map[string][]byte{
			"noise": noise(3*block, 7), "zero": make([]byte, 3*block),
			"ones": bytes.Repeat([]byte{0xff}, 3*block), "text": bytes.Repeat([]byte("a"), 3*block),
		} {
			want := hashOf(block, 1, text)
			seen := map[uint64]bool{want[1]: true}
			flipped := 0
			for i := block; i < 2*block; i++ {
				for bit := range 8 {
					text[i] ^= 1 << bit
					got := hashOf(block, 1, text)
					if got[0] != want[0] {
						t.Fatalf("block %d %s: byte %d changed the block before its own", block, name, i)
					}
					if seen[got[1]] || got[2] == want[2] {
						t.Fatalf("block %d %s: bit %d of byte %d does not count", block, name, bit, i)
					}
					seen[got[1]] = true
					flipped += bits.OnesCount64(got[1] ^ want[1])
					text[i] ^= 1 << bit
				}
			}
			if mean := float64(flipped) / float64(8*block); mean < 30 || mean > 34 {
				t.Errorf("block %d %s: one bit of input flips %.1f bits of the hash on average, want about 32", block, name, mean)
			}
		}
	}
}

func TestHasherSpans(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, block := range []int{64, 192, 256, 512} {
		text := noise(10*block+100, 3)
		want := hashOf(block, 42, text)
		if len(want) != 10+100/block {
			t.Fatalf("block %d: %d hashes of %d bytes", block, len(want), len(text))
		}
		for size := 1; size < 2*block; size += 1 + size/20 {
			if got := hashOf(block, 42, slices.Collect(slices.Chunk(text, size))...); !slices.Equal(got, want) {
				t.Fatalf("block %d: pieces of %d bytes hash differently", block, size)
			}
		}
		for range 500 {
			var spans [][]byte
			for rest := text; len(rest) > 0; {
				n := min(r.IntN(1<<r.IntN(11)), len(rest)) // also empty ones
				spans = append(spans, rest[:n])
				rest = rest[n:]
			}
			if got := hashOf(block, 42, spans...); !slices.Equal(got, want) {
				t.Fatalf("block %d: spans of other lengths hash differently", block)
			}
		}
	}
}

func FuzzHasherSpans(f *testing.F) {
	f.Add([]byte("some prompt"), []byte{3, 4, 0, 200}, uint64(1))
	f.Fuzz(func(t *testing.T, text, cuts []byte, seed uint64) {
		want := hashOf(64, seed, text)
		if len(want) != len(text)/64 {
			t.Fatalf("%d hashes of %d bytes", len(want), len(text))
		}
		var spans [][]byte
		rest := text
		for _, c := range cuts {
			n := min(int(c), len(rest))
			spans = append(spans, rest[:n])
			rest = rest[n:]
		}
		if got := hashOf(64, seed, append(spans, rest)...); !slices.Equal(got, want) {
			t.Fatalf("spans %q give %x, contiguous %x", spans, got, want)
		}
	})
}

func TestHasherChain(t *testing.T) {
	text := noise(8*256, 5)
	all := hashOf(256, 9, text)
	for n := range 9 {
		if got := hashOf(256, 9, text[:n*256]); !slices.Equal(got, all[:n]) {
			t.Errorf("the first %d blocks hash differently without the rest", n)
		}
	}
	// Equal blocks at different places, and the same block after another, differ.
	same := hashOf(256, 9, bytes.Repeat(text[:256], 8))
	slices.Sort(same)
	if len(slices.Compact(same)) != 8 {
		t.Error("equal blocks at different depths have equal hashes")
	}
	swapped := hashOf(256, 9, text[256:512], text[:256], text[512:])
	if swapped[1] == all[1] || swapped[7] == all[7] {
		t.Error("the order of blocks does not count")
	}
	if other := hashOf(256, 10, text); other[0] == all[0] {
		t.Error("the seed does not count")
	}
}

// Last partial blocks have no hash, whatever is in them.
func TestHasherPartialBlock(t *testing.T) {
	text := noise(700, 5)
	want := hashOf(256, 0, text[:512])
	for n := 512; n < 700; n++ {
		if got := hashOf(256, 0, text[:n]); !slices.Equal(got, want) {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
	}
}

func TestHasherCollisions(t *testing.T) {
	n := 1_000_000
	if testing.Short() || raceEnabled {
		n = 100_000
	}
	seen := make(map[uint64]struct{}, 2*n)
	base := []byte(strings.Repeat("You are a helpful assistant. ", 9)[:256])
	note := func(what string, i int, h uint64) {
		if _, ok := seen[h]; ok {
			t.Fatalf("%s %d collides", what, i)
		}
		seen[h] = struct{}{}
	}
	for i := range n / 2 { // a counter at a moving place
		b := slices.Clone(base)
		binary.LittleEndian.PutUint32(b[(i%63)*4:], uint32(i)+1<<24)
		note("counter", i, hashOf(256, 1, b)[0])
	}
	r := rand.New(rand.NewPCG(3, 4))
	tried := map[string]bool{}
	for i := range n / 2 { // a few bits at random places
		b := slices.Clone(base)
		for range 2 + r.IntN(3) {
			b[r.IntN(256)] ^= 1 << r.IntN(8)
		}
		if key := string(b); !tried[key] {
			tried[key] = true
			note("flips", i, hashOf(256, 1, b)[0])
		}
	}
}

// Hashes are shared between processes and kept in recordings: they never change.
func TestHasherGolden(t *testing.T) {
	count := make([]byte, 1024)
	for i := range count {
		count[i] = byte(i * 7)
	}
	tests := []struct {
		block int
		seed  uint64
		text  []byte
		want  string
	}{
		{64, 0, make([]byte, 128), "[89bba0cf1171a89b 438a9216fde494cc]"},
		{256, 0, count, "[c130c3cdb443d952 ae6fc309512c2e4c 30cd48b1969999d3 775c64eda4780334]"},
		{256, prefixindex.Seed("llama", "adapter", ""), count[:512], "[46110628a063c616 5932e3a12acc5ea0]"},
		{512, 1, []byte(strings.Repeat("prompt", 200)), "[e2f539baaafdb79b 5781c1d21e24b357]"},
	}
	for i, tt := range tests {
		require.Equal(t, tt.want, fmt.Sprintf("%016x", hashOf(tt.block, tt.seed, tt.text)), "case %d: hashes", i)
	}
}

func TestSeed(t *testing.T) {
	long := strings.Repeat("x", 40)
	lists := [][]string{
		nil, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"ab", "c"}, {"a", "bc"}, {"abc"}, {"a", "b", "c"},
		{"a\x00"}, {"\x00"}, {"\x00\x00"}, {long}, {long + "\x00"}, {long[:16]}, {long[:16], long[16:]}, {long[:32]},
	}
	seen := map[uint64][]string{}
	for _, l := range lists {
		s := prefixindex.Seed(l...)
		if other, ok := seen[s]; ok {
			t.Errorf("Seed(%q) = Seed(%q)", l, other)
		}
		seen[s] = l
	}
	if got, want := prefixindex.Seed("model", "adapter"), uint64(0x19292933bb7fc5c2); got != want {
		t.Errorf("Seed(model, adapter) = %#x, want %#x", got, want)
	}
}

func TestNewHasherRefusesBlockSize(t *testing.T) {
	for _, n := range []int{-1, 0, 1, 63, 65, 100, 1<<16 + 64} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("NewHasher(%d) did not panic", n)
				}
			}()
			prefixindex.NewHasher(n, 0)
		}()
	}
}

func BenchmarkHash(b *testing.B) {
	for _, size := range []int{1 << 10, 32 << 10, 1 << 20} {
		text := noise(size, 1)
		for _, span := range []int{size, 1000, 100} {
			b.Run(fmt.Sprintf("bytes=%d/span=%d", size, span), func(b *testing.B) {
				spans := slices.Collect(slices.Chunk(text, span))
				dst := make([]uint64, 0, size/256)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					h := prefixindex.NewHasher(256, 1)
					dst = dst[:0]
					for _, s := range spans {
						dst = h.Append(dst, s)
					}
				}
			})
		}
	}
}

func BenchmarkSeed(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		prefixindex.Seed("meta-llama/Llama-3.1-8B-Instruct", "adapter", "tenant")
	}
}
