package plugins_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// tokenEngine is an engine's cache of blocks of 16 tokens that names them by a hash of its own.
type tokenEngine struct {
	endpoint string
	sink     *plugins.KVSink
	held     map[uint64]bool
	next     map[uint64]int // blocks held that come after one
}

// names are what the engine calls the blocks of a prompt.
func (e *tokenEngine) names(adapter, salt string, ids []uint32) (hashes []uint64) {
	h := fnv.New64a()
	fmt.Fprint(h, adapter, "/", salt)
	for i := 0; i+16 <= len(ids); i += 16 {
		fmt.Fprint(h, ids[i:i+16])
		hashes = append(hashes, h.Sum64())
	}
	return hashes
}

// cached is how many tokens of a prompt the engine would find in its cache: it computes the last one always.
func (e *tokenEngine) cached(adapter, salt string, ids []uint32) (tokens int) {
	for _, h := range e.names(adapter, salt, ids[:len(ids)-1]) {
		if !e.held[h] {
			break
		}
		tokens += 16
	}
	return tokens
}

// store computes a sequence, and tells of the blocks that are new, the first of which may be told of later.
func (e *tokenEngine) store(adapter, salt string, ids []uint32) {
	hashes := e.names(adapter, salt, ids)
	n := e.cached(adapter, salt, append(ids[:len(ids):len(ids)], 0)) / 16
	if n == len(hashes) {
		return
	}
	ev := types.KVEvent{
		Kind: types.KVStored, Hashes: hashes[n:], BlockSize: 16, Tokens: ids[n*16 : len(hashes)*16], Adapter: adapter, Full: true,
	}
	if n > 0 {
		ev.HasParent, ev.Parent = true, hashes[n-1]
	} else {
		ev.Salt = salt
	}
	for i, h := range hashes {
		if !e.held[h] && i > 0 {
			e.next[hashes[i-1]]++
		}
		e.held[h] = true
	}
	e.sink.Apply(e.endpoint, 0, []types.KVEvent{ev})
}

// drop drops the end of a sequence, the last block first, as far as nothing else goes on from there: so
// engines evict.
func (e *tokenEngine) drop(adapter, salt string, ids []uint32, keep int) {
	hashes := e.names(adapter, salt, ids)
	for i := len(hashes) - 1; i >= keep && e.next[hashes[i]] == 0; i-- {
		if !e.held[hashes[i]] {
			continue
		}
		if delete(e.held, hashes[i]); i > 0 {
			e.next[hashes[i-1]]--
		}
		e.sink.Apply(e.endpoint, 0, []types.KVEvent{{Kind: types.KVRemoved, Hashes: hashes[i : i+1], Full: true}})
	}
}

// Where events bring token ids and prompts are given as such, the index is the engine's cache to the block,
// of the first request on, also of what others sent, and without a session: base model and adapter, with
// salts, answers that go on as prompts, prompts that part anywhere, evictions.
func TestKVSinkByTokens(t *testing.T) {
	oneGoroutine(t)
	p := mustPrefix(t, plugins.PrefixOptions{BlockBytes: 64})
	sink, err := p.KVSink(plugins.KVOptions{Model: "base"})
	require.NoError(t, err)
	eps := idle(3)
	var engines []*tokenEngine
	for _, ep := range eps {
		engines = append(engines, &tokenEngine{ep.ID, sink, map[uint64]bool{}, map[uint64]int{}})
	}
	_ = prefixScores(t, p, schedulingtest.Request("to be met"), eps...)
	r := rand.New(rand.NewPCG(1, 2))
	type known struct {
		adapter, salt string
		ids           []uint32
	}
	var all []known
	asked, hits := 0, 0
	for range 2000 {
		k := known{adapter: []string{"", "", "ad"}[r.IntN(3)], salt: []string{"", "", "s1", "s2"}[r.IntN(4)]}
		if len(all) > 0 && r.IntN(4) > 0 { // it goes on from some place of another
			k = all[r.IntN(len(all))]
			k.ids = k.ids[:r.IntN(len(k.ids))]
		}
		for range 1 + r.IntN(100) {
			k.ids = append(k.ids[:len(k.ids):len(k.ids)], r.Uint32N(1000))
		}
		all = append(all, k)
		req := &types.Request{Model: k.adapter, CacheSalt: k.salt, Prompt: types.TokenPrompt(k.ids)}
		if k.adapter == "" {
			req.Model = "base"
		}
		for i, ep := range eps {
			want := engines[i].cached(k.adapter, k.salt, k.ids)
			require.Equal(t, want/16, min(p.CachedTokens(req, ep), len(k.ids)-1)/16, "%d tokens", len(k.ids))
			asked, hits = asked+1, hits+min(want, 1)
		}
		e := engines[r.IntN(3)]
		e.store(k.adapter, k.salt, k.ids) // by whom it was sent, nobody knows
		if r.IntN(2) == 0 {
			old := all[r.IntN(len(all))]
			e.drop(old.adapter, old.salt, old.ids, r.IntN(1+len(old.ids)/16))
		}
	}
	require.Greater(t, hits, asked/8)
	require.Equal(t, sink.Stats().Blocks, sink.Stats().Bound)
	require.Zero(t, sink.Stats().Conflict)
}

// What depends on more than tokens is bound up to there; a block whose beginning is not known, not at all;
// blocks of another size neither.
func TestKVSinkByTokensBounds(t *testing.T) {
	ids := make([]uint32, 64)
	for i := range ids {
		ids[i] = uint32(i)
	}
	hashes := []uint64{1, 2, 3, 4}
	for _, tt := range []struct {
		name string
		ev   types.KVEvent
		want int
	}{
		{"all", types.KVEvent{Hashes: hashes, BlockSize: 16, Tokens: ids}, 4},
		{"an image in the third", types.KVEvent{Hashes: hashes, BlockSize: 16, Tokens: ids[:32]}, 2},
		{"no tokens", types.KVEvent{Hashes: hashes, BlockSize: 16}, 0},
		{"larger blocks", types.KVEvent{Hashes: hashes[:2], BlockSize: 32, Tokens: ids}, 0},
		{"unknown beginning", types.KVEvent{Hashes: hashes, BlockSize: 16, Tokens: ids, HasParent: true, Parent: 9}, 0},
		{"another adapter", types.KVEvent{Hashes: hashes, BlockSize: 16, Tokens: ids, Adapter: "ad"}, 0},
		{"another salt", types.KVEvent{Hashes: hashes, BlockSize: 16, Tokens: ids, Salt: "s"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := mustPrefix(t, plugins.PrefixOptions{BlockBytes: 64})
			sink, err := p.KVSink(plugins.KVOptions{Model: "base"})
			require.NoError(t, err)
			tt.ev.Full = true
			ep := idle(1)[0]
			req := &types.Request{Model: "base", Prompt: types.TokenPrompt(ids)}
			_ = prefixScores(t, p, req, ep) // met
			sink.Apply(ep.ID, 0, []types.KVEvent{tt.ev})
			require.Equal(t, 16*tt.want, p.CachedTokens(&types.Request{Model: "base", Prompt: types.TokenPrompt(ids)}, ep))
		})
	}
}

// A block that was told of before its beginning, and by another server, is bound for both when the beginning
// comes with it.
func TestKVSinkByTokensLate(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{BlockBytes: 64})
	sink, err := p.KVSink(plugins.KVOptions{Model: "base"})
	require.NoError(t, err)
	eps := idle(2)
	ids := make([]uint32, 48)
	req := func() *types.Request { return &types.Request{Model: "base", Prompt: types.TokenPrompt(ids)} }
	_ = prefixScores(t, p, req(), eps...)
	sink.Apply(eps[0].ID, 0, []types.KVEvent{{Hashes: []uint64{1, 2, 3}, BlockSize: 16, Full: true}}) // tokens not told
	require.Zero(t, p.CachedTokens(req(), eps[0]))
	sink.Apply(eps[1].ID, 0, []types.KVEvent{{Hashes: []uint64{1, 2}, BlockSize: 16, Tokens: ids[:32], Full: true}})
	require.Equal(t, 32, p.CachedTokens(req(), eps[0]))
	require.Equal(t, 32, p.CachedTokens(req(), eps[1]))
}

// What was told before the first decision is known to those after it, shortly.
func TestKVSinkByTokensBeforeDecisions(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{BlockBytes: 64})
	sink, err := p.KVSink(plugins.KVOptions{Model: "base"})
	require.NoError(t, err)
	eps := idle(2)
	ids := make([]uint32, 64)
	other := append(ids[:32:32], make([]uint32, 32)...)
	other[40] = 7
	ask := func(ids []uint32, at int) int {
		return p.CachedTokens(&types.Request{Model: "base", Prompt: types.TokenPrompt(ids)}, eps[at])
	}
	for i, ep := range eps {
		e := &tokenEngine{ep.ID, sink, map[uint64]bool{}, map[uint64]int{}}
		e.store("", "", ids)
		e.store("", "", other[:48+16*i])
	}
	_ = prefixScores(t, p, schedulingtest.Request("to be met"), eps...)
	require.Eventually(t, func() bool {
		return ask(ids, 0) == 64 && ask(other, 0) == 48 && ask(ids, 1) == 64 && ask(other, 1) == 64
	}, time.Minute, time.Millisecond)
}

// Of blocks that were told with other tokens before, the last word counts, and it is counted.
func TestKVSinkByTokensConflict(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{BlockBytes: 64})
	sink, err := p.KVSink(plugins.KVOptions{Model: "base"})
	require.NoError(t, err)
	eps := idle(2)
	_ = prefixScores(t, p, schedulingtest.Request("to be met"), eps...)
	ids, lie := make([]uint32, 16), make([]uint32, 16)
	lie[3] = 1
	sink.Apply(eps[0].ID, 0, []types.KVEvent{{Hashes: []uint64{1}, BlockSize: 16, Tokens: lie, Full: true}})
	sink.Apply(eps[1].ID, 0, []types.KVEvent{{Hashes: []uint64{1}, BlockSize: 16, Tokens: ids, Full: true}})
	require.EqualValues(t, 1, sink.Stats().Conflict)
	req := func() *types.Request { return &types.Request{Model: "base", Prompt: types.TokenPrompt(ids)} }
	require.Equal(t, 16, p.CachedTokens(req(), eps[1]))
	sink.Apply(eps[1].ID, 0, []types.KVEvent{removed(1)})
	require.Zero(t, p.CachedTokens(req(), eps[1]))
}
