package picker

import (
	"strconv"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

func (x *exchange) requestHeaders(m *extprocv3.HttpHeaders) error {
	x.request.read(m.GetHeaders())
	x.ctx, x.span = x.o.Tracer.Start(x.ctx, x.request.method, x.request.path, x.request.header)
	if x.request.get("X-Request-Id") == "" {
		x.request.id = newID()
		x.request.header["X-Request-Id"] = []string{x.request.id}
	}
	if m.EndOfStream || x.requestMode == modev3.ProcessingMode_NONE {
		ok, err := x.route()
		if !ok {
			return err
		}
		return x.send(x.headersResponse(false))
	}
	x.phase = requestBody
	if n, err := strconv.ParseInt(x.request.get("Content-Length"), 10, 64); err == nil && n > int64(x.o.MaxBody) {
		return x.tooLarge() // no use in waiting for it
	}
	if x.requestMode == modev3.ProcessingMode_BUFFERED {
		// Envoy waits for this before it sends the body.
		return x.send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
			RequestHeaders: &extprocv3.HeadersResponse{},
		}})
	}
	return nil // answered when the whole body is there
}

func (x *exchange) requestBody(m *extprocv3.HttpBody) error {
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
	return x.answerRequest(false)
}

// requestTrailers ends a request's body.
func (x *exchange) requestTrailers() error {
	if x.requestMode == modev3.ProcessingMode_BUFFERED {
		// There was no body, and the headers have left the picker: only metadata can
		// say where the request goes.
		ok, err := x.route()
		if !ok {
			return err
		}
		resp := trailersResponse(request)
		resp.DynamicMetadata = destinationMetadata(x.destinations())
		return x.send(resp)
	}
	return x.answerRequest(true)
}

// answerRequest routes a request that came full duplex and gives all of it back.
func (x *exchange) answerRequest(trailers bool) error {
	ok, err := x.route()
	if !ok {
		return err
	}
	if err := x.send(x.headersResponse(true)); err != nil {
		return err
	}
	if err := sendChunks(x.send, request, x.routed.Body, !trailers); err != nil {
		return err
	}
	if trailers {
		return x.send(trailersResponse(request))
	}
	return nil
}
