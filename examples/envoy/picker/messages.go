package picker

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
)

// chunkBytes is the size of the chunks in which bodies go back: Envoy takes at most
// 64 KiB with what is around them.
const chunkBytes = 62_000

type headerMutation = extprocv3.HeaderMutation

// direction says which half of an exchange a message belongs to.
type direction bool

const (
	request  direction = false
	response direction = true
)

// passRest makes of an answer to headers one after which Envoy passes the body on by itself.
// It is not for a full duplex body, of which some may be on its way here already.
func passRest(r *extprocv3.HeadersResponse) {
	r.Response.Status = extprocv3.CommonResponse_CONTINUE_AND_REPLACE // by nothing, as it is
}

// wholeBody puts body in the place of another.
func wholeBody(body []byte) *extprocv3.BodyMutation {
	return &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: body}}
}

// replacedBody is the answer to a part of a response's body that is not full duplex.
func replacedBody(body []byte, mutation *headerMutation) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: &extprocv3.BodyResponse{
		Response: &extprocv3.CommonResponse{HeaderMutation: mutation, BodyMutation: wholeBody(body)},
	}}}
}

// sendChunks gives a body back full duplex; last if it ends with these bytes.
func sendChunks(send func(*extprocv3.ProcessingResponse) error, d direction, body []byte, last bool) error {
	for {
		n := min(len(body), chunkBytes)
		end := last && n == len(body)
		if n == 0 && !end {
			return nil
		}
		if err := send(chunk(d, body[:n], end)); err != nil {
			return err
		}
		if body = body[n:]; len(body) == 0 {
			return nil
		}
	}
}

func chunk(d direction, body []byte, end bool) *extprocv3.ProcessingResponse {
	r := &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{BodyMutation: &extprocv3.BodyMutation{
		Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{Body: body, EndOfStream: end}},
	}}}
	if d == response {
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: r}}
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: r}}
}

func trailersResponse(d direction) *extprocv3.ProcessingResponse {
	if d == response {
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}}}
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestTrailers{RequestTrailers: &extprocv3.TrailersResponse{}}}
}

// immediate is an answer in place of a server's.
func immediate(a *exchange.Answer) *extprocv3.ProcessingResponse {
	var pairs []string
	for name, value := range a.Fields() {
		pairs = append(pairs, name, value)
	}
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &extprocv3.ImmediateResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(a.Status)},
		Headers: &headerMutation{SetHeaders: setHeaders(pairs...)},
		Body:    a.Body,
		Details: a.Details,
	}}}
}

// setHeaders returns headers that take the place of others of the same name, which is in lower case.
// Envoy reads raw_value.
func setHeaders(pairs ...string) []*corev3.HeaderValueOption {
	out := make([]*corev3.HeaderValueOption, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	return out
}
