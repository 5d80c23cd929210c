package scheduling

import "github.com/inferpick/inferpick/types"

// Hooks are called as things happen, for logs and metrics. Any may be nil. They
// are called from the goroutine that caused them, by many at once, and must be
// quick; they must not call the Decision's methods.
type Hooks struct {
	// Scheduled: a decision was made and booked.
	Scheduled func(d *Decision)
	// Rejected: Schedule returns err instead of a decision.
	Rejected func(req *types.Request, err error)
	// PluginFailed: an error of a scorer or coster; the decision goes on without it.
	PluginFailed func(req *types.Request, err *PluginError)
	// FirstToken: the first token of a decision's response was seen at ep.
	FirstToken func(d *Decision, ep *types.Endpoint)
	// Retried: the booking moved from one endpoint to another.
	Retried func(d *Decision, from, to *types.Endpoint)
	// Finished: a decision ended at ep. An expired booking ends with ErrExpired.
	Finished func(d *Decision, ep *types.Endpoint, out types.Outcome)
}
