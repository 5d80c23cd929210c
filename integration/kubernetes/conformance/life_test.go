package conformance

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// TestLife is what the suite does not ask: other objects than its own, and an API server that
// is not always there.
func TestLife(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name string
		run  func(*rig)
	}{
		{"PoolOfV1alpha2", (*rig).poolOfV1alpha2},
		{"ServiceBesidePool", (*rig).serviceBesidePool},
		{"PodsComeAndGo", (*rig).podsComeAndGo},
		{"DefinitionsComeAndGo", (*rig).definitionsComeAndGo},
		{"APIServerAway", (*rig).apiServerAway},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := *r
			sub.T = t
			c.run(&sub)
		})
	}
}

// poolOfV1alpha2: the entry that stands for none goes, and comes back.
func (r *rig) poolOfV1alpha2() {
	alpha := schema.GroupVersionResource{Group: "inference.networking.x-k8s.io", Version: "v1alpha2", Resource: "inferencepools"}
	r.apply("apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferencePool\nmetadata: {name: old, namespace: conformance-app}\n" +
		"spec: {selector: {app: primary}, targetPortNumber: 3000, extensionRef: {name: none, failureMode: FailOpen}}")
	parent := func() string {
		list, _ := r.status(alpha, backend, "old")["parent"].([]any)
		if len(list) != 1 {
			return fmt.Sprint(list)
		}
		entry := list[0].(map[string]any)
		return fmt.Sprint(entry["parentRef"].(map[string]any)["kind"], " ", said(entry["conditions"]))
	}
	require.Equal(r, "Status Accepted=Unknown/Pending", parent())
	text := route("old", "primary", "rules: [{matches: [{path: {value: /old}}], backendRefs: [{group: inference.networking.x-k8s.io, kind: InferencePool, name: old}]}]")
	r.apply(text)
	waits := func(want string) {
		cluster.Eventually(r, limit, func() error {
			if got := parent(); got != want {
				return fmt.Errorf("the parent is %s, want %s", got, want)
			}
			return nil
		})
	}
	waits("Gateway " + noSuchEPP)
	r.serves(request{Path: "/old"}, 200, "primary") // its picker is missing, and it fails open
	r.Delete(r.T, "", text)
	waits("Status Accepted=Unknown/Pending")
}

// serviceBesidePool: a canary of plain HTTP, in a namespace that allows it.
func (r *rig) serviceBesidePool() {
	l, err := net.Listen("tcp", net.JoinHostPort(address(r), "0"))
	require.NoError(r, err)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"Group": "web"}`) }))
	web.Listener.Close()
	web.Listener = l
	web.Start()
	r.Cleanup(web.Close)
	host, port, _ := net.SplitHostPort(l.Addr().String())
	r.apply(`
apiVersion: v1
kind: Service
metadata: {name: web, namespace: conformance-infra}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: conformance-infra, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: ` + port + `}]
endpoints: [{addresses: [` + host + `], conditions: {ready: true}}]`)
	r.apply(route("mixed", "primary", "rules: [{matches: [{path: {value: /mixed}}], backendRefs: ["+pools("primary")+", {name: web, namespace: conformance-infra, port: 80}]}]"))
	r.parents(httpRoutes, "mixed", map[string]string{"primary": "Accepted=True/Accepted ResolvedRefs=False/RefNotPermitted"})
	r.apply(`
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: web, namespace: conformance-infra}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: conformance-app}]
  to: [{group: "", kind: Service}]`)
	r.parents(httpRoutes, "mixed", map[string]string{"primary": good})
	count := r.spread(request{Path: "/mixed"}, 100, 5, func(a answer) string { return a.Echo.Group })
	require.InDelta(r, 50, count["web"], 3, "%v", count)
	require.Equal(r, 100, count["web"]+count["primary"], "%v", count)
}

// podsComeAndGo: under load no request is lost by a pod that terminates as it should.
func (r *rig) podsComeAndGo() {
	r.apply(route("life", "primary", "rules: ["+toPool("/life", "secondary")+"]"))
	r.serves(request{Path: "/life"}, 200, "secondary")
	counts := make(chan map[string]int)
	go func() {
		counts <- r.spread(request{Path: "/life"}, 3000, 4, func(a answer) string { return a.Echo.Pod })
	}()
	r.servers("secondary", 3000)
	for _, p := range r.pods["secondary"][:2] {
		require.NoError(r, p.Terminate(r.Context(), 500*time.Millisecond))
	}
	count := <-counts
	total := 0
	for pod, n := range count {
		require.Regexp(r, `^secondary-\d$`, pod)
		total += n
	}
	require.Equal(r, 3000, total)
	r.Logf("%v", count)
}

// definitionsComeAndGo: without the definition of a kind the rest is served, and the kind again
// when that is back.
func (r *rig) definitionsComeAndGo() {
	r.apply(route("crds", "primary", "rules: ["+toPool("/crds", "primary")+"]"))
	r.serves(request{Path: "/crds"}, 200, "primary")
	r.RemoveCRD(r.T, "referencegrants.gateway.networking.k8s.io")
	r.serves(request{Path: "/crds"}, 200, "primary")
	r.apply(route("later", "primary", "rules: ["+toPool("/later", "primary")+"]"))
	r.serves(request{Path: "/later"}, 200, "primary")
}

// apiServerAway: what is known goes on being served, and what has changed meanwhile is seen
// when the server is back.
func (r *rig) apiServerAway() {
	text := route("away", "primary", "rules: ["+toPool("/away", "primary")+"]")
	r.apply(text)
	r.serves(request{Path: "/away"}, 200, "primary")
	r.Kill(r.T)
	count := r.spread(request{Path: "/away"}, 300, 3, func(a answer) string { return a.Echo.Group })
	require.Equal(r, map[string]int{"primary": 300}, count)
	r.Restart(r.T)
	r.apply(route("back", "primary", "rules: ["+toPool("/back", "primary")+"]"))
	r.serves(request{Path: "/back"}, 200, "primary")
	r.parents(httpRoutes, "back", map[string]string{"primary": good})
}
