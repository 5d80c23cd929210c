package plugins_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// An engine of these tests has blocks of 16 tokens of 4 bytes.
const engineBlock = 64

// engineHashes are an engine's names of the blocks of a prompt.
func engineHashes(prompt string) (hashes []uint64) {
	for end := engineBlock; end <= len(prompt); end += engineBlock {
		h := fnv.New64a()
		h.Write([]byte(prompt[:end]))
		hashes = append(hashes, h.Sum64())
	}
	return hashes
}

func stored(session string, hashes []uint64, from int) types.KVEvent {
	ev := types.KVEvent{Kind: types.KVStored, Hashes: hashes[from:], BlockSize: 16, SessionID: session, Full: true}
	if from > 0 {
		ev.HasParent, ev.Parent = true, hashes[from-1]
	}
	return ev
}

func removed(hashes ...uint64) types.KVEvent {
	return types.KVEvent{Kind: types.KVRemoved, Hashes: hashes, Full: true}
}

// told is a prefix cache that engines tell what they hold, and its endpoints.
type told struct {
	*testing.T
	cache *plugins.PrefixCache
	sink  *plugins.KVSink
	eps   []*types.Endpoint
}

func newTold(t *testing.T, endpoints int) *told {
	p := mustPrefix(t, plugins.PrefixOptions{})
	sink, err := p.KVSink(plugins.KVOptions{})
	require.NoError(t, err)
	return &told{t, p, sink, idle(endpoints)}
}

// serve sends a prompt to an endpoint, which tells that it stores it.
func (x *told) serve(prompt, session string, at int) {
	req := schedulingtest.Request(prompt)
	req.EngineSession = session
	ep := x.eps[at]
	x.cache.Picked(req, ep)
	x.sink.Apply(ep.ID, 0, []types.KVEvent{stored(session, engineHashes(prompt), 0)})
	x.cache.FirstToken(req, ep)
	x.cache.Finished(req, ep, types.Outcome{Status: 200, Usage: usage(float64(len(prompt)/4), 0)})
}

// wants asserts what the endpoints are believed to hold of a prompt, as parts of it.
func (x *told) wants(prompt string, want ...float64) {
	x.Helper()
	require.InDeltaSlice(x, want, prefixScores(x.T, x.cache, schedulingtest.Request(prompt), x.eps...), 1e-9)
}

func TestKVSinkCorrectsPredictions(t *testing.T) {
	x := newTold(t, 2)
	prompt := text("a", 8*blockBytes)
	hashes := engineHashes(prompt)
	x.serve(prompt, "s1", 0)
	x.wants(prompt, 1, 0)

	t.Log("the engine drops the last quarter, then stores it again for somebody else")
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{removed(hashes[24:]...)})
	x.wants(prompt, .75, 0)
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{stored("", hashes, 24)})
	x.wants(prompt, 1, 0)

	t.Log("another gateway sends the same prompt to the other server")
	x.sink.Apply(x.eps[1].ID, 0, []types.KVEvent{stored("unknown", hashes, 0)})
	x.wants(prompt, 1, 1)

	t.Log("one restarts, the other clears its cache")
	x.sink.Reset(x.eps[0].ID, 0)
	x.wants(prompt, 0, 1)
	x.sink.Apply(x.eps[1].ID, 0, []types.KVEvent{{Kind: types.KVCleared}})
	x.wants(prompt, 0, 0)
	require.Zero(t, x.sink.Stats().Held)
}

func TestKVSinkOfAnEngineThatPublishesAgain(t *testing.T) {
	x := newTold(t, 2)
	prompt := text("a", 8*blockBytes)
	hashes := engineHashes(prompt)
	x.serve(prompt, "s1", 0)
	x.sink.Remove(x.eps[0].ID)
	x.wants(prompt, 1, 0) // a prediction now
	x.sink.Reset(x.eps[0].ID, 0)
	x.wants(prompt, 0, 0)
	x.serve(prompt, "s2", 0)
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{removed(hashes[24:]...)})
	x.wants(prompt, .75, 0)
}

func TestKVSinkLearnsWhatOthersSent(t *testing.T) {
	x := newTold(t, 2)
	prompt := text("a", 8*blockBytes)
	hashes := engineHashes(prompt)
	x.sink.Apply(x.eps[1].ID, 0, []types.KVEvent{stored("", hashes[:20], 0)})
	x.wants(prompt, 0, 0)
	x.serve(prompt, "s1", 0) // only now it is known which prompt that was
	x.wants(prompt, 1, .625)
}

// A server may tell what it holds before the first decision meets it, as one that other gateways
// found sooner.
func TestKVSinkRemembersWhatWasToldBeforeADecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTold(t, 3)
		early := x.eps[2]
		x.eps = x.eps[:2]
		prompts := []string{text("a", 8*blockBytes), text("b", 8*blockBytes)}
		longer := prompts[0] + text("c", 4*blockBytes)
		for i, prompt := range append(prompts, longer) {
			x.serve(prompt, fmt.Sprint("s", i), 0)
		}
		hashes := engineHashes(longer)
		x.sink.Apply(early.ID, 0, []types.KVEvent{
			stored("", hashes[:20], 0), stored("", engineHashes(text("unknown", 999)), 0), stored("", engineHashes(prompts[1]), 0),
			removed(engineHashes(prompts[1])[16:]...),
		})
		x.eps = append(x.eps, early)
		prefixScores(t, x.cache, schedulingtest.Request("any"), x.eps...) // meets it
		synctest.Wait()
		x.wants(prompts[0], 1, 0, .625)
		x.wants(prompts[1], 1, 0, .5)
		x.wants(longer, 1, 0, 5./12)

		t.Log("it leaves, and another server comes by its name: only what that one tells counts")
		x.cache.Forget(early)
		x.eps[2] = schedulingtest.Endpoint(early.ID)
		prefixScores(t, x.cache, schedulingtest.Request("any"), x.eps...)
		synctest.Wait()
		x.wants(prompts[0], 1, 0, 0)
	})
}

// Streams have no usage unless clients ask for it, and clients leave. An engine that tells of the answer's
// blocks one by one, as vLLM does, shows by that where the prompt ends.
func TestKVSinkWithoutUsage(t *testing.T) {
	for name, out := range map[string]types.Outcome{"a stream": {Status: 200}, "the client left": {Status: 200, Cancelled: true}} {
		t.Run(name, func(t *testing.T) {
			x := newTold(t, 2)
			prompt := text("a", 8*blockBytes)
			hashes := engineHashes(prompt + text("answer", 5*engineBlock))
			req := schedulingtest.Request(prompt)
			req.EngineSession = "s1"
			x.cache.Picked(req, x.eps[0])
			x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{stored("s1", hashes[:20], 0)})
			x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{stored("s1", hashes[:32], 20)})
			x.cache.FirstToken(req, x.eps[0])
			x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{stored("s1", hashes[:33], 32)})
			x.cache.Finished(req, x.eps[0], out)
			require.Zero(t, x.sink.Stats().Binds, "that may have been the end of the prompt")
			x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{stored("s1", hashes[:34], 33)})
			require.Equal(t, uint64(1), x.sink.Stats().Binds)
			x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{removed(hashes[16:]...)})
			x.wants(prompt, .375, 0) // half of it, less the block in which that ends
			x.sink.Apply(x.eps[1].ID, 0, []types.KVEvent{stored("", hashes[:32], 0)})
			x.wants(prompt, .375, .875)
		})
	}
}

func TestKVSinkLeavesTheRestToPrediction(t *testing.T) {
	tests := []struct {
		name string
		do   func(x *told, prompt string)
	}{
		{"no events come", func(x *told, prompt string) {
			req := schedulingtest.Request(prompt)
			req.EngineSession = "s"
			x.cache.Picked(req, x.eps[0])
			x.cache.FirstToken(req, x.eps[0])
			x.cache.Finished(req, x.eps[0], types.Outcome{Status: 200, Usage: usage(100, 0)})
		}},
		{"an engine that does not repeat sessions", func(x *told, prompt string) {
			req := schedulingtest.Request(prompt)
			x.cache.Picked(req, x.eps[0])
			x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{stored("", engineHashes(prompt), 0)})
			x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{removed(engineHashes(prompt)...)})
		}},
		{"another server claims the request", func(x *told, prompt string) {
			req := schedulingtest.Request(prompt)
			req.EngineSession = "s"
			x.cache.Picked(req, x.eps[0])
			x.sink.Apply(x.eps[1].ID, 0, []types.KVEvent{stored("s", engineHashes(text("lie", len(prompt))), 0)})
			x.cache.FirstToken(req, x.eps[0])
			x.cache.Finished(req, x.eps[0], types.Outcome{Status: 200, Usage: usage(float64(len(prompt)/4), 0)})
		}},
		{"a sliding window drops its blocks", func(x *told, prompt string) {
			x.serve(prompt, "s", 0)
			ev := removed(engineHashes(prompt)...)
			ev.Full = false
			x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{ev})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newTold(t, 2)
			prompt := text("a", 8*blockBytes)
			tt.do(x, prompt)
			x.wants(prompt, 1, 0)
		})
	}
}

// The block in which the prompt ends and its answer begins is worth all of the prompt to who goes on from there.
func TestKVSinkOfTheBlockWithTheAnswer(t *testing.T) {
	x := newTold(t, 1)
	prompt := text("a", 2*blockBytes) // 128 tokens: two blocks of 48, and 32 tokens of the third
	req := schedulingtest.Request(prompt)
	req.EngineSession = "s"
	x.cache.Picked(req, x.eps[0])
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{{Hashes: []uint64{1, 2}, BlockSize: 48, SessionID: "s", Full: true}})
	x.cache.FirstToken(req, x.eps[0])
	x.cache.Finished(req, x.eps[0], types.Outcome{Status: 200, Usage: usage(128, 0)})
	x.wants(prompt, .5)
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{{Hashes: []uint64{3, 4}, HasParent: true, Parent: 2, BlockSize: 48, SessionID: "s", Full: true}})
	x.wants(prompt, 1)
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{removed(4)})
	x.wants(prompt, 1)
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{removed(3)})
	x.wants(prompt, .5)
}

func TestKVSinkTiers(t *testing.T) {
	x := newTold(t, 2)
	prompt := text("a", 8*blockBytes)
	hashes := engineHashes(prompt)
	x.serve(prompt, "s1", 0)
	toCPU := types.KVEvent{Kind: types.KVStored, Hashes: hashes, Tier: types.KVCPU, Full: true} // size and parents unknown
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{toCPU})
	x.wants(prompt, 1, 0)
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{removed(hashes...)})
	x.wants(prompt, .75, 0) // reading it takes a quarter of the time that computing does

	req := schedulingtest.Request(prompt)
	require.Contains(t, x.cache.Describe(req, x.eps[0]), "6 of 8 blocks cached, 8 more blocks in cpu, told by events")
	require.Contains(t, x.cache.Describe(req, x.eps[1]), "0 of 8 blocks cached, predicted")

	fromCPU := removed(hashes[16:]...)
	fromCPU.Tier = types.KVCPU
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{fromCPU})
	x.wants(prompt, .375, 0)
	x.cache.Forget(x.eps[0])
	x.wants(prompt, 0, 0)
}

func TestKVSinkRanks(t *testing.T) {
	x := newTold(t, 1)
	prompt := text("a", 8*blockBytes)
	hashes := engineHashes(prompt)
	x.serve(prompt, "s1", 0)
	x.sink.Apply(x.eps[0].ID, 1, []types.KVEvent{stored("", hashes, 0)})
	x.sink.Apply(x.eps[0].ID, 0, []types.KVEvent{removed(hashes...)})
	x.wants(prompt, 1) // the other rank has it still
	x.sink.Apply(x.eps[0].ID, 1, []types.KVEvent{removed(hashes[4:]...)})
	x.wants(prompt, .125)
	x.sink.State(x.eps[0].ID, 0, types.KVLive)
	require.Contains(t, x.cache.Describe(schedulingtest.Request(prompt), x.eps[0]), "1 ranks unsynced, 1 ranks live")
	x.sink.Remove(x.eps[0].ID)
	require.Zero(t, x.sink.Stats().Held)
}

// A decision by the default policy goes by what engines tell, and says so.
func TestKVSinkOfDefault(t *testing.T) {
	profile := plugins.Default()
	sink, err := plugins.KVSinkOf(profile, plugins.KVOptions{})
	require.NoError(t, err)
	s := mustNew(t, profile)
	eps := idle(3)
	prompt := text("a", 64*blockBytes)
	ask := func(session string) *scheduling.Decision {
		req := schedulingtest.Request(prompt)
		req.EngineSession = session
		d, err := s.Schedule(context.Background(), req, eps)
		require.NoError(t, err)
		return d
	}
	d := ask("s1")
	first := d.Endpoint
	sink.Apply(first.ID, 0, []types.KVEvent{stored("s1", engineHashes(prompt), 0)})
	sink.State(first.ID, 0, types.KVLive)
	d.FirstToken()
	d.Done(types.Outcome{Status: 200, Usage: usage(float64(len(prompt)/4), 0)})

	d = ask("s2")
	require.Same(t, first, d.Endpoint)
	d.Done(types.Outcome{Status: 200, Usage: usage(float64(len(prompt)/4), float64(len(prompt)/4))})

	sink.Apply(first.ID, 0, []types.KVEvent{removed(engineHashes(prompt)...)})
	other := eps[0]
	if other == first {
		other = eps[1]
	}
	sink.Apply(other.ID, 0, []types.KVEvent{stored("", engineHashes(prompt), 0)})
	x, err := s.Explain(context.Background(), schedulingtest.Request(prompt), eps)
	require.NoError(t, err)
	require.Same(t, other, x.Endpoint)
	require.Contains(t, x.String(), "told by events")
}

func TestKVSinkIsOne(t *testing.T) {
	_, err := plugins.KVSinkOf(scheduling.Profile{}, plugins.KVOptions{})
	require.ErrorContains(t, err, "no prefix index")
	p := mustPrefix(t, plugins.PrefixOptions{})
	_, err = p.KVSink(plugins.KVOptions{MaxBlocks: -1})
	require.ErrorContains(t, err, "maxBlocks")
	a, err := p.KVSink(plugins.KVOptions{})
	require.NoError(t, err)
	b, err := p.KVSink(plugins.KVOptions{MaxBlocks: 1})
	require.NoError(t, err)
	require.Same(t, a, b)
}

// Sources of many endpoints, decisions and answers come at once.
func TestKVSinkConcurrently(t *testing.T) {
	x := newTold(t, 4)
	done := make(chan struct{})
	for i := range x.eps {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := range 200 {
				prompt := text(n%7, (1+n%9)*blockBytes)
				hashes := engineHashes(prompt)
				req := schedulingtest.Request(prompt)
				req.EngineSession = string(rune('a'+i)) + time.Duration(n).String()
				x.cache.Picked(req, x.eps[i])
				x.sink.Apply(x.eps[i].ID, n%2, []types.KVEvent{stored(req.EngineSession, hashes, 0)})
				_ = x.cache.Describe(req, x.eps[(i+1)%4])
				x.cache.FirstToken(req, x.eps[i])
				x.cache.Finished(req, x.eps[i], types.Outcome{Status: 200, Usage: usage(float64(len(prompt)/4), 0)})
				if n%3 == 0 {
					x.sink.Apply(x.eps[i].ID, n%2, []types.KVEvent{removed(hashes...)})
				}
				if n%50 == 49 {
					x.sink.Reset(x.eps[i].ID, n%2)
				}
			}
			x.sink.Remove(x.eps[i].ID)
		}()
	}
	for range x.eps {
		<-done
	}
	require.Zero(t, x.sink.Stats().Held)
}

// What it takes to read from a tier is learned from first tokens that come later or sooner than expected.
func TestKVSinkLearnsPrices(t *testing.T) {
	oneGoroutine(t)
	profile := plugins.Default()
	sink, err := plugins.KVSinkOf(profile, plugins.KVOptions{})
	require.NoError(t, err)
	now := time.Unix(1000, 0)
	profile.Now = func() time.Time { return now }
	s := mustNew(t, profile)
	eps := idle(1)
	prompt := text("a", 512*blockBytes)
	hashes := engineHashes(prompt)
	ask := func(session string, takes time.Duration, events ...types.KVEvent) int {
		req := schedulingtest.Request(prompt)
		req.EngineSession, req.Stream = session, true
		cached := profile.Costs[0].Coster.(*plugins.Cost).CachedTokens(req, eps[0])
		d, err := s.Schedule(context.Background(), req, eps)
		require.NoError(t, err)
		sink.Apply("ep-0", 0, events)
		now = now.Add(takes)
		d.FirstToken()
		d.Done(types.Outcome{Status: 200, Usage: usage(float64(len(prompt)/4), 0)})
		now = now.Add(time.Minute)
		return cached
	}
	ask("s1", time.Second, stored("s1", hashes, 0))
	fromCPU := types.KVEvent{Kind: types.KVStored, Hashes: hashes, Tier: types.KVCPU, Full: true}
	first, last := 0, 0
	for n := range 100 {
		sink.Apply("ep-0", 0, []types.KVEvent{fromCPU, removed(hashes...)})
		last = ask("", 5*time.Second) // a very slow host
		if n == 0 {
			first = last
		}
	}
	require.Greater(t, first, len(prompt)/4*7/10)
	require.Less(t, last, first*2/3)
}
