package engines_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// A gateway that has just started, and sent nothing itself, knows to the block what a server holds of prompts
// that others sent, if prompts are token ids: of the base model, with a salt, and of an adapter, each for
// itself.
func TestEventsByTokensOfOthers(t *testing.T) {
	all := publishing(t, 1)
	have, _ := with(t, all, vllm.AdapterName)
	server, adapters := all[:1], []string{""}
	if len(have) > 0 {
		server, adapters = have[:1], []string{"", vllm.AdapterName}
	}
	emptied(t, server)
	var asked, others []question
	for _, adapter := range adapters {
		for _, salt := range []string{"", "salt of somebody"} {
			q := question{model: adapter, salt: salt, prompt: long("adapter " + adapter + " salt " + salt)}
			asked = append(asked, q)
			other := q
			other.salt = "another salt"
			others = append(others, other)
		}
	}
	for _, q := range asked {
		require.NoError(t, ask(context.Background(), server[0].URL(""), q).good())
	}
	profile, err := plugins.DefaultWith(plugins.CostOptions{Prefix: plugins.PrefixOptions{BlockBytes: tokenBlock}})
	require.NoError(t, err)
	g := listening(t, setup{profile: &profile, tokens: true}, server)
	asks(t, g.URL, "what was told before the first request is taken over beside that")
	g.outcomes.take(t, 1)
	for i, q := range append(asked, others...) {
		q.id = requestID("others", i)
		a := ask(context.Background(), g.URL, q)
		require.NoError(t, a.good())
		part, detail, ok := g.saidCached(q.id)
		require.True(t, ok)
		t.Logf("%q, salt %q: %d of %d tokens were cached; said %s", q.model, q.salt, a.cached, a.prompt, detail)
		require.Equal(t, a.cached/vllm.BlockSize, int(part*float64(a.prompt)+.5)/vllm.BlockSize)
		require.Equal(t, i < len(asked), a.cached > 0)
	}
	require.Zero(t, g.tokens.Stats().Late)
}

// tellsTokens is a Sink that keeps the token ids of the sequences that are told of, by their last block.
type tellsTokens struct {
	*ledger
	sequences map[uint64][]uint32 // without adapter and salt
	blocks    map[string]uint64   // by the tokens up to their end
}

func (s *tellsTokens) Apply(endpoint string, rank int, batch []kvevents.Event) {
	for _, ev := range batch {
		sequence, known := s.sequences[ev.Parent]
		if ev.Kind != kvevents.Stored || ev.Adapter != "" || ev.Salt != "" || ev.HasParent && !known {
			continue
		}
		for i, hash := range ev.Hashes {
			sequence = append(sequence[:len(sequence):len(sequence)], ev.Tokens[i*ev.BlockSize:(i+1)*ev.BlockSize]...)
			s.sequences[hash], s.blocks[fmt.Sprint(sequence)] = sequence, hash
		}
	}
	s.ledger.Apply(endpoint, rank, batch)
}

// Of all sequences that real engines told of in the recordings, the index says of each just as many blocks as
// were held in the end, by the events alone.
func TestRecordedEventsByTokens(t *testing.T) {
	for name, r := range recordedEvents(t) {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, r)
			s.play(len(r.live))
			cache, err := plugins.NewPrefixCache(plugins.PrefixOptions{BlockBytes: tokenBlock})
			require.NoError(t, err)
			sink, err := cache.KVSink(plugins.KVOptions{Model: vllm.ModelName})
			require.NoError(t, err)
			told := &tellsTokens{newLedger(sink), map[uint64][]uint32{}, map[string]uint64{}}
			const endpoint = "127.0.0.1:8000"
			listenTo(t, told, endpoint, kvevents.Source{Endpoint: "tcp://" + s.live.Addr().String(), Replay: "tcp://" + s.replays.Addr().String()})
			holds(t, told.ledger, endpoint, r.held)

			ep := types.NewEndpoint(endpoint, endpoint)
			request := func(ids []uint32) *types.Request {
				return &types.Request{Model: vllm.ModelName, Prompt: types.TokenPrompt(append(ids[:len(ids):len(ids)], 0))}
			}
			require.NoError(t, cache.Score(context.Background(), request(nil), []*types.Endpoint{ep}, make([]float64, 1)))
			within(t, time.Minute, "what was told before to be taken over", func() bool { return cache.Stats().Held >= len(r.held) })
			held, some := told.look(endpoint).held, 0
			for _, ids := range told.sequences {
				want := 0
				for n := vllm.BlockSize; n <= len(ids) && held[told.blocks[fmt.Sprint(ids[:n])]]; n += vllm.BlockSize {
					want++
				}
				require.Equal(t, want, cache.CachedTokens(request(ids), ep)/vllm.BlockSize, "a sequence of %d blocks", len(ids)/vllm.BlockSize)
				some += min(want, 1)
			}
			t.Logf("%d sequences, of %d of which something is held", len(told.sequences), some)
			require.NotZero(t, some)
		})
	}
}
