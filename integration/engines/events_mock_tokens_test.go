package engines_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/integration/engines/peers"
	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// mockTokens are the token ids of a text for the mock model: its bytes, numbered in the order of the
// characters that stand for them in vocabularies of bytes, after three special tokens.
var mockTokens = func() (ids [256]uint32) {
	characters := map[rune]int{}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if printed := b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae; !printed {
			r = next
			next++
		}
		characters[r] = b
	}
	sorted := []rune{}
	for r := range characters {
		sorted = append(sorted, r)
	}
	slices.Sort(sorted)
	for i, r := range sorted {
		ids[characters[r]] = uint32(3 + i)
	}
	return ids
}()

// mockTokenize is a function of a user's own, for director.Options.Tokenize: template and tokenizer of the mock
// model.
func mockTokenize(_ context.Context, r *director.Route, _ []*types.Endpoint) (ids []uint32, whole bool) {
	var body struct{ Messages []message }
	if json.Unmarshal(r.Body, &body) != nil {
		return nil, false
	}
	text := func(s string) {
		for _, b := range []byte(s) {
			ids = append(ids, mockTokens[b])
		}
	}
	for _, m := range body.Messages {
		ids = append(ids, 1)
		text(m.Role + "\n" + m.Content)
		ids = append(ids, 2)
		text("\n")
	}
	ids = append(ids, 1)
	text("assistant\n")
	return ids, true
}

// The same requests before mock engines alike: which part of the prompts they find in their caches, behind our
// gateway and behind Dynamo's router by KV events.
func TestEventsMocksHitShare(t *testing.T) {
	in, err := peers.Find(os.Getenv)
	if errors.Is(err, peers.ErrNone) {
		t.Skip(err)
	}
	require.NoError(t, err)
	const engines, blocks = 3, 1280
	shares := map[string][]float64{}
	for _, seed := range []uint64{7, 8} {
		w := mix{tenants: 48, questions: 160, chats: 12, turns: 6, words: 300, seed: seed}.make()
		for _, name := range []string{"round robin", "Default", "Default by tokens", "router of Dynamo"} {
			t.Run(fmt.Sprintf("seed %d, %s", seed, name), func(t *testing.T) {
				var url string
				var g *gateway
				if name == "router of Dynamo" {
					m, err := in.KVRouted(t.TempDir(), engines, blocks, vllm.BlockSize)
					require.NoError(t, err)
					t.Cleanup(func() { _ = m.Close() })
					require.True(t, answers(t, m.Address, 3*time.Minute))
					url = "http://" + m.Address
				} else {
					g = beforeMocks(t, in, name, engines, blocks)
					url = g.URL
				}
				got := w.run("hits", 2*engines, url)
				cached, prompts, off := 0, 0, 0
				for i, a := range got {
					require.NoError(t, a.good())
					cached, prompts = cached+a.cached, prompts+a.prompt
					if name == "Default by tokens" {
						part, _, ok := g.saidCached(requestID("hits", i))
						require.True(t, ok)
						if int(part*float64(a.prompt)+.5)/vllm.BlockSize != a.cached/vllm.BlockSize {
							off++
						}
					}
				}
				share := float64(cached) / float64(prompts)
				shares[name] = append(shares[name], share)
				t.Logf("%.3f of %d tokens were cached; %v", share, prompts, count(got))
				if name == "Default by tokens" {
					t.Logf("said otherwise of %d of %d; index: %+v", off, len(got), g.sink.Stats())
					require.NotZero(t, g.sink.Stats().Bound)
				}
			})
		}
	}
	for name, s := range shares {
		t.Logf("%s: %.3f by seed", name, s)
	}
}

// beforeMocks starts a gateway before mock engines, each with a front of its own.
func beforeMocks(t *testing.T, in peers.Install, name string, engines, blocks int) *gateway {
	t.Helper()
	sources, addresses := map[string]*peers.Mock{}, []string(nil)
	for range engines {
		m, err := in.Mock(t.TempDir(), blocks, vllm.BlockSize)
		require.NoError(t, err)
		t.Cleanup(func() { _ = m.Close() })
		sources[m.Address], addresses = m, append(addresses, m.Address)
	}
	for _, a := range addresses {
		require.True(t, answers(t, a, 3*time.Minute))
	}
	profile, err := plugins.DefaultWith(plugins.CostOptions{Prefix: plugins.PrefixOptions{BlockBytes: tokenBlock}})
	require.NoError(t, err)
	o := setup{profile: &profile, unnamed: true}
	if strings.HasPrefix(name, "round") {
		profile = plugins.RoundRobinProfile()
	}
	if strings.HasSuffix(name, "by tokens") {
		o.tokens, o.tokenize = true, mockTokenize
		o.listen = &kvevents.Options{Sources: func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
			m := sources[ep.Address]
			return []kvevents.Source{{Endpoint: m.Live, Replay: m.Replay}}
		}}
	}
	g := newGatewayWith(t, o, addresses...)
	if o.listen != nil {
		within(t, time.Minute, "all to be listened to", func() bool { return g.ledger.all(addresses, types.KVLive) })
	}
	return g
}
