package routing_test

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/kubernetes/internal/manifests"
	"github.com/inferpick/inferpick/examples/kubernetes/routing"
)

// TestMatch: the most specific rule gets a request.
func TestMatch(t *testing.T) {
	services := ""
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "k", "l"} {
		services += "---\n{kind: Service, metadata: {name: " + name + ", namespace: app}, spec: {ports: [{port: 80}]}}\n"
	}
	table, _ := routing.Build(manifests.Read(t, base, services,
		route("paths", `
hostnames: [paths.example.com]
rules:
- {matches: [{path: {value: /}}], backendRefs: [{name: a, port: 80}]}
- {matches: [{path: {value: /v1}}], backendRefs: [{name: b, port: 80}]}
- {matches: [{path: {value: /v1/chat/}}], backendRefs: [{name: c, port: 80}]}
- {matches: [{path: {type: Exact, value: /v1/chat}}], backendRefs: [{name: d, port: 80}]}
- {matches: [{path: {type: RegularExpression, value: "/v1/[0-9]+"}}], backendRefs: [{name: e, port: 80}]}
- {matches: [{path: {value: /v1}, method: PUT}], backendRefs: [{name: f, port: 80}]}
- {matches: [{path: {value: /v1}, headers: [{name: x-Tier, value: gold}]}], backendRefs: [{name: g, port: 80}]}
- {matches: [{path: {value: /v1}, queryParams: [{name: q, value: "1"}]}], backendRefs: [{name: h, port: 80}]}
- {matches: [{path: {value: /v1}, headers: [{name: x-tier, value: gold}, {name: x-n, type: RegularExpression, value: "\\d"}]}], backendRefs: [{name: i, port: 80}]}`),
		route("wild", `
hostnames: ["*.example.com"]
rules: [{backendRefs: [{name: k, port: 80}]}]`),
		route("any", `
rules: [{matches: [{path: {value: /any}}], backendRefs: [{name: l, port: 80}]}]`)), options())

	for _, tt := range []struct {
		method, url string
		header      []string
		want        string
	}{
		{"GET", "http://paths.example.com/", nil, "a"},
		{"GET", "http://paths.example.com/v1x", nil, "a"},
		{"GET", "http://PATHS.example.com.:8080/v1", nil, "b"},
		{"GET", "http://paths.example.com/v1/", nil, "b"},
		{"GET", "http://paths.example.com/v1/chat/completions", nil, "c"},
		{"GET", "http://paths.example.com/v1/chat/", nil, "c"},
		{"GET", "http://paths.example.com/v1/chat", nil, "d"},
		{"GET", "http://paths.example.com/v1/17", nil, "e"},
		{"GET", "http://paths.example.com/v1/17a", nil, "b"},
		{"PUT", "http://paths.example.com/v1/x", nil, "f"},
		{"PUT", "http://paths.example.com/v1/x", []string{"X-Tier", "gold"}, "f"},
		{"GET", "http://paths.example.com/v1/x", []string{"X-Tier", "gold"}, "g"},
		{"GET", "http://paths.example.com/v1/x", []string{"X-Tier", "golden"}, "b"},
		{"GET", "http://paths.example.com/v1/x?q=1", nil, "h"},
		{"GET", "http://paths.example.com/v1/x?q=1", []string{"X-Tier", "gold"}, "g"},
		{"GET", "http://paths.example.com/v1/x", []string{"X-Tier", "gold", "X-N", "3"}, "i"},
		{"GET", "http://paths.example.com/v1/x", []string{"X-Tier", "gold", "X-N", "33"}, "g"},
		{"GET", "http://other.example.com/v1", nil, "k"},
		{"GET", "http://a.b.example.com/v1", nil, "k"},
		{"GET", "http://example.com/v1", nil, ""},
		{"GET", "http://example.com/any/thing", nil, "l"},
		{"GET", "http://paths.example.com/any", nil, "a"},
		{"GET", "http://[::1]:80/any", nil, "l"},
	} {
		require.Equal(t, tt.want, goes(table, 80, tt.method, tt.url, tt.header...), "%s %s %v", tt.method, tt.url, tt.header)
	}
}

// TestNamesPath: what clients may ask servers for beyond their APIs is what a route names, not
// what a route for more lets through.
func TestNamesPath(t *testing.T) {
	table, _ := routing.Build(manifests.Read(t, base, route("r", `
rules:
- {matches: [{path: {value: /}}], backendRefs: [`+toPool+`]}
- {matches: [{path: {value: /v1}}], backendRefs: [`+toPool+`]}
- {matches: [{path: {value: /team/v2/}}], backendRefs: [`+toPool+`]}
- {matches: [{path: {value: /special}}], backendRefs: [`+toPool+`]}
- {matches: [{path: {type: Exact, value: /v1/load}}], backendRefs: [`+toPool+`]}
- matches: [{path: {value: /llama}}]
  filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
  backendRefs: [`+toPool+`]`)), options())
	for path, want := range map[string]bool{
		"/sleep": false, "/v1/unload": false, "/team/v2/x": false, "/special/x": true, "/v1/load": true, "/llama/sleep": false,
	} {
		r := httptest.NewRequest("GET", path, nil)
		m, ok := table.Ports[80].Listener(r.Host).Match(r)
		require.True(t, ok)
		require.Equal(t, want, m.NamesPath(), path)
	}
}

// TestWeights: requests are spread by weight, and evenly so.
func TestWeights(t *testing.T) {
	table, s := routing.Build(manifests.Read(t, base, `
kind: InferencePool
metadata: {name: other, namespace: app}
spec: {selector: {matchLabels: {app: other}}, targetPorts: [{number: 8000}]}
`, route("r", `
rules:
- matches: [{path: {value: /two}}]
  backendRefs:
  - {group: inference.networking.k8s.io, kind: InferencePool, name: llama, weight: 70}
  - {group: inference.networking.k8s.io, kind: InferencePool, name: other, weight: 30}
- matches: [{path: {value: /half-missing}}]
  backendRefs:
  - {group: inference.networking.k8s.io, kind: InferencePool, name: llama}
  - {group: inference.networking.k8s.io, kind: InferencePool, name: missing}
- matches: [{path: {value: /off}}]
  backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: llama, weight: 0}]`)), options())
	for from := range 10 {
		count := map[string]int{}
		for range 100 {
			count[goes(table, 80, "POST", "/two")]++
		}
		require.InDelta(t, 70, count["llama"], 2, "from %d", from)
		require.Equal(t, 100, count["llama"]+count["other"])
	}
	count := map[string]int{}
	for range 100 {
		count[goes(table, 80, "POST", "/half-missing")]++
	}
	require.InDelta(t, 50, count["llama"], 2)
	require.InDelta(t, 50, count["!there is no InferencePool app/missing of group inference.networking.k8s.io"], 2)
	require.Equal(t, "!no backend", goes(table, 80, "POST", "/off"))
	require.Equal(t, "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound", said(s.Routes[named("app", "r")][0].Conditions))
}

// TestFilters: redirects and rewrites.
func TestFilters(t *testing.T) {
	filter := func(path, filter string) string {
		return "- matches: [{path: {value: " + path + "}}]\n  filters: [" + filter + "]\n"
	}
	table, _ := routing.Build(manifests.Read(t, base, route("r", `
rules:
`+filter("/https", "{type: RequestRedirect, requestRedirect: {scheme: https}}")+
		filter("/host", "{type: RequestRedirect, requestRedirect: {hostname: other.example.com, statusCode: 301}}")+
		filter("/port", "{type: RequestRedirect, requestRedirect: {port: 8443}}")+
		filter("/prefix/", "{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}}}")+
		filter("/full", "{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /one}}}")+
		filter("/cut", "{type: URLRewrite, urlRewrite: {hostname: in.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}")+
		filter("/head", "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: '1'}], add: [{name: b, value: '2'}], remove: [c]}}"))), options())
	for url, want := range map[string]string{
		"http://x.example.com/https?q=1":  "-> https://x.example.com/https?q=1",
		"http://x.example.com/host":       "-> http://other.example.com/host",
		"http://x.example.com:80/port":    "-> http://x.example.com:8443/port",
		"http://x.example.com/prefix/a":   "-> http://x.example.com/new/a",
		"http://x.example.com/prefix":     "-> http://x.example.com/new",
		"http://x.example.com/full/a?q=1": "-> http://x.example.com/one?q=1",
	} {
		require.Equal(t, want, goes(table, 80, "GET", url), url)
	}
	for path, want := range map[string]string{"/cut/v1/models": "/v1/models", "/cut": "/", "/cut/": "/"} {
		r := httptest.NewRequest("GET", path, nil)
		m, ok := table.Ports[80].Listener(r.Host).Match(r)
		require.True(t, ok)
		m.Rewrite.Apply(r, m)
		require.Equal(t, want, r.URL.Path)
		require.Equal(t, "in.example.com", r.Host)
	}
	r := httptest.NewRequest("GET", "/head", nil)
	r.Header = map[string][]string{"A": {"0"}, "B": {"0"}, "C": {"0"}}
	m, _ := table.Ports[80].Listener(r.Host).Match(r)
	m.Request.Apply(r.Header)
	require.Equal(t, map[string][]string{"A": {"1"}, "B": {"0", "2"}}, map[string][]string(r.Header))
}
