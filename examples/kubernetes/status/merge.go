// Package status writes what a routing.Status says into the status of objects: only what has
// changed, and only what is this gateway's.
package status

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/types"
)

// fields are those of an object's status, as the API server has them.
type fields = map[string]any

// mergeConditions returns the conditions of a list with those wanted among them. A condition
// keeps its time as long as its status is the same. Those of other types stay.
func mergeConditions(have any, want []metav1.Condition, now metav1.Time) []any {
	list, _ := have.([]any)
	list = slices.Clone(list)
	for _, c := range want {
		c.LastTransitionTime = now
		i := slices.IndexFunc(list, func(v any) bool { return value(v, "type") == c.Type })
		if i < 0 {
			list = append(list, plain(c))
			continue
		}
		next := plain(c)
		if value(list[i], "status") == string(c.Status) {
			next["lastTransitionTime"] = value(list[i], "lastTransitionTime")
		}
		list[i] = next
	}
	return list
}

// mergeClass returns the status of a GatewayClass.
func mergeClass(have fields, want []metav1.Condition, now metav1.Time) fields {
	return with(have, "conditions", mergeConditions(have["conditions"], want, now))
}

// mergeGateway returns the status of a Gateway. Its listeners and addresses are all of this
// gateway.
func mergeGateway(have fields, want gatewayv1.GatewayStatus, now metav1.Time) fields {
	next := with(have, "conditions", mergeConditions(have["conditions"], want.Conditions, now))
	old, _ := have["listeners"].([]any)
	listeners := []any{}
	for _, l := range want.Listeners {
		listener := plain(l)
		before := find(old, func(v fields) bool { return v["name"] == string(l.Name) })
		listener["conditions"] = mergeConditions(only(before["conditions"], l.Conditions), l.Conditions, now)
		listeners = append(listeners, listener)
	}
	addresses := []any{}
	for _, a := range want.Addresses {
		addresses = append(addresses, plain(a))
	}
	return with(with(next, "listeners", listeners), "addresses", addresses)
}

// mergeRoute returns the status of a route: what other controllers say stays as it is.
func mergeRoute(have fields, want []gatewayv1.RouteParentStatus, controller string, now metav1.Time) fields {
	old, _ := have["parents"].([]any)
	ours := func(v fields) bool { return v["controllerName"] == controller }
	list := slices.DeleteFunc(slices.Clone(old), func(v any) bool { return ours(asFields(v)) })
	if len(want) == 0 && len(list) == len(old) {
		return have // the route has never been for this gateway
	}
	for _, p := range want {
		entry := plain(p)
		before := find(old, func(v fields) bool { return ours(v) && equality.Semantic.DeepEqual(v["parentRef"], entry["parentRef"]) })
		entry["conditions"] = mergeConditions(only(before["conditions"], p.Conditions), p.Conditions, now)
		list = append(list, entry)
	}
	return with(have, "parents", append([]any{}, list...))
}

// mergePool returns the status of a pool. Entries of v1alpha2 do not name their controller:
// there those are this gateway's whose Gateway is, or is gone; and an entry that stands for
// none is there when no other is.
func mergePool(have fields, key routing.PoolKey, want []routing.PoolParent, controller string, foreign func(gateway types.NamespacedName) bool, now metav1.Time) fields {
	alpha := key.Group == routing.PoolGroupAlpha
	field := "parents"
	if alpha {
		field = "parent"
	}
	old, _ := have[field].([]any)
	ours := func(v fields) bool {
		if !alpha {
			return v["controllerName"] == controller
		}
		ref := asFields(v["parentRef"])
		return ref["kind"] == "Gateway" && !foreign(types.NamespacedName{Namespace: text(ref["namespace"]), Name: text(ref["name"])})
	}
	list := slices.DeleteFunc(slices.Clone(old), func(v any) bool { return ours(asFields(v)) })
	if len(want) == 0 && len(list) == len(old) {
		return have
	}
	list = slices.DeleteFunc(list, func(v any) bool { return alpha && isDefault(asFields(v)) })
	for _, p := range want {
		entry := fields{"parentRef": fields{"group": gatewayv1.GroupName, "kind": "Gateway", "namespace": p.Gateway.Namespace, "name": p.Gateway.Name}}
		if !alpha {
			entry["controllerName"] = controller
		}
		before := find(old, func(v fields) bool { return ours(v) && equality.Semantic.DeepEqual(v["parentRef"], entry["parentRef"]) })
		entry["conditions"] = mergeConditions(only(before["conditions"], p.Conditions), p.Conditions, now)
		list = append(list, entry)
	}
	if len(list) > 0 {
		return with(have, field, list)
	}
	next := with(have, field, nil)
	delete(next, field)
	if alpha {
		next[field] = []any{plainDefault()}
	}
	return next
}

// isDefault reports whether an entry of a v1alpha2 pool is the one that stands for none.
func isDefault(v fields) bool {
	ref := asFields(v["parentRef"])
	return ref["kind"] == "Status" && ref["name"] == "default"
}

// plainDefault is the entry of a v1alpha2 pool without others, as its CRD has it.
func plainDefault() fields {
	return fields{
		"parentRef": fields{"kind": "Status", "name": "default"},
		"conditions": []any{fields{
			"type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller", "lastTransitionTime": "1970-01-01T00:00:00Z",
		}},
	}
}

// only returns those of a list of conditions that are wanted, where no one else writes into it.
func only(have any, want []metav1.Condition) []any {
	list, _ := have.([]any)
	return slices.DeleteFunc(slices.Clone(list), func(v any) bool {
		return !slices.ContainsFunc(want, func(c metav1.Condition) bool { return c.Type == value(v, "type") })
	})
}

// plain returns a value as it is read from the API server.
func plain[T any](v T) fields {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v)
	if err != nil {
		panic(err) // a type of the API that is not JSON
	}
	return m
}

// with returns a copy of a status with another value of a field.
func with(have fields, field string, v any) fields {
	next := make(fields, len(have)+1)
	for name, value := range have {
		next[name] = value
	}
	next[field] = v
	return next
}

func find(list []any, is func(fields) bool) fields {
	for _, v := range list {
		if m := asFields(v); is(m) {
			return m
		}
	}
	return nil
}

func asFields(v any) fields         { m, _ := v.(fields); return m }
func value(v any, field string) any { return asFields(v)[field] }
func text(v any) string             { s, _ := v.(string); return s }
