package routing

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/types"
)

// route attaches a route to the listeners that it asks for.
func (b *builder) route(r *gatewayv1.HTTPRoute) {
	b.status.Routes[nameOf(r)] = []gatewayv1.RouteParentStatus{}
	var c *compiled
	for _, ref := range r.Spec.ParentRefs {
		g := b.parent(r, ref)
		if g == nil {
			continue
		}
		if c == nil {
			c = b.compile(r)
		}
		refused := c.unsupported
		if refused == nil {
			refused = b.attach(g, r, ref, c.matches)
		}
		for _, pool := range c.pools {
			b.refer(pool, nameOf(g.object), refused == nil)
		}
		s := conditions{generation: r.Generation}
		judge(&s, gatewayv1.RouteConditionAccepted, gatewayv1.RouteReasonAccepted, refused)
		judge(&s, gatewayv1.RouteConditionResolvedRefs, gatewayv1.RouteReasonResolvedRefs, c.unresolved)
		b.status.Routes[nameOf(r)] = append(b.status.Routes[nameOf(r)], gatewayv1.RouteParentStatus{
			ParentRef: ref, ControllerName: gatewayv1.GatewayController(b.Controller), Conditions: s.list,
		})
	}
}

// parent returns the Gateway that a route asks for, nil if it is none of ours.
func (b *builder) parent(r *gatewayv1.HTTPRoute, ref gatewayv1.ParentReference) *gateway {
	if or(ref.Group, gatewayv1.GroupName) != gatewayv1.GroupName || or(ref.Kind, "Gateway") != "Gateway" {
		return nil
	}
	return b.gateways[types.NamespacedName{Namespace: string(or(ref.Namespace, gatewayv1.Namespace(r.Namespace))), Name: string(ref.Name)}]
}

// attach attaches a route to those listeners of a Gateway that have a place for it.
func (b *builder) attach(g *gateway, r *gatewayv1.HTTPRoute, ref gatewayv1.ParentReference, matches []*match) *problem {
	named, admitted, attached := 0, 0, 0
	for _, l := range g.listeners {
		if or(ref.SectionName, l.spec.Name) != l.spec.Name || or(ref.Port, l.spec.Port) != l.spec.Port {
			continue
		}
		named++
		if !b.admits(g, l, r.Namespace) {
			continue
		}
		admitted++
		if patterns := hostsAt(l, r); len(patterns) > 0 {
			attached++
			l.attached++
			for _, p := range patterns {
				l.rules[p] = append(l.rules[p], matches...)
			}
		}
	}
	switch {
	case named == 0:
		return problemf(gatewayv1.RouteReasonNoMatchingParent, "Gateway %v has no such listener", nameOf(g.object))
	case admitted == 0:
		return problemf(gatewayv1.RouteReasonNotAllowedByListeners, "no listener of Gateway %v allows routes of this kind in namespace %s", nameOf(g.object), r.Namespace)
	case attached == 0:
		return problemf(gatewayv1.RouteReasonNoMatchingListenerHostname, "no listener of Gateway %v has one of the hostnames", nameOf(g.object))
	}
	return nil
}

// hostsAt returns the patterns of the hosts of a route at a listener.
func hostsAt(l *listener, r *gatewayv1.HTTPRoute) []string {
	if len(r.Spec.Hostnames) == 0 {
		return []string{l.hostname}
	}
	var patterns []string
	for _, h := range r.Spec.Hostnames {
		if p, ok := intersect(hostOf(string(h)), l.hostname); ok {
			patterns = append(patterns, p)
		}
	}
	return patterns
}

// compiled is a route, whatever it is attached to.
type compiled struct {
	matches     []*match
	pools       []PoolKey // that it refers to, and may
	unsupported *problem
	unresolved  *problem
}

// compile makes matches and rules of a route, or says what of it is not supported.
func (b *builder) compile(r *gatewayv1.HTTPRoute) *compiled {
	c := new(compiled)
	for i := range r.Spec.Rules {
		in := &r.Spec.Rules[i]
		rule := &Rule{Name: fmt.Sprintf("%v/%d", nameOf(r), i)}
		if in.Name != nil {
			rule.Name = fmt.Sprintf("%v/%s", nameOf(r), *in.Name)
		}
		if c.unsupported == nil {
			c.unsupported = unsupportedRule(in, i)
		}
		if wrong := rule.compile(in, i); wrong != nil && c.unsupported == nil {
			c.unsupported = wrong
		}
		for j := range in.BackendRefs {
			backend, wrong := b.backend(r, &in.BackendRefs[j])
			if wrong != nil && c.unresolved == nil {
				c.unresolved = wrong
			}
			if backend.Pool != nil {
				c.pools = append(c.pools, PoolKey{string(*in.BackendRefs[j].Group), backend.Pool.Name})
			}
			rule.add(backend)
		}
		for _, m := range matchesOf(in) {
			compiled, wrong := newMatch(r, rule, m, len(c.matches))
			if wrong != nil {
				c.unsupported = wrong
				continue
			}
			c.matches = append(c.matches, compiled)
		}
	}
	return c
}

// matchesOf returns the matches of a rule: all requests, if it names none.
func matchesOf(r *gatewayv1.HTTPRouteRule) []gatewayv1.HTTPRouteMatch {
	if len(r.Matches) == 0 {
		return []gatewayv1.HTTPRouteMatch{{}}
	}
	return r.Matches
}

// unsupportedRule returns what of a rule is not supported, apart from matches and filters.
func unsupportedRule(r *gatewayv1.HTTPRouteRule, i int) *problem {
	switch {
	case r.Retry != nil:
		return problemf(gatewayv1.RouteReasonUnsupportedValue, "rules[%d].retry is not supported: requests to pools are retried by themselves", i)
	case r.SessionPersistence != nil:
		return problemf(gatewayv1.RouteReasonUnsupportedValue, "rules[%d].sessionPersistence is not supported", i)
	}
	rewritesHost := slices.ContainsFunc(r.Filters, func(f gatewayv1.HTTPRouteFilter) bool { return f.URLRewrite != nil && f.URLRewrite.Hostname != nil })
	for j := range r.BackendRefs {
		if rewritesHost && or(r.BackendRefs[j].Kind, "Service") == "InferencePool" {
			return problemf(gatewayv1.RouteReasonUnsupportedValue, "rules[%d]: urlRewrite.hostname is not supported for pools, whose endpoints are asked for by their addresses", i)
		}
		if len(r.BackendRefs[j].Filters) > 0 {
			return problemf(gatewayv1.RouteReasonUnsupportedValue, "rules[%d].backendRefs[%d].filters are not supported: those of the rule are", i, j)
		}
	}
	return nil
}
