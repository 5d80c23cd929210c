package engines_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// line is what happened next in a run of TestEventsTellWhatIsCached before three real servers, one request at a
// time: a request was sent, blocks were stored, removed or cleared, an answer came.
type line struct {
	Endpoint int
	Do       string
	ID       int // of the request
	Model    string
	Text     shared[string]   // of the prompt, as the index has it
	Tokens   shared[[]uint32] // of the prompt, or the blocks
	Hashes   []uint64
	Parent   uint64 // 0: none

	Prompt, Cached float64
}

// shared is a text, or tokens, that begins like one before it.
type shared[T any] struct {
	Like, First int
	Then        T
}

// readRun returns the lines of a run, with texts and tokens in full.
func readRun(t *testing.T, path string) (lines []line) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var texts [][]rune
	var tokens [][]uint32
	for d := json.NewDecoder(z); d.More(); {
		var l line
		require.NoError(t, d.Decode(&l))
		if l.Do == "ask" {
			text := []rune(l.Text.Then)
			if l.Text.First > 0 {
				text = append(texts[l.Text.Like][:l.Text.First:l.Text.First], text...)
			}
			texts, l.Text.Then = append(texts, text), string(text)
		}
		if l.Do == "ask" || l.Do == "store" {
			ids := l.Tokens.Then
			if l.Tokens.First > 0 {
				ids = append(tokens[l.Tokens.Like][:l.Tokens.First:l.Tokens.First], ids...)
			}
			tokens, l.Tokens.Then = append(tokens, ids), ids
		}
		lines = append(lines, l)
	}
	return lines
}

// event returns what a line is as an event, if it is one.
func (l *line) event() (ev types.KVEvent, ok bool) {
	ev = types.KVEvent{Hashes: l.Hashes, Full: true}
	switch l.Do {
	case "store":
		ev.BlockSize, ev.Tokens, ev.Adapter = vllm.BlockSize, l.Tokens.Then, l.Model
		ev.Parent, ev.HasParent = l.Parent, l.Parent != 0
		if l.ID != 0 {
			ev.SessionID = fmt.Sprint(l.ID)
		}
	case "remove":
		ev.Kind = types.KVRemoved
	case "clear":
		ev.Kind = types.KVCleared
	default:
		return ev, false
	}
	return ev, true
}

// What is said of each prompt, before three real servers whose caches evict, against what they found there: by
// sessions, and by token ids without them.
func TestRecordedRun(t *testing.T) {
	lines := readRun(t, "testdata/vllm-0.32/told.jsonl.gz")
	for _, tt := range []struct {
		name       string
		blockBytes int
		tokens     bool
		close      float64 // part of requests within one block of the engine
		worst      float64
	}{{"sessions, 256 bytes", 256, false, .7, 80}, {"sessions, 64 bytes", 64, false, .99, 40}, {"tokens", tokenBlock, true, 1, .01}} {
		t.Run(tt.name, func(t *testing.T) {
			cache, err := plugins.NewPrefixCache(plugins.PrefixOptions{BlockBytes: tt.blockBytes})
			require.NoError(t, err)
			o := plugins.KVOptions{}
			if tt.tokens {
				o.Model = vllm.ModelName
			}
			sink, err := cache.KVSink(o)
			require.NoError(t, err)
			eps := make([]*types.Endpoint, 3)
			for i := range eps {
				eps[i] = types.NewEndpoint(fmt.Sprint(i), "")
				eps[i].Slot = uint32(i)
				eps[i].Metrics.BlockSize, eps[i].Metrics.NumBlocks = types.Known(vllm.BlockSize), types.Known(vllm.Blocks)
			}
			requests, said := map[int]*types.Request{}, map[int]float64{}
			n, near, worst := 0, 0, 0.
			for _, l := range lines {
				ep := eps[l.Endpoint]
				if ev, ok := l.event(); ok {
					sink.Apply(ep.ID, 0, []types.KVEvent{ev})
					continue
				}
				if l.Do == "ask" {
					req := &types.Request{Model: l.Model, Prompt: types.TextPrompt(l.Text.Then)}
					if req.EngineSession = fmt.Sprint(l.ID); tt.tokens {
						req.EngineSession, req.Prompt = "", types.TokenPrompt(l.Tokens.Then)
					}
					requests[l.ID], said[l.ID] = req, float64(cache.CachedTokens(req, ep))/float64(req.Prompt.Tokens)
					cache.Picked(req, ep)
					continue
				}
				out := types.Outcome{Status: 200}
				out.Usage.PromptTokens, out.Usage.CachedTokens = types.Known(l.Prompt), types.Known(l.Cached)
				cache.FirstToken(requests[l.ID], ep)
				cache.Finished(requests[l.ID], ep, out)
				off := math.Abs(said[l.ID]*l.Prompt - l.Cached)
				n, worst = n+1, max(worst, off)
				if off <= vllm.BlockSize {
					near++
				}
			}
			t.Logf("%d requests, %.1f %% within a block of the engine, at worst %.0f tokens off; %+v", n, 100*float64(near)/float64(n), worst, sink.Stats())
			require.GreaterOrEqual(t, float64(near)/float64(n), tt.close)
			require.LessOrEqual(t, worst, tt.worst)
		})
	}
}
