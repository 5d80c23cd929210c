package director

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
)

// Codes of an Error beside those of package openai.
const (
	CodeModelNotFound = "model_not_found"      // 404
	CodeSaturated     = "saturated"            // 429
	CodeNoEndpoint    = "no_endpoint"          // 503
	CodeCancelled     = "cancelled"            // 499
	CodeInternal      = "internal"             // 500
	CodeBadHeader     = "invalid_header"       // 400
	CodeUpstream      = "upstream_unavailable" // 502
	CodeEncoding      = "unsupported_encoding" // 415
	CodePath          = "path_not_allowed"     // 403
	CodeReserved      = "reserved_field"       // 400
	CodeNoPrefill     = "no_prefill_endpoint"  // 503
)

// HeaderReason is the response header that tells a client's gateway why a request
// was not served: the Code of the Error. That of a request that admission control
// refused is its admission.Reason.
const HeaderReason = "X-Inferpick-Reason"

// StatusClientClosed is the status for a client that went away, after nginx's
// 499. Nobody receives it; it is for logs.
const StatusClientClosed = 499

// Error is why a request was not routed, in the terms of HTTP.
type Error struct {
	Status  int
	Code    string
	Param   string // the field or header at fault, if it is one
	Message string // for the client: what, where, what to do
	// RetryAfter is when to try again, 0 if that is not known.
	RetryAfter time.Duration
	// API and Path say in which form the body is written.
	API  openai.API
	Path string
	Err  error // the cause
}

// Error returns the message and the cause, which is not for clients.
func (e *Error) Error() string {
	if e.Err == nil {
		return "director: " + e.Message
	}
	return "director: " + e.Message + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Body returns the answer's body in the form that the client of the API expects.
// Its content type is application/json.
func (e *Error) Body() []byte {
	if e.API == openai.Messages || e.API == openai.CountTokens {
		return openai.MessagesErrorBody(e.Status, e.Message)
	}
	return openai.ErrorBodyFor(e.Path, e.Status, e.Message, e.Param, e.Code)
}

// Header returns the answer's headers.
func (e *Error) Header() map[string][]string {
	h := map[string][]string{"Content-Type": {"application/json"}, HeaderReason: {e.Code}}
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		h["Retry-After"] = []string{strconv.Itoa(int(seconds))}
	}
	return h
}

// answer returns the whole answer.
func (e *Error) answer() Answer {
	return Answer{Status: e.Status, Header: e.Header(), Body: e.Body(), Err: e}
}

// AsError returns err as an *Error; one that Route did not return becomes a 500.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Status: 500, Code: CodeInternal, Message: err.Error(), Err: err}
}

// translate gives err, from any part below, its place in HTTP, and the client a
// message without our insides.
func (d *Director) translate(err error, r *Route) *Error {
	api, model := r.parsed.API, strconv.Quote(r.Request.Model)
	if own, ok := errors.AsType[*Error](err); ok {
		own.API, own.Path = api, r.path
		return own
	}
	e := &Error{Status: 500, Code: CodeInternal, Message: "the request could not be scheduled", Err: err, API: api, Path: r.path}
	var parse *openai.Error
	var refused *admission.Refusal
	switch {
	case errors.As(err, &parse):
		e.Status, e.Code, e.Param, e.Message = parse.Status, parse.Code, parse.Param, parse.Message
	case errors.Is(err, datastore.ErrUnknownModel), errors.Is(err, datastore.ErrNoTarget):
		e.Status, e.Code, e.Param = 404, CodeModelNotFound, "model"
		e.Message = "the model " + model + " does not exist"
	case errors.As(err, &refused):
		e.Status, e.Code, e.RetryAfter = 429, string(refused.Reason), refused.RetryAfter
		if refused.Reason.Unavailable() {
			e.Status = 503
		}
		e.Message = refusalMessage(refused.Reason, model)
	case errors.Is(err, scheduling.ErrSaturated):
		e.Status, e.Code, e.RetryAfter = 429, CodeSaturated, d.retryAfter
		e.Message = "all servers of the model " + model + " are busy, try again later"
	case errors.Is(err, scheduling.ErrNoPrefill):
		e.Status, e.Code, e.RetryAfter = 503, CodeNoPrefill, d.retryAfter
		e.Message = "no endpoint could compute the prompt, try again later"
	case errors.Is(err, datastore.ErrNoPool), errors.Is(err, scheduling.ErrNoEndpoint):
		e.Status, e.Code = 503, CodeNoEndpoint
		e.Message = "no server of the model " + model + " is available"
	case errors.Is(err, context.Canceled):
		e.Status, e.Code, e.Message = StatusClientClosed, CodeCancelled, "the client closed the request"
	case errors.Is(err, context.DeadlineExceeded):
		e.Status, e.Code, e.Message = 504, CodeCancelled, "the request ran out of time before it was scheduled"
	}
	return e
}

// refusalMessage is what a client is told.
func refusalMessage(why admission.Reason, model string) string {
	switch why {
	case admission.Requests:
		return "too many requests for the model " + model + " in a minute, try again later"
	case admission.Tokens:
		return "too many tokens for the model " + model + " in a minute, try again later"
	case admission.TimedOut:
		return "the servers of the model " + model + " were busy for as long as the request could wait, try again later"
	case admission.NoEndpoint:
		return "no server of the model " + model + " is available"
	case admission.Closed:
		return "the gateway is shutting down"
	case admission.Revoked:
		return "the request was ended because one of a higher priority needed its place at the servers of the model " + model + ", try again later"
	}
	return "all servers of the model " + model + " are busy, try again later"
}
