package envoyproxy_test

import (
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

// clearRetries takes retries out, and that their endpoints are asked for.
func clearRetries(t *testing.T, b *envoyproxy.Bootstrap) {
	t.Helper()
	err := b.Manager(func(m *hcmv3.HttpConnectionManager) {
		for _, host := range m.GetRouteConfig().GetVirtualHosts() {
			for _, r := range host.GetRoutes() {
				r.GetRoute().RetryPolicy = nil
			}
		}
	})
	require.NoError(t, err)
	err = b.ExtProc(func(p *extprocv3.ExternalProcessor) { p.GrpcService.InitialMetadata = nil })
	require.NoError(t, err)
}
