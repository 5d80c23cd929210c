package extproc_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/inferpick/inferpick/examples/kubernetes/extproc"
)

type stream = grpc.BidiStreamingServer[extprocv3.ProcessingRequest, extprocv3.ProcessingResponse]

// server is a picker that does what a test says.
type server struct {
	extprocv3.UnimplementedExternalProcessorServer
	process func(stream) error
}

func (s server) Process(x stream) error { return s.process(x) }

// start starts a picker and returns its address.
func start(t *testing.T, process func(stream) error, o ...grpc.ServerOption) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(o...)
	extprocv3.RegisterExternalProcessorServer(s, server{process: process})
	go func() { _ = s.Serve(l) }() // until Stop
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func plaintext(addresses ...string) extproc.Picker {
	return extproc.Picker{Addresses: addresses, Plaintext: true}
}

// Messages of pickers.

func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, RawValue: []byte(value)}}
}

func to(address string, set ...*corev3.HeaderValueOption) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: changed(set...)},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"envoy.lb": structpb.NewStructValue(&structpb.Struct{
			Fields: map[string]*structpb.Value{"x-gateway-destination-endpoint": structpb.NewStringValue(address)},
		})}},
	}
}

func changed(set ...*corev3.HeaderValueOption) *extprocv3.HeadersResponse {
	return &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{
		HeaderMutation: &extprocv3.HeaderMutation{SetHeaders: set, RemoveHeaders: []string{"x-gone"}},
	}}
}

func piece(body string, last bool) *extprocv3.BodyResponse {
	return &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{
		Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{Body: []byte(body), EndOfStream: last}},
	}}}
}

func requestBody(body string, last bool) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: piece(body, last)}}
}

func responseBody(body string, last bool) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: piece(body, last)}}
}

func responseHeaders(set ...*corev3.HeaderValueOption) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: changed(set...)}}
}

// request reads the whole of one, and returns its headers and body.
func request(x stream) (map[string]string, string, error) {
	headers, body := map[string]string{}, ""
	for {
		m, err := x.Recv()
		if err != nil {
			return nil, "", err
		}
		for _, h := range m.GetRequestHeaders().GetHeaders().GetHeaders() {
			headers[h.GetKey()] = string(h.GetRawValue())
		}
		body += string(m.GetRequestBody().GetBody())
		if m.GetRequestHeaders().GetEndOfStream() || m.GetRequestBody().GetEndOfStream() {
			return headers, body, nil
		}
	}
}

// send sends messages.
func send(x stream, messages ...*extprocv3.ProcessingResponse) error {
	for _, m := range messages {
		if err := x.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func post(t *testing.T) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), "POST", "http://api.example.com/v1/completions?x=1", nil)
	r.Header.Set("X-Gone", "1")
	return r
}

// TestRequest: what a picker says of a request is what is sent.
func TestRequest(t *testing.T) {
	large := strings.Repeat("0123456789", 100_000)
	for _, tt := range []struct {
		name, body string
		answer     []*extprocv3.ProcessingResponse
		endpoints  []string
		wantBody   string
	}{
		{"headers alone", "", []*extprocv3.ProcessingResponse{to("10.0.0.1:1", header("x-a", "1"))}, []string{"10.0.0.1:1"}, ""},
		{"body as it was", large, []*extprocv3.ProcessingResponse{to("10.0.0.1:1"), requestBody(large[:len(large)/2], false), requestBody(large[len(large)/2:], true)}, []string{"10.0.0.1:1"}, large},
		{"body changed", "old", []*extprocv3.ProcessingResponse{to("10.0.0.1:1, 10.0.0.2:1"), requestBody("new", false), requestBody("er", true)}, []string{"10.0.0.1:1", "10.0.0.2:1"}, "newer"},
		{"destination in a header", "old", []*extprocv3.ProcessingResponse{
			{Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: changed(header("x-gateway-destination-endpoint", "10.0.0.3:1"))}}, requestBody("old", true),
		}, []string{"10.0.0.3:1"}, "old"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := start(t, func(x stream) error {
				headers, body, err := request(x)
				if err != nil || body != tt.body || headers[":path"] != "/v1/completions?x=1" || headers[":method"] != "POST" || headers[":authority"] != "api.example.com" {
					return errors.Join(err, errors.New("another request came"))
				}
				return send(x, tt.answer...)
			})
			var c extproc.Client
			defer c.Keep(nil)
			x, answer, err := c.Begin(t.Context(), plaintext(address), post(t), []byte(tt.body))
			require.NoError(t, err)
			require.Nil(t, answer)
			defer x.Close()
			require.Equal(t, tt.endpoints, x.Endpoints)
			require.Equal(t, tt.wantBody, string(x.Body))
			require.Empty(t, x.Header.Get("X-Gone"))
		})
	}
}

// TestImmediate: a picker may answer itself.
func TestImmediate(t *testing.T) {
	address := start(t, func(x stream) error {
		if _, err := x.Recv(); err != nil {
			return err
		}
		return send(x, &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &extprocv3.ImmediateResponse{
			Status: &typev3.HttpStatus{Code: 429}, Body: []byte("later"),
			Headers: &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{header("retry-after", "3")}},
		}}})
	})
	var c extproc.Client
	defer c.Keep(nil)
	x, answer, err := c.Begin(t.Context(), plaintext(address), post(t), bytes.Repeat([]byte("x"), 1<<20))
	require.NoError(t, err)
	require.Nil(t, x)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, "429 later 3", strings.Join([]string{"429", string(body), answer.Header.Get("Retry-After")}, " "))
	require.Equal(t, 429, answer.StatusCode)
}

// TestUnavailable: a picker that does not do its work is not available.
func TestUnavailable(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dead.Close()
	for name, picker := range map[string]extproc.Picker{
		"no pod":      plaintext(),
		"dead":        plaintext(dead.Addr().String()),
		"fails":       plaintext(start(t, func(stream) error { return errors.New("no") })),
		"ends":        plaintext(start(t, func(x stream) error { _, _, err := request(x); return err })),
		"no endpoint": plaintext(start(t, func(x stream) error { return send(x, to(""), requestBody("", true)) })),
		"misplaced":   plaintext(start(t, func(x stream) error { return send(x, responseHeaders()) })),
		"no TLS":      {Addresses: []string{start(t, func(stream) error { return nil })}},
	} {
		t.Run(name, func(t *testing.T) {
			var c extproc.Client
			defer c.Keep(nil)
			_, _, err := c.Begin(t.Context(), picker, post(t), []byte("body"))
			require.ErrorIs(t, err, extproc.ErrUnavailable)
		})
	}
}

// TestTLS: the certificate that a picker has made for itself does.
func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(nil) // for its certificate
	defer s.Close()
	address := start(t, func(x stream) error {
		if _, _, err := request(x); err != nil {
			return err
		}
		return send(x, to("10.0.0.1:1"))
	}, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: s.TLS.Certificates})))
	var c extproc.Client
	defer c.Keep(nil)
	x, _, err := c.Begin(t.Context(), extproc.Picker{Addresses: []string{address}}, post(t), nil)
	require.NoError(t, err)
	x.Close()
}

// TestResponse: a response goes through the picker, and is what the picker makes of it.
func TestResponse(t *testing.T) {
	begin := func(x stream) error {
		if _, _, err := request(x); err != nil {
			return err
		}
		return send(x, to("10.0.0.1:1"))
	}
	head := func(x stream) error {
		m, err := x.Recv()
		if err != nil {
			return err
		}
		served := m.GetMetadataContext().GetFilterMetadata()["envoy.lb"].GetFields()["x-gateway-destination-endpoint-served"].GetStringValue()
		return send(x, responseHeaders(header("x-served", served)))
	}
	for _, tt := range []struct {
		name       string
		process    func(stream) error
		served     string
		body, fail string
	}{
		{"changed", func(x stream) error {
			if err := errors.Join(begin(x), head(x)); err != nil {
				return err
			}
			for {
				m, err := x.Recv()
				if err != nil {
					return err
				}
				b := m.GetResponseBody()
				if err := send(x, responseBody(strings.ToUpper(string(b.GetBody())), b.GetEndOfStream())); err != nil || b.GetEndOfStream() {
					return err
				}
			}
		}, "10.0.0.9:1", "ONE TWO", ""},
		{"held back", func(x stream) error {
			if err := errors.Join(begin(x), head(x)); err != nil {
				return err
			}
			for {
				m, err := x.Recv()
				if err != nil {
					return err
				}
				if m.GetResponseBody().GetEndOfStream() {
					return send(x, responseBody("all", false), responseBody("", true))
				}
			}
		}, "10.0.0.9:1", "all", ""},
		{"gone before it", begin, "", "one two", ""},
		{"gone in the middle", func(x stream) error {
			if err := errors.Join(begin(x), head(x)); err != nil {
				return err
			}
			return send(x, responseBody("on", false))
		}, "10.0.0.9:1", "on", "the answer was cut off"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c extproc.Client
			defer c.Keep(nil)
			x, _, err := c.Begin(t.Context(), plaintext(start(t, tt.process)), post(t), nil)
			require.NoError(t, err)
			resp := &http.Response{StatusCode: 200, Header: http.Header{"X-Gone": {"1"}}, Body: io.NopCloser(strings.NewReader("one two"))}
			x.Response(resp, "10.0.0.9:1")
			require.Equal(t, tt.served, resp.Header.Get("X-Served"))
			body, err := io.ReadAll(resp.Body)
			require.Equal(t, tt.body, string(body))
			if tt.fail == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tt.fail)
			}
			require.NoError(t, resp.Body.Close())
		})
	}
}
