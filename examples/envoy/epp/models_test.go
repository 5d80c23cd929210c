package epp_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
)

// lister is a model server that lists models, or does not know how to without any.
func lister(t testing.TB, models ...string) (address string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/metrics":
			io.WriteString(w, "vllm:num_requests_waiting 0\nvllm:num_requests_running 0\nvllm:kv_cache_usage_perc 0\n")
		case r.URL.Path == "/v1/models" && len(models) > 0:
			var list []string
			for _, m := range models {
				list = append(list, fmt.Sprintf(`{"id": %q, "object": "model"}`, m))
			}
			fmt.Fprintf(w, `{"object": "list", "data": [%s]}`, strings.Join(list, ","))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// scrapedYAML has the endpoints of a pool, metrics read.
func scrapedYAML(pool string, addresses ...string) string {
	return strings.ReplaceAll(endpointsYAML(pool, addresses...), ", metrics: {disabled: true}", "")
}

// get asks for a path and returns the whole answer.
func get(t testing.TB, c extprocv3.ExternalProcessorClient, path string, pairs ...string) *extprocv3.ProcessingResponse {
	t.Helper()
	x := open(t, c)
	defer x.cancel()
	x.send(envoyside.Get(path, pairs...))
	return x.recv()
}

// listed returns the names in an answer of the picker, nil if there is none.
func listed(t testing.TB, m *extprocv3.ProcessingResponse) (names []string) {
	t.Helper()
	if m.GetImmediateResponse() == nil {
		return nil
	}
	var list struct{ Data []struct{ ID string } }
	require.NoError(t, json.Unmarshal(m.GetImmediateResponse().Body, &list), "%s", m.GetImmediateResponse().Body)
	for _, d := range list.Data {
		names = append(names, d.ID)
	}
	return names
}

// TestTrapEmptyListOfModels: what is served is listed, or the servers are asked; a
// client that reads the list first must not find that there is nothing.
func TestTrapEmptyListOfModels(t *testing.T) {
	t.Parallel()
	t.Run("servers list them", func(t *testing.T) {
		a, b := lister(t, "llama-8b", "sql-lora"), lister(t, "llama-8b", "chat-lora")
		c := start(t, poolYAML("llama")+scrapedYAML("llama", a, b), nil).client()
		var names []string
		eventually(t, "both lists are read", func() bool {
			names = listed(t, get(t, c, "/v1/models"))
			return len(names) == 3
		})
		require.Equal(t, []string{"chat-lora", "llama-8b", "sql-lora"}, names)
		one := get(t, c, "/v1/models/sql-lora").GetImmediateResponse()
		require.Contains(t, string(one.GetBody()), `"sql-lora"`)
		require.EqualValues(t, 404, get(t, c, "/v1/models/unheard-of").GetImmediateResponse().GetStatus().GetCode())
	})
	t.Run("servers do not list them", func(t *testing.T) {
		a := lister(t)
		c := start(t, poolYAML("llama")+scrapedYAML("llama", a), nil).client()
		for _, path := range []string{"/v1/models", "/v1/models/llama-8b"} {
			require.Equal(t, a, destinationOf(t, get(t, c, path)), "the server is asked for %s", path)
		}
	})
	t.Run("nobody looks", func(t *testing.T) {
		c := start(t, poolYAML("llama")+endpointsYAML("llama", addressA), nil).client()
		require.Equal(t, addressA, destinationOf(t, get(t, c, "/v1/models")))
	})
	t.Run("a manifest and servers", func(t *testing.T) {
		a := lister(t, "llama-8b", "sql-lora")
		c := start(t, poolYAML("llama")+modelYAML("chat", "llama", "llama-8b")+scrapedYAML("llama", a), nil).client()
		eventually(t, "all names are there", func() bool { return len(listed(t, get(t, c, "/v1/models"))) == 3 })
	})
	t.Run("several pools, one of them named", func(t *testing.T) {
		a, b := lister(t, "llama-8b"), lister(t, "qwen-32b", "code-lora")
		text := poolYAML("llama") + scrapedYAML("llama", a) + poolYAML("qwen") + scrapedYAML("qwen", b)
		r := start(t, text, func(o *epp.Options) { o.Pool.Namespace, o.Pool.Name = "default", "qwen" })
		c := r.client()
		eventually(t, "its models", func() bool { return len(listed(t, get(t, c, "/v1/models"))) == 2 })
	})
	t.Run("several pools, none named", func(t *testing.T) {
		a, b := lister(t, "llama-8b"), lister(t, "qwen-32b", "code-lora")
		text := poolYAML("llama") + scrapedYAML("llama", a) + poolYAML("qwen") + scrapedYAML("qwen", b)
		c := start(t, text, nil).client()
		m := get(t, c, "/v1/models").GetImmediateResponse() // which is what requests for a model get, too
		require.EqualValues(t, 404, m.GetStatus().GetCode())
	})
}
