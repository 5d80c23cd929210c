// Package filter is the endpoint picker as a filter in Envoy's own process: hooks of one HTTP stream ↔
// package exchange. It decides nothing itself, and knows nothing of C: a Host is what Envoy can do
// for the stream (package hooks), or a test.
//
// # A request's way
//
// The headers wait, and the body is collected here, piece by piece, so that Envoy's own buffer limits do not
// matter; Options.MaxBody does. When all of it has come, trailers too, another goroutine decides:
// whoever is waited for there, admission control or a user's plugin, holds no worker of Envoy. It wakes the
// stream's worker, which tells Envoy the destination (dynamic metadata of envoy.lb and a header),
// puts the body back with the target model's name in it, and lets the request go on. If the stream
// ends meanwhile, what it waited for is given up at once.
//
// Requests without a body, upgrades and CONNECT are decided on their headers; what an upgrade sends passes as it
// comes, both ways. Requests with trailers go in chunks, without a length. What Envoy answers by itself
// passes untouched.
//
// # A response's way
//
// Pieces are looked at as they pass, and stay where they are unless they change: the public model's name is
// put back. When the response has ended, what Options.Report says becomes dynamic metadata, for access
// logs.
//
// # Faults
//
// A panic, also of a user's code, ends the one request: with 500, or, if its response has begun, with a
// reset. Nothing stays booked, whatever ends a stream.
package filter
