package routing

import (
	"slices"

	"github.com/inferpick/inferpick/types"
)

// Conditions of InferencePools.
const (
	poolAccepted     = "Accepted"
	poolRouteRefused = "HTTPRouteNotAccepted"
	poolResolvedRefs = "ResolvedRefs"
	poolInvalidRef   = "InvalidExtensionRef"
)

// refer notes that a route of a Gateway refers to a pool, and whether the route is accepted.
func (b *builder) refer(pool PoolKey, gateway types.NamespacedName, accepted bool) {
	if b.parents[pool] == nil {
		b.parents[pool] = make(map[types.NamespacedName]bool)
	}
	b.parents[pool][gateway] = b.parents[pool][gateway] || accepted
}

// poolParents says of each pool what the Gateways say that have routes to it.
func (b *builder) poolParents() {
	for key, pool := range b.pools {
		list := []PoolParent{}
		for gateway, accepted := range b.parents[key] {
			c := conditions{generation: pool.Generation}
			if accepted {
				add(&c, poolAccepted, true, poolAccepted, "")
			} else {
				add(&c, poolAccepted, false, poolRouteRefused, "no HTTPRoute to the pool was accepted")
			}
			_, wrong := b.picker(pool)
			if wrong != nil {
				add(&c, poolResolvedRefs, false, poolInvalidRef, wrong.message)
			} else {
				add(&c, poolResolvedRefs, true, poolResolvedRefs, "")
			}
			list = append(list, PoolParent{gateway, c.list})
		}
		slices.SortFunc(list, func(a, c PoolParent) int { return a.Gateway.Compare(c.Gateway) })
		b.status.Pools[key] = list
	}
}

// picker returns whom to ask for an endpoint of a pool: nil if the gateway picks itself.
func (b *builder) picker(pool *Pool) (*Picker, *problem) {
	ref := pool.Spec.EndpointPickerRef
	if ref == nil || b.OwnPicker {
		return nil, nil
	}
	name := types.NamespacedName{Namespace: pool.Namespace, Name: ref.Name}
	p := &Picker{Name: name, FailOpen: ref.FailureMode == types.FailOpen}
	if ref.Group != "" || ref.Kind != "Service" {
		return p, problemf(poolInvalidRef, "endpointPickerRef: %s/%s is not supported: Service is", ref.Group, ref.Kind)
	}
	service := b.services[name]
	if service == nil {
		return p, problemf(poolInvalidRef, "endpointPickerRef: there is no Service %v", name)
	}
	if ref.Port == nil {
		return p, problemf(poolInvalidRef, "endpointPickerRef: a port is required")
	}
	port, ok := portOf(service, ref.Port.Number)
	if !ok {
		return p, problemf(poolInvalidRef, "endpointPickerRef: Service %v has no port %d", name, ref.Port.Number)
	}
	p.Addresses, p.Plaintext = b.addresses[servicePort{name, port.Name}], or(port.AppProtocol, "") == h2c
	return p, nil
}
