package modelserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// apiError is a reply that says what is wrong with a request.
type apiError struct {
	status int
	// In OpenAI's words; nil: null.
	kind        string
	param, code any
	message     string
}

func invalid(param, format string, args ...any) *apiError {
	e := &apiError{status: http.StatusBadRequest, kind: "invalid_request_error", message: fmt.Sprintf(format, args...)}
	if param != "" {
		e.param = param
	}
	return e
}

func unknownModel(name string) *apiError {
	e := invalid("model", "The model '%s' does not exist on this simulated server.", name)
	e.status, e.code = http.StatusNotFound, "model_not_found"
	return e
}

func (e *apiError) write(w http.ResponseWriter) {
	writeJSON(w, e.status, object{"error": object{"message": e.message, "type": e.kind, "param": e.param, "code": e.code}})
}

// writeAnthropic writes the error as the Messages API does.
func (e *apiError) writeAnthropic(w http.ResponseWriter) {
	kind := "invalid_request_error"
	switch {
	case e.status == http.StatusNotFound:
		kind = "not_found_error"
	case e.status == http.StatusRequestEntityTooLarge:
		kind = "request_too_large"
	case e.status >= http.StatusInternalServerError:
		kind = "api_error"
	}
	writeJSON(w, e.status, object{"type": "error", "error": object{"type": kind, "message": e.message}})
}

// readJSON reads the whole body into v.
func (p *process) readJSON(w http.ResponseWriter, r *http.Request, v any) *apiError {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, p.opts.MaxBodyBytes))
	if err != nil {
		return unreadable(err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return invalid("", "The request body is not valid: %v", err)
	}
	return nil
}

// unreadable is the reply to a body that broke off, or is too large.
func unreadable(err error) *apiError {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		e := invalid("", "The request body is larger than %d bytes.", tooLarge.Limit)
		e.status = http.StatusRequestEntityTooLarge
		return e
	}
	return invalid("", "The request body could not be read: %v", err)
}

type (
	object = map[string]any
	list   = []any
)

// toJSON encodes what is built from strings and numbers.
func toJSON(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic("modelserver: " + err.Error())
	}
	return body
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body := toJSON(v)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}
