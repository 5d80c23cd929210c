package picker

import (
	"context"
	"errors"
	"log/slog"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
	"github.com/inferpick/inferpick/scheduling/director"
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

// exchange is one HTTP exchange: what one ext_proc stream is about. It is for one
// goroutine.
type exchange struct {
	ctx    context.Context
	o      *Options
	seldom *seldom.Logger
	wishes wishes
	send   func(*extprocv3.ProcessingResponse) error
	span   Span

	phase   phase
	started bool // the first message was read
	// tunnel says that the request is an upgrade or a CONNECT: it has no body that would
	// end before a response begins, and bytes pass as they come, both ways.
	tunnel bool
	// requestEnded says that Envoy has sent the last of the request.
	requestEnded bool
	// The modes of this stream.
	requestMode, responseMode BodyMode

	id    string // the request's, for logs
	named bool   // the picker gave it
	// core is the exchange as the director has it. nil: nothing has come. Without a route
	// what comes passes as it is: Envoy may answer a request itself before it was complete.
	core     *director.Exchange
	reported bool // Options.Report was asked
	apart    Apart
}

func newExchange(ctx context.Context, o *Options, warn *seldom.Logger, w wishes, send func(*extprocv3.ProcessingResponse) error) *exchange {
	return &exchange{ctx: ctx, o: o, seldom: warn, wishes: w, send: send, requestMode: o.RequestBody, responseMode: o.ResponseBody, span: noSpan{}}
}

// over reports whether nothing more is expected from Envoy.
func (x *exchange) over() bool { return x.phase == finished }

// handle processes one message. An error ends the stream; it is a gRPC status.
func (x *exchange) handle(msg *extprocv3.ProcessingRequest) error {
	if !x.started {
		x.started = true
		if err := x.begin(msg); err != nil {
			return err
		}
	}
	if x.core != nil {
		readSubset(msg.GetMetadataContext(), &x.core.Incoming)
	}
	switch m := msg.Request.(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		if x.phase != awaitRequest {
			return x.misplaced("request_headers")
		}
		x.requestEnded = m.RequestHeaders.GetEndOfStream()
		return x.requestHeaders(m.RequestHeaders, msg)
	case *extprocv3.ProcessingRequest_RequestBody:
		if x.phase == awaitRequest {
			return status.Error(codes.FailedPrecondition, "picker: a request's body came without its headers: request_header_mode is SKIP, want SEND")
		}
		if x.requestEnded || x.phase != requestBody && !x.tunnel {
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
func (x *exchange) begin(msg *extprocv3.ProcessingRequest) error {
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
func (x *exchange) misplaced(what string) error {
	return status.Errorf(codes.InvalidArgument, "picker: %s came %v", what, x.phase)
}

// close releases what is still booked, whatever has happened.
func (x *exchange) close() {
	defer x.span.End()
	if x.core == nil {
		return
	}
	// That the stream ends with the request's response in it is as it should be if Envoy
	// does not send bodies. Else it ended early: the client went away, or the server broke
	// off, which Envoy does not tell apart.
	var err error
	if x.phase < responseBody || x.responseMode != modev3.ProcessingMode_NONE {
		err = context.Canceled
	}
	defer x.encoded()
	x.core.Close(err)
}

// decided goes on with a request that is complete: with the answer that the director has in
// place of a server's, or by telling Envoy with reply where it goes.
func (x *exchange) decided(a *director.Answer, reply func(*exchange) error) error {
	if a != nil {
		return x.answer(a)
	}
	route := x.core.Route()
	x.phase = awaitResponse
	if x.o.Apart != nil {
		x.apart = x.o.Apart(x.ctx, &x.core.Incoming, route)
	}
	x.span.Routed(route)
	if x.o.OnRoute != nil {
		x.o.OnRoute(route)
	}
	if x.o.Logger.Enabled(x.ctx, slog.LevelDebug) {
		x.o.Logger.LogAttrs(x.ctx, slog.LevelDebug, "routed", slog.String("id", x.id), slog.String("model", route.Request.Model),
			slog.String("pool", route.Pool.String()), slog.String("endpoint", route.Endpoint().ID), slog.Duration("waited", route.Waited))
	}
	return reply(x)
}

// answer answers the request in place of a server.
func (x *exchange) answer(a *director.Answer) error {
	x.phase = finished
	details := "models"
	if e := a.Err; e != nil {
		details = e.Code
		x.span.Refused(e)
		if errors.Is(e, context.Canceled) {
			return status.Error(codes.Canceled, e.Message)
		}
		if x.o.Logger.Enabled(x.ctx, slog.LevelDebug) {
			x.o.Logger.LogAttrs(x.ctx, slog.LevelDebug, "refused", slog.String("id", x.id), slog.Int("status", e.Status), slog.Any("error", e))
		}
	}
	body := a.Body
	if x.core.Incoming.Method == "HEAD" {
		body = nil
	}
	return x.send(immediate(a.Status, a.Header, body, details))
}
