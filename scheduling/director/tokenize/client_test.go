package tokenize_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/tokenize"
	"github.com/inferpick/inferpick/types"
)

// engine answers /tokenize: a token is a word, by its number.
type engine struct {
	takes  time.Duration
	status int
	err    error
	panics bool

	mu    sync.Mutex
	asked []string // hosts, in order
	last  string   // body
	words map[string]uint32
}

func (e *engine) RoundTrip(req *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(req.Body)
	select {
	case <-time.After(e.takes):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, req.URL.Host+req.URL.Path)
	e.last = string(body)
	if e.panics {
		panic("engine")
	}
	if e.err != nil {
		return nil, e.err
	}
	var chat struct {
		Messages []struct{ Content string }
		Prompt   string
	}
	if err := json.Unmarshal(body, &chat); err != nil {
		return nil, err
	}
	ids := []uint32{}
	text := chat.Prompt
	for _, m := range chat.Messages {
		text += m.Content
	}
	for _, w := range strings.Fields(text) {
		if e.words[w] == 0 {
			e.words[w] = uint32(len(e.words) + 1)
		}
		ids = append(ids, e.words[w])
	}
	answer, _ := json.Marshal(map[string]any{"count": len(ids), "max_model_len": 8192, "tokens": ids})
	if e.status == 0 {
		e.status = http.StatusOK
	}
	return &http.Response{StatusCode: e.status, Body: io.NopCloser(strings.NewReader(string(answer)))}, nil
}

// gateway is a director whose prompts are tokenized by an engine.
type gateway struct {
	*testing.T
	*director.Director
	store  *datastore.Store
	engine *engine
	client *tokenize.Client
}

var pool = types.NamespacedName{Name: "pool"}

func newGateway(t *testing.T, o tokenize.Options) *gateway {
	e := &engine{words: map[string]uint32{}}
	o.Transport = e
	client, err := tokenize.New(o)
	require.NoError(t, err)
	store := datastore.New(datastore.Options{})
	for _, address := range []string{"10.0.0.1:8000", "10.0.0.2:8000"} {
		require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{Address: address}))
	}
	s, err := scheduling.New(plugins.Default())
	require.NoError(t, err)
	d, err := director.New(director.Options{Store: store, Scheduler: s, Tokenize: client.Of})
	require.NoError(t, err)
	t.Cleanup(d.Close)
	return &gateway{t, d, store, e, client}
}

// asks routes a chat, and returns its prompt and how long the decision took.
func (g *gateway) asks(path, body string) (types.Prompt, time.Duration) {
	g.Helper()
	began := time.Now()
	r, err := g.Route(context.Background(), director.Incoming{
		Path: path, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body),
	})
	require.NoError(g, err)
	require.Equal(g, body, string(r.Body))
	r.Done(nil)
	return r.Request.Prompt, time.Since(began)
}

func (g *gateway) chats(text string) (types.Prompt, time.Duration) {
	return g.asks("/v1/chat/completions", fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":%q}],"seed":12345678901234567890}`, text))
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, tokenize.Options{})
		p, _ := g.chats("one two one")
		require.Equal(t, types.TokenPrompt([]uint32{1, 2, 1}), p)
		require.Contains(t, g.engine.last, "12345678901234567890") // the body as it is
		p, _ = g.asks("/v1/completions", `{"model":"m","prompt":"two three"}`)
		require.Equal(t, types.TokenPrompt([]uint32{2, 3}), p)
		require.ElementsMatch(t, []string{"10.0.0.1:8000/tokenize", "10.0.0.2:8000/tokenize"}, g.engine.asked)

		t.Log("the same again is remembered; others are not asked about")
		p, _ = g.chats("one two one")
		require.Equal(t, 3, p.Tokens)
		_, _ = g.asks("/v1/embeddings", `{"model":"m","input":"one"}`)
		_, _ = g.asks("/v1/responses", `{"model":"m","input":"one"}`)
		_, _ = g.asks("/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}`)
		require.Len(t, g.engine.asked, 2)
		require.Equal(t, tokenize.Stats{Asked: 2, Remembered: 1}, g.client.Stats())
	})
}

// Who lacks an adapter is not asked about it.
func TestTokensOfAdapters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, tokenize.Options{})
		for _, ep := range g.store.Snapshot().Pool(pool).Endpoints() {
			models := []string{"m"}
			if ep.Address == "10.0.0.2:8000" {
				models = append(models, "adapter")
			}
			g.store.SetModels(ep.Load, models)
		}
		for n := range 4 {
			_, _ = g.asks("/v1/completions", fmt.Sprintf(`{"model":"adapter","prompt":"%d"}`, n))
		}
		require.Equal(t, slices.Repeat([]string{"10.0.0.2:8000/tokenize"}, 4), g.engine.asked)
	})
}

// A decision waits for its budget and no longer; what comes later serves the next ones, if only by how they
// begin.
func TestTokensTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, tokenize.Options{Budget: 20 * time.Millisecond})
		g.engine.takes = time.Second
		system := strings.Repeat("word after word and ", 400) // 8,000 bytes, 1,600 tokens
		p, took := g.chats(system + "first")
		require.Equal(t, 20*time.Millisecond, took)
		require.Nil(t, p.Data, "bytes, as without")
		p, took = g.chats(system + "second")
		require.Equal(t, 20*time.Millisecond, took)
		require.Nil(t, p.Data)
		time.Sleep(2 * time.Second)

		p, took = g.chats(system + "first")
		require.Zero(t, took)
		require.Equal(t, 1601, p.Tokens)
		p, took = g.chats(system + "third")
		require.Equal(t, 20*time.Millisecond, took)
		require.NotNil(t, p.Data)
		require.InDelta(t, 2000, p.Tokens, 20, "the estimate stays")
		require.Equal(t, 4*p.Tokens, p.Bytes)
		known := len(p.Data) / 4
		require.Greater(t, known, 1200)
		require.LessOrEqual(t, known, 1600, "more than they have in common")
		p, _ = g.chats(strings.Repeat("something else ", 400))
		require.Nil(t, p.Data)
		require.Equal(t, tokenize.Stats{Asked: 4, Remembered: 1, Late: 4, Beginnings: 1}, g.client.Stats())
		time.Sleep(10 * time.Second)
	})
}

// Where prompts part is known from two of them, however their tokens are spread.
func TestTokensOfBeginnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, tokenize.Options{})
		long := strings.Repeat("incomprehensibilities ", 500) // 11,000 bytes, 500 tokens
		short := strings.Repeat("a b ", 3000)                 // 12,000 bytes, 6,000 tokens
		_, _ = g.chats(long + short)
		_, _ = g.chats(long + "c " + short)
		g.engine.takes = time.Second
		p, _ := g.chats(long + "d " + short)
		require.LessOrEqual(t, len(p.Data)/4, 500)
		require.Greater(t, len(p.Data)/4, 400)
		time.Sleep(10 * time.Second)
	})
}

func TestTokensAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, tokenize.Options{MaxTokens: 100, MaxAtOnce: 2})
		for n := range 50 {
			_, _ = g.chats(fmt.Sprint(n, strings.Repeat(" x", 9)))
		}
		require.EqualValues(t, 50, g.client.Stats().Asked)
		for n := range 50 {
			_, _ = g.chats(fmt.Sprint(49-n, strings.Repeat(" x", 9)))
		}
		require.EqualValues(t, 10, g.client.Stats().Remembered, "as many as there is room for")
		g.engine.takes = time.Second
		before := g.client.Stats().Asked
		for n := range 5 {
			_, _ = g.chats(fmt.Sprint("at once ", n))
		}
		require.EqualValues(t, before+2, g.client.Stats().Asked)
		time.Sleep(10 * time.Second)
	})
}

// Whatever the engine does, the decision is made, by bytes; one that fails is left alone for a while.
func TestTokensFailures(t *testing.T) {
	for _, tt := range []struct {
		name           string
		does           func(*engine)
		failed, paused bool
	}{
		{"does not know the path", func(e *engine) { e.status = 404 }, false, false},
		{"is down", func(e *engine) { e.err = errors.New("refused") }, true, true},
		{"fails", func(e *engine) { e.status = 502 }, true, true},
		{"panics", func(e *engine) { e.panics = true }, true, true},
		{"never answers", func(e *engine) { e.takes = time.Hour }, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGateway(t, tokenize.Options{Timeout: 100 * time.Millisecond})
				tt.does(g.engine)
				p, took := g.chats("one")
				require.Nil(t, p.Data)
				require.LessOrEqual(t, took, 25*time.Millisecond)
				time.Sleep(200 * time.Millisecond)
				require.Equal(t, tt.failed, g.client.Stats().Failed == 1)
				require.Equal(t, !tt.failed, g.client.Stats().Refused == 1)
				_, _ = g.chats("two")
				require.Equal(t, tt.paused, g.client.Stats().Asked == 1)
				time.Sleep(2 * time.Second)
				_, _ = g.chats("three")
				require.Equal(t, tt.paused, g.client.Stats().Asked == 2)
				time.Sleep(10 * time.Second)
			})
		})
	}
}

func TestOptions(t *testing.T) {
	_, err := tokenize.New(tokenize.Options{Budget: 2 * time.Second, MaxTokens: -1})
	require.ErrorContains(t, err, "Budget")
	require.ErrorContains(t, err, "MaxTokens")
}
