package loader_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout/loader"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

func TestVLLM(t *testing.T) {
	s, ep := simulated(t, modelserver.Options{Models: []string{"base"}})
	l, ctx := newClient(t, loader.Options{}).VLLM(), t.Context()

	loaded := func(name, source string, want bool) {
		t.Helper()
		if got, err := l.Loaded(ctx, ep, name, source); err != nil || got != want {
			t.Errorf("Loaded(%s, %s) = %t, %v, want %t", name, source, got, err, want)
		}
	}
	loaded("v1", "", false)
	require.NoError(t, l.Load(ctx, ep, "v1", "/a/v1"))
	loaded("v1", "", true)
	loaded("v1", "/a/v1/", true)
	loaded("v1", "/a/v2", false)
	require.NoError(t, l.Load(ctx, ep, "v1", "/a/v1"), "again")
	require.NoError(t, l.Load(ctx, ep, "v1", ""), "from anywhere")
	says(t, l.Load(ctx, ep, "v1", "/a/v2"), loader.ErrTaken,
		`load "v1"`, ep.Address, `from "/a/v1"`, `"/a/v2"`, "another name")
	says(t, l.Load(ctx, ep, "base", "/a/v2"), loader.ErrTaken, `"base"`)
	require.NoError(t, l.Load(ctx, ep, "base", ""), "a base model is served")
	require.NoError(t, l.Unload(ctx, ep, "v1"))
	loaded("v1", "", false)
	require.NoError(t, l.Unload(ctx, ep, "v1"), "again")
	says(t, l.Load(ctx, ep, "v1", ""), loader.ErrNotServed, "status 404", "does not exist", "give the plan a source")

	s.Fault("nowhere", modelserver.AdapterFault{LoadFails: 404})
	e := says(t, l.Load(ctx, ep, "nowhere", "/a/none"), loader.ErrNoSource,
		`"/a/none"`, "status 404", "No adapter found", "on the server itself")
	if e.Permanent() {
		t.Error("a source may come later")
	}
	s.Fault("wide", modelserver.AdapterFault{LoadFails: 500})
	says(t, l.Load(ctx, ep, "wide", "/a/wide"), loader.ErrRefused, "status 500", "add_lora", "--max-lora-rank")
	loaded("wide", "", false)

	// The list has it, and requests fail.
	s.Fault("hollow", modelserver.AdapterFault{Errors: 1})
	says(t, l.Load(ctx, ep, "hollow", "/a/hollow"), loader.ErrNotServed, "probe", "status 500", "told to fail")
	loaded("hollow", "", true)
	s.Fault("gone", modelserver.AdapterFault{Missing: true})
	says(t, l.Load(ctx, ep, "gone", "/a/gone"), loader.ErrNotServed, "probe", "status 404")
	says(t, l.Load(ctx, ep, "gone", "/a/gone"), loader.ErrNotServed, "the server lists it, but does not serve it")
}

func TestVLLMWithoutThePaths(t *testing.T) {
	_, ep := simulated(t, modelserver.Options{Models: []string{"base"}, Adapters: []string{"there"}, FixedAdapters: true})
	l, ctx := newClient(t, loader.Options{}).VLLM(), t.Context()
	e := says(t, l.Load(ctx, ep, "v1", "/a/v1"), loader.ErrOff, "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "status 404")
	if !e.Permanent() {
		t.Error("it does not go away by itself")
	}
	require.NoError(t, l.Load(ctx, ep, "there", ""), "what is there is served")
	require.NoError(t, l.Unload(ctx, ep, "v1"), "what is not there need not be unloaded")
	says(t, l.Unload(ctx, ep, "there"), loader.ErrOff, `unload "there"`)
}

// Between our look and our call somebody else may have loaded the adapter, or another one under its name.
func TestVLLMLoadedByAnother(t *testing.T) {
	for _, root := range []string{"/a/v1", "/a/other"} {
		first := true
		f := serve(t, func(method, path, body string, _ *http.Request) (int, string) {
			switch path {
			case "/v1/models":
				if first {
					first = false
					return 200, list("vllm", "base")
				}
				return 200, list("vllm", "base", "v1="+root)
			case "/v1/load_lora_adapter":
				return 400, `{"message":"The lora adapter 'v1' has already been loaded.","type":"InvalidUserInput","code":400}`
			case "/v1/completions":
				return 200, completed("v1")
			}
			return 0, ""
		})
		err := newClient(t, loader.Options{}).VLLM().Load(t.Context(), f.Endpoint, "v1", "/a/v1")
		if root == "/a/v1" {
			require.NoError(t, err)
		} else {
			says(t, err, loader.ErrTaken, root)
		}
	}
}

// What is sent is what the API has, and never load_inplace.
func TestVLLMAsksStrictly(t *testing.T) {
	loaded := false
	f := serve(t, func(method, path, body string, r *http.Request) (int, string) {
		if r.Header.Get("Authorization") != "Bearer k" {
			return 401, `{"error":"Unauthorized"}`
		}
		if method == http.MethodPost && r.Header.Get("Content-Type") != "application/json" {
			return 415, `{"error":{"message":"Unsupported Media Type"}}`
		}
		switch method + " " + path + " " + body {
		case "GET /v1/models ":
			if loaded {
				return 200, list("vllm", "base", "v1=/a")
			}
			return 200, list("vllm", "base")
		case `POST /v1/load_lora_adapter {"lora_name":"v1","lora_path":"/a"}`:
			loaded = true
			return 200, "Success: LoRA adapter 'v1' added successfully."
		case `POST /v1/completions {"max_tokens":1,"model":"v1","prompt":"Hello","temperature":0}`:
			return 200, completed("v1")
		case `POST /v1/unload_lora_adapter {"lora_name":"v1"}`:
			loaded = false
			return 200, "Success: LoRA adapter 'v1' removed successfully."
		}
		return 422, `{"error":{"message":"unexpected"}}`
	})
	l := newClient(t, loader.Options{Header: http.Header{"Authorization": {"Bearer k"}}}).VLLM()
	require.NoError(t, l.Load(t.Context(), f.Endpoint, "v1", "/a"))
	require.NoError(t, l.Unload(t.Context(), f.Endpoint, "v1"))

	err := newClient(t, loader.Options{}).VLLM().Load(t.Context(), f.Endpoint, "v1", "/a")
	e := says(t, err, loader.ErrRefused, "status 401", "Unauthorized", "Options.Header")
	if !e.Permanent() || strings.Contains(e.Error(), "Bearer") {
		t.Errorf("Permanent() = %t of %v", e.Permanent(), e)
	}
}

// Ranks of one server load an adapter once, at whatever time, and are probed each by its header.
func TestRanksLoadOnce(t *testing.T) {
	var mu sync.Mutex
	loaded, ranks := false, map[string]int{}
	f := serve(t, func(method, path, body string, r *http.Request) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		switch path {
		case "/v1/models":
			if loaded {
				return 200, list("vllm", "base", "v1=/a")
			}
			return 200, list("vllm", "base")
		case "/v1/load_lora_adapter":
			loaded = true
			return 200, "Success"
		case "/v1/completions":
			ranks[r.Header.Get(types.HeaderRank)]++
			return 200, completed("v1")
		}
		return 0, ""
	})
	l := newClient(t, loader.Options{}).VLLM()
	const n = 8
	var all sync.WaitGroup
	for i := range n {
		ep := *f.Endpoint
		ep.Rank = types.Rank{Index: i, Of: n}
		all.Go(func() {
			if err := l.Load(t.Context(), &ep, "v1", "/a"); err != nil {
				t.Errorf("rank %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if got := f.count("POST /v1/load_lora_adapter"); got != 1 || len(ranks) != n {
		t.Errorf("loaded %d times, want 1; probed ranks %v, want all %d", got, ranks, n)
	}
}

// A server that hangs holds up its own calls alone, and none longer than its context.
func TestHangingServer(t *testing.T) {
	before := runtime.NumGoroutine()
	s, ep := simulated(t, modelserver.Options{Models: []string{"base"}})
	s2, other := simulated(t, modelserver.Options{Models: []string{"base"}})
	s.Fault("slow", modelserver.AdapterFault{LoadTime: time.Hour})
	c := newClient(t, loader.Options{})
	l := c.VLLM()
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- l.Load(ctx, ep, "slow", "/s") }()
	require.Eventually(t, func() bool { // it is under way
		short, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		err := l.Unload(short, ep, "x")
		return errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), "under way")
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, l.Load(ctx, other, "v1", "/a"), "another server")
	if has, err := l.Loaded(ctx, ep, "slow", ""); has || err != nil {
		t.Errorf("Loaded = %t, %v while it is loaded", has, err)
	}
	cancel()
	says(t, <-first, context.Canceled, `load "slow"`, "no answer")
	require.NoError(t, l.Load(t.Context(), ep, "v1", "/a"), "the turn was given back")
	c.Close()
	s.Close()
	s2.Close()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines stay, there were %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	s, ep := simulated(t, modelserver.Options{})
	s.Close()
	l := newClient(t, loader.Options{}).VLLM()
	e := says(t, l.Load(t.Context(), ep, "v1", "/a"), nil, "no answer", "connection refused", `"v1"`)
	if e.Status != 0 || e.Permanent() {
		t.Errorf("%+v", e)
	}
	_, err := l.Loaded(t.Context(), ep, "v1", "")
	says(t, err, nil, "list", "no answer")
	says(t, l.Unload(t.Context(), ep, "v1"), nil, "unload", "no answer")
}
