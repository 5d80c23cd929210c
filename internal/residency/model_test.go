package residency

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// script reads what is to be done from bytes, so that random tests and a fuzzer can do the same.
type script struct {
	data  []byte
	ranks []*Rank
	names int // of sessions so far
}

func (s *script) next() int {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return int(b)
}

// event makes one of any kind: parents that are not known, that come later or that would close a circle,
// blocks that come twice, moves to other tiers of blocks that are known and of others, two groups.
func (s *script) event() types.KVEvent {
	ev := types.KVEvent{Full: s.next()%16 != 0, Group: s.next() % 8 / 7, Tier: types.KVTier(max(s.next()%8-4, 0))}
	switch kind := s.next() % 32; {
	case kind == 0:
		return types.KVEvent{Kind: types.KVCleared}
	case kind < 14:
		ev.Kind = types.KVRemoved
	default:
		ev.Kind, ev.BlockSize = types.KVStored, 16
		if kind == 31 {
			ev.BlockSize = 0
		}
		ev.HasParent, ev.Parent = s.next()%4 != 0, uint64(s.next()%48)
	}
	from := s.next()
	for i := range s.next() % 6 {
		if s.next()%8 == 0 {
			from = s.next()
		}
		ev.Hashes = append(ev.Hashes, uint64((from+i)%48))
	}
	if s.names > 0 && s.next()%2 == 0 {
		ev.SessionID = fmt.Sprint(s.next() % s.names)
	}
	return ev
}

// step does one thing, and tells applied about the events of it.
func (s *script) step(x *Index, emit func(Change), applied func(rank int, ev *types.KVEvent, known []bool), reset func(rank int)) {
	switch what, rank := s.next()%32, s.next()%len(s.ranks); what {
	case 0:
		x.Reset(s.ranks[rank])
		reset(rank)
	case 1:
		x.Drop(s.ranks[rank])
		s.ranks[rank] = x.Add(uint32(rank / 2))
		reset(rank)
	case 2, 3, 4:
		x.Expect(fmt.Sprint(s.names), uint32(rank/2))
		s.names++
	case 5, 6, 7:
		p := Prompt{Tokens: s.next() * 2}
		text := uint64(s.next() % 4)
		for i := range s.next() % 12 {
			p.Hashes = append(p.Hashes, 1000+text*100+uint64(i))
		}
		p.Bytes = len(p.Hashes)*blockBytes + s.next()
		x.Bind(fmt.Sprint(s.next()%(s.names+1)), p, emit)
	case 8:
		x.Forget(fmt.Sprint(s.next() % (s.names + 1)))
	default:
		ev := s.event()
		var known []bool
		for _, h := range ev.Hashes {
			known = append(known, x.byHash.lookup(key(&ev, h)) != 0)
		}
		x.Apply(s.ranks[rank], []types.KVEvent{ev}, emit)
		applied(rank, &ev, known)
	}
}

// check compares what is counted with what there is.
func (x *Index) check(t *testing.T) {
	t.Helper()
	blocks, held, pairs, boundBlocks, resting := 0, 0, 0, 0, 0
	children, refs := map[uint32]uint32{}, map[uint32]uint32{}
	perRank := map[uint32]int{}
	require.NoError(t, x.blocks.Each(func(id uint32, b *block) error {
		blocks++
		require.Equal(t, id, x.byHash.lookup(b.hash))
		if b.holders != 0 {
			held++
		}
		x.holders.each(b.holders, func(holder uint32) { pairs++; perRank[holder]++ })
		if b.parent != 0 && b.parent != root {
			children[b.parent]++
		}
		if b.is(bound) {
			boundBlocks++
		}
		if b.is(queued) {
			resting++
		}
		if b.text != 0 {
			refs[b.text]++
		}
		require.False(t, b.holders == 0 && !b.is(queued) && b.children < child, "a block that is of no use is kept")
		at := id
		for n := 0; at != 0 && at != root; n++ {
			require.Less(t, n, x.blocks.Len()+1, "blocks go in a circle")
			at = x.blocks.At(at).parent
		}
		return nil
	}))
	require.NoError(t, x.blocks.Each(func(id uint32, b *block) error {
		require.Equal(t, children[id], b.children/child)
		return nil
	}))
	require.NoError(t, x.texts.Each(func(id uint32, b *text) error {
		if b.parent != 0 {
			refs[b.parent]++
			require.Equal(t, x.texts.At(b.parent).depth+1, b.depth)
		}
		return nil
	}))
	require.NoError(t, x.texts.Each(func(id uint32, b *text) error {
		require.Equal(t, refs[id], b.refs)
		return nil
	}))
	for n, r := range x.ranks {
		if r != nil {
			require.Equal(t, perRank[uint32(n)], r.blocks)
			delete(perRank, uint32(n))
		}
	}
	require.Empty(t, perRank, "held by nobody")
	s := x.Stats()
	require.Equal(t, []int{blocks, pairs, boundBlocks, held}, []int{s.Blocks, s.Held, s.Bound, x.held})
	require.LessOrEqual(t, blocks-held, x.o.MaxIdle+2*x.o.MaxBlocks*len(x.ranks))
	require.LessOrEqual(t, s.Sessions, x.o.MaxSessions)
}

// checkRetell compares what is retold with what each block that is held says.
func (x *Index) checkRetell(t *testing.T, endpoint uint32) {
	t.Helper()
	type place struct {
		hash uint64
		tier types.KVTier
	}
	want, got := map[place]bool{}, map[place]bool{}
	into := func(all map[place]bool) func(Change) {
		return func(c Change) {
			require.Equal(t, endpoint, c.Endpoint)
			for _, hash := range c.Path[:c.Held] {
				all[place{hash, c.Tier}] = true
			}
		}
	}
	require.NoError(t, x.blocks.Each(func(id uint32, b *block) error {
		if b.text != 0 {
			x.confirm(endpoint, id, into(want))
		}
		return nil
	}))
	x.Retell(endpoint, into(got))
	require.Equal(t, want, got)
}

func newScript(x *Index, data []byte) *script {
	s := &script{data: data}
	for i := range 5 { // two endpoints with two ranks, one with one
		s.ranks = append(s.ranks, x.Add(uint32(i/2)))
	}
	return s
}

// Holders are those of a plain map, whatever is told in whatever order.
func TestHoldersAreThoseOfAMap(t *testing.T) {
	type where struct {
		rank int
		hash uint64
		tier types.KVTier
	}
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 2))
		data := make([]byte, 30_000)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		x := newTest()
		s, want := newScript(x, data), map[where]bool{}
		forget := func(rank int) {
			for w := range want {
				if w.rank == rank {
					delete(want, w)
				}
			}
		}
		applied := func(rank int, ev *types.KVEvent, known []bool) {
			if ev.Kind == types.KVCleared {
				forget(rank)
			}
			if !ev.Full {
				return
			}
			for i, h := range ev.Hashes {
				switch w := (where{rank, key(ev, h), ev.Tier}); {
				case ev.Kind == types.KVRemoved:
					delete(want, w)
				case ev.BlockSize > 0 || known[i]:
					want[w] = true
				}
			}
		}
		for n := 0; len(s.data) > 0; n++ {
			s.step(x, func(Change) {}, applied, forget)
			if n%100 != 0 && len(s.data) > 0 {
				continue
			}
			x.check(t)
			got := map[where]bool{}
			require.NoError(t, x.blocks.Each(func(_ uint32, b *block) error {
				for i, r := range s.ranks {
					for tier := range types.KVTier(types.KVTiers) {
						if x.holders.find(b.holders, []uint32{r.number})>>tier&1 != 0 {
							got[where{i, b.hash, tier}] = true
						}
					}
				}
				return nil
			}))
			require.Equal(t, want, got, "seed %d, step %d", seed, n)
			for endpoint := range uint32(3) {
				x.checkRetell(t, endpoint)
			}
		}
		require.NotZero(t, x.Stats().Conflict)
		for _, r := range s.ranks {
			x.Drop(r)
		}
		x.check(t)
		require.Zero(t, x.Stats().Held)
	}
}

// Whatever is told, nothing panics, all is bounded, and changes never say that more is held than there is
// of a prompt.
func FuzzEvents(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		data := make([]byte, 2000)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x := New(Options{BlockBytes: blockBytes, MaxBlocks: 20, MaxIdle: 6, MaxSessions: 4})
		x.byHash.mult, x.byText.mult = 1<<40+1, 1<<40+1 // so that the same input runs the same code
		s := newScript(x, data)
		emit := func(c Change) {
			require.True(t, c.Cleared || c.Held >= 0 && c.Held <= len(c.Path))
			require.Less(t, c.Tier, types.KVTier(types.KVTiers))
		}
		for n := 0; len(s.data) > 0; n++ {
			s.step(x, emit, func(int, *types.KVEvent, []bool) {}, func(int) {})
			for _, r := range s.ranks {
				require.LessOrEqual(t, r.blocks, x.o.MaxBlocks)
			}
			if n%64 == 0 {
				x.Retell(0, emit)
				x.check(t)
			}
		}
		x.check(t)
	})
}

// An engine that drops the beginnings of prompts and keeps their ends, which nobody can use, cannot make
// the index remember all of them.
func TestEndsWithoutBeginnings(t *testing.T) {
	x := New(Options{BlockBytes: blockBytes, MaxBlocks: 1 << 10, MaxIdle: 100, MaxSessions: 1})
	honest, hostile := x.Add(0), x.Add(1)
	cleared := map[uint32]int{}
	emit := func(c Change) {
		if c.Cleared {
			cleared[c.Endpoint]++
		}
	}
	x.Apply(honest, []types.KVEvent{{Hashes: []uint64{1, 2, 3}, BlockSize: 16, Full: true}}, emit)
	for n := range uint64(1000) {
		hashes := make([]uint64, 50)
		for i := range hashes {
			hashes[i] = 1000 + n*100 + uint64(i)
		}
		x.Apply(hostile, []types.KVEvent{
			{Hashes: hashes, BlockSize: 16, Full: true},
			{Kind: types.KVRemoved, Hashes: hashes[:49], Full: true},
		}, emit)
		require.Less(t, x.Stats().Blocks, 1<<10)
	}
	x.check(t)
	require.Zero(t, cleared[0])
	require.Positive(t, cleared[1])
	require.Positive(t, x.Stats().Refused)
	require.Equal(t, 3, honest.blocks)
}
