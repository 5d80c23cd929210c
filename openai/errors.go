package openai

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonscan"
)

// Error is why Parse refused a request. It is the client's fault, so that
// Message is written for the client, and Body is the answer to send.
type Error struct {
	Status  int    // HTTP status: 400 malformed, 413 too large
	Code    string // one of the Code constants
	Param   string // the field at fault, empty if it is the whole body
	Offset  int    // where in the body, in bytes from 0; -1 if nowhere in particular
	Message string // what, where, and what to do
}

// What an Error's Code may be.
const (
	CodeInvalidJSON  = "invalid_json"               // not JSON, or nested too deep
	CodeInvalidForm  = "invalid_form"               // not multipart/form-data as announced
	CodeInvalidGRPC  = "invalid_grpc"               // not one message of gRPC
	CodeInvalidType  = "invalid_type"               // a field of another type than it must be
	CodeInvalidValue = "invalid_value"              // a field of the right type that cannot be used
	CodeMissing      = "missing_required_parameter" // a field that must be there is not
	CodeTooLong      = "string_above_max_length"    // a string beyond its limit
	CodeTooLarge     = "request_too_large"          // the body is beyond its limit
)

// Error returns the message after the name of the package.
func (e *Error) Error() string { return "openai: " + e.Message }

// Body returns the error as the body of an answer from api. For paths whose API is
// Other, ErrorBodyFor knows better.
func (e *Error) Body(api API) []byte {
	if api == Messages || api == CountTokens {
		return MessagesErrorBody(e.Status, e.Message)
	}
	return ErrorBody(e.Status, e.Message, e.Param, e.Code)
}

// ErrorBody returns an error in the form that clients of the OpenAI API expect:
//
//	{"error":{"message":…,"type":…,"param":…,"code":…}}
//
// The type follows from the HTTP status. An empty param or code is null. For a
// model that is not served, code is by custom "model_not_found" and param
// "model".
func ErrorBody(status int, message, param, code string) []byte {
	b := make([]byte, 0, 96+len(message)+len(param)+len(code))
	b = append(b, `{"error":{"message":`...)
	b = jsonscan.AppendQuote(b, message)
	b = append(b, `,"type":`...)
	b = jsonscan.AppendQuote(b, errorType(status))
	b = append(b, `,"param":`...)
	b = appendOrNull(b, param)
	b = append(b, `,"code":`...)
	b = appendOrNull(b, code)
	return append(b, "}}"...)
}

func appendOrNull(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return jsonscan.AppendQuote(b, s)
}

func errorType(status int) string {
	switch {
	case status == 401:
		return "authentication_error"
	case status == 403:
		return "permission_error"
	case status == 429:
		return "rate_limit_error"
	case status == 503:
		return "service_unavailable"
	case status >= 500:
		return "server_error"
	}
	return "invalid_request_error"
}

// MessagesErrorBody returns an error in the form of Anthropic's /v1/messages:
//
//	{"type":"error","error":{"type":…,"message":…}}
//
// The inner type follows from the HTTP status.
func MessagesErrorBody(status int, message string) []byte {
	b := make([]byte, 0, 80+len(message))
	b = append(b, `{"type":"error","error":{"type":`...)
	b = jsonscan.AppendQuote(b, messagesErrorType(status))
	b = append(b, `,"message":`...)
	b = jsonscan.AppendQuote(b, message)
	return append(b, "}}"...)
}

func messagesErrorType(status int) string {
	switch {
	case status == 401:
		return "authentication_error"
	case status == 403:
		return "permission_error"
	case status == 404:
		return "not_found_error"
	case status == 413:
		return "request_too_large"
	case status == 429:
		return "rate_limit_error"
	case status == 503 || status == 529:
		return "overloaded_error"
	case status >= 500:
		return "api_error"
	}
	return "invalid_request_error"
}

// ErrorBodyFor returns an error in the form that clients of the path expect: MessagesErrorBody for Anthropic's /v1/messages
// and what is below it, {"error":message,"error_type":…} for text-embeddings-inference's own, {"message":…} before what
// ErrorBody has for Cohere's, since others offer these too, and ErrorBody for all others.
func ErrorBodyFor(path string, status int, message, param, code string) []byte {
	switch {
	case isAnthropic(path):
		return MessagesErrorBody(status, message)
	case hasEnd(path, "/v2/embed", "/v2/rerank", "/v2/chat", "/v1/embed"):
		b := jsonscan.AppendQuote([]byte(`{"message":`), message)
		return append(append(b, ','), ErrorBody(status, message, param, code)[1:]...)
	case hasEnd(path, "/embed", "/embed_all", "/embed_sparse", "/predict", "/similarity"):
		b := jsonscan.AppendQuote([]byte(`{"error":`), message)
		return append(jsonscan.AppendQuote(append(b, `,"error_type":`...), inferenceErrorType(status)), '}')
	}
	return ErrorBody(status, message, param, code)
}

// inferenceErrorType returns the word that text-embeddings-inference has for an error.
func inferenceErrorType(status int) string {
	switch {
	case status == 429 || status == 503:
		return "overloaded"
	case status >= 500:
		return "backend"
	}
	return "validation"
}

func hasEnd(path string, ends ...string) bool {
	path = plainPath(path)
	return slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(path, end) })
}

func tooLarge(size, limit int) error {
	return &Error{
		Status: 413, Code: CodeTooLarge, Offset: -1,
		Message: fmt.Sprintf("the body has %d bytes, more than the limit of %d; send a shorter one", size, limit),
	}
}

// notJSON makes an Error of what the scanner found.
func notJSON(err error, body []byte) error {
	e := &Error{Status: 400, Code: CodeInvalidJSON, Offset: -1}
	var at *jsonscan.Error
	if !errors.As(err, &at) {
		e.Message = "the body cannot be read as JSON: " + err.Error()
		return e
	}
	e.Offset = at.Offset
	advice := "send one JSON object"
	switch {
	case at.TooDeep: // the scanner's message says so
		advice = "use fewer levels of objects and arrays"
	case len(body) >= 2 && body[0] == 0x1f && body[1] == 0x8b:
		advice = "it seems to be compressed by gzip: send it as it is"
	}
	e.Message = fmt.Sprintf("the body cannot be read as JSON: %s at line %d column %d (byte %d); %s",
		at.Msg, at.Line, at.Column, at.Offset, advice)
	return e
}

// wrongField makes an Error about one field of a JSON body.
func wrongField(code, param string, offset int, body []byte, format string, args ...any) error {
	line, column := jsonscan.Position(body, offset)
	return &Error{
		Status: 400, Code: code, Param: param, Offset: offset,
		Message: fmt.Sprintf("field %q at line %d column %d (byte %d) ", param, line, column, offset) + fmt.Sprintf(format, args...),
	}
}

// MissingModel returns the error for a request that names no model, for those who
// parse with Limits.ModelOptional and have none for it.
func MissingModel() *Error {
	return &Error{
		Status: 400, Code: CodeMissing, Param: "model", Offset: -1,
		Message: `field "model" is missing; name the model that shall answer`,
	}
}
