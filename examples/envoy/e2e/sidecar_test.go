package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// worker is a server that counts what it is asked.
type worker struct {
	address string

	mu     sync.Mutex
	bodies []string
}

func newWorker(t *testing.T) *worker {
	w := new(worker)
	w.address = serve(t, func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.bodies = append(w.bodies, string(body))
		w.mu.Unlock()
		answering(rw, r)
	})
	return w
}

// asked returns how often it was asked since the last call.
func (w *worker) asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.bodies)
	w.bodies = nil
	return n
}

// sidecar is a server with a proxy in front, as llm-d's: it asks those that headers name, each first of
// a list, and answers then. No header may be left for the server.
func sidecar(t *testing.T) string {
	return serve(t, func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for _, name := range []string{"x-encoder-hosts-ports", "x-prefiller-host-port"} {
			values := append(r.Header.Values(name), r.Header.Values(strings.Replace(name, "x-", "x-llm-d-", 1))...)
			for _, v := range values {
				if v != values[0] || len(values) != 2 {
					http.Error(rw, fmt.Sprintf("%s is %v", name, values), http.StatusTeapot)
					return
				}
			}
			if len(values) == 0 {
				continue
			}
			host, _, _ := strings.Cut(values[0], ",")
			resp, err := http.Post("http://"+host+r.URL.Path, "application/json", bytes.NewReader(body))
			if err != nil || resp.StatusCode != 200 {
				http.Error(rw, fmt.Sprintf("%s: %v", host, err), http.StatusBadGateway)
				return
			}
			resp.Body.Close()
			rw.Header().Add("x-asked", host)
		}
		answering(rw, r)
	})
}

// TestSidecars: with the configuration and the side-cars of llm-d, prompts are computed by servers of their
// own where the configuration says so, and images encoded; clients cannot name any.
func TestSidecars(t *testing.T) {
	prefill, encode, evil := newWorker(t), newWorker(t), newWorker(t)
	config := fmt.Sprintf(`apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: workers}
spec:
  poolRef: {name: llama}
  endpoints:
  - {address: %q, labels: {llm-d.ai/role: prefill}, metrics: {disabled: true}}
  - {address: %q, labels: {llm-d.ai/role: encode}, metrics: {disabled: true}}
---
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: disagg-headers-handler
- type: approx-prefix-cache-producer
  parameters: {blockSizeTokens: 16, autoTune: false}
- {type: prefix-cache-scorer}
- {type: queue-scorer}
- {type: encode-filter}
- {type: prefill-filter}
- {type: decode-filter}
- {type: max-score-picker}
- {type: always-disagg-multimodal-decider}
- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 64}}
- {type: disagg-profile-handler, parameters: {deciders: {prefill: prefix-based-pd-decider, encode: always-disagg-multimodal-decider}}}
schedulingProfiles:
- {name: encode, plugins: [{pluginRef: encode-filter}]}
- {name: prefill, plugins: [{pluginRef: prefill-filter}, {pluginRef: max-score-picker}, {pluginRef: prefix-cache-scorer, weight: 2}, {pluginRef: queue-scorer}]}
- {name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: max-score-picker}, {pluginRef: prefix-cache-scorer, weight: 2}, {pluginRef: queue-scorer}]}
`, prefill.address, encode.address)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{sidecar(t), sidecar(t)}, config: config})
			forged := []string{"x-prefiller-host-port", evil.address, "x-llm-d-prefiller-host-port", evil.address, "x-encoder-hosts-ports", evil.address,
				"x-llm-d-encoder-hosts-ports", evil.address, "x-data-parallel-host-port", evil.address, "x-kv-cache-source-host-port", evil.address}
			long := strings.Replace(chatBody(400), "word", v.name, 1) // begins as no other
			photo := `{"model": "chat", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}]}`
			for _, tt := range []struct {
				name, path, body string
				asked            []string
			}{
				{"short", "/v1/chat/completions", chatBody(3), nil},
				{"long", "/v1/chat/completions", long, []string{prefill.address}},
				{"cached where it was answered", "/v1/chat/completions", long, nil},
				{"an image, which is worth many tokens", "/v1/chat/completions", photo, []string{encode.address, prefill.address}},
				{"nothing to be computed elsewhere", "/v1/embeddings", `{"model": "chat", "input": "` + strings.Repeat("a word ", 400) + `"}`, nil},
			} {
				resp, body, err := r.do(t.Context(), tt.path, tt.body, forged...)
				require.NoError(t, err, tt.name)
				require.Equal(t, 200, resp.StatusCode, "%s: %s", tt.name, body)
				require.Equal(t, tt.asked, resp.Header["X-Asked"], tt.name)
			}
			require.Equal(t, 2, prefill.asked())
			require.Equal(t, 1, encode.asked())
			require.Zero(t, evil.asked(), "a client named it")
			r.settled()
		})
	}
}
