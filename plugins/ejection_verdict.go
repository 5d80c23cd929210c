package plugins

import (
	"context"
	"errors"

	"github.com/inferpick/inferpick/internal/ejection"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// judge returns what an outcome says about the endpoint. begun means that a first token was seen.
func judge(out types.Outcome, begun bool) ejection.Event {
	switch {
	case out.Unsent, errors.Is(out.Err, scheduling.ErrExpired):
		return ejection.Ended
	case out.Busy():
		return ejection.Busy
	case ofRequest(out.Status):
		return ejection.Ended
	case out.Cancelled:
		return unlessBegun(begun, ejection.Left, ejection.Ended)
	case out.Status != 0 && (out.Status < 200 || out.Status > 599):
		return unlessBegun(begun, ejection.Unanswered, ejection.Failed)
	case out.Status >= 500:
		return ejection.Failed
	case errors.Is(out.Err, context.DeadlineExceeded):
		return unlessBegun(begun, ejection.Left, ejection.Ended)
	case out.Status == 0 && (out.Err != nil || out.Retried):
		return unlessBegun(begun, ejection.Unanswered, ejection.Failed)
	case out.Err != nil, out.Retried:
		return ejection.Failed
	}
	return ejection.Served
}

// unasked reports whether an outcome with that verdict does not show that the endpoint was asked at all:
// of a request whose prompt another endpoint was still to compute.
func unasked(out types.Outcome, verdict ejection.Event) bool {
	return verdict == ejection.Left || verdict == ejection.Unanswered && out.Err == nil && out.Status == 0
}

func unlessBegun(begun bool, event, ifBegun ejection.Event) ejection.Event {
	if begun {
		return ifBegun
	}
	return event
}

// ofRequest reports whether a status blames the request. Servers use 501 for features that they
// do not have.
func ofRequest(status int) bool { return status >= 400 && status < 500 || status == 501 }

// responded reports whether an outcome with that verdict is a response of any kind.
func responded(out types.Outcome, verdict ejection.Event) bool {
	switch verdict {
	case ejection.Served, ejection.Failed, ejection.Busy:
		return true
	case ejection.Ended:
		return ofRequest(out.Status)
	}
	return false
}
