package tracing_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/examples/envoy/tracing"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
	parent  = "00-" + traceID + "-" + spanID + "-01"
	unasked = "00-" + traceID + "-" + spanID + "-00" // whoever began it does not sample
)

const manifests = `{"apiVersion": "v1", "kind": "List", "items": [
 {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": "llama"},
  "spec": {"selector": {"matchLabels": {"app": "llama"}}, "targetPorts": [{"number": 8000}]}},
 {"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "chat"},
  "spec": {"modelName": "chat", "criticality": "Critical", "poolRef": {"name": "llama"}, "targetModels": [{"name": "llama-8b"}]}}
]}`

// fixture is a picker for the pool llama with a tracer whose spans are kept.
type fixture struct {
	t      *testing.T
	spans  *tracetest.InMemoryExporter
	server *picker.Server
}

func must(t *testing.T, err error) {
	t.Helper()
	require.NoError(t, err)
}

func newFixture(t *testing.T, addresses ...string) *fixture {
	t.Helper()
	store := datastore.New(datastore.Options{UnknownModels: datastore.Refuse})
	objects, err := types.DecodeManifests([]byte(manifests))
	must(t, err)
	must(t, store.Apply(objects...))
	var specs []datastore.EndpointSpec
	for i, a := range addresses {
		specs = append(specs, datastore.EndpointSpec{ID: string(rune('a' + i)), Address: a})
	}
	must(t, store.SetEndpoints(types.NamespacedName{Name: "llama"}, specs))
	s, err := scheduling.New(scheduling.Profile{Picker: new(plugins.RoundRobin), Fallbacks: 1})
	must(t, err)
	d, err := director.New(director.Options{Store: store, Scheduler: s})
	must(t, err)
	t.Cleanup(d.Close)

	f := &fixture{t: t, spans: tracetest.NewInMemoryExporter()}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(f.spans), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
	t.Cleanup(func() { must(t, provider.Shutdown(context.Background())) })
	f.server, err = picker.New(picker.Options{Options: exchange.Options{Director: d, MaxDestinations: 2, Tracer: tracing.New(provider)}})
	must(t, err)
	return f
}

// stream is a gRPC stream inside the process: what Envoy says, and what it is told.
type stream struct {
	grpc.ServerStream
	in  []*extprocv3.ProcessingRequest
	out []*extprocv3.ProcessingResponse
}

func (s *stream) Context() context.Context { return context.Background() }

func (s *stream) Send(m *extprocv3.ProcessingResponse) error {
	s.out = append(s.out, m)
	return nil
}

func (s *stream) Recv() (*extprocv3.ProcessingRequest, error) {
	if len(s.in) == 0 {
		return nil, io.EOF
	}
	m := s.in[0]
	s.in = s.in[1:]
	return m, nil
}

// process plays an exchange and returns the headers that the server's request gets
// and the one span of it.
func (f *fixture) process(in ...*extprocv3.ProcessingRequest) (headers map[string]string, span tracetest.SpanStub) {
	f.t.Helper()
	f.spans.Reset()
	headers = f.headers(in...)
	spans := f.spans.GetSpans()
	if len(spans) != 1 {
		f.t.Fatalf("%d spans, want 1", len(spans))
	}
	return headers, spans[0]
}

func (f *fixture) headers(in ...*extprocv3.ProcessingRequest) map[string]string {
	f.t.Helper()
	s := &stream{in: in}
	must(f.t, f.server.Process(s))
	headers := make(map[string]string)
	for _, m := range s.out {
		for _, h := range m.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
			headers[h.Header.Key] = string(h.Header.RawValue)
		}
	}
	return headers
}

// ask is a request for a model, pairs being headers.
func ask(model string, pairs ...string) []*extprocv3.ProcessingRequest {
	return []*extprocv3.ProcessingRequest{
		envoyside.RequestHeaders(false, pairs...),
		envoyside.RequestBody(`{"model": "`+model+`", "messages": [{"role": "user", "content": "hello"}]}`, true),
	}
}

// answered adds an answer to a request.
func answered(in []*extprocv3.ProcessingRequest, status int) []*extprocv3.ProcessingRequest {
	return append(in, envoyside.ResponseHeaders(status, "application/json", false), envoyside.ResponseBody(`{"model": "llama-8b"}`, true))
}

// has fails the test unless the span has the attributes, given as key=value.
func has(t *testing.T, span tracetest.SpanStub, want ...string) {
	t.Helper()
	got := make(map[string]bool)
	for _, a := range span.Attributes {
		got[string(a.Key)+"="+a.Value.String()] = true
	}
	for _, w := range want {
		if !got[w] {
			t.Errorf("attribute %s is missing: %v", w, span.Attributes)
		}
	}
}

func lacks(t *testing.T, span tracetest.SpanStub, key attribute.Key) {
	t.Helper()
	for _, a := range span.Attributes {
		if a.Key == key {
			t.Errorf("attribute %s is there: %v", key, a.Value)
		}
	}
}

func events(span tracetest.SpanStub) string {
	var names []string
	for _, e := range span.Events {
		names = append(names, e.Name)
	}
	return strings.Join(names, " ")
}

func TestRouted(t *testing.T) {
	f := newFixture(t, "10.0.0.1:8000", "10.0.0.2:8000")
	headers, span := f.process(answered(ask("chat", "traceparent", parent, "tracestate", "vendor=1"), 200)...)

	if span.Name != "pick endpoint" || span.SpanKind != trace.SpanKindInternal {
		t.Errorf("span %q is %v", span.Name, span.SpanKind)
	}
	if p := span.Parent; p.TraceID().String() != traceID || p.SpanID().String() != spanID || !p.IsRemote() {
		t.Errorf("parent is %v of %v", p.SpanID(), p.TraceID())
	}
	if span.SpanContext.TraceID().String() != traceID {
		t.Errorf("the span is of trace %v", span.SpanContext.TraceID())
	}
	has(t, span, "http.request.method=POST", "url.path=/v1/chat/completions", "gen_ai.request.model=chat",
		"inferpick.target_model=llama-8b", "inferpick.pool=default/llama", "inferpick.endpoint=a", "inferpick.fallbacks=1",
		"http.response.status_code=200", "server.address=10.0.0.1:8000")
	if got := events(span); got != "routed response" {
		t.Errorf("events are %q", got)
	}
	if span.Status.Code != codes.Unset || !span.EndTime.After(span.StartTime) {
		t.Errorf("status %v, from %v to %v", span.Status, span.StartTime, span.EndTime)
	}
	// The server's span is to be a child of this one.
	if want := "00-" + traceID + "-" + span.SpanContext.SpanID().String() + "-01"; headers["traceparent"] != want {
		t.Errorf("traceparent is %q, want %q", headers["traceparent"], want)
	}
	if headers["tracestate"] != "vendor=1" {
		t.Errorf("tracestate is %q", headers["tracestate"])
	}
	if headers["x-gateway-destination-endpoint"] != "10.0.0.1:8000,10.0.0.2:8000" {
		t.Errorf("destination is %q", headers["x-gateway-destination-endpoint"])
	}
}

// TestNoParent: a request without a trace, or with one that is none, begins one.
func TestNoParent(t *testing.T) {
	f := newFixture(t, "10.0.0.1:8000")
	for _, pairs := range [][]string{nil, {"traceparent", "nonsense"}, {"traceparent", "00-" + strings.Repeat("0", 32) + "-" + spanID + "-01"}} {
		headers, span := f.process(answered(ask("chat", pairs...), 200)...)
		if span.Parent.IsValid() {
			t.Errorf("%q: parent is %v", pairs, span.Parent)
		}
		want := "00-" + span.SpanContext.TraceID().String() + "-" + span.SpanContext.SpanID().String() + "-01"
		require.Equal(t, want, headers["traceparent"], "%q: traceparent", pairs)
	}
}

// TestUnsampled: no span is kept, but the trace goes on.
func TestUnsampled(t *testing.T) {
	f := newFixture(t, "10.0.0.1:8000")
	headers := f.headers(answered(ask("chat", "traceparent", unasked), 200)...)
	if n := len(f.spans.GetSpans()); n != 0 {
		t.Errorf("%d spans are kept", n)
	}
	got := headers["traceparent"]
	if !strings.HasPrefix(got, "00-"+traceID+"-") || !strings.HasSuffix(got, "-00") || len(got) != len(unasked) {
		t.Errorf("traceparent is %q", got)
	}
}

func TestRefused(t *testing.T) {
	f := newFixture(t, "10.0.0.1:8000")
	headers, span := f.process(ask("unheard-of", "traceparent", parent)...)
	has(t, span, "http.response.status_code=404", "error.type=model_not_found")
	lacks(t, span, "inferpick.endpoint")
	if span.Status.Code != codes.Unset || events(span) != "" { // the client's mistake
		t.Errorf("status %v, events %q", span.Status, events(span))
	}
	if span.Parent.SpanID().String() != spanID || len(headers) != 0 {
		t.Errorf("parent %v, headers %v", span.Parent.SpanID(), headers)
	}

	f = newFixture(t) // no endpoints: ours
	_, span = f.process(ask("chat", "traceparent", parent)...)
	has(t, span, "http.response.status_code=503", "error.type=no_endpoint")
	if span.Status.Code != codes.Error || span.Status.Description == "" {
		t.Errorf("status %v", span.Status)
	}
}

func TestServerFailed(t *testing.T) {
	f := newFixture(t, "10.0.0.1:8000")
	for status, want := range map[int]codes.Code{503: codes.Error, 500: codes.Error, 429: codes.Unset} {
		_, span := f.process(answered(ask("chat"), status)...)
		has(t, span, fmt.Sprint("http.response.status_code=", status))
		if span.Status.Code != want {
			t.Errorf("%d: status %v, want %v", status, span.Status.Code, want)
		}
	}
}

// TestBrokenOff: a stream that ends early ends its span, too.
func TestBrokenOff(t *testing.T) {
	f := newFixture(t, "10.0.0.1:8000")
	whole := answered(ask("chat", "traceparent", parent), 200)
	for n, want := range []string{1: "", 2: "routed", 3: "routed response"} {
		if n == 0 {
			continue
		}
		_, span := f.process(whole[:n]...)
		if got := events(span); got != want || span.EndTime.IsZero() {
			t.Errorf("after %d messages: events %q, want %q; ended %v", n, got, want, span.EndTime)
		}
	}
}
