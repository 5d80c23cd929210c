package picker

import (
	"strconv"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/inferpick/inferpick/scheduling/director"
)

func (x *exchange) responseHeaders(m *extprocv3.HttpHeaders, msg *extprocv3.ProcessingRequest) error {
	x.phase = responseBody
	var head responseHead
	head.read(m.GetHeaders())
	var mutation *headerMutation
	if x.core == nil {
		x.core = new(director.Exchange) // of a request that nobody has heard of
	}
	if route := x.core.Route(); route != nil {
		if address := servedBy(msg.GetMetadataContext()); address != "" && address != x.atPrimary() {
			route.Served(address)
		}
		x.prefilled(head.status)
		x.encoded()
		if x.responseMode == modev3.ProcessingMode_STREAMED {
			// Chunk by chunk nothing can be added at the end, so nothing may be held back.
			route.KeepModel()
		}
		route.ResponseHeader(head.status, head.header)
		x.span.Response(head.status, route.Endpoint())
		if x.o.OnServed != nil {
			x.o.OnServed(route, route.Endpoint().Address)
		}
		if route.RestoresModel() && !m.EndOfStream && x.responseMode != modev3.ProcessingMode_NONE {
			// The length may change. With a body that is buffered the right one is set
			// when it is known.
			mutation = &headerMutation{RemoveHeaders: []string{"content-length"}}
		}
	}
	resp := &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{
		ResponseHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{HeaderMutation: mutation}},
	}}
	if m.EndOfStream {
		x.phase = finished
		x.core.ResponseBody(nil, true)
	} else if x.tunnel && (x.responseMode == modev3.ProcessingMode_BUFFERED || x.responseMode == modev3.ProcessingMode_STREAMED) {
		passRest(resp.GetResponseHeaders())
		x.responseMode = modev3.ProcessingMode_NONE
	}
	return x.send(resp)
}

func (x *exchange) responseBody(m *extprocv3.HttpBody) error {
	last := m.EndOfStream || x.responseMode == modev3.ProcessingMode_BUFFERED
	out := x.core.ResponseBody(m.GetBody(), last)
	send := x.send
	if last {
		send = x.reporting()
	}
	if m.EndOfStream {
		x.phase = finished
	}
	switch x.responseMode {
	case modev3.ProcessingMode_FULL_DUPLEX_STREAMED:
		return sendChunks(send, response, out, m.EndOfStream)
	case modev3.ProcessingMode_BUFFERED:
		return send(replacedBody(out, &headerMutation{SetHeaders: setHeaders("content-length", strconv.Itoa(len(out)))}))
	}
	return send(replacedBody(out, nil))
}

// responseTrailers ends a response's body.
func (x *exchange) responseTrailers(m *extprocv3.HttpTrailers) error {
	if route := x.core.Route(); route != nil {
		var head responseHead
		head.read(m.GetTrailers())
		route.ResponseTrailer(head.header)
	}
	rest := x.core.ResponseBody(nil, true)
	send := x.reporting()
	if len(rest) > 0 && x.responseMode == modev3.ProcessingMode_FULL_DUPLEX_STREAMED {
		if err := sendChunks(send, response, rest, false); err != nil {
			return err
		}
	}
	x.phase = finished
	return send(trailersResponse(response))
}
