package engines_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/datastore/rollout/loader"
	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/types"
)

// loaders returns a client for loaders, and the endpoints of servers.
func loaders(t *testing.T, servers []*vllm.Server) (*loader.Client, []*types.Endpoint) {
	t.Helper()
	c, err := loader.New(loader.Options{})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	var eps []*types.Endpoint
	for _, s := range servers {
		eps = append(eps, types.NewEndpoint(s.Address, s.Address))
	}
	return c, eps
}

// complete returns what a server says under a name, always the same for the same prompt.
func complete(ctx context.Context, s *vllm.Server, name, prompt string, tokens int) (int, string, error) {
	body, err := json.Marshal(map[string]any{
		"model": name, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true,
	})
	if err != nil {
		return 0, "", err
	}
	status, reply, err := tell(ctx, s, "/v1/completions", string(body))
	if err != nil || status != http.StatusOK {
		return status, reply, err
	}
	var a struct{ Choices []struct{ Text string } }
	if err := json.Unmarshal([]byte(reply), &a); err != nil || len(a.Choices) != 1 {
		return status, reply, fmt.Errorf("no completion: %w", err)
	}
	return status, a.Choices[0].Text, nil
}

func tell(ctx context.Context, s *vllm.Server, path, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL(path), strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(reply), err
}

// What the loaders do, and what real vLLM says to it.
func TestLoaders(t *testing.T) {
	servers := runtimeServers(t)
	s := servers[0]
	c, eps := loaders(t, servers)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	ep, l := eps[0], c.VLLM()
	folder := filepath.Join(runtimeFleet.folder, "loaders")
	v1 := makeAdapter(t, filepath.Join(folder, "v1"), adapter{seed: 1})
	v2 := makeAdapter(t, filepath.Join(folder, "v2"), adapter{seed: 2, rank: 4})

	has := func(name, source string, want bool) {
		t.Helper()
		if got, err := l.Loaded(ctx, ep, name, source); err != nil || got != want {
			t.Errorf("Loaded(%s, %s) = %t, %v, want %t", name, source, got, err, want)
		}
	}
	refused := func(err, is error, words ...string) {
		t.Helper()
		if !errors.Is(err, is) {
			t.Errorf("error %v, want %v", err, is)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %v, want %q in it", err, w)
			}
		}
		t.Log(err)
	}
	says := func(name string) string {
		t.Helper()
		status, text, err := complete(ctx, s, name, "the quick brown fox", 8)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s: status %d, %v: %s", name, status, err, text)
		}
		return text
	}

	t.Run("load and unload", func(t *testing.T) {
		has("ld", "", false)
		require.NoError(t, l.Load(ctx, ep, "ld", v1))
		has("ld", v1, true)
		has("ld", v2, false)
		require.NoError(t, l.Load(ctx, ep, "ld", v1), "twice")
		refused(l.Load(ctx, ep, "ld", v2), loader.ErrTaken, v1, v2)
		refused(l.Load(ctx, ep, vllm.ModelName, v2), loader.ErrTaken)
		require.NoError(t, l.Load(ctx, ep, vllm.ModelName, ""), "the base model")

		// Weights under a name are replaced by unloading: neither a cached prompt nor a slot in memory has the old ones.
		require.NoError(t, l.Load(ctx, ep, "ld-2", v2))
		first, second, base := says("ld"), says("ld-2"), says(vllm.ModelName)
		if first == base || first == second {
			t.Errorf("base %q, v1 %q, v2 %q: the adapters are not used", base, first, second)
		}
		require.NoError(t, l.Unload(ctx, ep, "ld"))
		has("ld", "", false)
		if status, text, _ := complete(ctx, s, "ld", "x", 1); status != http.StatusNotFound {
			t.Errorf("after Unload: status %d: %s", status, text)
		}
		require.NoError(t, l.Unload(ctx, ep, "ld"), "twice")
		require.NoError(t, l.Load(ctx, ep, "ld", v2))
		if again := says("ld"); again != second {
			t.Errorf("under the name of the old adapter %q, want %q; the old one said %q", again, second, first)
		}
		require.NoError(t, l.Unload(ctx, ep, "ld"))
		require.NoError(t, l.Unload(ctx, ep, "ld-2"))
	})

	t.Run("what cannot be loaded", func(t *testing.T) {
		refused(l.Load(ctx, ep, "bad", filepath.Join(folder, "none")), loader.ErrNoSource, "none", "status 404")
		refused(l.Load(ctx, ep, "bad", t.TempDir()), loader.ErrNoSource) // a folder without an adapter
		wide := makeAdapter(t, filepath.Join(folder, "wide"), adapter{rank: 4 * vllm.MaxRank})
		refused(l.Load(ctx, ep, "bad", wide), loader.ErrRefused, "status 500", "greater than max_lora_rank")
		other := makeAdapter(t, filepath.Join(folder, "other"), adapter{wider: 8})
		refused(l.Load(ctx, ep, "bad", other), loader.ErrRefused, "status 500")
		refused(l.Load(ctx, ep, "bad", ""), loader.ErrNotServed, "does not exist")
		has("bad", "", false)
		require.NoError(t, l.Load(ctx, ep, vllm.ModelName, ""), "the server is unharmed")
	})

	t.Run("more than fit into a batch", func(t *testing.T) {
		const n = 3 * vllm.MaxLoRAs
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				if err := l.Load(ctx, ep, fmt.Sprintf("many-%d", i), v1); err != nil {
					t.Errorf("many-%d: %v", i, err)
				}
			})
		}
		all.Wait()
		for i := range n {
			has(fmt.Sprintf("many-%d", i), v1, true)
			require.NoError(t, l.Unload(ctx, ep, fmt.Sprintf("many-%d", i)))
		}
	})

	t.Run("unloaded under a request", func(t *testing.T) {
		require.NoError(t, l.Load(ctx, ep, "ld", v1))
		quiet(t, servers[:1])
		want := says("ld") // the beginning
		type result struct {
			status int
			text   string
			err    error
		}
		done := make(chan result, 1)
		go func() {
			status, text, err := complete(ctx, s, "ld", "the quick brown fox", 400)
			done <- result{status, text, err}
		}()
		within(t, 20*time.Second, "the request to run", func() bool { return metric(t, s, "vllm:num_requests_running") > 0 })
		require.NoError(t, l.Unload(ctx, ep, "ld"))
		if status, _, _ := complete(ctx, s, "ld", "x", 1); status != http.StatusNotFound {
			t.Errorf("a new request: status %d, want 404", status)
		}
		select {
		case r := <-done:
			t.Errorf("the running request had ended before, with %d: it shows nothing", r.status)
		default:
			if r := <-done; r.err != nil || r.status != http.StatusOK || !strings.HasPrefix(r.text, want) {
				t.Errorf("the running request: %d, %v, %q, want it to begin with %q", r.status, r.err, r.text, want)
			}
		}
	})

	t.Run("Auto and Manual", func(t *testing.T) {
		done := make(chan error, 1)
		go func() { done <- c.Manual().Load(ctx, ep, "ld", v1) }()
		require.NoError(t, c.Auto().Load(ctx, ep, "ld", v1))
		require.NoError(t, <-done)
		require.NoError(t, c.Auto().Unload(ctx, ep, "ld"))
		has("ld", "", false)
	})

	t.Run("Resolver", func(t *testing.T) {
		name := fmt.Sprintf("res-%d", time.Now().UnixNano())
		place := makeAdapter(t, filepath.Join(runtimeFleet.resolver, name), adapter{seed: 3})
		makeAdapter(t, filepath.Join(runtimeFleet.resolver, name+"-wide"), adapter{rank: 4 * vllm.MaxRank})
		has(name, "", false)
		require.NoError(t, c.Resolver().Load(ctx, ep, name, ""))
		has(name, place, true)
		refused(c.Resolver().Load(ctx, ep, name+"-wide", ""), loader.ErrNotServed, "found but could not be loaded")
		refused(c.Resolver().Load(ctx, ep, name+"-none", ""), loader.ErrNotServed, "does not exist")
		refused(c.Resolver().Load(ctx, eps[1], name, ""), loader.ErrNotServed, "does not exist") // it has no resolver
		require.NoError(t, l.Unload(ctx, ep, name))
		if status, text, _ := complete(ctx, s, name, "x", 1); status != http.StatusOK {
			t.Errorf("after unloading: status %d: %s: want the resolver to bring it back", status, text)
		}
		require.NoError(t, l.Unload(ctx, ep, name))
	})

	t.Run("the API's words", func(t *testing.T) {
		require.NoError(t, l.Load(ctx, ep, "ld", v1))
		for _, tt := range []struct {
			path, body string
			status     int
			say        string
		}{
			{"/v1/load_lora_adapter", fmt.Sprintf(`{"lora_name":"ld","lora_path":%q}`, v1), 400, "has already been loaded"},
			{"/v1/load_lora_adapter", fmt.Sprintf(`{"lora_name":"tiny","lora_path":%q}`, v1), 400, "conflicts with a served"},
			{"/v1/load_lora_adapter", `{"lora_name":"x","lora_path":"/none"}`, 404, "NotFoundError"},
			{"/v1/unload_lora_adapter", `{"lora_name":"ld"}`, 200, "removed successfully"},
			{"/v1/unload_lora_adapter", `{"lora_name":"ld"}`, 404, "cannot be found"},
		} {
			status, text, err := tell(ctx, s, tt.path, tt.body)
			if err != nil || status != tt.status || !strings.Contains(text, tt.say) {
				t.Errorf("%s %s: %d, %v: %s: want %d with %q", tt.path, tt.body, status, err, text, tt.status, tt.say)
			}
		}
	})
}

// A server with adapters, but without the environment variable, has no path to load others by.
func TestLoadersWithoutThePaths(t *testing.T) {
	have, _ := with(t, servers(t), vllm.AdapterName)
	if len(have) == 0 {
		t.Skip("no server has the adapter " + vllm.AdapterName)
	}
	c, eps := loaders(t, have[:1])
	var l rollout.Loader = c.Auto()
	err := l.Load(t.Context(), eps[0], "other", "/adapters/other")
	if !errors.Is(err, loader.ErrOff) || !strings.Contains(err.Error(), "VLLM_ALLOW_RUNTIME_LORA_UPDATING") {
		t.Errorf("Load: %v", err)
	}
	if err := l.Unload(t.Context(), eps[0], vllm.AdapterName); !errors.Is(err, loader.ErrOff) {
		t.Errorf("Unload: %v", err)
	}
	require.NoError(t, l.Load(t.Context(), eps[0], vllm.AdapterName, ""), "what it was started with is served")
}
