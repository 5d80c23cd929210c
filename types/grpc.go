package types

import (
	"context"
	"errors"
)

// GRPCStatus returns the HTTP status that a status code of gRPC stands for: 499 for a call
// that was cancelled, and 500 for a code that is not known.
func GRPCStatus(code uint32) int {
	switch code {
	case 0:
		return 200
	case 1: // cancelled
		return 499
	case 3, 6, 9, 11: // invalid, exists, precondition, range
		return 400
	case 4: // deadline
		return 504
	case 5:
		return 404
	case 7:
		return 403
	case 8: // exhausted
		return 429
	case 12: // unimplemented
		return 501
	case 14: // unavailable
		return 503
	case 16:
		return 401
	}
	return 500
}

// GRPCEnd is how a call of gRPC ended, as clients see it.
type GRPCEnd struct {
	Err      error
	Code     uint32 // of Err's status
	Sent     bool   // something was sent to the server
	Received bool   // something came back: headers, messages, or a status
	Messages int    // that came back
}

// Outcome returns what that means. Libraries say "unavailable" of servers that are gone, too:
// no server has said it unless something came back, and no message before it.
func (e GRPCEnd) Outcome() Outcome {
	out := Outcome{Unsent: !e.Sent, Tokens: e.Messages}
	switch {
	case e.Code == 0 && !e.Sent:
		out.Err = errors.New("types: the connection was lost before the call was sent")
	case e.Code == 1:
		out.Cancelled = true
	case e.Code == 4:
		out.Err = context.DeadlineExceeded
	case e.Code == 14 && (!e.Received || e.Messages > 0):
		out.Err = e.Err
	default:
		if out.Status = GRPCStatus(e.Code); out.Status >= 500 {
			out.Err = e.Err
		}
	}
	return out
}
