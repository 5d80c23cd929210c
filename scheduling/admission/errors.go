package admission

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Reason is why a request was not let in, as a word for headers and metrics.
type Reason string

// Reasons of a Refusal.
const (
	Saturated  Reason = "saturated"           // no room, and the band does not wait
	QueueFull  Reason = "queue_full"          // no room in the queue either
	Displaced  Reason = "displaced"           // a request of a higher band, or of a tenant or a program with less in it, took its place in the queue
	TimedOut   Reason = "queue_timeout"       // it waited for as long as it may
	NoEndpoint Reason = "no_endpoint"         // there is no endpoint that could serve it
	Requests   Reason = "requests_per_minute" // over its Budget
	Tokens     Reason = "tokens_per_minute"   // over its Budget
	Closed     Reason = "shutting_down"       // the Controller was closed
	Revoked    Reason = "revoked"             // it ran, and a request of a higher band needed its place
)

// Reasons returns all reasons, for who makes a series for each.
func Reasons() []Reason {
	return []Reason{Saturated, QueueFull, Displaced, TimedOut, NoEndpoint, Requests, Tokens, Closed, Revoked}
}

// Unavailable reports whether the reason is that nobody is there to serve the
// request, rather than that there is too much to do: HTTP 503 and not 429.
func (r Reason) Unavailable() bool { return r == NoEndpoint || r == Closed }

// ErrForgotten is the Outcome.Err of a request that was let in and whose owner gave no sign
// of life for DefaultGrantTTL before it was booked, or for Tuning.TicketTTL after.
var ErrForgotten = errors.New("admission: the request was let in, and its owner never called Done")

// Refusal is why a request was not let in.
type Refusal struct {
	Reason   Reason
	Band     string // the name of its band
	Priority int
	Tenant   string
	Program  string // as the client named it; empty: it did not
	// RetryAfter is when there may be room: at least a second; 0 if it is not known.
	RetryAfter time.Duration
	// Waited is how long it was in the queue.
	Waited time.Duration
	// Detail says what was full, with figures.
	Detail string
}

// Error says what was full.
func (r *Refusal) Error() string {
	return fmt.Sprintf("admission: request of priority %d (%s) refused: %s", r.Priority, r.Band, r.Detail)
}

// Panic is what Hooks.Failed is told of a function of the user's that panicked.
type Panic struct {
	// In is the function, such as "Detector.Fill" or "Hooks.Queued".
	In    string
	Value any    // what it panicked with
	Stack []byte // where, as debug.Stack prints it
}

// Error says what panicked, and with what.
func (p *Panic) Error() string { return fmt.Sprintf("admission: %s panicked: %v", p.In, p.Value) }

// Unwrap returns the value, if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// guarded calls a function of the user's, and returns its panic.
func guarded(in string, f func()) (failed *Panic) {
	defer func() { failed = caught(in, recover()) }()
	f()
	return nil
}

// caught makes a Panic of what was recovered, nil of nil.
func caught(in string, value any) *Panic {
	if value == nil {
		return nil
	}
	return &Panic{In: in, Value: value, Stack: debug.Stack()}
}
