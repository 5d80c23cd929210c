package envoyproxy_test

import (
	"testing"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

func clearRetries(t *testing.T, b *envoyproxy.Bootstrap) {
	t.Helper()
	err := b.Manager(func(m *hcmv3.HttpConnectionManager) {
		for _, host := range m.GetRouteConfig().GetVirtualHosts() {
			for _, r := range host.GetRoutes() {
				r.GetRoute().RetryPolicy = nil
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
