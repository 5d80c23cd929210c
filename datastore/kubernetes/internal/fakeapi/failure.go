package fakeapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Failure is how a request fails.
type Failure struct {
	// Wait delays the answer, for a slow server. With no Code the request then succeeds.
	Wait time.Duration

	// Drop closes the connection without an answer, as a server that is away.
	Drop bool

	Code       int // of HTTP
	Reason     string
	Message    string
	RetryAfter int // seconds; 0: none

	// InStream sends the failure as an event of type ERROR in a watch that began with 200.
	InStream bool
	// Pace sends a list in ten pieces, each so long after the one before.
	Pace time.Duration
	// Truncate ends the body of a list after so many bytes. 0: it does not.
	Truncate int
	// Body is sent with Code as it is, instead of a Status. Nil: a Status.
	Body []byte
}

// Forbidden returns what a server says without the right to do r.
func Forbidden(r Request) *Failure {
	return &Failure{Code: http.StatusForbidden, Reason: "Forbidden",
		Message: fmt.Sprintf("%s is forbidden: User \"u\" cannot %s resource %q in the namespace %q", r.Resource, r.Verb, r.Resource, r.Namespace)}
}

// Away returns what a server that is down does.
func Away(Request) *Failure { return &Failure{Drop: true} }

// Expired returns what a server says to who wants the past.
func Expired() *Failure {
	return &Failure{Code: http.StatusGone, Reason: "Expired", Message: "too old resource version"}
}

// TooBusy returns what an overloaded server says.
func TooBusy(retryAfter int) *Failure {
	return &Failure{Code: http.StatusTooManyRequests, Reason: "TooManyRequests", Message: "too many requests", RetryAfter: retryAfter}
}

func notFound(what string) *Failure {
	return &Failure{Code: http.StatusNotFound, Reason: "NotFound", Message: what + " not found"}
}

func conflict(what string) *Failure {
	return &Failure{Code: http.StatusConflict, Reason: "Conflict", Message: what + ": the object has been modified"}
}

func badRequest(err error) *Failure {
	return &Failure{Code: http.StatusBadRequest, Reason: "BadRequest", Message: err.Error()}
}

// status is the failure as an object of the API.
func (f *Failure) status() object {
	s := object{
		"kind": "Status", "apiVersion": "v1", "metadata": object{}, "status": "Failure",
		"message": f.Message, "reason": f.Reason, "code": f.Code,
	}
	if f.RetryAfter > 0 {
		s["details"] = object{"retryAfterSeconds": f.RetryAfter}
	}
	return s
}

func (f *Failure) write(w http.ResponseWriter) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	if f.Body != nil {
		w.WriteHeader(f.Code)
		_, _ = w.Write(f.Body)
		return
	}
	answer(w, f.Code, f.status())
}

func answer(w http.ResponseWriter, code int, o any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(o)
}
