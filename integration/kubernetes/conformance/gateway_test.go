package conformance

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// TestGateway judges the gateway of examples/kubernetes, by the names of the suite's cases.
func TestGateway(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name string
		run  func(*rig)
	}{
		{"GatewayIsProgrammed", (*rig).gatewayIsProgrammed},
		{"InferencePoolAccepted", (*rig).poolAccepted},
		{"InferencePoolResolvedRefsCondition", (*rig).poolResolvedRefs},
		{"HTTPRouteMultipleGatewaysDifferentPools", (*rig).multipleGateways},
		{"HTTPRouteMultipleRulesDifferentPools", (*rig).multipleRules},
		{"InferencePoolInvalidEPPService", (*rig).invalidEPPService},
		{"InferencePoolMissingEPPRef", (*rig).missingEPPRef},
		{"HTTPRouteInvalidInferencePoolRef", (*rig).invalidPoolRef},
		{"InferencePoolHTTPRoutePortValidation", (*rig).portValidation},
		{"GatewayWeightedAcrossTwoInferencePools", (*rig).weighted},
		{"InferencePoolAppProtocol", (*rig).appProtocol},
		{"EppUnAvailableFailOpen", (*rig).failOpen},
		{"GatewayFollowingEPPRouting", (*rig).followsEPP},
		{"GatewayFollowingEPPRoutingWithDataParallelism", (*rig).followsEPPByPort},
		{"GatewayDestinationEndpointServed", (*rig).tellsWhoServed},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := *r
			sub.T = t
			c.run(&sub)
		})
	}
}

// apply applies objects until the case ends.
func (r *rig) apply(text string) {
	r.Helper()
	r.Apply(r.T, "", text)
	r.Cleanup(func() { r.Delete(detached{r.T}, "", text) })
}

// detached is a test whose context is not done when it cleans up.
type detached struct{ testing.TB }

func (detached) Context() context.Context { return context.Background() }

func (r *rig) gatewayIsProgrammed() {
	cluster.Eventually(r, limit, func() error {
		if got := said(r.status(gatewayClasses, "", "inferpick")["conditions"]); got != "Accepted=True/Accepted" {
			return fmt.Errorf("the class says %s", got)
		}
		for _, name := range []string{"conformance-primary", "conformance-secondary"} {
			s := r.status(gateways, infra, name)
			if got := said(s["conditions"]); got != "Accepted=True/Accepted Programmed=True/Programmed" {
				return fmt.Errorf("Gateway %s says %s", name, got)
			}
			require.Equal(r, []any{map[string]any{"type": "IPAddress", "value": r.host}}, s["addresses"])
		}
		return nil
	})
}

func (r *rig) poolAccepted() {
	r.apply(route("accepted", "primary", "rules: ["+toPool("/accepted-pool-test", "primary")+"]"))
	r.parents(httpRoutes, "accepted", map[string]string{"primary": good})
	r.parents(inferencePools, "primary", map[string]string{"primary": good})
	r.serves(request{Path: "/accepted-pool-test"}, 200, "primary")
}

func (r *rig) poolResolvedRefs() {
	first := route("first", "primary", "rules: ["+toPool("/primary-gateway-test", "primary")+"]")
	second := route("second", "secondary", "hostnames: [secondary.example.com]\nrules: ["+toPool("/secondary-gateway-test", "primary")+"]")
	r.apply(first)
	r.apply(second)
	toFirst := request{Path: "/primary-gateway-test"}
	toSecond := request{Host: "secondary.example.com", Path: "/secondary-gateway-test"}
	r.parents(inferencePools, "primary", map[string]string{"primary": good, "secondary": good})
	r.serves(toFirst, 200, "primary")
	r.serves(toSecond, 200, "primary")

	r.Delete(r.T, "", first)
	r.parents(inferencePools, "primary", map[string]string{"secondary": good})
	r.serves(toSecond, 200, "primary")
	r.serves(toFirst, 404, "")

	r.Delete(r.T, "", second)
	r.parents(inferencePools, "primary", map[string]string{})
	r.serves(toSecond, 404, "")
}

func (r *rig) multipleGateways() {
	r.apply(route("to-primary", "primary", "hostnames: [primary.example.com]\nrules: ["+toPool("/test-primary-gateway", "primary")+"]"))
	r.apply(route("to-secondary", "secondary", "hostnames: [secondary.example.com]\nrules: ["+toPool("/test-secondary-gateway", "secondary")+"]"))
	r.parents(inferencePools, "primary", map[string]string{"primary": good})
	r.parents(inferencePools, "secondary", map[string]string{"secondary": good})
	r.serves(request{Path: "/test-primary-gateway"}, 200, "primary")
	r.serves(request{Host: "secondary.example.com", Path: "/test-secondary-gateway"}, 200, "secondary")
	r.serves(request{Host: "secondary.example.com", Path: "/test-primary-gateway"}, 404, "")
}

func (r *rig) multipleRules() {
	r.apply(route("rules", "primary", "rules: ["+toPool("/primary", "primary")+", "+toPool("/secondary", "secondary")+"]"))
	r.parents(httpRoutes, "rules", map[string]string{"primary": good})
	r.parents(inferencePools, "primary", map[string]string{"primary": good})
	r.parents(inferencePools, "secondary", map[string]string{"primary": good})
	r.serves(request{Path: "/primary"}, 200, "primary")
	r.serves(request{Path: "/secondary"}, 200, "secondary")
}

func (r *rig) invalidEPPService() {
	r.apply(pool("invalid-epp", "primary", "endpointPickerRef: {name: non-existent, port: {number: 9002}}"))
	r.apply(route("invalid-epp", "primary", "rules: ["+toPool("/invalid-epp-test", "invalid-epp")+"]"))
	r.parents(httpRoutes, "invalid-epp", map[string]string{"primary": good})
	r.parents(inferencePools, "invalid-epp", map[string]string{"primary": noSuchEPP})
	r.serves(request{Path: "/invalid-epp-test"}, 503, "")
}

// missingEPPRef: the gateway picks itself, so the pool is accepted.
func (r *rig) missingEPPRef() {
	r.apply(pool("missing-epp", "primary", ""))
	r.apply(route("missing-epp", "primary", "rules: ["+toPool("/missing-epp-test", "missing-epp")+"]"))
	r.parents(httpRoutes, "missing-epp", map[string]string{"primary": good})
	r.parents(inferencePools, "missing-epp", map[string]string{"primary": good})
	r.serves(request{Path: "/missing-epp-test"}, 200, "primary")
}

func (r *rig) invalidPoolRef() {
	r.apply(route("invalid-pool", "primary", "rules: ["+toPool("/invalid-pool-test", "non-existent")+"]"))
	r.parents(httpRoutes, "invalid-pool", map[string]string{"primary": notFound})
	r.serves(request{Path: "/invalid-pool-test"}, 500, "")
}

func (r *rig) portValidation() {
	for name, port := range map[string]string{"absent": "", "equal": ", port: 3000", "different": ", port: 8888"} {
		ref := "{group: inference.networking.k8s.io, kind: InferencePool, name: primary" + port + "}"
		r.apply(route("port-"+name, "primary", "rules: [{matches: [{path: {value: /port-"+name+"}}], backendRefs: ["+ref+"]}]"))
		r.parents(httpRoutes, "port-"+name, map[string]string{"primary": good})
		r.serves(request{Path: "/port-" + name}, 200, "primary")
	}
}

func (r *rig) weighted() {
	weighted := "{matches: [{path: {value: /weighted-two-pools-test}}], backendRefs: [" +
		"{group: inference.networking.k8s.io, kind: InferencePool, name: primary, weight: 70}, {group: inference.networking.k8s.io, kind: InferencePool, name: secondary, weight: 30}]}"
	r.apply(route("weighted", "primary", "rules: ["+weighted+"]"))
	q := request{Path: "/weighted-two-pools-test", Body: `{"model": "conformance-fake-model", "prompt": "Write as if you were a critic: San Francisco"}`}
	r.parents(httpRoutes, "weighted", map[string]string{"primary": good})
	cluster.Eventually(r, limit, func() error {
		a, err := r.do(q)
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("%d: %s", a.Status, a.Text)
		}
		return err
	})
	count := r.spread(q, 200, 5, func(a answer) string { return a.Echo.Group })
	require.InDelta(r, 140, count["primary"], 4)
	require.Equal(r, 200, count["primary"]+count["secondary"], "%v", count)
	r.Logf("of 200 requests %v", count)
}

// spread sends requests, several at a time, and counts the answers.
func (r *rig) spread(q request, requests, workers int, key func(answer) string) map[string]int {
	r.Helper()
	var mu sync.Mutex
	count := make(map[string]int)
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for next.Add(1) <= int64(requests) {
				a, err := r.do(q)
				name := fmt.Sprintf("%d %s %v", a.Status, a.Text, err)
				if err == nil && a.Status == 200 {
					name = key(a)
				}
				mu.Lock()
				count[name]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return count
}

func (r *rig) appProtocol() {
	r.servers("appprotocol", 3000, 3001)
	for _, p := range []struct{ name, spec, proto string }{
		{"default", "targetPorts: [{number: 3000}]", "HTTP/1.1"},
		{"http", "targetPorts: [{number: 3000}], appProtocol: http", "HTTP/1.1"},
		{"h2c", "targetPorts: [{number: 3001}], appProtocol: kubernetes.io/h2c", "HTTP/2.0"},
	} {
		r.apply("apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: protocol-" + p.name + ", namespace: conformance-app}\n" +
			"spec: {selector: {matchLabels: {app: appprotocol}}, " + p.spec + "}")
		r.apply(route("protocol-"+p.name, "primary", "rules: ["+toPool("/protocol-"+p.name, "protocol-"+p.name)+"]"))
		r.parents(httpRoutes, "protocol-"+p.name, map[string]string{"primary": good})
		a := r.serves(request{Path: "/protocol-" + p.name}, 200, "appprotocol")
		require.Equal(r, p.proto, a.Echo.Proto)
	}
}

// pool is an InferencePool of a group of servers.
func pool(name, group, rest string) string {
	ports := "targetPorts: [{number: 3000}]"
	if group == "dp" {
		ports = "targetPorts: [{number: 3000}, {number: 3002}, {number: 3004}]"
	}
	if rest != "" {
		rest = ", " + rest
	}
	return "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: " + name + ", namespace: conformance-app}\n" +
		"spec: {selector: {matchLabels: {app: " + group + "}}, " + ports + rest + "}"
}
