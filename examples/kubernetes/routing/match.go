package routing

import (
	"cmp"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// match is what a request must be like for a rule.
type match struct {
	rule    *Rule
	path    pathMatch
	method  string // empty: any
	headers []valueMatch
	query   []valueMatch

	route *gatewayv1.HTTPRoute
	index int // among the matches of the route
}

// pathMatch is a path. What is left of a regular expression is that of a string.
type pathMatch struct {
	kind  gatewayv1.PathMatchType
	value string // of a prefix, without slashes at the end
	regex *regexp.Regexp
}

// valueMatch is the value of a header or a parameter.
type valueMatch struct {
	name, value string
	regex       *regexp.Regexp
}

func newMatch(r *gatewayv1.HTTPRoute, rule *Rule, in gatewayv1.HTTPRouteMatch, index int) (*match, *problem) {
	m := &match{rule: rule, route: r, index: index, method: string(or(in.Method, ""))}
	var wrong *problem
	if m.path, wrong = newPathMatch(or(in.Path, gatewayv1.HTTPPathMatch{})); wrong != nil {
		return nil, wrong
	}
	seen := make(map[string]bool) // of two with the same name, the first one counts
	for _, h := range in.Headers {
		name := http.CanonicalHeaderKey(string(h.Name))
		if seen[name] {
			continue
		}
		seen[name] = true
		v, wrong := newValueMatch("header "+name, name, h.Value, string(or(h.Type, gatewayv1.HeaderMatchExact)))
		if wrong != nil {
			return nil, wrong
		}
		m.headers = append(m.headers, v)
	}
	for _, q := range in.QueryParams {
		v, wrong := newValueMatch("query parameter "+string(q.Name), string(q.Name), q.Value, string(or(q.Type, gatewayv1.QueryParamMatchExact)))
		if wrong != nil {
			return nil, wrong
		}
		m.query = append(m.query, v)
	}
	return m, nil
}

func newPathMatch(in gatewayv1.HTTPPathMatch) (pathMatch, *problem) {
	p := pathMatch{kind: or(in.Type, gatewayv1.PathMatchPathPrefix), value: or(in.Value, "/")}
	switch p.kind {
	case gatewayv1.PathMatchExact:
	case gatewayv1.PathMatchPathPrefix:
		p.value = strings.TrimRight(p.value, "/")
	case gatewayv1.PathMatchRegularExpression:
		var wrong *problem
		p.regex, wrong = whole("path", p.value)
		return p, wrong
	default:
		return p, problemf(gatewayv1.RouteReasonUnsupportedValue, "path: type %s is not supported", p.kind)
	}
	return p, nil
}

func newValueMatch(what, name, value, kind string) (v valueMatch, wrong *problem) {
	v = valueMatch{name: name, value: value}
	switch kind {
	case string(gatewayv1.HeaderMatchExact):
	case string(gatewayv1.HeaderMatchRegularExpression):
		v.regex, wrong = whole(what, value)
	default:
		wrong = problemf(gatewayv1.RouteReasonUnsupportedValue, "%s: type %s is not supported", what, kind)
	}
	return v, wrong
}

// whole compiles an expression that the whole of a value must match.
func whole(what, expression string) (*regexp.Regexp, *problem) {
	r, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	if err != nil {
		return nil, problemf(gatewayv1.RouteReasonUnsupportedValue, "%s: %v", what, err)
	}
	return r, nil
}

func (m *match) matches(r *http.Request, query func() url.Values) bool {
	if m.method != "" && m.method != r.Method || !m.path.matches(r.URL.Path) {
		return false
	}
	for _, h := range m.headers {
		values := r.Header[h.name]
		if len(values) == 0 || !h.matches(strings.Join(values, ",")) {
			return false
		}
	}
	for _, q := range m.query {
		values := query()[q.name]
		if len(values) == 0 || !q.matches(values[0]) {
			return false
		}
	}
	return true
}

func (p *pathMatch) matches(path string) bool {
	switch p.kind {
	case gatewayv1.PathMatchExact:
		return path == p.value
	case gatewayv1.PathMatchPathPrefix:
		rest, ok := strings.CutPrefix(path, p.value)
		return ok && (rest == "" || rest[0] == '/')
	}
	return p.regex.MatchString(path)
}

func (v *valueMatch) matches(value string) bool {
	if v.regex != nil {
		return v.regex.MatchString(value)
	}
	return value == v.value
}

// compare orders the matches of a host by precedence.
func (m *match) compare(n *match) int {
	return cmp.Or(
		cmp.Compare(m.path.rank(), n.path.rank()),
		-cmp.Compare(len(m.path.value), len(n.path.value)),
		cmp.Compare(boolInt(m.method == ""), boolInt(n.method == "")),
		-cmp.Compare(len(m.headers), len(n.headers)),
		-cmp.Compare(len(m.query), len(n.query)),
		compareAge(m.route, n.route),
		cmp.Compare(m.index, n.index),
	)
}

// rank orders the types of paths: what is more exact goes first.
func (p *pathMatch) rank() int {
	switch p.kind {
	case gatewayv1.PathMatchExact:
		return 0
	case gatewayv1.PathMatchRegularExpression:
		return 1
	}
	return 2
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// named reports whether the path itself is in the manifest, and not only one above it that is
// for more, such as / or /v1.
func (p *pathMatch) named() bool {
	if p.kind != gatewayv1.PathMatchPathPrefix {
		return p.kind == gatewayv1.PathMatchExact
	}
	last := p.value[strings.LastIndexByte(p.value, '/')+1:]
	return last != "" && !version.MatchString(last)
}

var version = regexp.MustCompile(`^v\d+$`)
