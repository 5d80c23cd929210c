package loader_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/rollout/loader"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

// The first request loads, and nothing else does.
func TestResolver(t *testing.T) {
	loaded := map[string]bool{}
	f := serve(t, func(method, path, body string, _ *http.Request) (int, string) {
		switch {
		case path == "/v1/models" && loaded["v1"]:
			return 200, list("vllm", "base", "v1=/cache/v1")
		case path == "/v1/models":
			return 200, list("vllm", "base")
		case path == "/v1/completions" && strings.Contains(body, `"v1"`):
			loaded["v1"] = true
			return 200, completed("v1")
		case path == "/v1/completions" && strings.Contains(body, `"wide"`):
			return 400, `{"error":{"message":"LoRA adapter 'wide' was found but could not be loaded.","type":"BadRequestError"}}`
		case path == "/v1/completions":
			return 404, `{"error":{"message":"The model does not exist.","type":"NotFoundError","code":404}}`
		}
		return 0, ""
	})
	l, ctx := newClient(t, loader.Options{}).Resolver(), t.Context()
	if has, err := l.Loaded(ctx, f.Endpoint, "v1", ""); has || err != nil {
		t.Errorf("Loaded before = %t, %v", has, err)
	}
	require.NoError(t, l.Load(ctx, f.Endpoint, "v1", ""))
	if has, err := l.Loaded(ctx, f.Endpoint, "v1", "/cache/v1"); !has || err != nil {
		t.Errorf("Loaded after = %t, %v", has, err)
	}
	says(t, l.Load(ctx, f.Endpoint, "v1", "/cache/other"), loader.ErrTaken, "/cache/v1")
	says(t, l.Load(ctx, f.Endpoint, "v2", ""), loader.ErrNotServed, "does not exist", "found none by its name")
	says(t, l.Load(ctx, f.Endpoint, "wide", ""), loader.ErrNotServed, "was found but could not be loaded")
	asked := f.count("")
	require.NoError(t, l.Unload(ctx, f.Endpoint, "v1"))
	if f.count("") != asked || f.count("POST /v1/load") != 0 {
		t.Error("Resolver changes servers")
	}
}

func TestManual(t *testing.T) {
	_, ep := simulated(t, modelserver.Options{Models: []string{"base"}})
	c := newClient(t, loader.Options{Every: 10 * time.Millisecond})
	l := c.Manual()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := l.Load(ctx, ep, "v1", "")
	if !errors.Is(err, context.DeadlineExceeded) { // in the midst of looking, or between
		says(t, err, loader.ErrNotServed, "nobody has loaded it", `"v1"`)
	}
	done := make(chan error, 1)
	go func() { done <- l.Load(t.Context(), ep, "v1", "/a") }()
	require.NoError(t, c.VLLM().Load(t.Context(), ep, "v1", "/a"), "a waiting Manual holds up nobody")
	require.NoError(t, <-done)
	says(t, l.Load(t.Context(), ep, "v1", "/b"), loader.ErrTaken)
	require.NoError(t, l.Unload(t.Context(), ep, "v1"))
	if has, err := l.Loaded(t.Context(), ep, "v1", "/a"); !has || err != nil {
		t.Errorf("Loaded = %t, %v: Manual unloads nothing", has, err)
	}
}

func TestFunc(t *testing.T) {
	s, ep := simulated(t, modelserver.Options{Models: []string{"base"}})
	c := newClient(t, loader.Options{})
	calls, broken := 0, errors.New("no storage")
	l := c.Func(func(ctx context.Context, ep *types.Endpoint, name, source string) error {
		if calls++; calls == 1 {
			return broken
		}
		return c.Manual().Load(ctx, ep, name, source) // any that takes no turn
	}, func(context.Context, *types.Endpoint, string) error {
		s.Unload("v1")
		return nil
	})
	if err := l.Load(t.Context(), ep, "v1", "/a"); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	nobody := c.Func(nil, nil)
	says(t, nobody.Load(t.Context(), ep, "v1", "/a"), loader.ErrNotServed)
	require.NoError(t, nobody.Unload(t.Context(), ep, "v1"))
	require.NoError(t, c.VLLM().Load(t.Context(), ep, "v1", "/a"))
	require.NoError(t, l.Load(t.Context(), ep, "v1", "/a"))
	require.NoError(t, l.Unload(t.Context(), ep, "v1"))
	if has, err := l.Loaded(t.Context(), ep, "v1", "/a"); has || err != nil || calls != 1 {
		t.Errorf("Loaded = %t, %v after %d calls, want false after 1", has, err, calls)
	}
}

// A panic of the user's gives the turn back.
func TestFuncPanics(t *testing.T) {
	_, ep := simulated(t, modelserver.Options{Models: []string{"base"}})
	c := newClient(t, loader.Options{})
	func() {
		defer func() { _ = recover() }()
		panics := func(context.Context, *types.Endpoint, string, string) error { panic("x") }
		_ = c.Func(panics, nil).Load(t.Context(), ep, "v1", "")
		t.Error("it did not panic")
	}()
	require.NoError(t, c.VLLM().Load(t.Context(), ep, "v1", "/a"))
}

func TestAuto(t *testing.T) {
	ctx, l := t.Context(), newClient(t, loader.Options{}).Auto()
	_, simulatedVLLM := simulated(t, modelserver.Options{Models: []string{"base"}}) // its metrics say what it is
	require.NoError(t, l.Load(ctx, simulatedVLLM, "v1", "/a"))
	if has, err := l.Loaded(ctx, simulatedVLLM, "v1", "/a"); !has || err != nil {
		t.Errorf("Loaded = %t, %v", has, err)
	}
	require.NoError(t, l.Unload(ctx, simulatedVLLM, "v1"))

	s := newSGLang(t)
	require.NoError(t, l.Load(ctx, s.Endpoint, "base:v1", "/a"))
	labelled := *s.Endpoint
	labelled.Labels = map[string]string{datastore.EngineLabel: "SGLang"}
	require.NoError(t, l.Unload(ctx, &labelled, "base:v1"))
	labelled.Labels = map[string]string{"llm-d.ai/engine-type": "vllm"}
	says(t, l.Load(ctx, &labelled, "v1", "/a"), loader.ErrOff, "VLLM_ALLOW") // whatever it is
	labelled.Labels = map[string]string{datastore.EngineLabel: "triton"}
	e := says(t, l.Load(ctx, &labelled, "v1", "/a"), loader.ErrUnknownEngine, "triton", `"v1"`, "one of the other loaders")
	if !e.Permanent() {
		t.Error("not permanent")
	}

	stranger := serve(t, func(_, path, _ string, _ *http.Request) (int, string) {
		if path == "/v1/models" {
			return 200, list("me", "base")
		}
		return 0, ""
	})
	says(t, l.Load(ctx, stranger.Endpoint, "v1", "/a"), loader.ErrUnknownEngine, "/metrics")
	says(t, l.Unload(ctx, stranger.Endpoint, "v1"), loader.ErrUnknownEngine)
	_, err := l.Loaded(ctx, stranger.Endpoint, "v1", "")
	says(t, err, loader.ErrUnknownEngine)
}

func TestNamed(t *testing.T) {
	c := newClient(t, loader.Options{})
	for name, want := range map[string]string{
		"": "Auto", "vLLM": "VLLM", "sglang": "SGLang", "resolver": "Resolver", "manual": "Manual",
	} {
		l, err := c.Named(name)
		if got := fmt.Sprintf("%T", l); err != nil || got != "loader."+want {
			t.Errorf("Named(%q) = %s, %v, want %s", name, got, err, want)
		}
	}
	if _, err := c.Named("triton"); err == nil || !strings.Contains(err.Error(), "triton") {
		t.Errorf("Named(triton): %v", err)
	}
	_, err := loader.New(loader.Options{Every: time.Nanosecond})
	if err == nil || !strings.Contains(err.Error(), "Every") {
		t.Errorf("New with Every 1ns: %v", err)
	}
}

// What a server answers to a probe, and what that means.
func TestProbe(t *testing.T) {
	const chatOnly = `{"message":"The model does not support Completions API","type":"BadRequestError","code":400}`
	unknown := `{"error":{"message":"The model v1 does not exist.","type":"NotFoundError","code":404}}`
	for _, tt := range []struct {
		name             string
		completion       string
		completionStatus int
		chat             string
		chatStatus       int
		want             string // in the error; empty: none
	}{
		{"a completion", completed("v1"), 200, "", 0, ""},
		{"chats alone, no path", "", 0, completed("v1"), 200, ""},
		{"chats alone, refused", chatOnly, 400, completed("v1"), 200, ""},
		{"no path", "", 0, "", 0, "is it a model server?"},
		{"the model is not there", unknown, 404, unknown, 404, "/v1/completions)"},
		{"the model is not there for chats", "", 0, unknown, 404, "/v1/chat/completions)"},
		{"both refused", chatOnly, 400, `{"error":{"message":"no chat template"}}`, 400, "Completions API"},
		{"another model", completed("base"), 200, "", 0, `from model "base"`},
		{"no model", `{"choices":[{}]}`, 200, "", 0, `from model ""`},
		{"no choices", `{"model":"v1","choices":[]}`, 200, "", 0, "no choices"},
		{"no JSON", "<html>", 200, "", 0, "not what was asked for"},
		{"broken", `{"error":{"message":"engine died"}}`, 500, completed("v1"), 200, "engine died"},
		{"full", `{"error":"queue"}`, 503, "", 0, "too much to do"},
		{"limited", "", 429, completed("v1"), 200, "too much to do"},
		{"locked", "", 403, completed("v1"), 200, "Options.Header"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, func(_, path, _ string, _ *http.Request) (int, string) {
				switch path {
				case "/v1/models":
					return 200, list("vllm", "base", "v1=/a")
				case "/v1/completions":
					return tt.completionStatus, tt.completion
				case "/v1/chat/completions":
					return tt.chatStatus, tt.chat
				}
				return 0, ""
			})
			err := newClient(t, loader.Options{}).VLLM().Load(t.Context(), f.Endpoint, "v1", "/a")
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			says(t, err, nil, "probe", tt.want)
		})
	}
}

func TestProbeOfEmbeddings(t *testing.T) {
	reply := `{"model":"v1","data":[{"embedding":[0]}]}`
	f := serve(t, func(_, path, body string, _ *http.Request) (int, string) {
		switch path {
		case "/v1/models":
			return 200, list("vllm", "base", "v1=/a")
		case "/v1/embeddings":
			if body != `{"input":"Hello","model":"v1"}` {
				return 400, `{"error":"bad request"}`
			}
			return 200, reply
		}
		return 0, ""
	})
	l := newClient(t, loader.Options{}).VLLM()
	require.NoError(t, l.Load(t.Context(), f.Endpoint, "v1", "/a"))
	reply = `{"model":"v1","data":[]}`
	says(t, l.Load(t.Context(), f.Endpoint, "v1", "/a"), loader.ErrNotServed, "no data")
}

// A server that answers, but does not list what it answers with, is not trusted: another process may not have it.
func TestAnsweredButNotListed(t *testing.T) {
	f := serve(t, func(_, path, _ string, _ *http.Request) (int, string) {
		switch path {
		case "/v1/models":
			return 200, list("vllm", "base")
		case "/v1/load_lora_adapter":
			return 200, "Success"
		case "/v1/completions":
			return 200, completed("v1")
		}
		return 0, ""
	})
	err := newClient(t, loader.Options{}).VLLM().Load(t.Context(), f.Endpoint, "v1", "/a")
	says(t, err, loader.ErrNotServed, "not listed")
}

func TestHostileAnswers(t *testing.T) {
	other := serve(t, func(_, _, _ string, r *http.Request) (int, string) {
		t.Errorf("the other server was asked, with Authorization %q", r.Header.Get("Authorization"))
		return 200, list("vllm", "v1=/a")
	})
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"too large", 200, strings.Repeat(" ", 1<<20+1), "larger than 1048576 bytes"},
		{"sent on to another", 307, "http://" + other.Address + "/v1/models", "not followed"},
		{"sent on to https", 301, "https://127.0.0.1:1/", "not followed"},
		{"in circles", 302, "/v1/models", "not followed"},
		{"no JSON", 200, "nothing", "no list of models"},
		{"no data", 200, `{"object":"list"}`, "data is missing"},
		{"an error", 500, strings.Repeat("é\n", 4000), "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, func(_, _, _ string, _ *http.Request) (int, string) { return tt.status, tt.body })
			l := newClient(t, loader.Options{Header: http.Header{"Authorization": {"Bearer k"}}}).VLLM()
			_, err := l.Loaded(t.Context(), f.Endpoint, "v1", "")
			e := says(t, err, nil, "list", tt.want)
			if len(e.Words) > 300 || strings.Contains(e.Error(), "\n") {
				t.Errorf("%d bytes of words in %q", len(e.Words), e)
			}
			if n := f.count(""); n > 5 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// A framework may send a path on to another of its own. A POST stays one.
func TestRedirectsWithinAServer(t *testing.T) {
	loaded := false
	f := serve(t, func(method, path, body string, r *http.Request) (int, string) {
		switch {
		case !strings.HasSuffix(path, "/"):
			return 307, path + "/"
		case method == "POST" && body == "":
			return 422, "a body is missing"
		case path == "/v1/models/" && loaded:
			return 200, list("vllm", "v1=/a")
		case path == "/v1/models/":
			return 200, list("vllm", "base")
		case path == "/v1/load_lora_adapter/":
			loaded = true
			return 200, ""
		}
		return 200, completed("v1")
	})
	require.NoError(t, newClient(t, loader.Options{}).VLLM().Load(t.Context(), f.Endpoint, "v1", "/a"))
}

func TestURLs(t *testing.T) {
	store := datastore.New(datastore.Options{})
	pool := types.NamespacedName{Namespace: "default", Name: "p"}
	require.NoError(t, store.SetEndpoints(pool, []datastore.EndpointSpec{
		{Address: "a:1"}, {Address: "b:1", MetricsScheme: "https"},
		{Address: "c:1", MetricsScheme: "https", MetricsAddress: ":2"},
		{Address: "d:1", MetricsScheme: "https", MetricsAddress: ":1"},
	}))
	of, stop := loader.URLs(store)
	defer stop()
	var got []string
	for _, ep := range store.Snapshot().Pool(pool).Endpoints() {
		got = append(got, of(ep))
	}
	if want := "http://a:1 https://b:1 http://c:1 https://d:1"; strings.Join(got, " ") != want {
		t.Errorf("URLs %v, want %s", got, want)
	}
	if got := of(types.NewEndpoint("x", "x:1")); got != "http://x:1" {
		t.Errorf("of a stranger: %s", got)
	}

	for _, url := range []string{"", "ftp://x", "://", "x:1", "http://"} {
		c := newClient(t, loader.Options{URL: func(*types.Endpoint) string { return url }})
		says(t, c.VLLM().Load(t.Context(), types.NewEndpoint("e", "e:1"), "v1", "/a"), nil, "Options.URL", `"e"`)
	}
	c := newClient(t, loader.Options{URL: func(*types.Endpoint) string { return "http://user:secret@127.0.0.1:1" }})
	_, err := c.VLLM().Loaded(t.Context(), types.NewEndpoint("e", "e:1"), "v1", "/a")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v, want one without the password", err)
	}
}

func TestNames(t *testing.T) {
	c := newClient(t, loader.Options{})
	ep := types.NewEndpoint("e", "127.0.0.1:1")
	for _, tt := range []struct{ name, source string }{
		{"", "/a"}, {strings.Repeat("a", 257), ""}, {"a", strings.Repeat("/", 4097)},
	} {
		says(t, c.VLLM().Load(t.Context(), ep, tt.name, tt.source), loader.ErrName)
	}
}
