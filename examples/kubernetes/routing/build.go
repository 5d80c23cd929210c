package routing

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/types"
)

// Options say who the gateway is.
type Options struct {
	// Controller is the name by which a GatewayClass asks for this gateway. Required.
	Controller string
	// Only are the Gateways that are served. Empty: all of the class.
	Only []types.NamespacedName
	// Addresses are where clients reach the gateway. None: not known yet, and no Gateway is
	// Programmed.
	Addresses []gatewayv1.GatewayStatusAddress
	// Unavailable are ports that cannot be listened on, and why.
	Unavailable map[int32]error
	// OwnPicker has the gateway pick endpoints itself also where a pool names a picker.
	OwnPicker bool
}

// builder makes a Table and a Status.
type builder struct {
	Options
	objects Objects
	status  *Status

	pools      map[PoolKey]*Pool
	services   map[types.NamespacedName]*corev1.Service
	secrets    map[types.NamespacedName]*corev1.Secret
	namespaces map[string]*corev1.Namespace
	addresses  map[servicePort][]string

	gateways map[types.NamespacedName]*gateway
	inOrder  []*gateway // the oldest first
	parents  map[PoolKey]map[types.NamespacedName]bool
}

// Build decides where requests go, and what the status of the objects is.
func Build(objects Objects, o Options) (*Table, *Status) {
	b := &builder{
		Options: o, objects: objects, status: newStatus(o.Controller),
		pools:      byKey(objects.Pools, (*Pool).key),
		services:   byKey(objects.Services, func(s *corev1.Service) types.NamespacedName { return nameOf(s) }),
		secrets:    byKey(objects.Secrets, func(s *corev1.Secret) types.NamespacedName { return nameOf(s) }),
		namespaces: byKey(objects.Namespaces, func(n *corev1.Namespace) string { return n.Name }),
		addresses:  addressesOf(objects.Slices),
		gateways:   make(map[types.NamespacedName]*gateway),
		parents:    make(map[PoolKey]map[types.NamespacedName]bool),
	}
	classes := b.classes()
	for _, g := range slices.SortedFunc(slices.Values(objects.Gateways), compareAge[*gatewayv1.Gateway]) {
		if classes[string(g.Spec.GatewayClassName)] && b.serves(nameOf(g)) {
			b.gateway(g)
		}
	}
	for _, r := range slices.SortedFunc(slices.Values(objects.Routes), compareAge[*gatewayv1.HTTPRoute]) {
		b.route(r)
	}
	b.poolParents()
	for _, g := range b.inOrder {
		b.status.Gateways[nameOf(g.object)] = b.gatewayStatus(g)
	}
	return b.table(), b.status
}

func byKey[K comparable, V any](list []V, key func(V) K) map[K]V {
	m := make(map[K]V, len(list))
	for _, v := range list {
		m[key(v)] = v
	}
	return m
}

func (b *builder) serves(gateway types.NamespacedName) bool {
	return len(b.Only) == 0 || slices.Contains(b.Only, gateway)
}

// classes accepts the classes that ask for this gateway, and returns those that it accepted.
func (b *builder) classes() map[string]bool {
	accepted := make(map[string]bool)
	for _, c := range b.objects.Classes {
		if string(c.Spec.ControllerName) != b.Controller {
			continue
		}
		s := conditions{generation: c.Generation}
		if c.Spec.ParametersRef != nil {
			add(&s, gatewayv1.GatewayClassConditionStatusAccepted, false, gatewayv1.GatewayClassReasonInvalidParameters, "spec.parametersRef is not supported")
		} else {
			add(&s, gatewayv1.GatewayClassConditionStatusAccepted, true, gatewayv1.GatewayClassReasonAccepted, "")
			accepted[c.Name] = true
		}
		b.status.Classes[c.Name] = s.list
	}
	return accepted
}

// permits reports whether an object may refer to another one: in its namespace, or with the
// permission of the other's.
func (b *builder) permits(fromGroup, fromKind, fromNamespace, toGroup, toKind string, to types.NamespacedName) bool {
	if fromNamespace == to.Namespace {
		return true
	}
	return slices.ContainsFunc(b.objects.Grants, func(g *gatewayv1.ReferenceGrant) bool {
		return g.Namespace == to.Namespace &&
			slices.ContainsFunc(g.Spec.From, func(f gatewayv1.ReferenceGrantFrom) bool {
				return string(f.Group) == fromGroup && string(f.Kind) == fromKind && string(f.Namespace) == fromNamespace
			}) &&
			slices.ContainsFunc(g.Spec.To, func(t gatewayv1.ReferenceGrantTo) bool {
				return string(t.Group) == toGroup && string(t.Kind) == toKind && (t.Name == nil || *t.Name == "" || string(*t.Name) == to.Name)
			})
	})
}
