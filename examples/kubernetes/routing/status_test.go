package routing_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/kubernetes/internal/manifests"
	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/types"
)

// TestRouteStatus: a route is told whether it is served, and what it refers to in vain.
func TestRouteStatus(t *testing.T) {
	const ok = "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs"
	const more = `
kind: Service
metadata: {name: web, namespace: app}
spec: {ports: [{port: 80}, {port: 81, name: grpc, appProtocol: example.com/odd}]}
---
kind: Service
metadata: {name: elsewhere, namespace: app}
spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}
---
kind: InferencePool
metadata: {name: shared, namespace: pools}
spec: {selector: {matchLabels: {app: shared}}, targetPorts: [{number: 8000}]}
---
kind: InferencePool
metadata: {name: private, namespace: pools}
spec: {selector: {matchLabels: {app: private}}, targetPorts: [{number: 8000}]}
---
kind: InferencePool
apiVersion: inference.networking.x-k8s.io/v1alpha2
metadata: {name: old, namespace: app}
spec: {selector: {app: old}, targetPortNumber: 8000, extensionRef: {name: epp}}
---
kind: ReferenceGrant
metadata: {name: grant, namespace: pools}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: app}]
  to: [{group: inference.networking.k8s.io, kind: InferencePool, name: shared}]
`
	for _, tt := range []struct{ name, spec, want string }{
		{"pool", "rules: [{backendRefs: [" + toPool + "]}]", ok},
		{"pool with any port", "rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: llama, port: 1}]}]", ok},
		{"pool of v1alpha2", "rules: [{backendRefs: [{group: inference.networking.x-k8s.io, kind: InferencePool, name: old}]}]", ok},
		{"pool of the other group", "rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: old}]}]", "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound"},
		{"service", "rules: [{backendRefs: [{name: web, port: 80}]}]", ok},
		{"service without the port", "rules: [{backendRefs: [{name: web, port: 8080}]}]", "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound"},
		{"service of another protocol", "rules: [{backendRefs: [{name: web, port: 81}]}]", "Accepted=True/Accepted ResolvedRefs=False/UnsupportedProtocol"},
		{"service elsewhere", "rules: [{backendRefs: [{name: elsewhere, port: 80}]}]", "Accepted=True/Accepted ResolvedRefs=False/UnsupportedValue"},
		{"no such service", "rules: [{backendRefs: [{name: none, port: 80}]}]", "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound"},
		{"another kind", "rules: [{backendRefs: [{kind: Bucket, name: none}]}]", "Accepted=True/Accepted ResolvedRefs=False/InvalidKind"},
		{"granted", "rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: shared, namespace: pools}]}]", ok},
		{"not granted", "rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: private, namespace: pools}]}]", "Accepted=True/Accepted ResolvedRefs=False/RefNotPermitted"},
		{"a filter", "rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}], backendRefs: [" + toPool + "]}]", "Accepted=False/UnsupportedValue ResolvedRefs=True/ResolvedRefs"},
		{"a filter of a backend", "rules: [{backendRefs: [{name: web, port: 80, filters: [{type: RequestHeaderModifier}]}]}]", "Accepted=False/UnsupportedValue ResolvedRefs=True/ResolvedRefs"},
		{"retries", "rules: [{retry: {attempts: 2}, backendRefs: [" + toPool + "]}]", "Accepted=False/UnsupportedValue ResolvedRefs=True/ResolvedRefs"},
		{"sessions", "rules: [{sessionPersistence: {sessionName: x}, backendRefs: [" + toPool + "]}]", "Accepted=False/UnsupportedValue ResolvedRefs=True/ResolvedRefs"},
		{"a bad expression", "rules: [{matches: [{path: {type: RegularExpression, value: '('}}], backendRefs: [" + toPool + "]}]", "Accepted=False/UnsupportedValue ResolvedRefs=True/ResolvedRefs"},
		{"another host for a pool", "rules: [{filters: [{type: URLRewrite, urlRewrite: {hostname: x.example.com}}], backendRefs: [" + toPool + "]}]", "Accepted=False/UnsupportedValue ResolvedRefs=True/ResolvedRefs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table, s := routing.Build(manifests.Read(t, base, more, route("r", tt.spec)), options())
			parents := s.Routes[named("app", "r")]
			require.Len(t, parents, 1)
			require.Equal(t, tt.want, said(parents[0].Conditions))
			require.Equal(t, int64(5), parents[0].Conditions[0].ObservedGeneration)
			served := goes(table, 80, "GET", "/") != ""
			require.Equal(t, tt.want[:14] == ok[:14], served, "a route is served if it is accepted")
		})
	}
}

// TestParents: what a route asks for says which listeners it is attached to.
func TestParents(t *testing.T) {
	const gateways = `
kind: GatewayClass
metadata: {name: theirs}
spec: {controllerName: example.com/other}
---
kind: Gateway
metadata: {name: theirs, namespace: infra}
spec: {gatewayClassName: theirs, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
kind: Namespace
metadata: {name: app, labels: {team: a}}
---
kind: Gateway
metadata: {name: many, namespace: infra, creationTimestamp: "2026-01-02T00:00:00Z"}
spec:
  gatewayClassName: ours
  listeners:
  - {name: same, port: 81, protocol: HTTP}
  - {name: all, port: 82, protocol: HTTP, hostname: "*.example.com", allowedRoutes: {namespaces: {from: All}}}
  - {name: team-a, port: 83, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}}
  - {name: team-b, port: 84, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: b}}}}}
  - {name: grpc, port: 85, protocol: HTTP, allowedRoutes: {namespaces: {from: All}, kinds: [{kind: GRPCRoute}]}}
`
	for _, tt := range []struct {
		name, parent, hosts, want string
		ports                     []int32
	}{
		{"all listeners", "", "", "Accepted", []int32{82, 83}},
		{"by name", ", sectionName: all", "", "Accepted", []int32{82}},
		{"by port", ", port: 83", "", "Accepted", []int32{83}},
		{"same namespace", ", sectionName: same", "", "NotAllowedByListeners", nil},
		{"another team", ", sectionName: team-b", "", "NotAllowedByListeners", nil},
		{"another kind", ", sectionName: grpc", "", "NotAllowedByListeners", nil},
		{"no such name", ", sectionName: none", "", "NoMatchingParent", nil},
		{"host", ", sectionName: all", "a.example.com", "Accepted", []int32{82}},
		{"another host", ", sectionName: all", "example.org", "NoMatchingListenerHostname", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host := tt.hosts
			if host == "" {
				host = "a.example.com"
			} else {
				tt.hosts = "hostnames: [" + tt.hosts + "]"
			}
			table, s := routing.Build(manifests.Read(t, base, gateways, `
kind: HTTPRoute
metadata: {name: r, namespace: app}
spec:
  parentRefs: [{name: theirs, namespace: infra}, {name: many, namespace: infra`+tt.parent+`}]
  `+tt.hosts+`
  rules: [{backendRefs: [`+toPool+`]}]`), options())
			require.Len(t, s.Routes[named("app", "r")], 1, "nothing is said of others' Gateways")
			require.Equal(t, tt.want, s.Routes[named("app", "r")][0].Conditions[0].Reason)
			var ports []int32
			for port := int32(80); port < 86; port++ {
				if goes(table, port, "GET", "http://"+host) == "llama" {
					ports = append(ports, port)
				}
			}
			require.Equal(t, tt.ports, ports)
			for i, l := range s.Gateways[named("infra", "many")].Listeners {
				attached := 0
				for _, port := range tt.ports {
					if int(port) == 81+i {
						attached = 1
					}
				}
				require.EqualValues(t, attached, l.AttachedRoutes, l.Name)
			}
			require.NotContains(t, s.Gateways, named("infra", "theirs"))
		})
	}
}

// TestGatewayStatus: a Gateway is told which of its listeners are served.
func TestGatewayStatus(t *testing.T) {
	const good = "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Conflicted=False/NoConflicts Programmed=True/Programmed"
	gateway := func(rest string) string {
		return "kind: Gateway\nmetadata: {name: g, namespace: infra, creationTimestamp: '2026-01-03T00:00:00Z'}\nspec:\n  gatewayClassName: ours\n" + indent(rest)
	}
	secret := "{kind: Secret, metadata: {name: cert, namespace: infra}, type: kubernetes.io/tls, data: " + manifests.Certificate(t, "secure.example.com") + "}\n---\n" +
		"{kind: Secret, metadata: {name: bad, namespace: infra}, type: kubernetes.io/tls, data: {tls.crt: '', tls.key: ''}}\n---\n" +
		"{kind: Secret, metadata: {name: cert, namespace: other}, type: kubernetes.io/tls, data: " + manifests.Certificate(t, "secure.example.com") + "}"
	https := func(ref string) string {
		return "listeners: [{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [" + ref + "]}}]"
	}
	const refused = "Accepted=False/ListenersNotValid Programmed=False/Invalid"
	const invalid = " Conflicted=False/NoConflicts Programmed=False/Invalid"
	for _, tt := range []struct{ name, spec, gateway, listener string }{
		{"http", "listeners: [{name: l, port: 8080, protocol: HTTP}]", "Accepted=True/Accepted Programmed=True/Programmed", good},
		{"https", https("{name: cert}"), "Accepted=True/Accepted Programmed=True/Programmed", good},
		{"no such secret", https("{name: none}"), refused, "Accepted=True/Accepted ResolvedRefs=False/InvalidCertificateRef" + invalid},
		{"bad secret", https("{name: bad}"), refused, "Accepted=True/Accepted ResolvedRefs=False/InvalidCertificateRef" + invalid},
		{"another's secret", https("{name: cert, namespace: other}"), refused, "Accepted=True/Accepted ResolvedRefs=False/RefNotPermitted" + invalid},
		{"passthrough", "listeners: [{name: l, port: 443, protocol: HTTPS, tls: {mode: Passthrough}}]", refused, "Accepted=False/UnsupportedValue ResolvedRefs=True/ResolvedRefs" + invalid},
		{"client certificates", "tls: {frontend: {default: {}}}\n" + https("{name: cert}"), refused, "Accepted=False/UnsupportedValue ResolvedRefs=True/ResolvedRefs" + invalid},
		{"tcp", "listeners: [{name: l, port: 8080, protocol: TCP}]", refused, "Accepted=False/UnsupportedProtocol ResolvedRefs=True/ResolvedRefs" + invalid},
		{"host of an older one", "listeners: [{name: l, port: 80, protocol: HTTP}]", refused, "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Conflicted=True/HostnameConflict Programmed=False/Invalid"},
		{"protocol of an older one", "listeners: [{name: l, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}]", refused, "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Conflicted=True/ProtocolConflict Programmed=False/Invalid"},
		{"another host", "listeners: [{name: l, port: 80, protocol: HTTP, hostname: x.example.com}]", "Accepted=True/Accepted Programmed=True/Programmed", good},
		{"kinds", "listeners: [{name: l, port: 8080, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}]", refused, "Accepted=True/Accepted ResolvedRefs=False/InvalidRouteKinds" + invalid},
		{"its address", "addresses: [{value: 192.0.2.1}]\nlisteners: [{name: l, port: 8080, protocol: HTTP}]", "Accepted=True/Accepted Programmed=True/Programmed", good},
		{"another address", "addresses: [{value: 192.0.2.2}]\nlisteners: [{name: l, port: 8080, protocol: HTTP}]", "Accepted=False/UnsupportedAddress Programmed=False/Invalid", "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs" + invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table, s := routing.Build(manifests.Read(t, base, secret, gateway(tt.spec)), options())
			g := s.Gateways[named("infra", "g")]
			require.Equal(t, tt.gateway, said(g.Conditions))
			require.Equal(t, tt.listener, said(g.Listeners[0].Conditions))
			require.Equal(t, options().Addresses, g.Addresses)
			require.Equal(t, "Accepted=True/Accepted", said(s.Classes["ours"]))
			require.NotNil(t, table.Ports[80], "the other Gateway is served")
		})
	}
	t.Run("no address", func(t *testing.T) {
		_, s := routing.Build(manifests.Read(t, base), routing.Options{Controller: controller})
		require.Equal(t, "Accepted=True/Accepted Programmed=False/AddressNotAssigned", said(s.Gateways[named("infra", "gw")].Conditions))
	})
	t.Run("only others", func(t *testing.T) {
		o := options()
		o.Only = []types.NamespacedName{named("infra", "g")}
		table, s := routing.Build(manifests.Read(t, base), o)
		require.Empty(t, s.Gateways)
		require.Empty(t, table.Ports)
	})
}

// TestPoolStatus: a pool is told by each Gateway that has routes to it, and by none other.
func TestPoolStatus(t *testing.T) {
	const second = `
kind: Gateway
metadata: {name: second, namespace: infra}
spec: {gatewayClassName: ours, listeners: [{name: http, port: 80, protocol: HTTP, hostname: second.example.com, allowedRoutes: {namespaces: {from: All}}}]}
---
kind: Service
metadata: {name: epp, namespace: app}
spec: {ports: [{port: 9002, name: grpc}]}
---
kind: EndpointSlice
metadata: {name: epp-1, namespace: app, labels: {kubernetes.io/service-name: epp}}
addressType: IPv4
ports: [{name: grpc, port: 9999}, {name: other, port: 1}]
endpoints:
- {addresses: [10.0.0.2]}
- {addresses: [10.0.0.1], conditions: {ready: true}}
- {addresses: [10.0.0.3], conditions: {ready: false}}
`
	toSecond := `
kind: HTTPRoute
metadata: {name: second, namespace: app}
spec:
  parentRefs: [{name: second, namespace: infra}]
  rules: [{backendRefs: [` + toPool + `]}]`
	llama := routing.PoolKey{Group: routing.PoolGroup, Name: named("app", "llama")}
	first := route("first", "rules: [{backendRefs: ["+toPool+"]}]")
	unsupported := route("first", "rules: [{retry: {}, backendRefs: ["+toPool+"]}]")
	for _, tt := range []struct {
		name   string
		routes []string
		want   map[string]string
	}{
		{"none", nil, map[string]string{}},
		{"one", []string{first}, map[string]string{"gw": "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs"}},
		{"two", []string{first, toSecond}, map[string]string{
			"gw": "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs", "second": "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs",
		}},
		{"refused", []string{unsupported, toSecond}, map[string]string{
			"gw": "Accepted=False/HTTPRouteNotAccepted ResolvedRefs=True/ResolvedRefs", "second": "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, s := routing.Build(manifests.Read(t, append([]string{base, second}, tt.routes...)...), options())
			got := map[string]string{}
			for _, p := range s.Pools[llama] {
				got[p.Gateway.Name] = said(p.Conditions)
				require.EqualValues(t, 7, p.Conditions[0].ObservedGeneration)
			}
			require.Equal(t, tt.want, got)
		})
	}

	pool := func(ref string) string {
		return "kind: InferencePool\nmetadata: {name: asking, namespace: app}\nspec: {selector: {matchLabels: {app: a}}, targetPorts: [{number: 8000}], endpointPickerRef: {" + ref + "}}"
	}
	asking := route("asking", "rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: asking}]}]")
	for _, tt := range []struct {
		name, ref, want, problem string
		addresses                []string
	}{
		{"picker", "name: epp, port: {number: 9002}", "ResolvedRefs", "", []string{"10.0.0.1:9999", "10.0.0.2:9999"}},
		{"no such port", "name: epp, port: {number: 9003}", "InvalidExtensionRef", "endpointPickerRef: Service app/epp has no port 9003", nil},
		{"no such service", "name: none, port: {number: 9002}", "InvalidExtensionRef", "endpointPickerRef: there is no Service app/none", nil},
		{"another kind", "kind: Pod, name: epp", "InvalidExtensionRef", "endpointPickerRef: /Pod is not supported: Service is", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := manifests.Read(t, base, second, pool(tt.ref), asking)
			table, s := routing.Build(o, options())
			parents := s.Pools[routing.PoolKey{Group: routing.PoolGroup, Name: named("app", "asking")}]
			require.Len(t, parents, 1)
			require.Equal(t, tt.want, parents[0].Conditions[1].Reason)
			b := backend(t, table)
			require.Equal(t, tt.problem, b.Pool.NoPicker)
			require.Equal(t, tt.addresses, b.Pool.Picker.Addresses)
			require.False(t, b.Pool.Picker.FailOpen)

			own := options()
			own.OwnPicker = true
			table, _ = routing.Build(o, own)
			require.Nil(t, backend(t, table).Pool.Picker)
		})
	}
}
