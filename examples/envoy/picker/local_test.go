package picker_test

import (
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
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
			if len(f.Routes) != 0 {
				t.Errorf("%v: it was routed", mode)
			}
			f.Free(t)
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
	type row struct {
		name string
		mode picker.BodyMode
		in   []*extprocv3.ProcessingRequest
	}
	rows := []row{
		{"POST of nothing, buffered", buffered, []*extprocv3.ProcessingRequest{requestHeaders(true)}},
		{"a body that is not sent", none, []*extprocv3.ProcessingRequest{requestHeaders(false, "content-length", "120")}},
	}
	for _, b := range exchangetest.Bodiless {
		r := row{b.Name, duplex, []*extprocv3.ProcessingRequest{method(requestHeaders(b.End), b.Method)}}
		for i, piece := range b.Pieces {
			r.in = append(r.in, requestBody(piece, i == len(b.Pieces)-1 && !b.Trailers))
		}
		if b.Trailers {
			r.in = append(r.in, requestTrailers())
		}
		rows = append(rows, r)
	}
	for _, tt := range rows {
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
			if len(f.Routes) != 1 || f.Routes[0].Request.Model != "" {
				t.Errorf("routes are %v", f.Routes)
			}
			s.cancel()
			f.Free(t)
		})
	}
}

// TestHeadersAloneAreNoWayIn: what clients may not ask servers for, they may not without a
// body either.
func TestHeadersAloneAreNoWayIn(t *testing.T) {
	f := newFixture(t, nil)
	client := f.dial(t)
	for _, path := range exchangetest.AdminPaths {

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
	for code, want := range exchangetest.GRPCStatuses {
		f := newFixture(t, nil)
		s := open(t, f.dial(t), duplex, duplex)
		s.send(envoyside.Post(exchangetest.GRPCPath, "application/grpc"))
		s.send(requestBody(exchangetest.GRPCRequest, true))
		s.recv()
		s.chunks()
		s.send(responseHeaders(200, "application/grpc", false))
		s.recv()
		s.send(responseBody(exchangetest.GRPCResponse, false))
		s.recv()
		s.send(envoyside.GRPCStatus(code))
		s.recv()
		require.NoError(t, s.ends())
		require.Len(t, f.Routes, 1)
		require.Equal(t, want, f.Routes[0].Status(), "grpc-status %s", code)
		f.Free(t)
	}
}
