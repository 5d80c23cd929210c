package routing

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// HeaderEdit changes headers.
type HeaderEdit struct {
	set, add []gatewayv1.HTTPHeader
	remove   []string
}

// Redirect answers a request with another address.
type Redirect struct {
	scheme, hostname string // empty: as it is
	path             *gatewayv1.HTTPPathModifier
	port             int32 // 0: that of the scheme if that is given, else the listener's
	status           int
}

// Rewrite changes where a request asks for.
type Rewrite struct {
	hostname string // empty: as it is
	path     *gatewayv1.HTTPPathModifier
}

// addFilter adds what a filter does.
func (r *Rule) addFilter(f gatewayv1.HTTPRouteFilter) *problem {
	switch {
	case f.Type == gatewayv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil:
		r.Request = newHeaderEdit(f.RequestHeaderModifier)
	case f.Type == gatewayv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil:
		r.Response = newHeaderEdit(f.ResponseHeaderModifier)
	case f.Type == gatewayv1.HTTPRouteFilterRequestRedirect && f.RequestRedirect != nil:
		in := f.RequestRedirect
		r.Redirect = &Redirect{or(in.Scheme, ""), string(or(in.Hostname, "")), in.Path, int32(or(in.Port, 0)), or(in.StatusCode, http.StatusFound)}
	case f.Type == gatewayv1.HTTPRouteFilterURLRewrite && f.URLRewrite != nil:
		r.Rewrite = &Rewrite{string(or(f.URLRewrite.Hostname, "")), f.URLRewrite.Path}
	default:
		return problemf(gatewayv1.RouteReasonUnsupportedValue, "type %s is not supported: RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect and URLRewrite are", f.Type)
	}
	return nil
}

func newHeaderEdit(in *gatewayv1.HTTPHeaderFilter) *HeaderEdit {
	return &HeaderEdit{set: in.Set, add: in.Add, remove: in.Remove}
}

// Apply changes h. Nil changes nothing.
func (e *HeaderEdit) Apply(h http.Header) {
	if e == nil {
		return
	}
	for _, v := range e.set {
		h.Set(string(v.Name), v.Value)
	}
	for _, v := range e.add {
		h.Add(string(v.Name), v.Value)
	}
	for _, name := range e.remove {
		h.Del(name)
	}
}

// Location returns where a request is sent, and the status that says so. The port is the
// listener's.
func (r *Redirect) Location(req *http.Request, m Match, port int32) (string, int) {
	u := url.URL{Scheme: "http", Host: hostOf(req.Host), Path: req.URL.Path, RawQuery: req.URL.RawQuery}
	if req.TLS != nil {
		u.Scheme = "https"
	}
	if r.hostname != "" {
		u.Host = r.hostname
	}
	if r.scheme != "" {
		u.Scheme, port = r.scheme, 0
	}
	if r.port != 0 {
		port = r.port
	}
	if port != 0 && port != map[string]int32{"http": 80, "https": 443}[u.Scheme] {
		u.Host = net.JoinHostPort(strings.Trim(u.Host, "[]"), strconv.Itoa(int(port)))
	}
	if r.path != nil {
		u.Path = m.modify(r.path, req.URL.Path)
	}
	return u.String(), r.status
}

// Apply changes the request to a backend. Nil changes nothing.
func (r *Rewrite) Apply(out *http.Request, m Match) {
	if r == nil {
		return
	}
	if r.hostname != "" {
		out.Host = r.hostname
	}
	if r.path != nil {
		out.URL.Path, out.URL.RawPath = m.modify(r.path, out.URL.Path), ""
	}
}

// modify returns the path that a modifier makes of one that matched.
func (m Match) modify(how *gatewayv1.HTTPPathModifier, path string) string {
	if how.Type == gatewayv1.FullPathHTTPPathModifier {
		return or(how.ReplaceFullPath, "/")
	}
	rest := path
	if m.match.path.kind == gatewayv1.PathMatchPathPrefix {
		rest = strings.TrimPrefix(path, m.match.path.value)
	}
	replaced := strings.TrimRight(or(how.ReplacePrefixMatch, "/"), "/") + rest
	if replaced == "" {
		return "/"
	}
	return replaced
}
