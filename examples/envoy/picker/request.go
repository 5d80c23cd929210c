package picker

import (
	"log/slog"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/scheduling/director"
)

func (x *stream) requestHeaders(m *extprocv3.HttpHeaders) error {
	x.Request(exchange.Request{
		Fields: fields(m.GetHeaders()), End: m.EndOfStream, Unseen: x.requestMode == modev3.ProcessingMode_NONE,
		KeepBody: true, // each piece has memory of its own
	})
	x.phase = requestBody
	// Where there is no room the request waits in the director, here or when its body is
	// complete. The stream need not be read meanwhile: if the client goes away, or Envoy
	// answers by itself, it resets the stream, and that ends the context.
	a := x.Begin()
	switch {
	case a != nil || x.HeadersOnly():
		return x.decided(a, (*stream).sendHeaders)
	case x.requestMode == modev3.ProcessingMode_BUFFERED:
		// Envoy waits for this before it sends the body. What a client says of destinations
		// goes now: if no answer to a body follows, nothing would take it away.
		return x.send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
			RequestHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{
				HeaderMutation: &headerMutation{RemoveHeaders: exchange.Untrusted()},
			}},
		}})
	}
	return nil // answered when the whole body is there
}

func (x *stream) requestBody(m *extprocv3.HttpBody) error {
	if x.Tunnel() {
		x.Route().Alive()
		return sendChunks(x.send, request, m.GetBody(), m.EndOfStream)
	}
	if x.requestMode == modev3.ProcessingMode_BUFFERED { // all of it, also if trailers follow
		return x.decided(x.Body(m.GetBody(), true), (*stream).sendBuffered)
	}
	if a := x.Body(m.GetBody(), m.EndOfStream); a != nil || m.EndOfStream {
		return x.decided(a, (*stream).sendStreamed)
	}
	return nil
}

// requestTrailers ends a request's body.
//
// An Envoy that keeps a body for retries sends it twice, in one request, if it goes on
// with trailers after it has passed the body on (github.com/envoyproxy/envoy/issues/45470).
// So trailers are answered in the same breath as the body, or not at all.
func (x *stream) requestTrailers() error {
	switch {
	case x.phase == requestBody && x.requestMode == modev3.ProcessingMode_FULL_DUPLEX_STREAMED:
		return x.decided(x.Body(nil, true), (*stream).sendWhole)
	case x.phase == requestBody:
		// Buffered, and there was no body. The headers have left the picker, without what a
		// client says of destinations: only metadata can say where the request goes, and where
		// a cluster goes by a header it finds none.
		return x.decided(x.Body(nil, true), (*stream).sendTrailers)
	case x.phase == awaitResponse && x.requestMode == modev3.ProcessingMode_BUFFERED:
		return x.send(trailersResponse(request)) // Envoy still has the body, all of it
	case (x.phase == awaitResponse || x.phase == responseBody) && (x.Tunnel() || x.requestMode == modev3.ProcessingMode_NONE):
		return x.refuseTrailers()
	}
	return x.misplaced("request_trailers")
}

// refuseTrailers ends a request of which Envoy has passed the body on already. An error of
// the stream would not do: with failure_mode_allow Envoy would go on.
func (x *stream) refuseTrailers() error {
	if !x.Tunnel() {
		x.seldom.Log(x.ctx, slog.LevelWarn, "trailers", "request refused: Envoy sends trailers of requests, but their bodies past the picker; set request_trailer_mode to SKIP",
			slog.String("id", x.ID()))
	}
	return x.answer(x.Refuse(&director.Error{Status: 400, Code: codeTrailers, Message: "requests with trailers are not taken here"}))
}

// codeTrailers is of what only this adapter refuses.
const codeTrailers = "trailers_not_supported"
