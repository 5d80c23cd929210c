package routing

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/types"
)

// gateway is a Gateway that is served.
type gateway struct {
	object    *gatewayv1.Gateway
	listeners []*listener
}

// listener is one of a Gateway.
type listener struct {
	spec         *gatewayv1.Listener
	hostname     string // pattern
	kinds        []gatewayv1.RouteGroupKind
	certificates []tls.Certificate
	served       bool
	conditions   conditions
	attached     int32
	rules        map[string][]*match // by pattern of hosts
}

const supportedKind = "HTTPRoute"

// gateway takes a Gateway in, after those that are older.
func (b *builder) gateway(o *gatewayv1.Gateway) {
	g := &gateway{object: o}
	for i := range o.Spec.Listeners {
		g.listeners = append(g.listeners, b.listener(o, &o.Spec.Listeners[i]))
	}
	b.gateways[nameOf(o)] = g
	b.inOrder = append(b.inOrder, g)
}

// problem is why something is not as its manifest has it. Nil: it is.
type problem struct{ reason, message string }

func problemf[R ~string](reason R, format string, args ...any) *problem {
	return &problem{string(reason), fmt.Sprintf(format, args...)}
}

// listener takes a listener in, after those that go before it.
func (b *builder) listener(o *gatewayv1.Gateway, spec *gatewayv1.Listener) *listener {
	l := &listener{
		spec: spec, hostname: hostOf(string(or(spec.Hostname, ""))),
		conditions: conditions{generation: o.Generation}, rules: make(map[string][]*match),
	}
	unsupported, unresolved, conflict := unsupportedListener(o, spec), l.allowKinds(), b.conflict(l)
	unavailable := b.unavailable(spec.Port)
	if unsupported == nil && unresolved == nil && spec.Protocol == gatewayv1.HTTPSProtocolType {
		unresolved = b.loadCertificates(o, l)
	}
	notUsable := b.notUsable(o)
	l.served = unsupported == nil && unresolved == nil && conflict == nil && notUsable == nil
	judge(&l.conditions, gatewayv1.ListenerConditionAccepted, gatewayv1.ListenerReasonAccepted, cmp.Or(unsupported, unavailable))
	judge(&l.conditions, gatewayv1.ListenerConditionResolvedRefs, gatewayv1.ListenerReasonResolvedRefs, unresolved)
	if conflict != nil {
		add(&l.conditions, gatewayv1.ListenerConditionConflicted, true, gatewayv1.ListenerConditionReason(conflict.reason), conflict.message)
	} else {
		add(&l.conditions, gatewayv1.ListenerConditionConflicted, false, gatewayv1.ListenerReasonNoConflicts, "")
	}
	switch {
	case !l.served || unavailable != nil:
		add(&l.conditions, gatewayv1.ListenerConditionProgrammed, false, gatewayv1.ListenerReasonInvalid, "the listener is not served")
	case len(b.Addresses) == 0:
		add(&l.conditions, gatewayv1.ListenerConditionProgrammed, false, gatewayv1.ListenerReasonPending, "the gateway has no address yet")
	default:
		add(&l.conditions, gatewayv1.ListenerConditionProgrammed, true, gatewayv1.ListenerReasonProgrammed, "")
	}
	return l
}

// unsupportedListener returns what of a listener is not supported.
func unsupportedListener(o *gatewayv1.Gateway, l *gatewayv1.Listener) *problem {
	switch l.Protocol {
	case gatewayv1.HTTPProtocolType:
		return nil
	case gatewayv1.HTTPSProtocolType:
	default:
		return problemf(gatewayv1.ListenerReasonUnsupportedProtocol, "protocol %s is not supported: HTTP and HTTPS are", l.Protocol)
	}
	if l.TLS != nil && or(l.TLS.Mode, gatewayv1.TLSModeTerminate) != gatewayv1.TLSModeTerminate {
		return problemf(gatewayv1.ListenerReasonUnsupportedValue, "tls.mode %s is not supported: Terminate is", *l.TLS.Mode)
	}
	if o.Spec.TLS != nil && o.Spec.TLS.Frontend != nil {
		return problemf(gatewayv1.ListenerReasonUnsupportedValue, "certificates of clients (spec.tls.frontend) are not supported")
	}
	return nil
}

// allowKinds sets the kinds of routes that the listener allows and that there are here.
func (l *listener) allowKinds() *problem {
	group := gatewayv1.Group(gatewayv1.GroupName)
	known := gatewayv1.RouteGroupKind{Group: &group, Kind: supportedKind}
	if l.spec.AllowedRoutes == nil || len(l.spec.AllowedRoutes.Kinds) == 0 {
		l.kinds = []gatewayv1.RouteGroupKind{known}
		return nil
	}
	var wrong *problem
	for _, k := range l.spec.AllowedRoutes.Kinds {
		if or(k.Group, group) == group && k.Kind == supportedKind {
			l.kinds = []gatewayv1.RouteGroupKind{known}
		} else {
			wrong = problemf(gatewayv1.ListenerReasonInvalidRouteKinds, "allowedRoutes.kinds: %s/%s is not supported: HTTPRoute is", or(k.Group, group), k.Kind)
		}
	}
	return wrong
}

// conflict finds a listener that was there before and leaves this one no place.
func (b *builder) conflict(l *listener) *problem {
	for _, g := range b.inOrder {
		for _, other := range g.listeners {
			switch {
			case !other.served || other.spec.Port != l.spec.Port:
			case other.spec.Protocol != l.spec.Protocol:
				return problemf(gatewayv1.ListenerReasonProtocolConflict, "port %d is %s by listener %s of Gateway %v", l.spec.Port, other.spec.Protocol, other.spec.Name, nameOf(g.object))
			case other.hostname == l.hostname:
				return problemf(gatewayv1.ListenerReasonHostnameConflict, "port %d has host %q by listener %s of Gateway %v", l.spec.Port, l.hostname, other.spec.Name, nameOf(g.object))
			}
		}
	}
	return nil
}

// unavailable returns why a port cannot be listened on. It stays in the table, to be tried again.
func (b *builder) unavailable(port gatewayv1.PortNumber) *problem {
	if err := b.Unavailable[int32(port)]; err != nil {
		return problemf(gatewayv1.ListenerReasonPortUnavailable, "port %d: %v", port, err)
	}
	return nil
}

// loadCertificates reads the certificates of a listener.
func (b *builder) loadCertificates(o *gatewayv1.Gateway, l *listener) *problem {
	if l.spec.TLS == nil || len(l.spec.TLS.CertificateRefs) == 0 {
		return problemf(gatewayv1.ListenerReasonInvalidCertificateRef, "tls.certificateRefs: at least one is required")
	}
	for _, ref := range l.spec.TLS.CertificateRefs {
		name := types.NamespacedName{Namespace: string(or(ref.Namespace, gatewayv1.Namespace(o.Namespace))), Name: string(ref.Name)}
		if group, kind := or(ref.Group, ""), or(ref.Kind, "Secret"); group != "" || kind != "Secret" {
			return problemf(gatewayv1.ListenerReasonInvalidCertificateRef, "tls.certificateRefs: %s/%s is not supported: Secret is", group, kind)
		}
		if !b.permits(gatewayv1.GroupName, "Gateway", o.Namespace, "", "Secret", name) {
			return problemf(gatewayv1.ListenerReasonRefNotPermitted, "no ReferenceGrant allows a Gateway of %s to use Secret %v", o.Namespace, name)
		}
		secret := b.secrets[name]
		if secret == nil {
			return problemf(gatewayv1.ListenerReasonInvalidCertificateRef, "there is no Secret %v of type %s", name, corev1.SecretTypeTLS)
		}
		c, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
		if err != nil {
			return problemf(gatewayv1.ListenerReasonInvalidCertificateRef, "Secret %v: %v", name, err)
		}
		l.certificates = append(l.certificates, c)
	}
	return nil
}

// notUsable returns why a Gateway as a whole cannot be served.
func (b *builder) notUsable(o *gatewayv1.Gateway) *problem {
	if o.Spec.Infrastructure != nil && o.Spec.Infrastructure.ParametersRef != nil {
		return problemf(gatewayv1.GatewayReasonInvalidParameters, "spec.infrastructure.parametersRef is not supported")
	}
	for _, a := range o.Spec.Addresses {
		if a.Value != "" && !slices.ContainsFunc(b.Addresses, func(own gatewayv1.GatewayStatusAddress) bool { return own.Value == a.Value }) {
			return problemf(gatewayv1.GatewayReasonUnsupportedAddress, "spec.addresses: %s is not an address of this gateway", a.Value)
		}
	}
	return nil
}

// gatewayStatus is that of a Gateway whose routes are attached.
func (b *builder) gatewayStatus(g *gateway) gatewayv1.GatewayStatus {
	s := gatewayv1.GatewayStatus{Addresses: b.Addresses}
	served := 0
	for _, l := range g.listeners {
		if l.served && b.Unavailable[int32(l.spec.Port)] == nil {
			served++
		}
		s.Listeners = append(s.Listeners, gatewayv1.ListenerStatus{
			Name: l.spec.Name, SupportedKinds: append([]gatewayv1.RouteGroupKind{}, l.kinds...), AttachedRoutes: l.attached, Conditions: l.conditions.list,
		})
	}
	c := conditions{generation: g.object.Generation}
	switch wrong := b.notUsable(g.object); {
	case wrong != nil:
		judge(&c, gatewayv1.GatewayConditionAccepted, gatewayv1.GatewayReasonAccepted, wrong)
	case served < len(g.listeners):
		add(&c, gatewayv1.GatewayConditionAccepted, served > 0, gatewayv1.GatewayReasonListenersNotValid, fmt.Sprintf("%d of %d listeners are not served, see theirs", len(g.listeners)-served, len(g.listeners)))
	default:
		add(&c, gatewayv1.GatewayConditionAccepted, true, gatewayv1.GatewayReasonAccepted, "")
	}
	switch {
	case served == 0:
		add(&c, gatewayv1.GatewayConditionProgrammed, false, gatewayv1.GatewayReasonInvalid, "no listener is served")
	case len(b.Addresses) == 0:
		add(&c, gatewayv1.GatewayConditionProgrammed, false, gatewayv1.GatewayReasonAddressNotAssigned, "the gateway has no address yet")
	default:
		add(&c, gatewayv1.GatewayConditionProgrammed, true, gatewayv1.GatewayReasonProgrammed, "")
	}
	s.Conditions = c.list
	return s
}

// admits reports whether routes of a namespace may be attached to a listener of a Gateway.
func (b *builder) admits(g *gateway, l *listener, namespace string) bool {
	if len(l.kinds) == 0 {
		return false
	}
	var allowed gatewayv1.RouteNamespaces
	if a := l.spec.AllowedRoutes; a != nil {
		allowed = or(a.Namespaces, allowed)
	}
	switch or(allowed.From, gatewayv1.NamespacesFromSame) {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSame:
		return namespace == g.object.Namespace
	case gatewayv1.NamespacesFromSelector:
		n := b.namespaces[namespace]
		selector, err := metav1.LabelSelectorAsSelector(allowed.Selector)
		return n != nil && err == nil && selector.Matches(labels.Set(n.Labels))
	}
	return false
}
