package scheduling

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Hooks are called as things happen, for logs and metrics. Any may be nil. They
// are called from the goroutine that caused them, by many at once, and must be
// quick. No lock is held meanwhile, and one that panics is told of to PluginFailed.
type Hooks struct {
	// Scheduled: a decision was made and booked.
	Scheduled func(Event)
	// Rejected: Schedule returns err instead of a decision.
	Rejected func(req *types.Request, err error)
	// PluginFailed: an error of a scorer or coster, without which the decision goes on, or a
	// panic of any plugin or hook: then err wraps a *PanicError.
	PluginFailed func(req *types.Request, err *PluginError)
	// Warned: the request, or the endpoints, lack something without which decisions are
	// worse or slower than they could be: err wraps ErrNoPrompt, ErrNoSlots, ErrNoLoad or
	// ErrAddress, and says what to set. Each is told once by a Scheduler.
	Warned func(req *types.Request, err error)
	// FirstToken: the first token of a decision's response was seen.
	FirstToken func(Event)
	// Retried: the request went on from one endpoint, Event.From, to another.
	Retried func(Event)
	// Finished: a decision ended. An expired booking ends with ErrExpired.
	Finished func(Event)
}

// Event is what a hook is told: a value, which does not change any more.
type Event struct {
	// Request belongs to the Decision: it may be read until the hook returns.
	Request *types.Request
	// At is when the decision was made; Request.Now is when this happened.
	At time.Time
	// Chosen is the first choice, and Fallbacks are the next ones.
	Chosen    *types.Endpoint
	Fallbacks []*types.Endpoint
	// Endpoint is where the request is, or was in the end.
	Endpoint *types.Endpoint
	// From is, for Retried, the endpoint that it left.
	From *types.Endpoint
	// Outcome is, for Retried and Finished, how the attempt or the request ended.
	Outcome types.Outcome
}
