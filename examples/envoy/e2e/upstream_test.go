package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

// upstream sets how Envoy talks to servers.
func upstream(t *testing.T, b *envoyproxy.Bootstrap, config *httpv3.HttpProtocolOptions_ExplicitHttpConfig) {
	a, err := anypb.New(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: config}})
	require.NoError(t, err)
	b.Cluster("model_servers").TypedExtensionProtocolOptions = map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": a}
}

// upstream1Trailers lets Envoy take and send trailers where it talks HTTP/1 to servers.
func upstream1Trailers(t *testing.T, b *envoyproxy.Bootstrap) {
	upstream(t, b, &httpv3.HttpProtocolOptions_ExplicitHttpConfig{ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true},
	}})
}

// upstream2 has Envoy talk HTTP/2 to servers.
func upstream2(t *testing.T, b *envoyproxy.Bootstrap) {
	upstream(t, b, &httpv3.HttpProtocolOptions_ExplicitHttpConfig{ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{AllowConnect: true},
	}})
}

// serve2 starts a server of HTTP/1 and HTTP/2 without TLS on loopback, and returns its address.
func serve2(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
