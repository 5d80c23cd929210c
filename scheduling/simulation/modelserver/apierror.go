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
	status  int
	kind    string // OpenAI's error type
	code    string // OpenAI's error code; empty: null
	param   string // the offending field; empty: null
	message string
}

func invalid(param, format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, "invalid_request_error", "", param, fmt.Sprintf(format, args...)}
}

func unknownModel(name string) *apiError {
	return &apiError{
		http.StatusNotFound, "invalid_request_error", "model_not_found", "model",
		fmt.Sprintf("The model '%s' does not exist on this simulated server.", name),
	}
}

func (e *apiError) write(w http.ResponseWriter) {
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	writeJSON(w, e.status, map[string]any{"error": map[string]any{
		"message": e.message, "type": e.kind, "param": null(e.param), "code": null(e.code),
	}})
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
	writeJSON(w, e.status, map[string]any{"type": "error", "error": map[string]any{"type": kind, "message": e.message}})
}

// readJSON reads the whole body into v.
func (p *process) readJSON(w http.ResponseWriter, r *http.Request, v any) *apiError {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, p.opts.MaxBodyBytes))
	if err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return &apiError{
				http.StatusRequestEntityTooLarge, "invalid_request_error", "", "",
				fmt.Sprintf("The request body is larger than %d bytes.", tooLarge.Limit),
			}
		}
		return invalid("", "The request body could not be read: %v", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return invalid("", "The request body is not valid: %v", err)
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		// Everything that is written here is built from strings and numbers.
		panic("modelserver: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, text)
}
