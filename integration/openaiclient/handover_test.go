package openaiclient_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/types"
)

// The client sees one answer, streamed or not, of which one engine computed the prompt and another the tokens.
func TestHandover(t *testing.T) {
	for name, kind := range map[string]disaggtest.Protocol{
		"nixl": disaggtest.NIXL, "mooncake": disaggtest.Mooncake, "sglang": disaggtest.SGLang, "trtllm": disaggtest.TensorRT,
	} {
		t.Run(name, func(t *testing.T) {
			engines := disaggtest.New(disaggtest.Options{Protocol: kind, Prefill: 1, Decode: 1, Behaviour: disaggtest.Behaviour{CachedTokens: 3}})
			defer engines.Close()
			client := handoverGateway(t, name, engines)
			for _, streamed := range []bool{false, true} {
				p := openai.ChatCompletionNewParams{
					Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("What is a prime number?")},
					MaxTokens: openai.Int(6), User: openai.String(name + map[bool]string{true: "-streamed"}[streamed]),
				}
				var text string
				var usage openai.CompletionUsage
				if streamed {
					p.StreamOptions.IncludeUsage = openai.Bool(true)
					stream, all := client.Chat.Completions.NewStreaming(testContext(t), p), openai.ChatCompletionAccumulator{}
					for stream.Next() {
						all.AddChunk(stream.Current())
					}
					if err := stream.Err(); err != nil {
						t.Fatal(err)
					}
					text, usage = all.Choices[0].Message.Content, all.Usage
				} else {
					got, err := client.Chat.Completions.New(testContext(t), p)
					if err != nil {
						t.Fatal(err)
					}
					text, usage = got.Choices[0].Message.Content, got.Usage
				}
				if strings.TrimSpace(text) == "" || usage.CompletionTokens != 6 {
					t.Errorf("streamed %v: %q, usage %+v", streamed, text, usage)
				}
			}
			if err := engines.Check(); err != nil {
				t.Error(err)
			}
			if s := engines.Stats(); s.Prefill != 2 || s.Decode != 2 || s.Ordinary != 0 {
				t.Errorf("%d prompts, %d answers, %d whole requests, want 2, 2 and 0", s.Prefill, s.Decode, s.Ordinary)
			}
		})
	}
}

// handoverGateway returns a client of a gateway in front of engines, of which those that answer never do so alone.
func handoverGateway(t *testing.T, name string, engines *disaggtest.Cluster) openai.Client {
	protocol, err := disagg.ByName(name, disagg.Options{Query: httptransport.Query(http.DefaultTransport), PortLabel: "bootstrap"})
	if err != nil {
		t.Fatal(err)
	}
	var servers []datastore.EndpointSpec
	add := func(role string, all []*disaggtest.Engine) {
		for _, e := range all {
			_, port, _ := strings.Cut(e.Bootstrap(), ":")
			servers = append(servers, datastore.EndpointSpec{Address: e.Address(), Labels: map[string]string{types.RoleLabel: role, "bootstrap": port}})
		}
	}
	add("prefill", engines.Prefill)
	add("decode-only", engines.Decode)
	g, err := gateway.New(gateway.Options{
		Profile: plugins.Default(), Servers: servers,
		Director: director.Options{Handover: func(_, _ *types.Endpoint) disagg.Protocol { return protocol }},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: g.Transport, FlushInterval: -1})
	t.Cleanup(front.Close)
	return openai.NewClient(option.WithBaseURL(front.URL+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0), option.WithRequestTimeout(10*time.Second))
}
