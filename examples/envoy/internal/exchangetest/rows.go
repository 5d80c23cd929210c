package exchangetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// Subsets are hints of where a request may go, as they may be in dynamic metadata, and where it goes then: nowhere,
// with 503, if Want is empty.
var Subsets = []struct {
	Name string
	Hint any
	Want string
}{
	{"list", []any{"10.0.0.2:8000", "[fd00::3]:8000"}, "10.0.0.2:8000,[fd00::3]:8000"},
	{"string", " 10.0.0.2:8000 ,[fd00::3]:8000", "10.0.0.2:8000,[fd00::3]:8000"},
	{"list of joined", []any{"10.0.0.2:8000,10.0.0.1:8000"}, "10.0.0.1:8000,10.0.0.2:8000"},
	{"host", []any{"10.0.0.2"}, "10.0.0.2:8000"},
	{"host of IPv6", "fd00::3", "[fd00::3]:8000"},
	{"another port", []any{"10.0.0.2:8001"}, ""},
	{"empty list", []any{}, ""},
	{"empty string", "", ""},
	{"nobody we know", "9.9.9.9:8000", ""},
	{"no list at all", 7.0, ""},
	{"list of something else", []any{true}, ""},
}

// Destinations are how many endpoints Envoy is told of.
var Destinations = []struct {
	Most  int    // exchange.Options.MaxDestinations
	Asked string // by Envoy's configuration
	Want  string
}{
	{0, "", "10.0.0.1:8000"}, {1, "", "10.0.0.1:8000"}, {2, "", "10.0.0.1:8000,10.0.0.2:8000"}, {9, "", AllThree},
	{0, "1", "10.0.0.1:8000"}, {0, "2", "10.0.0.1:8000,10.0.0.2:8000"}, {0, "9", AllThree}, {0, "all", AllThree}, {1, "all", AllThree}, {9, "1", "10.0.0.1:8000"},
}

// NoDestinations are no number of endpoints.
var NoDestinations = []string{"0", "-1", "many", "ALL", "1.5", "99999999999999999999"}

// Pools are pools that Envoy's configuration names, and the status of the answer in place of a server's; 0: none. Those of
// the Fixture are llama and, without an endpoint, other.
var Pools = map[string]int{"llama": 0, "default/llama": 0, "other": 503, "elsewhere/llama": 503}

// Served are addresses that Envoy says served a request, and where it is booked then.
var Served = map[string]string{
	"10.0.0.1:8000": "a", "10.0.0.2:8000": "b", "[fd00::3]:8000": "c", " 10.0.0.2:8000 ": "b",
	"":           "a", // Envoy does not say
	"6.6.6.6:66": "a", // nobody we know
}

// full is a Filter that sheds everything, broken one that fails.
type full struct{}
type broken struct{}

func (full) Filter(context.Context, *types.Request, []*types.Endpoint, []bool) error {
	return fmt.Errorf("%w: on purpose", scheduling.ErrSaturated)
}

func (broken) Filter(context.Context, *types.Request, []*types.Endpoint, []bool) error {
	return errors.New("a secret of ours")
}

// Refusal is a request that is refused.
type Refusal struct {
	Name    string
	Filter  scheduling.Filter
	Path    string // empty: of chat
	Body    string
	Header  []string // names and values
	Servers []string // nil: Addresses
	Status  int
	Reason  string // empty: any
	Text    string // in the body
	// Early says that it is refused by its headers.
	Early bool
}

// Refusals are requests, each of which is answered with its status and an error body as OpenAI's clients read it.
var Refusals = []Refusal{
	{Name: "no JSON", Body: `{"model": `, Status: 400, Reason: "invalid_json", Text: "invalid_request_error"},
	{Name: "no model", Body: `{"messages": []}`, Status: 400, Text: "model"},
	{Name: "SLO", Header: []string{"x-slo-ttft-ms", "soon"}, Body: ChatBody(1), Status: 400, Reason: "invalid_header", Text: "X-Slo-Ttft-Ms"},
	{Name: "unknown model", Body: `{"model": "nope", "messages": [{"role": "user", "content": "x"}]}`, Status: 404, Reason: "model_not_found", Text: `nope`},
	{Name: "too large", Body: `{"model": "chat", "messages": "` + strings.Repeat("x", 3000) + `"}`, Status: 413, Text: "larger than 2000 bytes"},
	{Name: "too large by its length", Header: []string{"content-length", "2001"}, Body: ChatBody(1), Status: 413, Text: "larger than 2000 bytes", Early: true},
	{Name: "compressed", Header: []string{"content-encoding", "gzip"}, Body: "\x1f\x8b", Status: 415, Reason: "unsupported_encoding", Text: "gzip"},
	{Name: "saturated", Filter: full{}, Body: ChatBody(1), Status: 429, Reason: "saturated", Text: "rate_limit"},
	{Name: "saturated, for Anthropic's clients", Filter: full{}, Path: "/v1/messages", Body: `{"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}`, Status: 429, Reason: "saturated", Text: `"type":"error"`},
	{Name: "no endpoint", Servers: []string{}, Body: ChatBody(1), Status: 503, Reason: "no_endpoint", Text: "no server"},
	{Name: "a plugin that fails", Filter: broken{}, Body: ChatBody(1), Status: 500, Reason: "internal", Text: "could not be scheduled"},
}

// New returns a Fixture that refuses it. told is what Options.OnRefused was told.
func (r *Refusal) New(t testing.TB) (f *Fixture, told *[]*director.Error) {
	told = new([]*director.Error)
	f = New(t, func(o *exchange.Options, do *director.Options, p *scheduling.Profile) {
		o.MaxBody = 2000
		do.OnRefused = func(_ *types.Request, _ types.NamespacedName, e *director.Error) { *told = append(*told, e) }
		if r.Filter != nil {
			p.Filters = []scheduling.Named{{Name: "test", Filter: r.Filter}}
		}
	})
	if r.Status == 404 { // only a store of several pools, or one that refuses, does not know a model
		require.NoError(t, f.Store.SetEndpoints(types.NamespacedName{Name: "other"}, nil))
	}
	if r.Servers != nil {
		f.Sets(t, Manifests, r.Servers)
	}
	return f, told
}

// Check holds the answer against what is wanted.
func (r *Refusal) Check(t testing.TB, status int, header map[string]string, body string, told []*director.Error) {
	t.Helper()
	if status != r.Status || header["content-type"] != "application/json" {
		t.Errorf("answer is %d %v, want %d", status, header, r.Status)
	}
	if r.Reason != "" && header["x-inferpick-reason"] != r.Reason {
		t.Errorf("reason is %q, want %q", header["x-inferpick-reason"], r.Reason)
	}
	if !strings.Contains(body, r.Text) || !strings.Contains(body, `"error"`) || strings.Contains(body, "secret") {
		t.Errorf("body is %s", body)
	}
	if retry := header["retry-after"]; (retry != "") != (status == 429) {
		t.Errorf("status %d with retry-after %q", status, retry)
	}
	if len(told) != 1 || told[0].Status != r.Status {
		t.Errorf("OnRefused was told %v", told)
	}
}

// ReadHeaders are headers of a request, which CheckRead looks for in what is scheduled.
var ReadHeaders = []string{
	"x-gateway-inference-objective", "urgent", "x-gateway-inference-fairness-id", "tenant-1",
	"x-slo-ttft-ms", "250.5", "x-slo-tpot-ms", "20", "x-request-id", "id-1", "x-session-id", "s-1", "traceparent", "00-a-b-01",
}

// CheckRead fails the test unless a request for chat has what ReadHeaders say.
func CheckRead(t testing.TB, r *types.Request) {
	t.Helper()
	if r.Priority != 7 || r.FairnessID != "tenant-1" || r.SLO.TTFT != 250500*time.Microsecond || r.SLO.TPOT != 20*time.Millisecond ||
		r.ID != "id-1" || r.SessionID != "s-1" || r.Model != "chat" || r.TargetModel != "llama-8b" {
		t.Errorf("request is %+v", r)
	}
}

// ForgedHeaders are those of the protocol, and one more that no server gets, as a client may send them.
var ForgedHeaders = []string{
	DestinationKey, "6.6.6.6:1", SubsetKey, "10.0.0.3:8000", ServedKey, "10.0.0.2:8000",
	FallbackKey, "6.6.6.6:1", "X-Gateway-Destination-Endpoint", "6.6.6.6:2", "accept-encoding", "gzip",
}

// AdminPaths are what clients may not ask servers for.
var AdminPaths = []string{
	"/v1/load_lora_adapter", "/v1/unload_lora_adapter", // vLLM's
	"/load_lora_adapter", "/unload_lora_adapter", "/load_lora_adapter_from_tensors", // SGLang's
}

// Bodiless are requests that are decided on their headers, however it is said that there is no body to read.
var Bodiless = []struct {
	Name, Method string
	End          bool     // by the headers
	Pieces       []string // of a body, the last of which ends it but for Trailers
	Trailers     bool
}{
	{"POST of nothing", "POST", true, nil, false},
	{"POST of an empty body", "POST", false, []string{""}, false},
	{"POST of empty pieces", "POST", false, []string{"", ""}, false},
	{"POST of trailers", "POST", false, nil, true},
	{"OPTIONS", "OPTIONS", true, nil, false},
	{"OPTIONS with a body", "OPTIONS", false, []string{"x"}, false},
	{"DELETE", "DELETE", true, nil, false},
	{"PUT of nothing", "PUT", true, nil, false},
}

// GRPCPath is of an API over gRPC, GRPCRequest a request for it, and GRPCResponse an answer to it.
const (
	GRPCPath     = "/vllm.grpc.engine.VllmEngine/Generate"
	GRPCRequest  = "\x00\x00\x00\x00\x04\x1a\x02hi"
	GRPCResponse = "\x00\x00\x00\x00\x08\x12\x06\x18\x05\x20\x07\x28\x00"
)

// GRPCStatuses are what the answer comes to, by the status in its trailers.
var GRPCStatuses = map[string]int{"0": 200, "13": 500, "14": 503}

// SidecarHeaders are all that a client must not be able to set.
var SidecarHeaders = []string{
	"x-prefiller-host-port", "x-encoder-hosts-ports", "x-data-parallel-host-port", "x-kv-cache-source-host-port",
	"x-llm-d-prefiller-host-port", "x-llm-d-encoder-hosts-ports", "x-llm-d-kv-cache-source-host-port",
}

// SidecarBody is a request for each API of Sidecars.
const SidecarBody = `{"model": "chat", "input": "hi", "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}`

// Encoders of Sidecars.
var Encoders = []string{"10.0.0.7:1", "[fd00::8]:2"}

// Sidecars are requests for endpoints with roles, where they go, and what side-cars are told of them. ended is
// called when encoders have done their part.
var Sidecars = []struct {
	Name, Roles, Path string
	Change            func(o *exchange.Options, p *scheduling.Profile, ended func())
	Destination       string
	Want              map[string]string
}{
	{"prefill", "pdd", "/v1/chat/completions", nil, "10.0.0.2:8000,[fd00::3]:8000", map[string]string{"x-prefiller-host-port": "10.0.0.1:8000", "x-llm-d-prefiller-host-port": "10.0.0.1:8000"}},
	{"IPv6", "dbp", "/v1/completions", func(_ *exchange.Options, p *scheduling.Profile, _ func()) {
		last, _ := plugins.NewStaged(plugins.StagedOptions{Always: true, Picker: scheduling.PickerFunc(func(_ context.Context, _ *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
			return len(eps) - 1, nil
		})}, nil)
		p.Splitter = last
	}, "10.0.0.1:8000,10.0.0.2:8000", map[string]string{"x-prefiller-host-port": "[fd00::3]:8000", "x-llm-d-prefiller-host-port": "[fd00::3]:8000"}},
	{"a fallback does not ask itself", "dbd", "/v1/chat/completions?x=y", nil, "10.0.0.1:8000,[fd00::3]:8000", map[string]string{"x-prefiller-host-port": "10.0.0.2:8000", "x-llm-d-prefiller-host-port": "10.0.0.2:8000"}},
	{"nobody computes prompts", "ddd", "/v1/chat/completions", nil, AllThree, map[string]string{}},
	{"what side-cars hand over as it is", "pdd", "/v1/embeddings", nil, "10.0.0.2:8000,[fd00::3]:8000", map[string]string{}},
	{"encoders", "ddd", "/v1/responses", func(o *exchange.Options, _ *scheduling.Profile, ended func()) {
		o.Apart = func(context.Context, *director.Incoming, *director.Route) exchange.Apart {
			return exchange.Apart{Encoders: Encoders, Encoded: ended}
		}
	}, AllThree, map[string]string{"x-encoder-hosts-ports": "10.0.0.7:1,[fd00::8]:2", "x-llm-d-encoder-hosts-ports": "10.0.0.7:1,[fd00::8]:2"}},
	{"a rank", "ddd", "/v1/chat/completions", func(o *exchange.Options, _ *scheduling.Profile, _ func()) {
		o.Apart = func(context.Context, *director.Incoming, *director.Route) exchange.Apart {
			return exchange.Apart{PrimaryPort: 9000}
		}
	}, "10.0.0.1:9000", map[string]string{"x-data-parallel-host-port": "10.0.0.1:8000"}},
}
