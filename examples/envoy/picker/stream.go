package picker

import (
	"context"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
)

// phase is how far an exchange has come.
type phase uint8

const (
	awaitRequest  phase = iota // nothing has come
	requestBody                // the request's headers have, its body is coming
	awaitResponse              // the request is on its way
	responseBody               // the response's headers have come, its body is coming
	finished                   // nothing more is expected
)

func (p phase) String() string {
	return [...]string{"before the request", "in the request's body", "before the response", "in the response's body", "after the end"}[p]
}

// stream is one HTTP exchange: what one ext_proc stream is about. It is for one
// goroutine.
type stream struct {
	*exchange.Exchange
	ctx    context.Context
	seldom *seldom.Logger
	send   func(*extprocv3.ProcessingResponse) error

	phase   phase
	started bool // the first message was read
	// requestEnded says that Envoy has sent the last of the request.
	requestEnded bool
	// The modes of this stream.
	requestMode, responseMode BodyMode
}

// over reports whether nothing more is expected from Envoy.
func (x *stream) over() bool { return x.phase == finished }

// handle processes one message. An error ends the stream; it is a gRPC status.
func (x *stream) handle(msg *extprocv3.ProcessingRequest) error {
	if !x.started {
		x.started = true
		if err := x.begin(msg); err != nil {
			return err
		}
	}
	x.readSubset(msg.GetMetadataContext())
	switch m := msg.Request.(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		if x.phase != awaitRequest {
			return x.misplaced("request_headers")
		}
		x.requestEnded = m.RequestHeaders.GetEndOfStream()
		return x.requestHeaders(m.RequestHeaders)
	case *extprocv3.ProcessingRequest_RequestBody:
		if x.phase == awaitRequest {
			return status.Error(codes.FailedPrecondition, "picker: a request's body came without its headers: request_header_mode is SKIP, want SEND")
		}
		if x.requestEnded || x.phase != requestBody && !x.Tunnel() {
			return x.misplaced("request_body")
		}
		x.requestEnded = m.RequestBody.GetEndOfStream()
		return x.requestBody(m.RequestBody)
	case *extprocv3.ProcessingRequest_RequestTrailers:
		if x.requestEnded || x.phase == awaitRequest {
			return x.misplaced("request_trailers")
		}
		x.requestEnded = true
		return x.requestTrailers()
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		// Envoy may answer by itself, while the request is still coming, or before the
		// picker has heard of it at all: another filter refused it.
		if x.phase > awaitResponse {
			return x.misplaced("response_headers")
		}
		return x.responseHeaders(m.ResponseHeaders, msg)
	case *extprocv3.ProcessingRequest_ResponseBody:
		if x.phase != responseBody {
			return x.misplaced("response_body")
		}
		return x.responseBody(m.ResponseBody)
	case *extprocv3.ProcessingRequest_ResponseTrailers:
		if x.phase != responseBody {
			return x.misplaced("response_trailers")
		}
		return x.responseTrailers(m.ResponseTrailers)
	}
	return status.Error(codes.InvalidArgument, "picker: a message with no part of a request or response in it")
}

// begin reads what the first message says of the stream.
func (x *stream) begin(msg *extprocv3.ProcessingRequest) error {
	if msg.ObservabilityMode {
		return status.Error(codes.FailedPrecondition, "picker: observability_mode is on: a picker's answers must count")
	}
	if c := msg.ProtocolConfig; c != nil {
		x.requestMode, x.responseMode = c.RequestBodyMode, c.ResponseBodyMode
	}
	switch x.requestMode {
	case modev3.ProcessingMode_NONE, modev3.ProcessingMode_BUFFERED, modev3.ProcessingMode_FULL_DUPLEX_STREAMED:
	default:
		return status.Errorf(codes.FailedPrecondition, "picker: request_body_mode is %v, want FULL_DUPLEX_STREAMED or BUFFERED", x.requestMode)
	}
	switch x.responseMode {
	case modev3.ProcessingMode_NONE, modev3.ProcessingMode_BUFFERED, modev3.ProcessingMode_STREAMED, modev3.ProcessingMode_FULL_DUPLEX_STREAMED:
	default:
		return status.Errorf(codes.FailedPrecondition, "picker: response_body_mode is %v, want FULL_DUPLEX_STREAMED, STREAMED, BUFFERED or NONE", x.responseMode)
	}
	return nil
}

// misplaced is the error of a message out of order.
func (x *stream) misplaced(what string) error {
	return status.Errorf(codes.InvalidArgument, "picker: %s came %v", what, x.phase)
}

// close releases what is still booked, whatever has happened.
func (x *stream) close() {
	// That the stream ends with the request's response in it is as it should be if Envoy
	// does not send bodies. Else it ended early: the client went away, or the server broke
	// off, which Envoy does not tell apart.
	var err error
	if x.phase < responseBody || x.responseMode != modev3.ProcessingMode_NONE {
		err = context.Canceled
	}
	x.Close(err)
}

// decided goes on with a request that is complete: with the answer in place of a server's, or by
// telling Envoy with reply where it goes.
func (x *stream) decided(a *exchange.Answer, reply func(*stream) error) error {
	if a != nil {
		return x.answer(a)
	}
	x.phase = awaitResponse
	return reply(x)
}

// answer answers the request in place of a server.
func (x *stream) answer(a *exchange.Answer) error {
	x.phase = finished
	if a.Canceled() {
		return status.Error(codes.Canceled, a.Err.Message)
	}
	return x.send(immediate(a))
}
