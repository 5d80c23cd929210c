package extproc

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/inferpick/inferpick/scheduling/director"
)

// Names of the Endpoint Picker Protocol, as they are on the wire.
var (
	keyDestination = strings.ToLower(director.HeaderDestination)
	keyServed      = strings.ToLower(director.HeaderServed)
)

const namespaceLB = "envoy.lb"

func requestHeaders(r *http.Request) *corev3.HeaderMap {
	m := headerMap(r.Header)
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	for _, v := range [][2]string{{":method", r.Method}, {":path", r.URL.RequestURI()}, {":authority", r.Host}, {":scheme", scheme}} {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: v[0], RawValue: []byte(v[1])})
	}
	return m
}

func responseHeaders(r *http.Response) *corev3.HeaderMap {
	m := headerMap(r.Header)
	m.Headers = append(m.Headers, &corev3.HeaderValue{Key: ":status", RawValue: []byte(strconv.Itoa(r.StatusCode))})
	return m
}

func headerMap(h http.Header) *corev3.HeaderMap {
	m := new(corev3.HeaderMap)
	for name, values := range h {
		for _, v := range values {
			m.Headers = append(m.Headers, &corev3.HeaderValue{Key: strings.ToLower(name), RawValue: []byte(v)})
		}
	}
	return m
}

// servedBy is the metadata that says which endpoint served a request.
func servedBy(address string) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		namespaceLB: {Fields: map[string]*structpb.Value{keyServed: structpb.NewStringValue(address)}},
	}}
}

// fixed are headers that a picker cannot change: they say how a message is sent, and where.
var fixed = map[string]bool{"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Upgrade": true}

// mutateHeader changes headers as a picker wants it.
func mutateHeader(h http.Header, m *extprocv3.HeaderMutation) {
	for _, name := range m.GetRemoveHeaders() {
		h.Del(name)
	}
	for _, o := range m.GetSetHeaders() {
		name := http.CanonicalHeaderKey(o.GetHeader().GetKey())
		value := string(o.GetHeader().GetRawValue())
		if value == "" {
			value = o.GetHeader().GetValue()
		}
		switch {
		case fixed[name] || strings.HasPrefix(name, ":"):
		case o.GetAppend().GetValue(): //nolint:staticcheck // deprecated, and in use
			h.Add(name, value)
		case o.GetAppendAction() == corev3.HeaderValueOption_ADD_IF_ABSENT && len(h[name]) > 0:
		default:
			h.Set(name, value)
		}
	}
}

// immediate is the response that a picker gives itself.
func immediate(r *http.Request, m *extprocv3.ImmediateResponse) *http.Response {
	resp := &http.Response{
		StatusCode: int(m.GetStatus().GetCode()), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header),
		Body: io.NopCloser(bytes.NewReader(m.GetBody())), ContentLength: int64(len(m.GetBody())), Request: r,
	}
	if resp.StatusCode < 200 {
		resp.StatusCode = http.StatusInternalServerError
	}
	mutateHeader(resp.Header, m.GetHeaders())
	resp.Header.Set("Content-Length", strconv.Itoa(len(m.GetBody())))
	if r.Method == http.MethodHead {
		resp.Body = http.NoBody
	}
	return resp
}
