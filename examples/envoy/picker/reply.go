package picker

import (
	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// How Envoy is told where a request goes, and with what body. There is a route.

// sendHeaders is for requests that are decided on their headers.
func (x *stream) sendHeaders() error {
	m := x.headersResponse(false)
	if x.Tunnel() && x.requestMode == modev3.ProcessingMode_BUFFERED {
		passRest(m.GetRequestHeaders())
	}
	return x.send(m)
}

// sendStreamed is for a full duplex body.
func (x *stream) sendStreamed() error {
	if err := x.send(x.headersResponse(true)); err != nil {
		return err
	}
	return sendChunks(x.send, request, x.Route().Body, true)
}

// sendWhole is for a full duplex body with trailers. It is in the answer to the headers: Envoy
// then has all of the request, and goes on but once.
func (x *stream) sendWhole() error {
	m := x.headersResponse(false) // it takes the length away, whatever is said of it
	r := m.GetRequestHeaders().Response
	r.Status = extprocv3.CommonResponse_CONTINUE_AND_REPLACE
	if body := x.Route().Body; len(body) > 0 {
		r.BodyMutation = wholeBody(body)
	}
	return x.send(m)
}

// sendBuffered is for a body that was buffered.
func (x *stream) sendBuffered() error {
	to := x.Destinations()
	return x.send(&extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{
			Response: &extprocv3.CommonResponse{
				HeaderMutation: mutation(x.Changes(to, true)),
				BodyMutation:   wholeBody(x.Route().Body),
			},
		}},
		DynamicMetadata: metadataOf(to),
	})
}

// sendTrailers is for buffered requests of headers and trailers alone.
func (x *stream) sendTrailers() error {
	m := trailersResponse(request)
	m.DynamicMetadata = metadataOf(x.Destinations())
	return x.send(m)
}

// headersResponse is the answer to headers; withBody if a body was part of the request.
func (x *stream) headersResponse(withBody bool) *extprocv3.ProcessingResponse {
	to := x.Destinations()
	return &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{
			Response: &extprocv3.CommonResponse{HeaderMutation: mutation(x.Changes(to, withBody))},
		}},
		DynamicMetadata: metadataOf(to),
	}
}
