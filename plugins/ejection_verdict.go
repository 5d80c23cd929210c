package plugins

import (
	"context"
	"errors"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// verdict is what an outcome says of the endpoint.
type verdict uint8

const (
	nothing  verdict = iota
	success          // it served the request to its end
	failure          // it failed
	noAnswer         // it is not there
	busy             // it has too much to do
	left             // nobody waited for its first sign of life any more
)

// judge returns what an outcome says of the endpoint; begun: a first token was seen.
func judge(out types.Outcome, begun bool) verdict {
	switch {
	case out.Unsent, errors.Is(out.Err, scheduling.ErrExpired):
		return nothing
	case out.Busy():
		return busy
	case ofRequest(out.Status):
		return nothing
	case out.Cancelled:
		return leftUnless(begun)
	case out.Status != 0 && (out.Status < 200 || out.Status > 599):
		return noAnswerUnless(begun)
	case out.Status >= 500:
		return failure
	case errors.Is(out.Err, context.DeadlineExceeded):
		return leftUnless(begun)
	case out.Status == 0 && (out.Err != nil || out.Retried):
		return noAnswerUnless(begun)
	case out.Err != nil, out.Retried:
		return failure
	}
	return success
}

// ofRequest reports whether a status says that the request is at fault. 501 is what servers
// say to a feature that they do not have.
func ofRequest(status int) bool { return status >= 400 && status < 500 || status == 501 }

func leftUnless(begun bool) verdict {
	if begun {
		return nothing
	}
	return left
}

func noAnswerUnless(begun bool) verdict {
	if begun {
		return failure
	}
	return noAnswer
}

// answers reports whether an outcome with verdict v is a sign of life: an answer, whatever
// it says.
func answers(out types.Outcome, v verdict) bool {
	switch v {
	case success, failure, busy:
		return true
	case nothing:
		return ofRequest(out.Status)
	}
	return false
}
