package routing_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/types"
)

const controller = "inferpick.io/gateway"

// base has a class, a Gateway gw that takes routes from everywhere on port 80, and a pool.
const base = `
kind: GatewayClass
metadata: {name: ours, generation: 1}
spec: {controllerName: inferpick.io/gateway}
---
kind: Gateway
metadata: {name: gw, namespace: infra, generation: 3, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  gatewayClassName: ours
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
---
kind: InferencePool
metadata: {name: llama, namespace: app}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}]}
`

func options() routing.Options {
	ip := gatewayv1.IPAddressType
	return routing.Options{Controller: controller, Addresses: []gatewayv1.GatewayStatusAddress{{Type: &ip, Value: "192.0.2.1"}}}
}

func named(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// said returns conditions as TYPE=STATUS/REASON.
func said(list []metav1.Condition) string {
	var all []string
	for _, c := range list {
		all = append(all, c.Type+"="+string(c.Status)+"/"+c.Reason)
	}
	return strings.Join(all, " ")
}

// route is one of namespace app to gw.
func route(name, spec string) string {
	return `
kind: HTTPRoute
metadata: {name: ` + name + `, namespace: app, generation: 5, creationTimestamp: "2026-01-02T00:00:00Z"}
spec:
  parentRefs: [{name: gw, namespace: infra}]
` + indent(spec)
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ")
}

const toPool = `{group: inference.networking.k8s.io, kind: InferencePool, name: llama}`

// goes returns where a request goes: NAME of the pool or Service, !PROBLEM, -> LOCATION, or
// nothing.
func goes(table *routing.Table, port int32, method, url string, header ...string) string {
	r := httptest.NewRequest(method, url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	p := table.Ports[port]
	if p == nil {
		return "no port"
	}
	l := p.Listener(r.Host)
	if l == nil {
		return "no listener"
	}
	m, ok := l.Match(r)
	switch {
	case !ok:
		return ""
	case m.Redirect != nil:
		location, _ := m.Redirect.Location(r, m, port)
		return "-> " + location
	}
	b := m.Choose()
	switch {
	case b == nil:
		return "!no backend"
	case b.Problem != "":
		return "!" + b.Problem
	case b.Pool != nil:
		return b.Pool.Name.Name
	}
	return b.Service.Name.Name
}

// backend returns that of a request for / on port 80.
func backend(t testing.TB, table *routing.Table) *routing.Backend {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	m, ok := table.Ports[80].Listener(r.Host).Match(r)
	require.True(t, ok)
	return m.Choose()
}
