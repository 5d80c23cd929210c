package residency

import (
	"math/rand/v2"
	"testing"

	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// steady is servers whose caches are full: each batch stores a prompt and drops an old one, tail first.
type steady struct {
	x       *Index
	ranks   []*Rank
	prompts [][][]uint64 // by rank: hashes of what it holds, the oldest first
	texts   []uint64
	seq     uint64
	shared  []uint64 // the beginning of all prompts
	bind    binding
	emitted int
}

// binding is how blocks are bound to prompts.
type binding int

const (
	byNothing binding = iota
	bySession
	byTokens
)

const (
	promptBlocks = 256 // of an engine
	textBlocks   = promptBlocks / 4
)

func newSteady(ranks, prompts int, bind binding) *steady {
	o := Options{BlockBytes: blockBytes, MaxBlocks: 1 << 20, MaxIdle: 1 << 10, MaxSessions: 1 << 10}
	if bind == byTokens {
		o.BlockBytes, o.Seed = 16*tokenBytes, func(string, string) uint64 { return 1 }
	}
	s := &steady{x: New(o), bind: bind}
	s.shared = s.chain(nil, 32)
	for range ranks {
		s.ranks = append(s.ranks, s.x.Add(uint32(len(s.ranks))))
		s.prompts = append(s.prompts, nil)
	}
	for range prompts {
		for rank := range s.ranks {
			s.store(rank)
		}
	}
	return s
}

// chain goes on from blocks with hashes that nobody else has.
func (s *steady) chain(from []uint64, n int) []uint64 {
	hashes := append(make([]uint64, 0, n), from...)
	for len(hashes) < n {
		s.seq++
		hashes = append(hashes, rand.New(rand.NewPCG(s.seq, 3)).Uint64())
	}
	return hashes
}

// batch is what a server tells of a new prompt. It is made outside of what is measured.
func (s *steady) batch(rank int) []types.KVEvent {
	hashes := s.chain(s.shared, promptBlocks)
	batch := []types.KVEvent{
		{Kind: types.KVStored, Hashes: hashes[32:], HasParent: true, Parent: hashes[31], BlockSize: 16, Full: true, Tokens: s.tokens(hashes[32:])},
	}
	if old := s.prompts[rank]; len(old) > 0 {
		first := old[0]
		gone := make([]uint64, 0, promptBlocks)
		for i := len(first) - 1; i >= 32; i-- {
			gone = append(gone, first[i])
		}
		batch = append(batch, types.KVEvent{Kind: types.KVRemoved, Hashes: gone, Full: true})
		s.prompts[rank] = append(old[1:], hashes)
	}
	return batch
}

// store makes a server hold one prompt more.
func (s *steady) store(rank int) {
	hashes := s.chain(s.shared, promptBlocks)
	s.prompts[rank] = append(s.prompts[rank], hashes)
	s.apply(rank, []types.KVEvent{{Kind: types.KVStored, Hashes: hashes, BlockSize: 16, Full: true, Tokens: s.tokens(hashes)}})
}

// tokens are token ids of blocks, if they are told.
func (s *steady) tokens(hashes []uint64) (ids []uint32) {
	if s.bind != byTokens {
		return nil
	}
	for _, h := range hashes {
		for i := range uint64(16) {
			ids = append(ids, uint32(h>>(2*i))&0x1ffff)
		}
	}
	return ids
}

// apply applies a batch; if prompts are bound, that of the new one.
func (s *steady) apply(rank int, batch []types.KVEvent) {
	emit := func(Change) { s.emitted++ }
	if s.bind != bySession {
		s.x.Apply(s.ranks[rank], batch, emit)
		return
	}
	name := "session"
	batch[0].SessionID = name
	s.x.Expect(name, uint32(rank))
	s.x.Apply(s.ranks[rank], batch, emit)
	s.seq++
	s.texts = s.texts[:0]
	for i := range textBlocks {
		text := uint64(i)
		if i >= 8 {
			text = s.seq<<16 | uint64(i)
		}
		s.texts = append(s.texts, text*0x9e3779b97f4a7c15)
	}
	s.x.Bind(name, Prompt{Hashes: s.texts, Bytes: textBlocks * blockBytes, Tokens: promptBlocks * 16}, emit)
}

// Run the benchmark and compare two versions with
//
//	go test -run '^$' -bench Apply -count 10 ./internal/residency > new.txt
//	benchstat old.txt new.txt
//
// A block that is stored or removed is an event. At ten ranks, caches are full: half are stored, half removed.
func BenchmarkApply(b *testing.B) {
	for _, bb := range []struct {
		name string
		bind binding
	}{{"bound=none", byNothing}, {"bound=all", bySession}, {"bound=tokens", byTokens}} {
		b.Run(bb.name, func(b *testing.B) {
			s := newSteady(10, 100, bb.bind)
			b.ReportAllocs()
			const n = 64
			blocks := 0
			batches := make([][]types.KVEvent, n)
			for i := 0; b.Loop(); i++ {
				if i%n == 0 {
					b.StopTimer()
					for j := range batches {
						batches[j] = s.batch(j % len(s.ranks))
					}
					b.StartTimer()
				}
				s.apply(i%n%len(s.ranks), batches[i%n])
				blocks += 2 * (promptBlocks - 32)
			}
			b.ReportMetric(float64(blocks)/b.Elapsed().Seconds(), "blocks/s")
		})
	}
}

// A block that is held takes no more memory than this, with what binds it to text.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	tests := []struct {
		name    string
		bind    binding
		ranks   int
		prompts int
		most    float64
	}{
		{"not bound", byNothing, 10, 150, 40},
		{"bound", bySession, 10, 150, 48},
		{"one rank", bySession, 1, 1000, 48},
		{"by tokens", byTokens, 10, 150, 64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSteady(tt.ranks, tt.prompts, tt.bind)
			for range 20 {
				for rank := range s.ranks {
					s.apply(rank, s.batch(rank))
				}
			}
			st := s.x.Stats()
			if tt.bind != byNothing {
				require.Greater(t, st.Bound, st.Blocks/2)
			}
			per := float64(st.Bytes) / float64(st.Held)
			t.Logf("%d blocks, held %d times, %d bound: %.1f bytes each", st.Blocks, st.Held, st.Bound, per)
			require.Less(t, per, tt.most)
		})
	}
}

// Applying events allocates nothing, once as much was held before.
func TestApplyDoesNotAllocate(t *testing.T) {
	s := newSteady(4, 50, bySession)
	hashes := s.prompts[0][49]
	stored := types.KVEvent{Kind: types.KVStored, Hashes: hashes, BlockSize: 16, Full: true}
	removed := types.KVEvent{Kind: types.KVRemoved, Full: true}
	for i := len(hashes) - 1; i >= 0; i-- {
		removed.Hashes = append(removed.Hashes, hashes[i])
	}
	batch := []types.KVEvent{stored, removed, stored}
	emitted := 0
	emit := func(Change) { emitted++ }
	for _, rank := range []int{0, 1} { // alone, and where others hold the same
		require.Zero(t, testing.AllocsPerRun(100, func() { s.x.Apply(s.ranks[rank], batch, emit) }))
	}
	require.Positive(t, emitted, "there is something to tell of prompts that are bound")
}
