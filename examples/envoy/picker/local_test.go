package picker_test

import (
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
	"github.com/inferpick/inferpick/examples/envoy/picker"
)

// TestAnswerWithoutRequest: what Envoy answers before the picker has heard of the request
// passes untouched, in every mode, whole or empty, with and without trailers.
func TestAnswerWithoutRequest(t *testing.T) {
	for _, mode := range []picker.BodyMode{none, streamed, buffered, duplex} {
		for _, body := range []string{"", "RBAC: access denied", whole} {
			f := newFixture(t, nil)
			s := open(t, f.dial(t), duplex, mode)
			s.send(responseHeaders(403, "text/plain", body == "", "content-length", "19"))
			m := s.recv()
			if m.GetResponseHeaders() == nil || m.GetResponseHeaders().GetResponse().GetHeaderMutation() != nil {
				t.Errorf("%v: headers came back as %v", mode, m)
			}
			if body != "" && mode != none {
				s.send(responseBody(body, true))
				if back := bodyOf(s.recv()); back != body {
					t.Errorf("%v: the body came back as %q, want %q", mode, back, body)
				}
			}
			s.s.CloseSend()
			if err := s.ends(); err != nil {
				t.Errorf("%v: the stream ended with %v", mode, err)
			}
			if len(f.routes) != 0 {
				t.Errorf("%v: it was routed", mode)
			}
			f.free(t)
		}
	}
}

// bodyOf returns the body in an answer to a response's.
func bodyOf(m *extprocv3.ProcessingResponse) string {
	b := m.GetResponseBody().GetResponse().GetBodyMutation()
	return string(b.GetBody()) + string(b.GetStreamedResponse().GetBody())
}

// TestHeadersAlone: a request without a body, however that is said, and one whose body
// Envoy keeps to itself, go where their headers say.
func TestHeadersAlone(t *testing.T) {
	method := func(m *extprocv3.ProcessingRequest, name string) *extprocv3.ProcessingRequest {
		m.GetRequestHeaders().Headers.Headers[0].RawValue = []byte(name)
		return m
	}
	for _, tt := range []struct {
		name string
		mode picker.BodyMode
		in   []*extprocv3.ProcessingRequest
	}{
		{"POST of nothing", duplex, []*extprocv3.ProcessingRequest{requestHeaders(true, "content-length", "0")}},
		{"POST of an empty body", duplex, []*extprocv3.ProcessingRequest{requestHeaders(false), requestBody("", true)}},
		{"POST of empty pieces", duplex, []*extprocv3.ProcessingRequest{requestHeaders(false), requestBody("", false), requestBody("", true)}},
		{"POST of trailers", duplex, []*extprocv3.ProcessingRequest{requestHeaders(false), requestTrailers()}},
		{"POST of nothing, buffered", buffered, []*extprocv3.ProcessingRequest{requestHeaders(true)}},
		{"OPTIONS", duplex, []*extprocv3.ProcessingRequest{method(requestHeaders(true), "OPTIONS")}},
		{"OPTIONS with a body", duplex, []*extprocv3.ProcessingRequest{method(requestHeaders(false), "OPTIONS"), requestBody("x", true)}},
		{"DELETE", duplex, []*extprocv3.ProcessingRequest{method(requestHeaders(true), "DELETE")}},
		{"PUT of nothing", duplex, []*extprocv3.ProcessingRequest{method(requestHeaders(true), "PUT")}},
		{"a body that is not sent", none, []*extprocv3.ProcessingRequest{requestHeaders(false, "content-length", "120")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nil)
			s := open(t, f.dial(t), tt.mode, duplex)
			for _, m := range tt.in {
				s.send(m)
			}
			m := s.recv()
			if i := m.GetImmediateResponse(); i != nil {
				t.Fatalf("refused with %v: %s", i.Status, i.Body)
			}
			if got := destinationOf(t, m, m.GetRequestHeaders().GetResponse().GetHeaderMutation()); got != allThree {
				t.Errorf("destination is %q", got)
			}
			if len(f.routes) != 1 || f.routes[0].Request.Model != "" {
				t.Errorf("routes are %v", f.routes)
			}
			s.cancel()
			f.free(t)
		})
	}
}

// TestHeadersAloneAreNoWayIn: what clients may not ask servers for, they may not without a
// body either.
func TestHeadersAloneAreNoWayIn(t *testing.T) {
	f := newFixture(t, nil)
	client := f.dial(t)
	for _, path := range []string{
		"/v1/load_lora_adapter", "/v1/unload_lora_adapter", // vLLM's
		"/load_lora_adapter", "/unload_lora_adapter", "/load_lora_adapter_from_tensors", // SGLang's
	} {
		for _, mode := range []picker.BodyMode{none, duplex} {
			m := requestHeaders(mode == duplex)
			m.GetRequestHeaders().Headers.Headers[1].RawValue = []byte(path)
			s := open(t, client, mode, duplex)
			s.send(m)
			if status, _, _ := immediateOf(t, s.recv()); status != 403 {
				t.Errorf("%s, %v: status is %d, want 403", path, mode, status)
			}
		}
	}
}

// TestGRPCStatus: an answer over gRPC may say in its trailers, after data, that it failed.
func TestGRPCStatus(t *testing.T) {
	const generate = "/vllm.grpc.engine.VllmEngine/Generate"
	for code, want := range map[string]int{"0": 200, "13": 500, "14": 503} {
		f := newFixture(t, nil)
		s := open(t, f.dial(t), duplex, duplex)
		s.send(envoyside.Post(generate, "application/grpc"))
		s.send(requestBody("\x00\x00\x00\x00\x04\x1a\x02hi", true))
		s.recv()
		s.chunks()
		s.send(responseHeaders(200, "application/grpc", false))
		s.recv()
		s.send(responseBody("\x00\x00\x00\x00\x08\x12\x06\x18\x05\x20\x07\x28\x00", false))
		s.recv()
		s.send(envoyside.GRPCStatus(code))
		s.recv()
		require.NoError(t, s.ends())
		require.Len(t, f.routes, 1)
		require.Equal(t, want, f.routes[0].Status(), "grpc-status %s", code)
		f.free(t)
	}
}
