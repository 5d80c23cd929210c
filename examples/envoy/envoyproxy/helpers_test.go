package envoyproxy_test

import (
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

func clearRetries(t *testing.T, b *envoyproxy.Bootstrap) {
	t.Helper()
	if err := b.Routes(func(r *routev3.Route) { r.GetRoute().RetryPolicy = nil }); err != nil {
		t.Fatal(err)
	}
}
