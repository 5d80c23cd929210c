package picker

import (
	"strconv"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

func (x *stream) responseHeaders(m *extprocv3.HttpHeaders, msg *extprocv3.ProcessingRequest) error {
	x.phase = responseBody
	// Chunk by chunk nothing can be added at the end.
	keepModel := x.responseMode == modev3.ProcessingMode_STREAMED
	restores := x.Response(fields(m.GetHeaders()), servedBy(msg.GetMetadataContext()), keepModel)
	var mutation *headerMutation
	if restores && !m.EndOfStream && x.responseMode != modev3.ProcessingMode_NONE {
		// The length may change. With a body that is buffered the right one is set
		// when it is known.
		mutation = &headerMutation{RemoveHeaders: []string{"content-length"}}
	}
	resp := &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{
		ResponseHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{HeaderMutation: mutation}},
	}}
	if m.EndOfStream {
		x.phase = finished
		x.ResponseBody(nil, true)
	} else if x.Tunnel() && (x.responseMode == modev3.ProcessingMode_BUFFERED || x.responseMode == modev3.ProcessingMode_STREAMED) {
		passRest(resp.GetResponseHeaders())
		x.responseMode = modev3.ProcessingMode_NONE
	}
	return x.send(resp)
}

func (x *stream) responseBody(m *extprocv3.HttpBody) error {
	last := m.EndOfStream || x.responseMode == modev3.ProcessingMode_BUFFERED
	out := x.ResponseBody(m.GetBody(), last)
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
func (x *stream) responseTrailers(m *extprocv3.HttpTrailers) error {
	rest := x.ResponseTrailers(fields(m.GetTrailers()))
	send := x.reporting()
	if len(rest) > 0 && x.responseMode == modev3.ProcessingMode_FULL_DUPLEX_STREAMED {
		if err := sendChunks(send, response, rest, false); err != nil {
			return err
		}
	}
	x.phase = finished
	return send(trailersResponse(response))
}
