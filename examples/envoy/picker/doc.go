// Package picker is an Envoy external processor (ext_proc) that speaks the Endpoint
// Picker Protocol: for each request that Envoy hands over it names the endpoints to
// try, in order, and it reads what comes back.
//
// It decides nothing itself. What a request is, where it goes and what became of it
// is the work of a director.Director; this package is the translation between that
// and the messages of envoy.service.ext_proc.v3.
//
// # Modes
//
// Request bodies may come FULL_DUPLEX_STREAMED, which the protocol asks for, or
// BUFFERED. In both the decision is made when the whole body is there, because the
// prompt is a part of it. STREAMED, BUFFERED_PARTIAL and GRPC cannot work (the
// headers would have left before the destination is known) and are refused with a
// status that says so, and so are bodies whose headers Envoy does not send. With NONE,
// and for requests without a body, the decision is made on the headers alone, without a
// model. Response bodies may come FULL_DUPLEX_STREAMED,
// STREAMED, BUFFERED or not at all; without them nothing is known of usage, and the
// first token is not seen; in STREAMED ones the public model name is not put back,
// because nothing could be added where they end.
//
// An upgrade (a websocket) is routed on its headers, and its bytes pass as they come: full
// duplex through here, in other modes by Envoy itself. What Envoy answers before it has
// asked about the request, because another filter refused it, passes untouched.
//
// Envoy says which modes it uses in the first message. For older ones that do not,
// Options.RequestBody and Options.ResponseBody say it.
//
// # Trailers of requests
//
// An Envoy that keeps bodies for retries, mirrors or redirects, and goes on with trailers
// after a body, sends the body twice; with Content-Length the second is a request of its
// own to the server, which its client has written. So a full duplex request with trailers
// is answered with one message that has all of it, after which Envoy goes on but once, in
// chunks and without the length, trailers and all; it has to fit into
// per_connection_buffer_limit_bytes, else Envoy answers 413. Where the body went past
// the picker, with request_body_mode NONE and request_trailer_mode SEND, a request with
// trailers is refused with 400, and the log says what to set. Of a BUFFERED one of headers
// and trailers alone the headers have left before that is known: it goes by the metadata, or
// nowhere.
//
// # What is set
//
// The destination goes into the request header x-gateway-destination-endpoint and
// into the dynamic metadata of namespace envoy.lb under the same key: the ip:port of the
// choice. Where Options.MaxDestinations or Envoy's configuration (DestinationsMetadata) ask
// for more, its fallbacks follow, separated by commas; a data plane that knows but one
// address cannot read a list. Headers of the protocol that a
// client sent are overwritten or removed. A request that is not routed is answered
// by an immediate response with the status, headers and body of director.Error.
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
//
// # Streams
//
// One ext_proc stream is one HTTP exchange. Where the director has admission control, a
// request for which there is no room waits in its stream, and gives up its place at once
// if that is reset. Whatever its end, a panic of a function of yours too, the booking of the
// request is released. A message that does not belong where it comes ends the stream
// with InvalidArgument, and Envoy then does what its failure mode says. Streams are bounded
// in number (ResourceExhausted) and in how long nothing comes (DeadlineExceeded).
package picker
