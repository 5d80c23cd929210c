package engines_test

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var sayCached = regexp.MustCompile(`([0-9]+) of ([0-9]+) tokens cached`)

// saidCached returns which part of a prompt the explanation of a request says that its
// endpoint holds, and how: of an estimated number of tokens.
func (g *gateway) saidCached(id string) (part float64, detail string, ok bool) {
	g.mu.Lock()
	x := g.whys[id]
	g.mu.Unlock()
	if x == nil || x.Chosen() == nil {
		return 0, "", false
	}
	for _, term := range x.Chosen().Terms {
		if m := sayCached.FindStringSubmatch(term.Detail); m != nil {
			cached, _ := strconv.ParseFloat(m[1], 64)
			of, _ := strconv.ParseFloat(m[2], 64)
			return cached / of, term.Detail, of > 0
		}
	}
	return 0, "", false
}

// shadow is a prefix index that is told of the same requests, and of no events: what would
// be predicted without them.
type shadow struct {
	*plugins.PrefixCache
	mu    sync.Mutex
	parts map[string]float64 // by request id
}

func newShadow(t *testing.T, o plugins.PrefixOptions) *shadow {
	t.Helper()
	p, err := plugins.NewPrefixCache(o)
	if err != nil {
		t.Fatal(err)
	}
	return &shadow{PrefixCache: p, parts: map[string]float64{}}
}

func (s *shadow) Picked(req *types.Request, ep *types.Endpoint) {
	s.mu.Lock()
	s.parts[req.ID] = float64(s.CachedTokens(req, ep)) / max(1, float64(req.Prompt.Tokens))
	s.mu.Unlock()
	s.PrefixCache.Picked(req, ep)
}

// listening starts a gateway that listens to events, and waits until it has heard all that
// there was.
func listening(t *testing.T, o setup, servers []*vllm.Server) *gateway {
	t.Helper()
	if o.listen == nil {
		o.listen = &kvevents.Options{}
	}
	g := newGatewayWith(t, o, addresses(servers)...)
	ready(t, g)
	if !within(t, time.Minute, "all servers to be listened to", func() bool { return g.ledger.heard(addresses(servers)) }) {
		for _, a := range addresses(servers) {
			t.Logf("%s: %v", a, g.ledger.look(a).states)
		}
		t.FailNow()
	}
	return g
}

// heard reports whether all servers are live, or late, which is what engines are that have
// published more than they keep.
func (l *ledger) heard(endpoints []string) bool {
	for _, e := range endpoints {
		if s := l.look(e).state(); s != types.KVLive && s != types.KVLate {
			return false
		}
	}
	return true
}

// publishing returns the real servers if they publish events and replay them.
func publishing(t *testing.T, n int) []*vllm.Server {
	t.Helper()
	all := several(t, n)
	for _, s := range all {
		if _, _, err := s.Sources(context.Background()); err != nil {
			t.Skipf("%s publishes no events: %v", s.Address, err)
		}
	}
	return all
}

// emptied clears the caches of all servers, and has them say so.
func emptied(t *testing.T, servers []*vllm.Server) {
	t.Helper()
	quiet(t, servers)
	for i, s := range servers {
		if err := s.Clear(context.Background()); err != nil {
			t.Fatal(err)
		}
		a := ask(context.Background(), s.URL(""), question{prompt: fmt.Sprintf("emptied %d: ", i) + lexicon[i] + " this is long enough to fill a block of the cache, with some words on top of that, to be sure of it, and some more."})
		if err := a.good(); err != nil {
			t.Fatal(err)
		}
	}
}

// misses are the errors of what was said of prompts.
type misses struct {
	of     string
	errors []float64 // in tokens: said less what was cached
	block  []float64 // tokens in a block of the index, of each
}

// add adds what was said of a request, as a part of its prompt.
func (m *misses) add(a answer, part, block float64) {
	m.errors = append(m.errors, part*float64(a.prompt)-float64(a.cached))
	m.block = append(m.block, block)
}

// within is the share of the errors of at most so many blocks of the engine, and so many of
// the index on top.
func (m misses) within(engine, index float64) float64 {
	n := 0
	for i, e := range m.errors {
		if math.Abs(e) <= engine*vllm.BlockSize+index*m.block[i] {
			n++
		}
	}
	return float64(n) / float64(max(1, len(m.errors)))
}

func (m misses) String() string {
	sizes := make([]float64, len(m.errors))
	over, under := 0, 0
	for i, e := range m.errors {
		sizes[i] = math.Abs(e)
		if limit := vllm.BlockSize + m.block[i]; e > limit {
			over++
		} else if e < -limit {
			under++
		}
	}
	slices.Sort(sizes)
	n := len(sizes)
	return fmt.Sprintf("%s: %d requests: within a block of the engine %.1f %%, and one of the index on top %.1f %% (%d too much, %d too little); mean error %.1f tokens, p90 %.0f, p99 %.0f, worst %.0f",
		m.of, n, 100*m.within(1, 0), 100*m.within(1, 1), over, under, mean(sizes), sizes[n*9/10], sizes[n*99/100], sizes[n-1])
}

func mean(v []float64) float64 {
	sum := 0.
	for _, x := range v {
		sum += x
	}
	return sum / float64(max(1, len(v)))
}

// What a gateway that listens says a server holds of a prompt is what that server found in
// its cache, but for a block of the engine and one of the index at the border. An index that
// is told of the same requests and of no events shows what would be predicted.
func TestEventsTellWhatIsCached(t *testing.T) {
	all := publishing(t, 2)
	m := mix{tenants: 48, questions: 140, chats: 12, turns: 6, words: 500, seed: 7}
	if have, _ := with(t, all, vllm.AdapterName); len(have) > 0 {
		m.adapter = vllm.AdapterName
	}
	w := m.make()
	for _, tt := range []struct {
		blockBytes, atOnce int
		tokens             bool
		close              float64 // part within a block of the engine, and one of the index on top
		exact              float64 // and without that
	}{{256, 1, false, .98, .5}, {64, 1, false, .99, .97}, {tokenBlock, 1, true, .99, .99}, {256, 6, false, .95, .5}} {
		t.Run(fmt.Sprintf("blocks of %d bytes, %d at once, tokens %v", tt.blockBytes, tt.atOnce, tt.tokens), func(t *testing.T) {
			emptied(t, all)
			o := plugins.PrefixOptions{BlockBytes: tt.blockBytes}
			profile, err := plugins.DefaultWith(plugins.CostOptions{Prefix: o})
			require.NoError(t, err)
			without := newShadow(t, o)
			profile.Trackers = append(profile.Trackers, without)
			g := listening(t, setup{profile: &profile, tokens: tt.tokens}, all)
			answers := w.run("told", tt.atOnce, g.URL)
			allGood(t, answers)
			told, predicted := misses{of: "told by events"}, misses{of: "predicted"}
			block := float64(tt.blockBytes) / bytesPerToken
			cached, prompts := 0, 0
			for i, a := range answers {
				id := requestID("told", i)
				part, detail, ok := g.saidCached(id)
				require.True(t, ok, "the explanation of %s says nothing of a cache", id)
				cached, prompts = cached+a.cached, prompts+a.prompt
				told.add(a, part, block)
				predicted.add(a, without.parts[id], block)
				if e := told.errors[i]; math.Abs(e) > vllm.BlockSize+block {
					t.Logf("%s, turn %d, at %s: %d of %d tokens were cached, said %.0f (%s), predicted %.0f", id, w.steps[i].turn, a.server,
						a.cached, a.prompt, e+float64(a.cached), detail, predicted.errors[i]+float64(a.cached))
				}
			}
			t.Logf("%.3f of %d tokens were cached, %d a prompt; %v", float64(cached)/float64(prompts), prompts, prompts/len(answers), count(answers))
			t.Log(predicted)
			t.Log(told)
			t.Logf("index: %+v", g.sink.Stats())
			t.Logf("events: %+v", g.events.Stats())
			require.Greater(t, told.within(1, 1), tt.close)
			require.Greater(t, told.within(1, 0), tt.exact)
			if tt.tokens {
				t.Logf("tokenizer: %+v", g.tokens.Stats())
				require.Equal(t, g.sink.Stats().Blocks, g.sink.Stats().Bound)
			}
			held := 0
			for _, s := range all {
				a := g.ledger.look(s.Address)
				t.Logf("%s: %d blocks held, %d stored, %d removed, states %v", s.Address, len(a.held), a.stored, a.removed, a.states)
				require.NotZero(t, a.removed, "nothing was evicted at %s", s.Address)
				held += len(a.held)
			}
			require.Equal(t, held, g.sink.Stats().Held)
		})
	}
}

// tokenBlock is the size of a block of the index that is one of the engine, where prompts are token ids.
const tokenBlock = 4 * vllm.BlockSize

// bytesPerToken is how long tokens of the tiny model are in prose of workload_test.go.
const bytesPerToken = 3.6

var _ scheduling.Tracker = (*shadow)(nil)
