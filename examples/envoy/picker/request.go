package picker

import (
	"log/slog"
	"strconv"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/inferpick/inferpick/scheduling/director"
)

func (x *exchange) requestHeaders(m *extprocv3.HttpHeaders) error {
	x.request.read(m.GetHeaders())
	x.ctx, x.span = x.o.Tracer.Start(x.ctx, x.request.method, x.request.path, x.request.header)
	if x.request.get("X-Request-Id") == "" {
		x.request.id = newID()
		x.request.header["X-Request-Id"] = []string{x.request.id}
	}
	x.tunnel = !m.EndOfStream && x.request.tunnels()
	if m.EndOfStream || x.tunnel || x.requestMode == modev3.ProcessingMode_NONE {
		ok, err := x.route()
		if !ok {
			return err
		}
		resp := x.headersResponse(false)
		if x.tunnel && x.requestMode == modev3.ProcessingMode_BUFFERED {
			passRest(resp.GetRequestHeaders())
		}
		return x.send(resp)
	}
	x.phase = requestBody
	if n, err := strconv.ParseInt(x.request.get("Content-Length"), 10, 64); err == nil && n > int64(x.o.MaxBody) {
		return x.tooLarge() // no use in waiting for it
	}
	if x.requestMode == modev3.ProcessingMode_BUFFERED {
		// Envoy waits for this before it sends the body. What a client says of destinations
		// goes now: if no answer to a body follows, nothing would take it away.
		return x.send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
			RequestHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{
				HeaderMutation: &headerMutation{RemoveHeaders: append([]string{keyDestination}, removedHeaders...)},
			}},
		}})
	}
	return nil // answered when the whole body is there
}

func (x *exchange) requestBody(m *extprocv3.HttpBody) error {
	if x.tunnel {
		return sendChunks(x.send, request, m.GetBody(), m.EndOfStream)
	}
	if x.body.length+len(m.GetBody()) > x.o.MaxBody {
		return x.tooLarge()
	}
	x.body.add(m.GetBody())
	if x.requestMode == modev3.ProcessingMode_BUFFERED { // all of it, also if trailers follow
		ok, err := x.route()
		if !ok {
			return err
		}
		return x.send(x.bufferedRequest())
	}
	if !m.EndOfStream {
		return nil
	}
	ok, err := x.route()
	if !ok {
		return err
	}
	if err := x.send(x.headersResponse(true)); err != nil {
		return err
	}
	return sendChunks(x.send, request, x.routed.Body, true)
}

// requestTrailers ends a request's body.
//
// An Envoy that keeps a body for retries sends it twice, in one request, if it goes on
// with trailers after it has passed the body on (github.com/envoyproxy/envoy/issues/45470).
// So trailers are answered in the same breath as the body, or not at all.
func (x *exchange) requestTrailers() error {
	switch {
	case x.phase == requestBody && x.requestMode == modev3.ProcessingMode_FULL_DUPLEX_STREAMED:
		ok, err := x.route()
		if !ok {
			return err
		}
		return x.send(x.wholeRequest())
	case x.phase == requestBody:
		// Buffered, and there was no body. The headers have left the picker, without what a
		// client says of destinations: only metadata can say where the request goes, and where
		// a cluster goes by a header it finds none.
		ok, err := x.route()
		if !ok {
			return err
		}
		resp := trailersResponse(request)
		resp.DynamicMetadata = destinationMetadata(x.destinations())
		return x.send(resp)
	case x.phase == awaitResponse && x.requestMode == modev3.ProcessingMode_BUFFERED:
		return x.send(trailersResponse(request)) // Envoy still has the body, all of it
	case (x.phase == awaitResponse || x.phase == responseBody) && (x.tunnel || x.requestMode == modev3.ProcessingMode_NONE):
		return x.refuseTrailers()
	}
	return x.misplaced("request_trailers")
}

// refuseTrailers ends a request of which Envoy has passed the body on already. An error of
// the stream would not do: with failure_mode_allow Envoy would go on.
func (x *exchange) refuseTrailers() error {
	if !x.tunnel {
		x.seldom.Log(x.ctx, slog.LevelWarn, "trailers", "request refused: Envoy sends trailers of requests, but their bodies past the picker; set request_trailer_mode to SKIP",
			slog.String("id", x.id()))
	}
	return x.refuse(x.o.Director.Refuse(x.request.path, &director.Error{
		Status: 400, Code: codeTrailers, Message: "requests with trailers are not taken here",
	}))
}

// codeTrailers is of what only this adapter refuses.
const codeTrailers = "trailers_not_supported"
