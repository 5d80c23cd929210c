package admission

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Hooks are called as things happen, for logs and metrics. Any may be nil. They hear of
// things in order and one at a time, without a lock, from the call that did it or from
// another that was telling hooks at that moment: a call may return before they have heard
// of what it did. They may call any method of the Controller and of Tickets; what follows
// from that is told after they have returned. Others' news wait while a hook runs, so it
// must be quick, and not wait for what another call tells.
//
// A Ticket is as it is when the hook looks at it: it may have gone on since. A hook that
// panics counts as called.
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
	// took. Of one whose owner never called Done, out.Err is ErrForgotten.
	Finished func(t *Ticket, out types.Outcome)
	// Revoked: it runs, and was asked to end for the sake of another.
	Revoked func(t *Ticket)
	// Failed: a function that was given to the Controller panicked; err is a *Panic. It
	// went on as the function's documentation says.
	Failed func(err error)
}
