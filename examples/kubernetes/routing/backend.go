package routing

import (
	"net"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/types"
)

// h2c is the appProtocol of HTTP/2 without TLS.
const h2c = "kubernetes.io/h2c"

// Backend is where requests of a rule go: one of Pool and Service, or neither, if what the
// route refers to is not there.
type Backend struct {
	Weight  int32
	Pool    *PoolBackend
	Service *ServiceBackend
	// Problem says why there is neither.
	Problem string
}

// PoolBackend is an InferencePool.
type PoolBackend struct {
	Name types.NamespacedName
	H2C  bool
	// Picker is asked for an endpoint. Nil: the gateway picks.
	Picker *Picker
	// NoPicker says that the pool names a picker that is not there.
	NoPicker string
}

// Picker is an endpoint picker outside of the gateway.
type Picker struct {
	Name      types.NamespacedName // of its Service
	Addresses []string             // of its ready pods, host:port
	Plaintext bool                 // it has no TLS
	FailOpen  bool
}

// ServiceBackend is a port of a Service.
type ServiceBackend struct {
	Name      types.NamespacedName
	H2C       bool
	Addresses []string // of the ready pods, host:port
}

// servicePort is a port of a Service by its name, as EndpointSlices have it.
type servicePort struct {
	service types.NamespacedName
	port    string
}

// addressesOf returns the addresses of ready endpoints, sorted.
func addressesOf(list []*discoveryv1.EndpointSlice) map[servicePort][]string {
	m := make(map[servicePort][]string)
	for _, s := range list {
		service := types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
		for _, port := range s.Ports {
			if port.Port == nil {
				continue
			}
			key := servicePort{service, or(port.Name, "")}
			for _, e := range s.Endpoints {
				if or(e.Conditions.Ready, true) && len(e.Addresses) > 0 {
					m[key] = append(m[key], net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*port.Port))))
				}
			}
		}
	}
	for key, addresses := range m {
		slices.Sort(addresses)
		m[key] = slices.Compact(addresses) // an endpoint may be in two slices for a while
	}
	return m
}

func portOf(s *corev1.Service, number int32) (corev1.ServicePort, bool) {
	i := slices.IndexFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == number })
	if i < 0 {
		return corev1.ServicePort{}, false
	}
	return s.Spec.Ports[i], true
}

// backend resolves a reference of a route, which is refused with what is wrong with it.
func (b *builder) backend(r *gatewayv1.HTTPRoute, ref *gatewayv1.HTTPBackendRef) (Backend, *problem) {
	group, kind := string(or(ref.Group, "")), string(or(ref.Kind, "Service"))
	name := types.NamespacedName{Namespace: string(or(ref.Namespace, gatewayv1.Namespace(r.Namespace))), Name: string(ref.Name)}
	backend := Backend{Weight: or(ref.Weight, 1)}
	var wrong *problem
	isPool := kind == "InferencePool" && (group == PoolGroup || group == PoolGroupAlpha)
	switch {
	case !isPool && !(kind == "Service" && group == ""):
		wrong = problemf(gatewayv1.RouteReasonInvalidKind, "backendRefs: %s/%s is not supported: Service and InferencePool are", group, kind)
	case !b.permits(gatewayv1.GroupName, "HTTPRoute", r.Namespace, group, kind, name):
		wrong = problemf(gatewayv1.RouteReasonRefNotPermitted, "no ReferenceGrant allows an HTTPRoute of %s to use %s %v", r.Namespace, kind, name)
	case isPool:
		backend.Pool, wrong = b.poolBackend(PoolKey{group, name})
	default:
		backend.Service, wrong = b.serviceBackend(name, or(ref.Port, 0))
	}
	if wrong != nil {
		backend.Problem = wrong.message
	}
	return backend, wrong
}

func (b *builder) poolBackend(key PoolKey) (*PoolBackend, *problem) {
	pool := b.pools[key]
	if pool == nil {
		return nil, problemf(gatewayv1.RouteReasonBackendNotFound, "there is no InferencePool %v of group %s", key.Name, key.Group)
	}
	backend := &PoolBackend{Name: key.Name, H2C: pool.Spec.AppProtocol == h2c}
	picker, wrong := b.picker(pool)
	if backend.Picker = picker; wrong != nil {
		backend.NoPicker = wrong.message
	}
	return backend, nil
}

func (b *builder) serviceBackend(name types.NamespacedName, number int32) (*ServiceBackend, *problem) {
	service := b.services[name]
	switch {
	case service == nil:
		return nil, problemf(gatewayv1.RouteReasonBackendNotFound, "there is no Service %v", name)
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		return nil, problemf(gatewayv1.RouteReasonUnsupportedValue, "Service %v is of type ExternalName, which is not supported", name)
	}
	port, ok := portOf(service, number)
	if !ok {
		return nil, problemf(gatewayv1.RouteReasonBackendNotFound, "Service %v has no port %d", name, number)
	}
	backend := &ServiceBackend{Name: name, Addresses: b.addresses[servicePort{name, port.Name}]}
	switch protocol := or(port.AppProtocol, ""); protocol {
	case h2c:
		backend.H2C = true
	case "", "http", "kubernetes.io/ws":
	default:
		return nil, problemf(gatewayv1.RouteReasonUnsupportedProtocol, "Service %v, port %d: appProtocol %s is not supported", name, number, protocol)
	}
	return backend, nil
}
