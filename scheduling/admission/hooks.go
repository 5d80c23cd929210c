package admission

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Hooks are called as things happen, for logs and metrics. Any may be nil. They are
// called with the Controller's lock held, so that they hear of things in order: they
// must be quick, and must not call the Controller or the Ticket's methods but for
// those that say that they may be called from hooks.
type Hooks struct {
	// Queued: there was no room, the request waits.
	Queued func(t *Ticket)
	// Dispatched: the request may go, after waited, which is 0 if it never waited.
	Dispatched func(t *Ticket, waited time.Duration)
	// Refused: the request may not go. Refusal.Reason says whether it was refused at
	// once, waited in vain, or lost its place.
	Refused func(t *Ticket, r *Refusal)
	// Cancelled: its owner gave it up while it waited.
	Cancelled func(t *Ticket, waited time.Duration)
	// Finished: it has ended after it was let in, however, and was charged what it really
	// took.
	Finished func(t *Ticket, out types.Outcome)
	// Revoked: it runs, and was asked to end for the sake of another.
	Revoked func(t *Ticket)
}
