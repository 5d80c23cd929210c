package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

// bodies makes Envoy send bodies in a mode.
func bodies(mode extprocv3.ProcessingMode_BodySendMode) func(*testing.T, *envoyproxy.Bootstrap) {
	return func(t *testing.T, b *envoyproxy.Bootstrap) {
		err := b.ExtProc(func(p *extprocv3.ExternalProcessor) {
			p.ProcessingMode.RequestBodyMode, p.ProcessingMode.ResponseBodyMode = mode, mode
		})
		require.NoError(t, err)
	}
}

// variants are the ways in which the shipped configurations can be used.
var variants = slices.Concat(listed, []variant{
	{"original dst, full duplex", originalDst, nil},
	{"original dst, buffered", originalDst, bodies(extprocv3.ProcessingMode_BUFFERED)},
	{"module, original dst", inside, connectedTo},
})

// listed are those whose Envoy knows the servers.
var listed = []variant{
	{"full duplex", overrideHost, nil},
	{"buffered", overrideHost, bodies(extprocv3.ProcessingMode_BUFFERED)},
	{"module", inside, nil},
}

// shipped is the module as it is shipped.
const shipped = "module as shipped"

// connectedTo makes of the module's file one for an Envoy that knows no servers: it connects to the address that
// it is told.
func connectedTo(t *testing.T, b *envoyproxy.Bootstrap) {
	from, err := envoyproxy.ReadBootstrap(originalDst)
	require.NoError(t, err)
	cluster := b.Cluster("model_servers")
	proto.Reset(cluster)
	proto.Merge(cluster, from.Cluster("model_servers"))
	require.NoError(t, b.Module(map[string]any{"destinations": nil}))
	err = b.Manager(func(m *hcmv3.HttpConnectionManager) {
		m.GetRouteConfig().VirtualHosts[0].Routes[0].GetRoute().RetryPolicy = nil
	})
	require.NoError(t, err)
}

// TestOfficialClient: chat, completions, streams and the list of models, as OpenAI's
// own client sees them.
func TestOfficialClient(t *testing.T) {
	var servers []string
	for range 2 {
		s, err := modelserver.Start(context.Background(), modelserver.Options{Models: []string{"llama-8b"}, TimeScale: 20, MaxOutput: 30})
		require.NoError(t, err)
		t.Cleanup(func() { s.Close() })
		servers = append(servers, s.Address())
	}
	for _, v := range slices.Concat(variants, []variant{{shipped, inside, nil}}) {
		t.Run(v.name, func(t *testing.T) {
			r := newRig(t, rigOptions{shipped: v.name == shipped, bootstrap: v.bootstrap, envoy: v.envoy, servers: servers, flags: map[string]any{"unknown-models": "refuse"}})
			ctx := t.Context()
			c := openai.NewClient(option.WithBaseURL(r.url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
			messages := []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")}

			chat, err := c.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{Model: "chat", Messages: messages})
			require.NoError(t, err)
			if chat.Model != "chat" || chat.Choices[0].Message.Content == "" || chat.Usage.CompletionTokens == 0 {
				t.Errorf("chat: %s", chat.RawJSON())
			}

			text, err := c.Completions.New(ctx, openai.CompletionNewParams{Model: "chat", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("once upon")}})
			require.NoError(t, err)
			if text.Model != "chat" || text.Choices[0].Text == "" {
				t.Errorf("completion: %s", text.RawJSON())
			}

			stream := c.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{
				Model: "chat", Messages: messages, StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)},
			})
			var acc openai.ChatCompletionAccumulator
			chunks := 0
			for stream.Next() {
				chunk := stream.Current()
				if chunk.Model != "chat" {
					t.Errorf("a chunk is of model %q", chunk.Model)
				}
				acc.AddChunk(chunk)
				chunks++
			}
			require.NoError(t, stream.Err())
			if chunks < 3 || acc.Choices[0].Message.Content == "" || acc.Usage.CompletionTokens == 0 {
				t.Errorf("a stream of %d chunks: %+v", chunks, acc.ChatCompletion)
			}

			models, err := c.Models.List(ctx)
			if err != nil || len(models.Data) != 1 || models.Data[0].ID != "chat" {
				t.Errorf("models: %v, %v", models, err)
			}

			_, err = c.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{Model: "nope", Messages: messages})
			if e, ok := err.(*openai.Error); !ok || e.StatusCode != 404 || e.Code != "model_not_found" || !strings.Contains(e.Message, "nope") {
				t.Errorf("an unknown model: %v", err)
			}
			r.settled()
		})
	}
}

// TestBodies of all sizes arrive as they were sent but for the model's name, with
// their length, and so do responses.
func TestBodies(t *testing.T) {
	type got struct {
		body   string
		length int64
	}
	seen := make(chan got, 1)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- got{string(body), r.ContentLength}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, strings.Replace(answer, "hi", strings.Repeat("x", len(body)), 1))
	})
	for _, v := range slices.Concat(variants, []variant{{shipped, inside, nil}}) {
		t.Run(v.name, func(t *testing.T) {
			r := newRig(t, rigOptions{shipped: v.name == shipped, bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{server}})
			for _, words := range []int{0, 1, 400, 3000, 12_400, 13_000, 44_000, 200_000} { // up to 1 MB
				resp, body, err := r.post(t.Context(), words)
				require.NoError(t, err)
				g := <-seen
				if g.body != routedBody(words) || g.length != int64(len(g.body)) {
					t.Errorf("%d words: the server got %d bytes, length %d; want %d bytes", words, len(g.body), g.length, len(routedBody(words)))
				}
				if want := strings.Replace(restored, "hi", strings.Repeat("x", len(g.body)), 1); resp.StatusCode != 200 || body != want {
					t.Errorf("%d words: %s, %d bytes, want %d", words, resp.Status, len(body), len(want))
				}
			}
			r.settled()
		})
	}
}

// TestLargerThanEnvoysBuffers: full duplex nothing has to fit.
func TestLargerThanEnvoysBuffers(t *testing.T) {
	for _, v := range adapters {
		t.Run(v.name, func(t *testing.T) {
			var length int
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				length = len(body)
				answering(w, r)
			})
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{server}})
			resp, body, err := r.post(t.Context(), 2_000_000) // 10 MB
			require.NoError(t, err)
			if resp.StatusCode != 200 || body != restored || length != len(routedBody(2_000_000)) {
				t.Errorf("%s, the server got %d bytes of %d: %s", resp.Status, length, len(routedBody(2_000_000)), body)
			}
		})
	}
}

// TestTrailers of a request over HTTP/2 pass.
func TestTrailers(t *testing.T) {
	for _, v := range listed {
		t.Run(v.name, func(t *testing.T) {
			server := serve(t, answering)
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{server}})
			transport := &http.Transport{Protocols: new(http.Protocols)}
			transport.Protocols.SetUnencryptedHTTP2(true)
			defer transport.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/v1/chat/completions", io.MultiReader(strings.NewReader(chatBody(20_000))))
			require.NoError(t, err)
			req.Trailer = http.Header{"X-Sum": {"1"}}
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 || string(body) != restored {
				t.Errorf("%s %s, %v", resp.Status, body, err)
			}
			r.settled()
		})
	}
}

// TestRequestsWithoutBody go to a server of the pool.
func TestRequestsWithoutBody(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Method, " ", r.URL.Path) })
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{server}})
			resp, err := r.client.Get(r.url + "/version")
			require.NoError(t, err)
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); string(body) != "GET /version" || resp.Header.Get("x-served-by") != server {
				t.Errorf("%s %s from %s", resp.Status, body, resp.Header.Get("x-served-by"))
			}
			head, err := r.client.Head(r.url + "/version")
			if err != nil || head.StatusCode != 200 {
				t.Errorf("HEAD: %v, %v", head, err)
			}
			r.settled()
		})
	}
}

// TestRefusals reach clients as they are.
func TestRefusals(t *testing.T) {
	server := serve(t, answering)
	for _, v := range listed {
		t.Run(v.name, func(t *testing.T) {
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{server}, config: `
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: empty}
spec: {selector: {matchLabels: {app: none}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: homeless}
spec: {modelName: homeless, poolRef: {name: empty}}
`, flags: map[string]any{"max-body": 300_000}})
			for _, tt := range []struct {
				name, body string
				status     int
				reason     string
			}{
				{"no JSON", `{"model": "chat"`, 400, "invalid_json"},
				{"unknown model", `{"model": "nope", "messages": [{"role": "user", "content": "x"}]}`, 404, "model_not_found"},
				{"too large", chatBody(100_000), 413, "request_too_large"},
				{"no server", strings.Replace(chatBody(1), `"chat"`, `"homeless"`, 1), 503, "no_endpoint"},
			} {
				resp, body, err := r.do(t.Context(), "/v1/chat/completions", tt.body)
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
					continue
				}
				if resp.StatusCode != tt.status || resp.Header.Get("X-Inferpick-Reason") != tt.reason || !strings.Contains(body, `"error"`) {
					t.Errorf("%s: %s, %v\n%s", tt.name, resp.Status, resp.Header, body)
				}
			}
			r.settled()
		})
	}
}

// TestShed: a full pool refuses what may be shed with 429 and says when to try again,
// and serves what is critical.
func TestShed(t *testing.T) {
	for _, v := range adapters {
		t.Run(v.name, func(t *testing.T) {
			busy, err := modelserver.Start(t.Context(), modelserver.Options{Models: []string{"llama-8b"}})
			require.NoError(t, err)
			defer busy.Close()
			full := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, "vllm:num_requests_waiting{model_name=\"llama-8b\"} 9\nvllm:num_requests_running{model_name=\"llama-8b\"} 50\nvllm:kv_cache_usage_perc{model_name=\"llama-8b\"} 0.97\n")
			})
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{serve(t, answering)}, config: `
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: batch}
spec: {modelName: batch, criticality: Sheddable, poolRef: {name: llama}}
---
# A busy server beside the one of which nothing is known.
apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: busy}
spec:
  poolRef: {name: llama}
  endpoints:
  - {address: "` + busy.Address() + `", metrics: {address: "` + full + `"}}
`, flags: map[string]any{"scrape-interval": "10ms"}})
			batch := strings.Replace(chatBody(1), `"chat"`, `"batch"`, 1)
			waitFor(t, "the pool to be full", func() bool {
				resp, body, err := r.do(t.Context(), "/v1/chat/completions", batch)
				return err == nil && resp.StatusCode == 429 && resp.Header.Get("Retry-After") == "1" &&
					resp.Header.Get("X-Inferpick-Reason") == "saturated" && strings.Contains(body, "rate_limit")
			})
			if resp, body, err := r.post(t.Context(), 1); err != nil || resp.StatusCode != 200 {
				t.Errorf("a critical request: %v %s", err, body)
			}
		})
	}
}

// TestDisconnect: clients that go away while a response streams leave nothing behind.
func TestDisconnect(t *testing.T) {
	for _, v := range adapters {
		t.Run(v.name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "text/event-stream")
				for r.Context().Err() == nil {
					if _, err := io.WriteString(w, "data: {\"model\":\"llama-8b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n"); err != nil {
						return
					}
					w.(http.Flusher).Flush()
					select {
					case <-r.Context().Done():
					case <-tick():
					}
				}
			})
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{server}})
			for range 20 {
				ctx, cancel := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/chat/completions", strings.NewReader(chatBody(10)))
				require.NoError(t, err)
				resp, err := r.client.Do(req)
				require.NoError(t, err)
				first := make([]byte, 40)
				if _, err := io.ReadFull(resp.Body, first); err != nil || !bytes.Contains(first, []byte(`"model":"chat"`)) {
					t.Errorf("the stream begins with %q, %v", first, err)
				}
				cancel()
				resp.Body.Close()
			}
			// And one that goes while it sends.
			ctx, cancel := context.WithCancel(t.Context())
			body, w := io.Pipe()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/chat/completions", body)
			require.NoError(t, err)
			go func() {
				io.WriteString(w, chatBody(10)[:40])
				cancel()
				w.CloseWithError(io.ErrUnexpectedEOF)
			}()
			if resp, err := r.client.Do(req); err == nil {
				resp.Body.Close()
				t.Errorf("half a request was answered: %s", resp.Status)
			}
			r.settled()
		})
	}
}
