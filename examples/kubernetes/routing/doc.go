// Package routing decides what a gateway does by the objects of its cluster: [Build] makes of
// them a [Table], which says where a request goes, and a [Status], which is what they are told
// in theirs. It is pure: it reads no clock, waits for nothing and asks nobody.
//
// # What is supported
//
// Listeners are HTTP and HTTPS that ends here. All Gateways of a class share the addresses of
// the process: of two listeners on a port with the same host name, or with different protocols,
// the older Gateway's is served and the other one is Conflicted.
//
// Routes are HTTPRoutes: host names; paths (Exact, PathPrefix, RegularExpression in the syntax
// of Go), methods, headers, query parameters; the filters RequestHeaderModifier,
// ResponseHeaderModifier, RequestRedirect and URLRewrite; weights; timeouts. Backends are
// InferencePools, of both groups, and Services, both also in other namespaces where a
// ReferenceGrant allows it. A route with anything else in it is not accepted
// (UnsupportedValue), and its status says what it is: nothing is ignored.
package routing
