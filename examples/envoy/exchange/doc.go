// Package exchange is what the adapters for Envoy have in common: the picker, which is asked over
// ext_proc (package picker), and the module, which Envoy loads (package module/filter). An
// adapter hands over what it is told of an HTTP exchange, by messages or by hooks, and does what it is
// told here; how a request is described to a director.Director, which of its headers change, where
// Envoy is told to send it, what the side-cars of servers are told, and what of a response counts, is
// here and nowhere else.
//
//	x, err := handler.Open(ctx, wishes)      // one exchange
//	x.Request(exchange.Request{Fields: …})   // the headers of the request
//	answer := x.Begin()                      // may wait, if x.HeadersOnly()
//	answer = x.Body(piece, last)             // may wait with the last piece
//	// answer is not nil: it goes to the client
//	to := x.Destinations()
//	changes, pieces := x.Changes(to, true), x.Pieces()
//	x.Response(fields, served, false)        // the headers of the response
//	piece = x.ResponseBody(piece, last)
//	x.Close(nil)                             // in any case, at last
//
// # What is set
//
// The destination goes into the request header x-gateway-destination-endpoint and
// into the dynamic metadata of namespace envoy.lb under the same key: the ip:port of the
// choice. Where Options.MaxDestinations or Envoy's configuration (Wishes.Destinations) ask
// for more, its fallbacks follow, separated by commas; a data plane that knows but one
// address cannot read a list. Headers of the protocol that a
// client sent are overwritten or removed. A request that is not routed is answered
// with the status, headers and body of director.Error.
//
// # Side-cars
//
// Where another endpoint is to compute the prompt than the one that the request goes to, a
// header says so to llm-d's proxy in front of that, its side-car: x-prefiller-host-port, with
// ip:port. So do x-encoder-hosts-ports (a list with commas) of those that encode images and other
// media, and x-data-parallel-host-port of the data-parallel rank, where Options.Apart says so. The
// first two are written under their newer names, too (x-llm-d-…), with the same value. Side-cars
// know what to do with chat, completions and responses; other requests are served by one endpoint.
// Of these headers, and x-kv-cache-source-host-port, nothing that a client sends gets through.
//
// What the side-car does is not seen. The prompt counts as computed when an answer begins, and how
// long it took is not learned; an error is held against no one but the endpoint that the request went to.
package exchange
