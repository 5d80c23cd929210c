package openai

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonscan"
)

// maxErrorText bounds each string of a ServerError, in bytes.
const maxErrorText = 1 << 10

// ServerError is an error object in a response. Its strings have at most 1 KiB.
type ServerError struct {
	Type, Code string // as the server gave them, often empty
	Message    string

	// Status is the HTTP status that the error stands for, 400 to 599: the number
	// that the server gave as its code or status, otherwise what the name of its
	// code or type stands for with OpenAI, Anthropic, vLLM and others. 500 if
	// neither tells. It is below 500 where the request is to blame.
	Status int
}

// Error returns the server's message with its type or code.
func (e *ServerError) Error() string {
	name := e.Type
	if name == "" {
		name = e.Code
	}
	if name == "" {
		return "openai: server reported: " + e.Message
	}
	return "openai: server reported " + name + ": " + e.Message
}

// ModelMissing reports whether the server says that it does not have the model that it was asked for, or the adapter:
// with the code of OpenAI, or in the words of vLLM, Ollama and others. It is for answers with status 404. What a server says of a path, or of another
// thing that a request named, is none of that.
func (e *ServerError) ModelMissing() bool {
	for _, name := range [...]string{e.Code, e.Type} {
		if strings.TrimSuffix(normalizedName(name), "error") == "modelnotfound" {
			return true
		}
	}
	text := strings.TrimPrefix(strings.ToLower(e.Message), "the ")
	for _, thing := range [...]string{"model ", "lora ", "adapter "} {
		if strings.HasPrefix(text, thing) {
			return slices.ContainsFunc(notThere[:], func(is string) bool { return strings.Contains(text, is) })
		}
	}
	return false
}

// notThere is what servers say of what is not there.
var notThere = [...]string{"not exist", "not found", "not be found", "not loaded"}

// errorFields is where the fields of an error are.
type errorFields struct {
	message, kind, code, status, statusCode value
}

func (r *reading) readError() {
	kind, _ := r.scan.Peek()
	if kind != jsonscan.Object {
		v := readValue(&r.scan)
		switch kind {
		case jsonscan.String:
			r.inner.message = v
		case jsonscan.Number:
			r.inner.code = v
		case jsonscan.Array:
			return // of no form we know
		}
		r.hasError = r.meaningful(v)
		return
	}
	r.hasError = false
	for r.scan.Enter(); r.scan.Key(); {
		key := keyOf(&r.scan, r.data)
		v := readValue(&r.scan)
		switch string(key) {
		case "message":
			r.inner.message = v
		case "type":
			r.inner.kind = v
		case "code":
			r.inner.code = v
		case "status":
			r.inner.status = v
		case "status_code", "http_status_code":
			r.inner.statusCode = v
		}
		r.hasError = r.hasError || r.meaningful(v)
	}
}

// meaningful reports whether a value says anything.
func (r *reading) meaningful(v value) bool {
	raw := r.data[v.span.Start:v.span.End]
	switch v.kind {
	case jsonscan.Bool:
		return raw[0] == 't'
	case jsonscan.Number:
		return string(raw) != "0"
	case jsonscan.String:
		return len(raw) > 0
	case jsonscan.Array, jsonscan.Object:
		return len(bytes.Trim(raw, "[]{} \t\r\n")) > 0
	}
	return false
}

// serverError returns the error that the body or event is, or nil.
func (r *reading) serverError() *ServerError {
	// The state of a thing that was asked for, like a batch or a film that failed, is no
	// error of the answer.
	state := !r.event && (r.s.api == Other || r.s.api == Videos || r.s.keeps) && len(r.object) > 0
	old := r.named || string(r.object) == "error" // the fields of the error are at the top
	switch {
	case old, string(r.kind) == "error", string(r.kind) == "response.failed":
	case string(r.object) == "response" && !state && r.short(r.outer.status, 8) == "failed":
	case r.hasError && !state && !r.output && !r.answer:
	default:
		return nil
	}
	e := &ServerError{
		Message: r.firstOf(r.inner.message, r.outer.message),
		Type:    r.firstOf(r.inner.kind, r.outer.kind),
		Code:    r.firstOf(r.inner.code, r.outer.code),
	}
	if e.Type == "" && string(r.kind) != "error" && (old || !r.event) {
		e.Type = cut(r.kind, maxErrorText)
	}
	e.Status = r.status(e)
	return e
}

// status returns the HTTP status that an error stands for.
func (r *reading) status(e *ServerError) int {
	for _, v := range [...]value{
		r.inner.code, r.inner.status, r.inner.statusCode, r.outer.code, r.outer.status, r.outer.statusCode,
	} {
		number, _, _ := strings.Cut(r.short(v, maxErrorText), " ")
		if n, err := strconv.Atoi(number); err == nil && n >= 400 && n <= 599 {
			return n
		}
	}
	for _, name := range [...]string{e.Code, e.Type, r.firstOf(r.inner.status, r.outer.status)} {
		letters := normalizedName(name)
		if status := statusOfName(letters); status != 0 {
			return status
		}
		for _, client := range [...]string{"invalid", "unsupported", "missing"} {
			if strings.HasPrefix(letters, client) {
				return 400
			}
		}
	}
	if status := statusOfName(normalizedName(e.Message)); status != 0 {
		return status
	}
	return 500
}

// normalizedName returns the letters of a name in lower case, so that not_found_error,
// NotFoundError and Not Found Error are all the same. A long one is no name.
func normalizedName(name string) string {
	if len(name) > 64 {
		return ""
	}
	letters := make([]byte, 0, 64)
	for i := range len(name) {
		if c := name[i] | 0x20; c >= 'a' && c <= 'z' {
			letters = append(letters, c)
		}
	}
	return string(letters)
}

// statusOfName returns the HTTP status that servers mean by the name of an error,
// in letters, or 0.
func statusOfName(letters string) int {
	if letters == "overloadederror" {
		return 529 // Anthropic's
	}
	switch strings.TrimSuffix(letters, "error") {
	case "badrequest", "value", "contextlengthexceeded", "exceedcontextsize", "stringabovemaxlength",
		"contentfilter", "contentpolicyviolation", "failedprecondition", "outofrange":
		return 400
	case "unauthorized", "unauthenticated", "authentication", "invalidapikey", "incorrectapikey":
		return 401
	case "billing", "paymentrequired":
		return 402
	case "forbidden", "permission", "permissiondenied":
		return 403
	case "notfound", "modelnotfound":
		return 404
	case "methodnotallowed":
		return 405
	case "requesttimeout":
		return 408
	case "conflict", "alreadyexists":
		return 409
	case "requesttoolarge", "requestentitytoolarge", "contenttoolarge", "payloadtoolarge":
		return 413
	case "unsupportedmediatype":
		return 415
	case "unprocessableentity", "unprocessablecontent", "validation": // the last is text-generation-inference's
		return 422
	case "ratelimit", "ratelimitexceeded", "toomanyrequests", "insufficientquota", "quotaexceeded", "resourceexhausted":
		return 429
	case "server", "internalserver", "internal", "api":
		return 500
	case "notimplemented", "notsupported", "unimplemented":
		return 501
	case "badgateway":
		return 502
	case "serviceunavailable", "unavailable", "overloaded", "engineoverloaded", "serveroverloaded", "modeloverloaded", "slowdown":
		return 503
	case "gatewaytimeout", "timeout", "deadlineexceeded":
		return 504
	}
	return 0
}

// firstOf returns the first of two strings or numbers that is there.
func (r *reading) firstOf(v, w value) string {
	if s := r.short(v, maxErrorText); s != "" {
		return s
	}
	return r.short(w, maxErrorText)
}

// short returns a string or a number, no more than limit bytes of it.
func (r *reading) short(v value, limit int) string {
	raw := r.data[v.span.Start:v.span.End]
	switch v.kind {
	case jsonscan.String:
		if len(raw) > 6*limit {
			raw = raw[:6*limit]
		}
		return cut(jsonscan.Unquote(nil, raw), limit)
	case jsonscan.Number:
		return cut(raw, limit)
	}
	return ""
}

// cut returns no more than limit bytes of a text.
func cut(text []byte, limit int) string {
	return strings.ToValidUTF8(string(text[:min(len(text), limit)]), "")
}
