package picker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// TestFullDuplex: a body in any pieces goes back as it came but for the model's name,
// after headers that say where to.
func TestFullDuplex(t *testing.T) {
	f := newFixture(t, nil)
	client := f.dial(t)
	for _, tt := range []struct {
		words, piece int
		trailers     bool
	}{
		{1, 1, false}, {1, 7, true}, {1, 1 << 20, false},
		{44_000, 16_384, false}, {44_000, 65_536, true}, {44_000, 1 << 20, false}, // 220 KB
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			s := open(t, client, duplex, duplex)
			s.send(requestHeaders(false, "content-length", fmt.Sprint(len(chatBody(tt.words)))))
			for body := chatBody(tt.words); body != ""; {
				n := min(tt.piece, len(body))
				s.send(requestBody(body[:n], n == len(body) && !tt.trailers))
				body = body[n:]
			}
			if tt.trailers {
				s.send(requestTrailers())
			}
			m := s.recv()
			headers := m.GetRequestHeaders().GetResponse().GetHeaderMutation()
			require.Equal(t, allThree, destinationOf(t, m, headers), "destination")
			if tt.trailers {
				checkWhole(t, m, routedBody(tt.words))
			} else {
				if got, want := mutationOf(t, headers).set["content-length"], fmt.Sprint(len(routedBody(tt.words))); got != want {
					t.Errorf("content-length is %s, want %s", got, want)
				}
				if body, ended := s.chunks(); string(body) != routedBody(tt.words) || !ended {
					t.Errorf("the body of %d bytes came back as %d bytes, at its end: %v: %.80s…", len(chatBody(tt.words)), len(body), ended, body)
				}
			}
			if f.Load("a") != 1 {
				t.Errorf("%d requests are booked at a, want 1", f.Load("a"))
			}
			s.cancel()
			f.Free(t)
		})
	}
}

// TestHeadersOfTheProtocol: what a client sent of them leaves nowhere.
func TestHeadersOfTheProtocol(t *testing.T) {
	f := newFixture(t, nil)
	s := open(t, f.dial(t), duplex, duplex)
	s.send(requestHeaders(false, exchangetest.ForgedHeaders...))
	s.send(requestBody(chatBody(1), true))
	m := s.recv()
	mu := mutationOf(t, m.GetRequestHeaders().GetResponse().GetHeaderMutation())
	require.Equal(t, allThree, destinationOf(t, m, m.GetRequestHeaders().GetResponse().GetHeaderMutation()), "destination")
	for _, name := range []string{subsetKey, servedKey, fallbackKey, "accept-encoding"} {
		if !contains(mu.removed, name) {
			t.Errorf("header %s is not removed: %v", name, mu.removed)
		}
	}
	for name := range f.Routes[0].Request.Header {
		if strings.HasPrefix(strings.ToLower(name), destinationKey) {
			t.Errorf("the scheduler sees the client's %s", name)
		}
	}
	if got := m.GetDynamicMetadata().GetFields()["envoy.lb"].GetStructValue().GetFields()[fallbackKey].GetStringValue(); got != "10.0.0.2:8000" {
		t.Errorf("the one fallback of older revisions is %q", got)
	}
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// TestBuffered: headers are let through at once, without what a client says of destinations;
// the rest comes with the body.
func TestBuffered(t *testing.T) {
	for _, trailers := range []bool{false, true} {
		f := newFixture(t, nil)
		s := open(t, f.dial(t), buffered, buffered)
		s.send(requestHeaders(false))
		m := s.recv()
		if h := mutationOf(t, m.GetRequestHeaders().GetResponse().GetHeaderMutation()); len(h.set) > 0 || !slices.Contains(h.removed, destinationKey) || !slices.Contains(h.removed, "x-prefiller-host-port") {
			t.Fatalf("want headers let through without those of the protocol, got %v", m)
		}
		s.send(requestBody(chatBody(44_000), !trailers))
		m = s.recv()
		r := m.GetRequestBody().GetResponse()
		if got := destinationOf(t, m, r.GetHeaderMutation()); got != allThree {
			t.Errorf("destination is %q", got)
		}
		if string(r.GetBodyMutation().GetBody()) != routedBody(44_000) {
			t.Error("the body came back otherwise")
		}
		if got, want := mutationOf(t, r.GetHeaderMutation()).set["content-length"], fmt.Sprint(len(routedBody(44_000))); got != want {
			t.Errorf("content-length is %s, want %s", got, want)
		}
		if trailers {
			s.send(requestTrailers())
			if m := s.recv(); m.GetRequestTrailers() == nil {
				t.Errorf("want trailers let through, got %v", m)
			}
		}
		s.cancel()
		f.Free(t)
	}
}

// TestBufferedWithoutBody: of a request of headers and trailers alone the headers have left
// before the picker knows that no body comes: only metadata can say where the request goes,
// and what a client says in them must not count.
func TestBufferedWithoutBody(t *testing.T) {
	f := newFixture(t, nil)
	s := open(t, f.dial(t), buffered, none)
	m := requestHeaders(false)
	m.GetRequestHeaders().Headers.Headers[1].RawValue = []byte("/v1/files")
	s.send(m)
	if h := mutationOf(t, s.recv().GetRequestHeaders().GetResponse().GetHeaderMutation()); !slices.Contains(h.removed, destinationKey) {
		t.Error("a destination that a client names is let through")
	}
	s.send(requestTrailers())
	if got := s.recv(); got.GetRequestTrailers() == nil || metadataDestination(got) != allThree {
		t.Errorf("want trailers with a destination in the metadata, got %v", got)
	}
}

// TestHeaderOnly: a request without a body is routed at once, in every mode, within
// its subset.
func TestHeaderOnly(t *testing.T) {
	for _, mode := range []picker.BodyMode{duplex, buffered, none} {
		f := newFixture(t, nil)
		s := open(t, f.dial(t), mode, duplex)
		s.send(with(get("/health"), "envoy.lb.subset_hint", subsetKey, []any{"10.0.0.2:8000"}))
		m := s.recv()
		headers := m.GetRequestHeaders().GetResponse().GetHeaderMutation()
		if got := destinationOf(t, m, headers); got != "10.0.0.2:8000" {
			t.Errorf("mode %v: destination is %q", mode, got)
		}
		if _, ok := mutationOf(t, headers).set["content-length"]; ok {
			t.Errorf("mode %v: a request without a body got a content-length", mode)
		}
	}
}

// TestModelList: GET /v1/models needs no server.
func TestModelList(t *testing.T) {
	f := newFixture(t, nil)
	s := open(t, f.dial(t), duplex, duplex)
	s.send(get("/v1/models?x=1"))
	code, header, body := immediateOf(t, s.recv())
	if code != 200 || header["content-type"] != "application/json" || !strings.Contains(body, `"id":"chat"`) {
		t.Errorf("answer is %d %v %s", code, header, body)
	}
	if err := s.ends(); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
}

// TestSubset: the hint counts in every form and in every path, its port included.
func TestSubset(t *testing.T) {
	for _, tt := range exchangetest.Subsets {
		for _, mode := range []picker.BodyMode{duplex, buffered} {
			for _, late := range []bool{false, true} { // with the headers, or with the body
				t.Run(fmt.Sprint(tt.Name, " ", mode, " late ", late), func(t *testing.T) {
					f := newFixture(t, nil)
					s := open(t, f.dial(t), mode, duplex)
					head, body := requestHeaders(false), requestBody(chatBody(1), true)
					if late {
						with(body, "envoy.lb.subset_hint", subsetKey, tt.Hint)
					} else {
						with(head, "envoy.lb.subset_hint", subsetKey, tt.Hint)
					}
					s.send(head)
					if mode == buffered {
						s.recv()
					}
					s.send(body)
					m := s.recv()
					if tt.Want == "" {
						if code, _, text := immediateOf(t, m); code != 503 {
							t.Errorf("status is %d, want 503: %s", code, text)
						}
						return
					}
					require.Equal(t, tt.Want, metadataDestination(m), "destination")
				})
			}
		}
	}
}

// TestRequestHeaders: objective, fairness id, rewrite, SLO and request id are read.
func TestRequestHeaders(t *testing.T) {
	f := newFixture(t, nil)
	client := f.dial(t)
	s := open(t, client, duplex, duplex)
	s.send(requestHeaders(false, exchangetest.ReadHeaders...))
	s.send(requestBody(chatBody(1), true))
	m := s.recv()
	exchangetest.CheckRead(t, &f.Routes[0].Request)
	if _, ok := mutationOf(t, m.GetRequestHeaders().GetResponse().GetHeaderMutation()).set["traceparent"]; ok {
		t.Error("without a tracer the trace context passes as it came")
	}

	// A rewrite, and an id for a request that has none.
	s = open(t, client, duplex, duplex)
	s.send(requestHeaders(false, "x-gateway-model-name-rewrite", "mine"))
	s.send(requestBody(chatBody(1), true))
	id := mutationOf(t, s.recv().GetRequestHeaders().GetResponse().GetHeaderMutation()).set["x-request-id"]
	body, _ := s.chunks()
	if len(id) != 36 || f.Routes[1].Request.ID != id {
		t.Errorf("id is %q, and %q in the request", id, f.Routes[1].Request.ID)
	}
	require.Contains(t, string(body), `"model": "mine"`)

	// value is what older Envoys fill in instead of raw_value.
	s = open(t, client, duplex, duplex)
	old := requestHeaders(false)
	for _, h := range old.GetRequestHeaders().Headers.Headers {
		h.Value, h.RawValue = string(h.RawValue), nil
	}
	s.send(old)
	s.send(requestBody(chatBody(1), true))
	s.recv()
	if f.Routes[2].Request.Model != "chat" {
		t.Errorf("headers in value are not read: %+v", f.Routes[2].Request)
	}
}

// TestDestinations: one, unless Options or Envoy's configuration ask for more.
func TestDestinations(t *testing.T) {
	for _, tt := range exchangetest.Destinations {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *scheduling.Profile) { o.MaxDestinations = tt.Most })
			var pairs []string
			if tt.Asked != "" {
				pairs = []string{picker.DestinationsMetadata, tt.Asked}
			}
			s := open(t, f.dial(t), duplex, duplex, pairs...)
			s.send(requestHeaders(false, picker.DestinationsMetadata, "all")) // a client may not
			s.send(requestBody(chatBody(1), true))
			m := s.recv()
			require.Equal(t, tt.Want, destinationOf(t, m, m.GetRequestHeaders().GetResponse().GetHeaderMutation()), "destinations")
		})
	}
	client := newFixture(t, nil).dial(t)
	for _, asked := range append([]string{""}, exchangetest.NoDestinations...) {
		s := open(t, client, duplex, duplex, picker.DestinationsMetadata, asked)
		s.send(requestHeaders(false))
		if err := s.ends(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), fmt.Sprintf("%s: %q, want a number from 1, or all", picker.DestinationsMetadata, asked)) {
			t.Errorf("%q destinations: %v", asked, err)
		}
	}
}

// TestPoolMetadata: a route of Envoy may name its pool, as clients cannot.
func TestPoolMetadata(t *testing.T) {
	f := newFixture(t, nil)
	require.NoError(t, f.Store.SetEndpoints(types.NamespacedName{Name: "other"}, nil))
	client := f.dial(t)
	for pool, want := range exchangetest.Pools {
		s := open(t, client, duplex, duplex, picker.PoolMetadata, pool)
		s.send(requestHeaders(false, picker.PoolMetadata, "llama"))
		s.send(requestBody(chatBody(1), true))
		m := s.recv()
		require.Equal(t, want, int(m.GetImmediateResponse().GetStatus().GetCode()), "pool %s: immediate status", pool)
	}
	s := open(t, client, duplex, duplex, picker.PoolMetadata, "a/b/c")
	s.send(requestHeaders(false))
	if err := s.ends(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `"a/b/c"`) {
		t.Errorf("a pool that is no name: %v", err)
	}
}

// TestRefusals: each kind has its status and an error body as OpenAI's clients read it.
func TestRefusals(t *testing.T) {
	for _, tt := range exchangetest.Refusals {
		for _, mode := range []picker.BodyMode{duplex, buffered} {
			t.Run(fmt.Sprint(tt.Name, " ", mode), func(t *testing.T) {
				common, told := tt.New(t)
				f := of(t, common)
				s := open(t, f.dial(t), mode, duplex)
				head := requestHeaders(false, tt.Header...)
				if tt.Path != "" {
					head.GetRequestHeaders().Headers.Headers[1].RawValue = []byte(tt.Path)
				}
				s.send(head)
				if mode == buffered && !tt.Early {
					s.recv()
				}
				s.send(requestBody(tt.Body, true))
				code, header, body := immediateOf(t, s.recv())
				require.NoError(t, s.ends())
				tt.Check(t, code, header, body, *told)
				f.Free(t)
			})
		}
	}
}

// TestUnsupportedModes: what cannot work is said, not tried.
func TestUnsupportedModes(t *testing.T) {
	f := newFixture(t, nil)
	client := f.dial(t)
	for _, tt := range []struct {
		request, response picker.BodyMode
		observe           bool
		want              string
	}{
		{streamed, duplex, false, "request_body_mode is STREAMED"},
		{3, duplex, false, "request_body_mode is BUFFERED_PARTIAL"},
		{5, duplex, false, "request_body_mode is GRPC"},
		{duplex, 3, false, "response_body_mode is BUFFERED_PARTIAL"},
		{duplex, duplex, true, "observability_mode"},
	} {
		s := open(t, client, tt.request, tt.response)
		m := requestHeaders(false)
		m.ObservabilityMode = tt.observe
		s.send(m)
		if err := s.ends(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("modes %v and %v: %v, want %q", tt.request, tt.response, err, tt.want)
		}
	}
}

// TestOldEnvoy: one that does not tell its modes is served as Options say.
func TestOldEnvoy(t *testing.T) {
	for _, mode := range []picker.BodyMode{none, duplex, buffered} { // none: the default
		f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *scheduling.Profile) { o.RequestBody = mode })
		s := open(t, f.dial(t), 0, 0)
		s.config = nil
		s.send(requestHeaders(false))
		if mode == buffered {
			s.recv()
		}
		s.send(requestBody(chatBody(1), true))
		if got := metadataDestination(s.recv()); got != allThree {
			t.Errorf("mode %v: destination is %q", mode, got)
		}
	}
}

// TestOutOfOrder: a message that does not belong where it comes ends the stream
// cleanly, and nothing stays booked.
func TestOutOfOrder(t *testing.T) {
	messages := map[string]func() *extprocv3.ProcessingRequest{
		"request_headers":   func() *extprocv3.ProcessingRequest { return requestHeaders(false) },
		"request_body":      func() *extprocv3.ProcessingRequest { return requestBody(chatBody(1), true) },
		"request_trailers":  requestTrailers,
		"response_headers":  func() *extprocv3.ProcessingRequest { return responseHeaders(200, "application/json", false) },
		"response_body":     func() *extprocv3.ProcessingRequest { return responseBody("{}", false) },
		"response_trailers": responseTrailers,
		"nothing":           func() *extprocv3.ProcessingRequest { return new(extprocv3.ProcessingRequest) },
	}
	both := []string{"response_body", "response_trailers", "nothing"} // wrong before a response
	for _, tt := range []struct {
		mode   picker.BodyMode
		before []string
		wrong  []string
	}{
		{duplex, nil, append([]string{"request_trailers"}, both...)},
		{duplex, []string{"request_headers"}, append([]string{"request_headers"}, both...)},
		{duplex, []string{"request_headers", "request_body"}, append([]string{"request_headers", "request_body", "request_trailers"}, both...)},
		{duplex, []string{"request_headers", "request_trailers"}, append([]string{"request_headers", "request_body", "request_trailers"}, both...)},
		{duplex, []string{"response_headers"}, []string{"request_headers", "request_body", "request_trailers", "response_headers", "nothing"}},
		{duplex, []string{"request_headers", "response_headers"}, []string{"request_headers", "request_body", "response_headers", "nothing"}},
		{duplex, []string{"request_headers", "request_body", "response_headers"}, []string{"request_headers", "request_body", "request_trailers", "response_headers", "nothing"}},
		{duplex, []string{"request_headers", "request_body", "response_headers", "response_body"}, []string{"request_headers", "request_body", "request_trailers", "response_headers", "nothing"}},
		{buffered, nil, append([]string{"request_trailers"}, both...)},
		{buffered, []string{"request_headers"}, append([]string{"request_headers"}, both...)},
		{buffered, []string{"request_headers", "request_body"}, append([]string{"request_headers", "request_body", "request_trailers"}, both...)},
		{buffered, []string{"request_headers", "request_trailers"}, append([]string{"request_headers", "request_body", "request_trailers"}, both...)},
		{none, []string{"request_headers"}, append([]string{"request_headers", "request_body"}, both...)},
	} {
		for _, wrong := range tt.wrong {
			t.Run(fmt.Sprint(tt.mode, tt.before, wrong), func(t *testing.T) {
				f := newFixture(t, nil)
				client := f.dial(t)
				s := open(t, client, tt.mode, duplex)
				for _, name := range append(tt.before[:len(tt.before):len(tt.before)], wrong) {
					s.send(messages[name]())
				}
				isMisplaced(t, s)
				f.Free(t)
				s = open(t, client, duplex, duplex) // it lives
				s.send(requestHeaders(true))
				if got := metadataDestination(s.recv()); got != allThree {
					t.Errorf("after it the destination is %q", got)
				}
			})
		}
	}
}

// TestBodyWithoutHeaders: what the picker was not told of it cannot route.
func TestBodyWithoutHeaders(t *testing.T) {
	f := newFixture(t, nil)
	s := open(t, f.dial(t), duplex, duplex)
	s.send(requestBody(chatBody(1), true))
	if err := s.ends(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "request_header_mode is SKIP, want SEND") {
		t.Errorf("the stream ended with %v", err)
	}
}
