package picker

import (
	"strconv"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

func (x *exchange) responseHeaders(m *extprocv3.HttpHeaders, msg *extprocv3.ProcessingRequest) error {
	x.phase = responseBody
	var head responseHead
	head.read(m.GetHeaders())
	var mutation *headerMutation
	if x.routed != nil {
		if address := servedBy(msg.GetMetadataContext()); address != "" {
			x.routed.Served(address)
		}
		if x.responseMode == modev3.ProcessingMode_STREAMED {
			// Chunk by chunk nothing can be added at the end, so nothing may be held back.
			x.routed.KeepModel()
		}
		x.routed.ResponseHeader(head.status, head.header)
		x.span.Response(head.status, x.routed.Endpoint())
		if x.o.OnServed != nil {
			x.o.OnServed(x.routed, x.routed.Endpoint().Address)
		}
		if x.routed.RestoresModel() && !m.EndOfStream && x.responseMode != modev3.ProcessingMode_NONE {
			// The length may change. With a body that is buffered the right one is set
			// when it is known.
			mutation = &headerMutation{RemoveHeaders: []string{"content-length"}}
		}
	}
	resp := &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{
		ResponseHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{HeaderMutation: mutation}},
	}}
	if m.EndOfStream {
		x.end()
	} else if x.tunnel && (x.responseMode == modev3.ProcessingMode_BUFFERED || x.responseMode == modev3.ProcessingMode_STREAMED) {
		passRest(resp.GetResponseHeaders())
		x.responseMode = modev3.ProcessingMode_NONE
	}
	return x.send(resp)
}

func (x *exchange) responseBody(m *extprocv3.HttpBody) error {
	out := m.GetBody()
	if x.routed != nil && len(out) > 0 {
		out = x.routed.Data(out)
	}
	last := m.EndOfStream || x.responseMode == modev3.ProcessingMode_BUFFERED
	send := x.send
	if last {
		out = x.withRest(out)
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
	if x.routed != nil {
		var head responseHead
		head.read(m.GetTrailers())
		x.routed.ResponseTrailer(head.header)
	}
	rest := x.withRest(nil)
	send := x.reporting()
	if len(rest) > 0 && x.responseMode == modev3.ProcessingMode_FULL_DUPLEX_STREAMED {
		if err := sendChunks(send, response, rest, false); err != nil {
			return err
		}
	}
	x.phase = finished
	return send(trailersResponse(response))
}

// withRest returns out and what is left to pass on after it.
func (x *exchange) withRest(out []byte) []byte {
	if x.routed == nil {
		return out
	}
	// Data's result is valid until End.
	held := append([]byte(nil), out...)
	rest := x.routed.End()
	if len(rest) == 0 {
		return held
	}
	return append(held, rest...)
}

// end is the end of a response without a body.
func (x *exchange) end() {
	x.phase = finished
	if x.routed != nil {
		x.routed.End()
	}
}
