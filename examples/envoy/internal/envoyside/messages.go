// Package envoyside has the messages that Envoy sends to an external processor, as it
// sends them, for tests that play its side.
package envoyside

import (
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// HeaderMap makes headers of pairs of names and values, in raw_value as newer Envoys
// do.
func HeaderMap(pairs ...string) *corev3.HeaderMap {
	m := new(corev3.HeaderMap)
	for i := 0; i < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return m
}

// RequestHeaders begins a POST of a chat request; end if it has no body.
func RequestHeaders(end bool, pairs ...string) *extprocv3.ProcessingRequest {
	return headers(end, append([]string{
		":method", "POST", ":path", "/v1/chat/completions", ":authority", "llm", ":scheme", "http", "content-type", "application/json",
	}, pairs...))
}

// Post begins a POST with a body.
func Post(path, contentType string) *extprocv3.ProcessingRequest {
	return headers(false, []string{":method", "POST", ":path", path, "content-type", contentType})
}

// Get is a GET without a body.
func Get(path string, pairs ...string) *extprocv3.ProcessingRequest {
	return headers(true, append([]string{":method", "GET", ":path", path}, pairs...))
}

func headers(end bool, pairs []string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extprocv3.HttpHeaders{Headers: HeaderMap(pairs...), EndOfStream: end},
	}}
}

// RequestBody is a part of a request's body; end if it is the last.
func RequestBody(body string, end bool) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: end},
	}}
}

// RequestTrailers ends a request that has some.
func RequestTrailers() *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestTrailers{
		RequestTrailers: &extprocv3.HttpTrailers{Trailers: HeaderMap("x-sum", "1")},
	}}
}

// ResponseHeaders begins a response; end if it has no body.
func ResponseHeaders(status int, contentType string, end bool, pairs ...string) *extprocv3.ProcessingRequest {
	all := append([]string{":status", strconv.Itoa(status), "content-type", contentType}, pairs...)
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extprocv3.HttpHeaders{Headers: HeaderMap(all...), EndOfStream: end},
	}}
}

// ResponseBody is a part of a response's body; end if it is the last.
func ResponseBody(body string, end bool) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
		ResponseBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: end},
	}}
}

// ResponseTrailers ends a response that has some: those of a gRPC that went well.
func ResponseTrailers() *extprocv3.ProcessingRequest { return GRPCStatus("0") }

// GRPCStatus ends a response over gRPC.
func GRPCStatus(code string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseTrailers{
		ResponseTrailers: &extprocv3.HttpTrailers{Trailers: HeaderMap("grpc-status", code)},
	}}
}
