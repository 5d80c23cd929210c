package status

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/types"
)

const ours = "inferpick.io/gateway"

var now = metav1.NewTime(time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC))

func read(t testing.TB, text string) fields {
	t.Helper()
	m := fields{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &m))
	return normal(m).(fields)
}

// normal makes numbers of YAML those of the API server.
func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			v[name] = normal(value)
		}
	case []any:
		for i, value := range v {
			v[i] = normal(value)
		}
	case float64:
		return int64(v)
	}
	return v
}

func accepted(reason string) []metav1.Condition {
	status := metav1.ConditionFalse
	if reason == "Accepted" {
		status = metav1.ConditionTrue
	}
	return []metav1.Condition{{Type: "Accepted", Status: status, Reason: reason, ObservedGeneration: 2}}
}

func condition(status, reason, since string) string {
	return "{type: Accepted, status: '" + status + "', reason: " + reason + ", message: '', observedGeneration: 2, lastTransitionTime: '" + since + "'}"
}

const (
	before = "2026-01-01T00:00:00Z"
	today  = "2026-02-01T00:00:00Z"
)

// TestMergeConditions: what stays the same keeps its time, what is others' stays.
func TestMergeConditions(t *testing.T) {
	for _, tt := range []struct{ name, have, reason, want string }{
		{"new", "[]", "Accepted", "[" + condition("True", "Accepted", today) + "]"},
		{"same", "[" + condition("True", "Accepted", before) + "]", "Accepted", "[" + condition("True", "Accepted", before) + "]"},
		{"other reason", "[" + condition("False", "Pending", before) + "]", "NotSupported", "[" + condition("False", "NotSupported", before) + "]"},
		{"other status", "[" + condition("False", "Pending", before) + "]", "Accepted", "[" + condition("True", "Accepted", today) + "]"},
		{"another's", "[{type: Other, status: 'True'}]", "Accepted", "[{type: Other, status: 'True'}, " + condition("True", "Accepted", today) + "]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			have := read(t, "conditions: "+tt.have)
			got := mergeClass(have, accepted(tt.reason), now)
			require.Empty(t, cmp.Diff(read(t, "conditions: "+tt.want), got))
			require.Empty(t, cmp.Diff(read(t, "conditions: "+tt.have), have), "what is cached is not changed")
			require.Empty(t, cmp.Diff(got, mergeClass(got, accepted(tt.reason), metav1.Now())), "it is written once")
		})
	}
}

// TestMergePool: entries of other controllers stay as they are, also where they do not name
// themselves.
func TestMergePool(t *testing.T) {
	entry := func(controller, gateway, status, reason, since string) string {
		if controller != "" {
			controller = "controllerName: " + controller + ", "
		}
		return "{" + controller + "parentRef: {group: gateway.networking.k8s.io, kind: Gateway, namespace: infra, name: " + gateway + "}, conditions: [" + condition(status, reason, since) + "]}"
	}
	const theirs = "{controllerName: example.com/other, parentRef: {name: other}, conditions: [], extra: {kept: true}}"
	const none = "{parentRef: {kind: Status, name: default}, conditions: [{type: Accepted, status: Unknown, reason: Pending, message: Waiting for controller, lastTransitionTime: '1970-01-01T00:00:00Z'}]}"
	imported := "{parentRef: {kind: InferencePoolImport, name: x}, conditions: []}"
	for _, tt := range []struct {
		name       string
		alpha      bool
		have, want string
		gateways   []string
	}{
		{"first", false, "{}", "parents: [" + entry(ours, "gw", "True", "Accepted", today) + "]", []string{"gw"}},
		{"same", false, "parents: [" + entry(ours, "gw", "True", "Accepted", before) + "]", "parents: [" + entry(ours, "gw", "True", "Accepted", before) + "]", []string{"gw"}},
		{"last", false, "parents: [" + entry(ours, "gw", "True", "Accepted", before) + "]", "{}", nil},
		{"beside others", false, "parents: [" + theirs + "]", "parents: [" + theirs + ", " + entry(ours, "gw", "True", "Accepted", today) + "]", []string{"gw"}},
		{"others stay", false, "parents: [" + theirs + ", " + entry(ours, "gw", "True", "Accepted", before) + "]", "parents: [" + theirs + "]", nil},
		{"never ours", false, "parents: [" + theirs + "]", "parents: [" + theirs + "]", nil},
		{"alpha: the default goes", true, "parent: [" + none + "]", "parent: [" + entry("", "gw", "True", "Accepted", today) + "]", []string{"gw"}},
		{"alpha: the default comes back", true, "parent: [" + entry("", "gw", "True", "Accepted", before) + "]", "parent: [" + none + "]", nil},
		{"alpha: the default stays", true, "parent: [" + none + "]", "parent: [" + none + "]", nil},
		{"alpha: another's Gateway", true, "parent: [" + entry("", "foreign", "True", "Accepted", before) + ", " + imported + "]",
			"parent: [" + entry("", "foreign", "True", "Accepted", before) + ", " + imported + ", " + entry("", "gw", "True", "Accepted", today) + "]", []string{"gw"}},
		{"alpha: a Gateway that is gone", true, "parent: [" + entry("", "gone", "True", "Accepted", before) + "]", "parent: [" + none + "]", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key := routing.PoolKey{Group: routing.PoolGroup}
			if tt.alpha {
				key.Group = routing.PoolGroupAlpha
			}
			var want []routing.PoolParent
			for _, g := range tt.gateways {
				want = append(want, routing.PoolParent{Gateway: types.NamespacedName{Namespace: "infra", Name: g}, Conditions: accepted("Accepted")})
			}
			foreign := func(g types.NamespacedName) bool { return g.Name == "foreign" }
			got := mergePool(read(t, tt.have), key, want, ours, foreign, now)
			require.Empty(t, cmp.Diff(read(t, tt.want), got))
			require.Empty(t, cmp.Diff(got, mergePool(got, key, want, ours, foreign, metav1.Now())), "it is written once")
		})
	}
}

// TestMergeRoute: what other controllers say stays; a route that was never ours is not touched.
func TestMergeRoute(t *testing.T) {
	const theirs = "{controllerName: example.com/other, parentRef: {name: other}, conditions: []}"
	mine := "{controllerName: " + ours + ", parentRef: {name: gw}, conditions: [" + condition("True", "Accepted", before) + "]}"
	parents := []gatewayv1.RouteParentStatus{{ParentRef: gatewayv1.ParentReference{Name: "gw"}, ControllerName: ours, Conditions: accepted("Accepted")}}
	for _, tt := range []struct {
		name, have, want string
		parents          []gatewayv1.RouteParentStatus
	}{
		{"same", "parents: [" + theirs + ", " + mine + "]", "parents: [" + theirs + ", " + mine + "]", parents},
		{"no longer", "parents: [" + theirs + ", " + mine + "]", "parents: [" + theirs + "]", nil},
		{"the last", "parents: [" + mine + "]", "parents: []", nil},
		{"never", "parents: [" + theirs + "]", "parents: [" + theirs + "]", nil},
		{"nothing", "{}", "{}", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Empty(t, cmp.Diff(read(t, tt.want), mergeRoute(read(t, tt.have), tt.parents, ours, now)))
		})
	}
}

// TestMergeGateway: a listener keeps its times by its name, and one that is gone goes.
func TestMergeGateway(t *testing.T) {
	have := read(t, "listeners: [{name: a, attachedRoutes: 1, supportedKinds: [], conditions: ["+condition("True", "Accepted", before)+"]}, {name: gone, conditions: []}]\nconditions: [{type: Ready, status: 'True'}]")
	ip := gatewayv1.IPAddressType
	got := mergeGateway(have, gatewayv1.GatewayStatus{
		Addresses: []gatewayv1.GatewayStatusAddress{{Type: &ip, Value: "192.0.2.1"}}, Conditions: accepted("Accepted"),
		Listeners: []gatewayv1.ListenerStatus{{Name: "a", AttachedRoutes: 2, SupportedKinds: []gatewayv1.RouteGroupKind{}, Conditions: accepted("Accepted")}},
	}, now)
	require.Empty(t, cmp.Diff(read(t, "addresses: [{type: IPAddress, value: 192.0.2.1}]\nlisteners: [{name: a, attachedRoutes: 2, supportedKinds: [], conditions: ["+
		condition("True", "Accepted", before)+"]}]\nconditions: [{type: Ready, status: 'True'}, "+condition("True", "Accepted", today)+"]"), got))
}
