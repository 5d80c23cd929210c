// Package picker is an Envoy external processor (ext_proc) that speaks the Endpoint
// Picker Protocol: for each request that Envoy hands over it names the endpoints to
// try, in order, and it reads what comes back.
//
// It decides nothing itself. What a request is, where it goes and what became of it
// is the work of a director.Director, and what an adapter for Envoy has to do for it that of
// package exchange, which says what is set in requests, too; this package is the translation between that
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
// # Streams
//
// One ext_proc stream is one HTTP exchange. Where the director has admission control, a
// request for which there is no room waits in its stream, and gives up its place at once
// if that is reset. Whatever its end, a panic of a function of yours too, the booking of the
// request is released. A message that does not belong where it comes ends the stream
// with InvalidArgument, and Envoy then does what its failure mode says. Streams are bounded
// in number (ResourceExhausted) and in how long nothing comes (DeadlineExceeded).
package picker
