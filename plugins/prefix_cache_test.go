package plugins_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// blocks returns a request with a prompt of n whole blocks about a topic.
func blocks(topic any, n int) *types.Request {
	return schedulingtest.Request(text(topic, n*blockBytes))
}

// again returns the same request as it would come a second time.
func again(req *types.Request) *types.Request {
	c := *req
	c.Attrs = types.Attrs{}
	return &c
}

// prefixScores returns what p says of a request with the prompt of req.
func prefixScores(t *testing.T, p *plugins.PrefixCache, req *types.Request, eps ...*types.Endpoint) []float64 {
	t.Helper()
	return schedulingtest.Score(t, p, again(req), eps...)
}

// prefixOnly returns a scheduler that goes by p alone.
func prefixOnly(t testing.TB, p *plugins.PrefixCache) *scheduling.Scheduler {
	return mustNew(t, scheduling.Profile{
		Scorers:   []scheduling.Weighted{{Name: "prefix", Scorer: p, Weight: 1}},
		Picker:    plugins.MaxScore{},
		Fallbacks: 1,
		Seed:      1,
	})
}

func usage(prompt, cached float64) types.Usage {
	return types.Usage{PromptTokens: types.Known(prompt), CachedTokens: types.Known(cached)}
}

func TestPrefixCacheScore(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{})
	eps := idle(3)
	head := text("head", 4*blockBytes)
	for i, prompt := range []string{head + text("a", 4*blockBytes), head + text("b", 100), "short"} {
		p.Picked(schedulingtest.Request(prompt), eps[i])
	}
	tests := []struct {
		name   string
		prompt string
		want   []float64
	}{
		{"all of it, and the head", head + text("a", 4*blockBytes), []float64{1, .5, 0}},
		{"the head alone", head, []float64{1, 1, 0}},
		{"a part of a block does not count", head + text("a", 4*blockBytes) + "and more", []float64{1, .5, 0}},
		{"less than a block more", head[:len(head)-1], []float64{1, 1, 0}},
		{"longer", head + text("a", 4*blockBytes) + text("c", 8*blockBytes), []float64{.5, .25, 0}},
		{"parts after the head", head + text("z", 4*blockBytes), []float64{.5, .5, 0}},
		{"different from the first byte", "x" + head[1:], []float64{0, 0, 0}},
		{"shorter than a block", head[:blockBytes-1], []float64{0, 0, 0}},
		{"seen, but shorter than a block", "short", []float64{0, 0, 0}},
		{"empty", "", []float64{0, 0, 0}},
		{"long", head + text("long", 396*blockBytes), []float64{.01, .01, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := schedulingtest.Request(tt.prompt)
			if got := schedulingtest.Score(t, p, req, eps...); !sameScores(got, tt.want) {
				t.Errorf("Score = %v, want %v", got, tt.want)
			}
			for i, ep := range eps {
				whole := len(tt.prompt) / blockBytes * blockBytes
				want := 0
				if whole > 0 {
					want = req.Prompt.Tokens * int(tt.want[i]*float64(whole)) / len(tt.prompt)
				}
				if got := p.CachedTokens(req, ep); got != want {
					t.Errorf("CachedTokens of %s = %d, want %d of %d", ep.ID, got, want, req.Prompt.Tokens)
				}
			}
		})
	}
}

func TestPrefixCacheBlockBytes(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{BlockBytes: 64, MaxPromptBlocks: 8})
	ep := idle(1)[0]
	p.Picked(schedulingtest.Request(text("x", 64)), ep)
	if got := prefixScores(t, p, schedulingtest.Request(text("x", 127)), ep); got[0] != 1 {
		t.Errorf("one block of 64 bytes scores %v, want 1", got)
	}
	// Of a long prompt only so much is compared.
	p.Picked(schedulingtest.Request(text("long", 64*8)+strings.Repeat("a", 6400)), ep)
	if got := prefixScores(t, p, schedulingtest.Request(text("long", 64*8)+strings.Repeat("b", 6400)), ep); got[0] != 1 {
		t.Errorf("the first 8 blocks are equal: %v, want 1", got)
	}
	if st := p.Stats(); st.Held != 9 || st.Blocks != 9 {
		t.Errorf("Stats = %+v, want 9 blocks held", st)
	}
}

func TestPrefixCacheOptions(t *testing.T) {
	for _, tt := range []struct {
		o    plugins.PrefixOptions
		text string
	}{
		{plugins.PrefixOptions{BlockBytes: 100}, "blockBytes is 100"},
		{plugins.PrefixOptions{BlockBytes: -64}, "blockBytes is -64"},
		{plugins.PrefixOptions{MaxBytes: 1000}, "maxBytes is 1000"},
		{plugins.PrefixOptions{MaxPromptBlocks: -1}, "maxPromptBlocks is -1"},
		{plugins.PrefixOptions{CapacityBlocks: -1}, "capacityBlocks is -1"},
		{plugins.PrefixOptions{BytesPerToken: -1}, "bytesPerToken is -1"},
		{plugins.PrefixOptions{BytesPerToken: nan}, "bytesPerToken is NaN"},
	} {
		if p, err := plugins.NewPrefixCache(tt.o); err == nil || p != nil || !strings.HasPrefix(err.Error(), "plugins: "+tt.text+", want ") {
			t.Errorf("NewPrefixCache(%+v): %v, want an error with %q", tt.o, err, tt.text)
		}
	}
}

// TestPrefixCacheBookedOnDecision: the next request of a burst sees where the one
// before went, long before any response.
func TestPrefixCacheBookedOnDecision(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{})
	s, eps := prefixOnly(t, p), idle(8)
	req := blocks("burst", 8)
	if _, err := s.Explain(ctx, again(req), eps); err != nil || p.Stats().Held != 0 {
		t.Fatalf("Explain: %v; %d blocks held after it, want none", err, p.Stats().Held)
	}
	first := mustSchedule(t, s, again(req), eps)
	if got := first.Endpoint.Load.PrefillTokens(); got != int64(req.Prompt.Tokens) {
		t.Errorf("the first owes %d tokens of prefill, want all %d", got, req.Prompt.Tokens)
	}
	for range 20 {
		d := mustSchedule(t, s, again(req), eps)
		if d.Endpoint != first.Endpoint {
			t.Fatalf("the next goes to %s, want %s", d.Endpoint.ID, first.Endpoint.ID)
		}
	}
	if got := first.Endpoint.Load.PrefillTokens(); got != int64(req.Prompt.Tokens) {
		t.Errorf("20 more of the same owe %d tokens in all, want still %d", got, req.Prompt.Tokens)
	}
}

func TestPrefixCacheKeepsApart(t *testing.T) {
	base := blocks("secret", 4)
	base.Model, base.TargetModel, base.CacheSalt, base.FairnessID = "public", "target", "salt", "tenant"
	tests := []struct {
		name           string
		change         func(*types.Request)
		isolated, want float64 // with IsolateTenants, and without
	}{
		{"nothing else", func(*types.Request) {}, 1, 1},
		{"public name", func(r *types.Request) { r.Model = "other" }, 1, 1},
		{"session", func(r *types.Request) { r.SessionID = "other" }, 1, 1},
		{"target model", func(r *types.Request) { r.TargetModel = "other" }, 0, 0},
		{"salt", func(r *types.Request) { r.CacheSalt = "other" }, 0, 0},
		{"no salt", func(r *types.Request) { r.CacheSalt = "" }, 0, 0},
		{"tenant", func(r *types.Request) { r.FairnessID = "other" }, 0, 1},
		{"no tenant", func(r *types.Request) { r.FairnessID = "" }, 0, 1},
		{"salt and tenant swapped", func(r *types.Request) { r.CacheSalt, r.FairnessID = r.FairnessID, r.CacheSalt }, 0, 0},
		{"moved border", func(r *types.Request) { r.TargetModel, r.CacheSalt = "targetsalt", "" }, 0, 0},
	}
	for _, isolate := range []bool{false, true} {
		p := mustPrefix(t, plugins.PrefixOptions{IsolateTenants: isolate})
		ep := idle(1)[0]
		p.Picked(again(base), ep)
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/isolate=%v", tt.name, isolate), func(t *testing.T) {
				req := again(base)
				tt.change(req)
				want := tt.want
				if isolate {
					want = tt.isolated
				}
				if got := schedulingtest.Score(t, p, req, ep); got[0] != want {
					t.Errorf("Score = %v, want %v", got[0], want)
				}
			})
		}
	}
}

func TestPrefixCacheRetryMoves(t *testing.T) {
	for _, tokens := range []bool{false, true} {
		p := mustPrefix(t, plugins.PrefixOptions{})
		s, eps := prefixOnly(t, p), idle(2)
		req := blocks("retried", 8)
		d := mustSchedule(t, s, again(req), eps)
		from, to := d.Endpoint, d.Fallbacks[0]
		want := []float64{0, 1}
		if tokens { // the prompt was computed there before the connection broke
			d.FirstToken()
			want = []float64{1, 1}
		}
		d.Retry(to, types.Outcome{Err: io.ErrUnexpectedEOF})
		if got := prefixScores(t, p, req, from, to); !sameScores(got, want) {
			t.Errorf("after Retry (first token seen: %v) the two hold %v, want %v", tokens, got, want)
		}
		d.Done(types.Outcome{Status: 200})
		if got := prefixScores(t, p, req, from, to); !sameScores(got, want) {
			t.Errorf("after Done (first token seen: %v) the two hold %v, want %v", tokens, got, want)
		}
	}
}

// TestPrefixCacheTakesBack: what an endpoint was believed to get and did not is
// taken back, and no more than that.
func TestPrefixCacheTakesBack(t *testing.T) {
	tests := []struct {
		name  string
		first bool // the first token was seen
		out   types.Outcome
		want  float64
	}{
		{"success", true, types.Outcome{Status: 200}, 1},
		{"success without a stream", false, types.Outcome{Status: 200}, 1},
		{"connection refused", false, types.Outcome{Err: errors.New("refused")}, .5},
		{"server error", false, types.Outcome{Status: 503}, .5},
		{"refused by the engine", false, types.Outcome{Status: 400}, .5},
		{"client gone before the first token", false, types.Outcome{Cancelled: true}, .5},
		{"client gone after the first token", true, types.Outcome{Cancelled: true}, 1},
		{"broken after the first token", true, types.Outcome{Err: errors.New("reset")}, 1},
		{"booking expired", false, types.Outcome{Err: scheduling.ErrExpired}, .5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := mustPrefix(t, plugins.PrefixOptions{})
			s, eps := prefixOnly(t, p), idle(3)
			head := text("head", 4*blockBytes)
			d := mustSchedule(t, s, schedulingtest.Request(head), eps)
			d.Done(types.Outcome{Status: 200})

			req := schedulingtest.Request(head + text("tail", 4*blockBytes))
			d2 := mustSchedule(t, s, again(req), eps)
			if d2.Endpoint != d.Endpoint {
				t.Fatalf("goes to %s, want %s that has the head", d2.Endpoint.ID, d.Endpoint.ID)
			}
			// Who asks in between must not change what is taken back.
			p.CachedTokens(d2.Request, d2.Endpoint)
			if tt.first {
				d2.FirstToken()
			}
			d2.Done(tt.out)
			if got := prefixScores(t, p, req, d.Endpoint); got[0] != tt.want {
				t.Errorf("after %+v the endpoint holds %v of the prompt, want %v", tt.out, got[0], tt.want)
			}
		})
	}
}

// TestPrefixCacheTwoInOneProfile: the scheduler asks only the first for cached
// tokens; the second must not lose what it knew when a request fails.
func TestPrefixCacheTwoInOneProfile(t *testing.T) {
	fine, coarse := mustPrefix(t, plugins.PrefixOptions{BlockBytes: 64}), mustPrefix(t, plugins.PrefixOptions{})
	s := mustNew(t, scheduling.Profile{
		Scorers: []scheduling.Weighted{{Name: "fine", Scorer: fine, Weight: 1}, {Name: "coarse", Scorer: coarse, Weight: 1}},
		Picker:  plugins.MaxScore{},
	})
	eps, req := idle(1), blocks("kept", 4)
	mustSchedule(t, s, again(req), eps).Done(types.Outcome{Status: 200})
	mustSchedule(t, s, again(req), eps).Done(types.Outcome{Status: 503})
	for name, p := range map[string]*plugins.PrefixCache{"fine": fine, "coarse": coarse} {
		if got := prefixScores(t, p, req, eps...); got[0] != 1 {
			t.Errorf("%s: after a failure the endpoint holds %v of what it served before, want 1", name, got[0])
		}
	}
}

func TestPrefixCacheForget(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{})
	s, eps := prefixOnly(t, p), idle(3)
	req := blocks("forgotten", 8)
	for _, ep := range eps {
		mustSchedule(t, s, again(req), []*types.Endpoint{ep}).Done(types.Outcome{})
	}
	s.Forget(eps[1])
	if got := prefixScores(t, p, req, eps...); !sameScores(got, []float64{1, 0, 1}) {
		t.Errorf("Score = %v after the second was forgotten", got)
	}
	s.Forget(eps[1]) // once more does nothing
	p.Forget(schedulingtest.Endpoint("never seen"))
	s.Forget(eps[0])
	s.Forget(eps[2])
	if st := p.Stats(); st.Held != 0 || st.Blocks != 0 || st.Endpoints != 0 {
		t.Errorf("Stats = %+v after all were forgotten, want nothing", st)
	}
	// A server that restarted is the same endpoint with an empty cache.
	mustSchedule(t, s, again(req), eps[1:2]).Done(types.Outcome{})
	if got := prefixScores(t, p, req, eps...); !sameScores(got, []float64{0, 1, 0}) {
		t.Errorf("Score = %v after the second served again", got)
	}
}

// TestTrapPrefixEntryOutlivesEndpoint: a new pod under the old name, address and
// slot inherits nothing, and what still comes for the old one does not reach it.
func TestTrapPrefixEntryOutlivesEndpoint(t *testing.T) {
	for _, end := range []types.Outcome{{Status: 200}, {Err: errors.New("gone")}, {Status: 200, Usage: usage(512, 0)}} {
		p := mustPrefix(t, plugins.PrefixOptions{})
		s := prefixOnly(t, p)
		old, fresh := idle(1)[0], idle(1)[0]
		if old.ID != fresh.ID || old.Address != fresh.Address || old.Slot != fresh.Slot {
			t.Fatal("the two are to be indistinguishable but for the ledger")
		}
		req := blocks("old", 8)
		open := mustSchedule(t, s, again(req), []*types.Endpoint{old})
		s.Forget(old)
		if st := p.Stats(); st.Held != 0 || st.Endpoints != 0 {
			t.Errorf("Stats = %+v after the endpoint has gone, want nothing", st)
		}
		if got := prefixScores(t, p, req, fresh); got[0] != 0 {
			t.Errorf("the new endpoint scores %v for what the old one held", got[0])
		}
		mine := blocks("new", 8)
		mustSchedule(t, s, again(mine), []*types.Endpoint{fresh}).Done(types.Outcome{Status: 200})
		open.Done(end)
		if got := prefixScores(t, p, mine, old, fresh); !sameScores(got, []float64{0, 1}) {
			t.Errorf("after the late end %+v: Score = %v, want [0 1]", end, got)
		}
		if got := prefixScores(t, p, req, old, fresh); !sameScores(got, []float64{0, 0}) {
			t.Errorf("after the late end %+v the old prompt is at %v", end, got)
		}
	}
}

// TestPrefixCacheSlots: slots are hints. Endpoints made by hand may all have the
// same, or wild ones, and a slot may pass to another while its owner lives.
func TestPrefixCacheSlots(t *testing.T) {
	slots := map[string][]uint32{
		"all 0":        {0, 0, 0, 0, 0},
		"in pairs":     {1, 1, 2, 2, 3},
		"sparse":       {900, 4, 70000, 12, 5},
		"beyond 1<<20": {1 << 20, 1<<32 - 1, 1<<20 - 1, 1 << 31, 1 << 20},
	}
	for name, slot := range slots {
		t.Run(name, func(t *testing.T) {
			p := mustPrefix(t, plugins.PrefixOptions{})
			eps := idle(5)
			reqs := make([]*types.Request, len(eps))
			for i, ep := range eps {
				ep.Slot = slot[i]
				reqs[i] = blocks(i, 4)
				p.Picked(again(reqs[i]), ep)
			}
			check := func(when string, gone int) {
				t.Helper()
				for i, req := range reqs {
					want := make([]float64, len(eps))
					if want[i] = 1; i == gone {
						want[i] = 0
					}
					if got := prefixScores(t, p, req, eps...); !sameScores(got, want) {
						t.Errorf("%s: Score for prompt %d = %v, want %v", when, i, got, want)
					}
				}
			}
			check("recorded", -1)
			for i := len(eps) - 1; i >= 0; i-- { // and again, in another order
				p.Picked(again(reqs[i]), eps[i])
			}
			check("recorded again", -1)
			p.Forget(eps[4])
			check("the last forgotten", 4)
			p.Picked(again(reqs[4]), eps[4])
			check("the last is back", -1)
			p.Forget(eps[0])
			check("the first forgotten", 0)
			if st := p.Stats(); st.Endpoints != 4 || st.Held != 16 {
				t.Errorf("Stats = %+v, want 4 endpoints that hold 16 blocks", st)
			}
		})
	}
}

func TestPrefixCacheSlotReused(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{})
	a, b := idle(1)[0], idle(1)[0]
	reqA, reqB := blocks("a", 4), blocks("b", 4)
	p.Picked(again(reqA), a)
	p.Picked(again(reqB), b) // takes a's slot; nobody has told that a has gone
	if got := prefixScores(t, p, reqA, a, b); !sameScores(got, []float64{1, 0}) {
		t.Errorf("Score for a's prompt = %v, want [1 0]", got)
	}
	if got := prefixScores(t, p, reqB, a, b); !sameScores(got, []float64{0, 1}) {
		t.Errorf("Score for b's prompt = %v, want [0 1]", got)
	}
	p.Forget(a) // late
	if got := prefixScores(t, p, reqB, a, b); !sameScores(got, []float64{0, 1}) {
		t.Errorf("Score for b's prompt = %v after a was forgotten, want [0 1]", got)
	}
}

// TestPrefixCacheSpans: where the prompt is cut, and what lies between, makes no
// difference.
func TestPrefixCacheSpans(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{})
	ep := idle(1)[0]
	whole := blocks("spans", 40)
	p.Picked(again(whole), ep)
	prompt := string(whole.Body)
	rnd := types.NewRand(5)
	for range 50 {
		cut := &types.Request{Model: whole.Model, Prompt: types.Prompt{Bytes: len(prompt), Tokens: whole.Prompt.Tokens}}
		for rest := prompt; rest != ""; {
			n := min(rnd.IntN(1+rnd.IntN(700)), len(rest)) // empty spans too
			cut.Body = append(cut.Body, `","content":"`...)
			cut.Prompt.Spans = append(cut.Prompt.Spans, types.Span{Start: len(cut.Body), End: len(cut.Body) + n})
			cut.Body = append(cut.Body, rest[:n]...)
			rest = rest[n:]
		}
		if got := schedulingtest.Score(t, p, cut, ep); got[0] != 1 {
			t.Fatalf("the same prompt in %d spans scores %v, want 1", len(cut.Prompt.Spans), got[0])
		}
	}
	// The order of the spans is the order in which the model reads them.
	half := len(prompt) / 2
	swapped := *again(whole)
	swapped.Body = []byte(prompt[half:] + prompt[:half])
	swapped.Prompt.Spans = []types.Span{{Start: half, End: len(prompt)}, {Start: 0, End: half}}
	if got := schedulingtest.Score(t, p, &swapped, ep); got[0] != 1 {
		t.Errorf("spans out of the body's order score %v, want 1", got[0])
	}
	// An estimate of Bytes that is off costs at most memory.
	off := *again(whole)
	off.Prompt.Bytes = 3
	if got := schedulingtest.Score(t, p, &off, ep); got[0] != 1 {
		t.Errorf("with a wrong number of bytes the prompt scores %v, want 1", got[0])
	}
}

// TestPrefixCacheCapacity: how much an endpoint is believed to hold.
func TestPrefixCacheCapacity(t *testing.T) {
	geometry := func(size, number float64) schedulingtest.EndpointOption {
		return func(ep *types.Endpoint) {
			ep.Metrics.BlockSize, ep.Metrics.NumBlocks = types.Known(size), types.Known(number)
		}
	}
	configured := func(tokens int) schedulingtest.EndpointOption {
		return func(ep *types.Endpoint) { ep.Capacity.KVTokens = tokens }
	}
	tests := []struct {
		name string
		o    plugins.PrefixOptions
		ep   options
		want int // blocks of 256 bytes, 64 tokens
	}{
		{"reported", plugins.PrefixOptions{}, options{geometry(16, 80)}, 20},
		{"configured", plugins.PrefixOptions{}, options{configured(640)}, 10},
		{"reported comes before configured", plugins.PrefixOptions{}, options{geometry(16, 80), configured(640)}, 20},
		{"half reported", plugins.PrefixOptions{}, options{configured(640), func(ep *types.Endpoint) { ep.Metrics.NumBlocks = types.Known(80) }}, 10},
		{"reported as 0", plugins.PrefixOptions{}, options{geometry(16, 0), configured(640)}, 10},
		{"neither", plugins.PrefixOptions{CapacityBlocks: 7}, options{}, 7},
		{"more bytes to a token", plugins.PrefixOptions{BytesPerToken: 8}, options{geometry(16, 80)}, 40},
		{"stale geometry is still the geometry", plugins.PrefixOptions{}, options{geometry(16, 80), age(1 << 40)}, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := mustPrefix(t, tt.o)
			ep := schedulingtest.Endpoint("a", tt.ep...)
			for i := range 100 {
				p.Picked(blocks(i, 1), ep)
			}
			if st := p.Stats(); st.Held != tt.want || st.Evicted != uint64(100-tt.want) {
				t.Errorf("Stats = %+v, want %d of 100 blocks held and the rest evicted", st, tt.want)
			}
			last, first := blocks(99, 1), blocks(0, 1)
			if prefixScores(t, p, last, ep)[0] != 1 || prefixScores(t, p, first, ep)[0] != 0 {
				t.Errorf("the least recently used is to go first")
			}
		})
	}
	t.Run("a new reading changes it", func(t *testing.T) {
		p := mustPrefix(t, plugins.PrefixOptions{})
		ep := schedulingtest.Endpoint("a", geometry(16, 80))
		for i := range 100 {
			p.Picked(blocks(i, 1), ep)
		}
		m := ep.Metrics
		m.NumBlocks = types.Known(20)
		p.Picked(blocks(100, 1), ep.WithMetrics(m))
		if st := p.Stats(); st.Held != 5 || st.Endpoints != 1 {
			t.Errorf("Stats = %+v, want 5 blocks of one endpoint", st)
		}
	})
}

// TestPrefixCacheMaxBytes: the whole index keeps its bound, whatever is sent.
func TestPrefixCacheMaxBytes(t *testing.T) {
	oneGoroutine(t)
	p := mustPrefix(t, plugins.PrefixOptions{MaxBytes: 1 << 20})
	eps := idle(20)
	for i := range 6000 {
		p.Picked(blocks(i, 20), eps[i%len(eps)])
		if st := p.Stats(); st.Bytes > st.MaxBytes {
			t.Fatalf("after %d prompts the index has %d bytes, the bound is %d", i+1, st.Bytes, st.MaxBytes)
		}
	}
	if st := p.Stats(); st.Evicted == 0 || st.Held == 0 {
		t.Errorf("Stats = %+v, want some held and some evicted", st)
	}
}

// TestPrefixCacheLearnsFromCachedTokens: responses that report less in the cache
// than was believed shrink what the endpoint is believed to hold.
func TestPrefixCacheLearnsFromCachedTokens(t *testing.T) {
	const size = 200
	tests := []struct {
		name   string
		cached float64 // of 512 prompt tokens, all believed cached
		shrink bool
	}{
		{"nothing was cached", 0, true},
		{"half was cached", 256, true},
		{"all but the last token's block", 496, false},
		{"all", 512, false},
		{"more than there is", 5120, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := mustPrefix(t, plugins.PrefixOptions{CapacityBlocks: size})
			s, eps := prefixOnly(t, p), idle(1)
			for i := range size / 8 {
				mustSchedule(t, s, blocks(i, 8), eps).Done(types.Outcome{Status: 200})
			}
			if held := p.Stats().Held; held != size {
				t.Fatalf("%d blocks held, want %d", held, size)
			}
			req := blocks(size/8-1, 8) // the most recent of them
			for range 50 {
				d := mustSchedule(t, s, again(req), eps)
				d.FirstToken()
				d.Done(types.Outcome{Status: 200, Usage: usage(512, tt.cached)})
			}
			held := p.Stats().Held
			// Each such response takes 1 % off: 0.99^50 is 0.605.
			if tt.shrink && (held > size*65/100 || held < size/2) || !tt.shrink && held != size {
				t.Errorf("%d of %d blocks are believed held after 50 responses", held, size)
			}
			if got := p.CachedTokens(again(req), eps[0]); got != req.Prompt.Tokens {
				t.Errorf("the prompt itself is believed to be cached with %d tokens, want %d: it was just served", got, req.Prompt.Tokens)
			}
		})
	}
	t.Run("no report teaches nothing", func(t *testing.T) {
		p := mustPrefix(t, plugins.PrefixOptions{CapacityBlocks: 8})
		s, eps, req := prefixOnly(t, p), idle(1), blocks("x", 8)
		for _, u := range []types.Usage{{}, {PromptTokens: types.Known(512)}, {CachedTokens: types.Known(0)}, usage(0, 0)} {
			for range 20 {
				mustSchedule(t, s, again(req), eps).Done(types.Outcome{Status: 200, Usage: u})
			}
		}
		if held := p.Stats().Held; held != 8 {
			t.Errorf("%d of 8 blocks are believed held", held)
		}
	})
}

// TestPrefixCacheShared: two schedulers with one PrefixCache know the same.
func TestPrefixCacheShared(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{})
	a, b := prefixOnly(t, p), prefixOnly(t, p)
	eps, req := idle(8), blocks("shared", 4)
	d := mustSchedule(t, a, again(req), eps)
	if got := mustSchedule(t, b, again(req), eps).Endpoint; got != d.Endpoint {
		t.Errorf("the second scheduler goes to %s, want %s where the first sent the same prompt", got.ID, d.Endpoint.ID)
	}
}

// TestPrefixCacheConcurrency runs everything at once; run it with -race.
func TestPrefixCacheConcurrency(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{CapacityBlocks: 64, MaxBytes: 1 << 20})
	s := prefixOnly(t, p)
	eps := idle(6)
	eps[5].Slot = 4 // and a clash
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 150 {
				req := schedulingtest.Request(text(i%5, 1000) + text(g, 700))
				d, err := s.Schedule(ctx, req, eps)
				if err != nil {
					t.Error(err)
					return
				}
				switch i % 5 {
				case 0:
					d.FirstToken()
				case 1:
					d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
				case 2:
					s.Forget(eps[(g+i)%len(eps)])
				case 3:
					if _, err := s.Explain(ctx, again(req), eps); err != nil {
						t.Error(err)
					}
				}
				d.Done(types.Outcome{Status: 200 + 300*(i%2), Usage: usage(400, float64(i%400))})
				p.Stats()
			}
		})
	}
	wg.Wait()
	for _, ep := range eps {
		if ep.Load.Requests() != 0 || ep.Load.PrefillTokens() != 0 || ep.Load.ContextTokens() != 0 {
			t.Errorf("the ledger of %s is not empty", ep.ID)
		}
		s.Forget(ep)
	}
	if st := p.Stats(); st.Held != 0 || st.Endpoints != 0 {
		t.Errorf("Stats = %+v after all were forgotten, want nothing", st)
	}
}

// A decision may be booked after its endpoint has gone: nothing of it stays.
func TestGoneEndpointIsNotEnteredAgain(t *testing.T) {
	p, err := plugins.NewPrefixCache(plugins.PrefixOptions{})
	require.NoError(t, err)
	ep := schedulingtest.Endpoint("a")
	req := schedulingtest.Request(strings.Repeat("once upon a time ", 100))
	ep.Load.Retire()
	p.Forget(ep)
	p.Picked(req, ep)
	p.FirstToken(req, ep)
	p.Finished(req, ep, types.Outcome{})
	if s := p.Stats(); s.Endpoints != 0 || s.Held != 0 {
		t.Errorf("Stats = %+v, want nothing", s)
	}
}

// Requests that come while the first of their kind is still being computed find
// nothing cached: that says nothing about the size of the cache.
func TestBurstDoesNotShrinkTheCache(t *testing.T) {
	p, err := plugins.NewPrefixCache(plugins.PrefixOptions{CapacityBlocks: 100})
	require.NoError(t, err)
	ep := schedulingtest.Endpoint("a")
	prompt := strings.Repeat("once upon a time ", 100)
	missed := types.Outcome{Usage: types.Usage{PromptTokens: types.Known(425), CachedTokens: types.Known(0)}}
	var burst []*types.Request
	for range 200 {
		req := schedulingtest.Request(prompt)
		p.Picked(req, ep)
		burst = append(burst, req)
	}
	for _, req := range burst {
		p.FirstToken(req, ep)
		p.Finished(req, ep, missed)
	}
	for i := range 16 { // fills 96 of 100 blocks
		req := schedulingtest.Request(strings.Repeat(fmt.Sprintf("tale %2d ", i), 6*256/8))
		p.Picked(req, ep)
		p.FirstToken(req, ep)
		p.Finished(req, ep, types.Outcome{})
	}
	if held := p.Stats().Held; held < 96 {
		t.Errorf("after a burst the cache holds %d blocks, want at least 96", held)
	}
	for range 200 { // these come one by one: a miss means that it was evicted
		req := schedulingtest.Request(prompt)
		p.Picked(req, ep)
		p.FirstToken(req, ep)
		p.Finished(req, ep, missed)
	}
	if held := p.Stats().Held; held > 50 {
		t.Errorf("after 200 misses the cache is still believed to hold %d blocks", held)
	}
}

// TestTrapLargePromptOverflows: figures of large prompts and caches fit into an int of 32
// bits, but their products do not.
func TestTrapLargePromptOverflows(t *testing.T) {
	p := mustPrefix(t, plugins.PrefixOptions{CapacityBlocks: 1 << 13})
	ep := schedulingtest.Endpoint("a").WithMetrics(types.Metrics{BlockSize: types.Known(64), NumBlocks: types.Known(1 << 30)})
	req := blocks("large", 4096)
	req.Prompt.Tokens = 1 << 20
	p.Picked(again(req), ep)
	if got := p.CachedTokens(again(req), ep); got != 1<<20 {
		t.Errorf("CachedTokens = %d of a prompt of %d tokens that is cached whole", got, 1<<20)
	}
	p.Finished(again(req), ep, types.Outcome{Usage: types.Usage{PromptTokens: types.Known(1), CachedTokens: types.Known(1e18)}})
	if got := p.CachedTokens(again(req), ep); got != 1<<20 {
		t.Errorf("CachedTokens = %d after a server reported nonsense, want %d", got, 1<<20)
	}
}
