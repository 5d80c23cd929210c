package director

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// This file is what is decided about answers, from what the adapter has seen of them.

// ErrCutOff is the Outcome.Err of a response whose body ended as HTTP has it, but before
// the end that its API knows.
var ErrCutOff = errors.New("director: the response was cut off")

// errNoAnswer is why a request went on to a fallback if the adapter does not say.
var errNoAnswer = errors.New("director: no answer")

// IsAnswer reports whether a status is one that a server may answer with: 200 to 599.
// Others (101 that nobody asked for, 001) are no answer, whatever follows them.
func IsAnswer(status int) bool { return status >= 200 && status <= 599 }

// Retryable reports whether an answer of this status is worth asking another server:
// 429 and 529, for another one may have room, 502, 503 and 504.
func Retryable(status int) bool {
	switch status {
	case 429, 502, 503, 504, 529:
		return true
	}
	return false
}

// grpcStatus returns the HTTP status that an answer over gRPC means: its own, unless its
// headers or trailers say that there is no answer but an error.
func grpcStatus(status int, code string) int {
	if status != 200 || code == "" {
		return status
	}
	n, err := strconv.ParseUint(code, 10, 32)
	if err != nil {
		return 500
	}
	return types.GRPCStatus(uint32(n))
}

// attempt is what is known of a request at one endpoint.
type attempt struct {
	// Of the response's head.
	status     int // 0: none has come
	retryAfter time.Duration
	events     bool // it is a stream of events
	// Of its body so far.
	size    int64
	first   bool // the first token was seen
	reads   int  // pieces with something in them from then on
	stalled time.Duration
	// What the adapter says.
	err    error
	unsent bool
}

// ending is how a response ended, or the attempt to get one.
type ending uint8

const (
	ended    ending = iota // its body did, as HTTP has it
	accepted               // the adapter has seen enough
	broken                 // it broke off, or none has come
	gone                   // nobody wants it any more: the client, or an admission control
)

// judge returns how an attempt ended. The framing of HTTP says whether an answer is
// complete; what its body says beyond that the stream knows, which says nothing of what
// it does not know.
func judge(a *attempt, s *openai.Stream, how ending, err error) types.Outcome {
	out := types.Outcome{Status: a.status, ResponseBytes: a.size, Unsent: a.unsent}
	if a.status == 0 {
		out.Cancelled = how == gone
		if !out.Cancelled {
			out.Err = err
		}
		return out
	}
	out.Usage, out.ResponseID, out.Finish = s.Usage(), s.ResponseID(), s.Finish()
	out.OtherIDs, out.KeptUntil = s.OtherIDs(), keptFor(s.Job())
	out.Tokens, out.Reads, out.Stalled = s.Tokens(), a.reads, a.stalled
	if e, ok := s.Err().(*openai.ServerError); ok {
		out.ModelMissing = (a.status == 404 || a.status < 300 && e.Status == 404) && e.ModelMissing()
	}
	if failure := failureOf(a, s); failure != nil {
		out.Status = failure.Status
		if failure.Status >= 500 {
			out.Err = failure
		}
	} else {
		switch how {
		case ended:
			if a.status < 400 && s.CutOff() {
				out.Err = ErrCutOff
			}
		case broken:
			if !(a.events && s.Done()) { // all that the client waits for has come
				out.Err = err
			}
		case gone:
			out.Cancelled = !s.Done()
		}
	}
	if out.Busy() {
		out.RetryAfter = a.retryAfter
	}
	return out
}

// failureOf returns the error that a body has after a status that says there is none.
func failureOf(a *attempt, s *openai.Stream) *openai.ServerError {
	if a.status == 0 || a.status >= 300 {
		return nil
	}
	failure, _ := s.Err().(*openai.ServerError)
	return failure
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = time.Hour

// httpDates are the forms of dates in HTTP.
var httpDates = [...]string{"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC}

// retryAfter reads the header Retry-After: seconds or a date. What is neither is 0.
func retryAfter(value string) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if seconds, ok := decimal(value); ok {
		return time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
	}
	for _, form := range httpDates {
		if date, err := time.Parse(form, value); err == nil {
			return min(max(time.Until(date), 0), maxRetryAfter)
		}
	}
	return 0
}
