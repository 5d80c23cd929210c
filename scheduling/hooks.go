package scheduling

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Hooks are callbacks for logs and metrics. Any may be nil. They are called concurrently, from the
// goroutines that cause the events and with no lock held, and must be quick. A panic is reported to
// PluginFailed.
type Hooks struct {
	// Scheduled is called when a decision was made and booked.
	Scheduled func(Event)
	// Rejected is called when Schedule returns err instead of a decision.
	Rejected func(req *types.Request, err error)
	// PluginFailed is called for an error of a scorer or coster, without which the decision is made,
	// and for a panic of any plugin, hook, clock or Ender; err then wraps a *PanicError. req is nil where no
	// request is concerned.
	PluginFailed func(req *types.Request, err *PluginError)
	// Warned is called if the request or the endpoints lack something, which makes decisions worse or
	// slower. err wraps ErrNoPrompt, ErrNoSlots, ErrNoLoad or ErrAddress, and says what to set. Each
	// is reported once per Scheduler.
	Warned func(req *types.Request, err error)
	// FirstToken is called for the first token of a response.
	FirstToken func(Event)
	// Prefilled is called when the request for a prompt that Event.Prefill computes for another endpoint
	// ended, as Event.Outcome says.
	Prefilled func(Event)
	// Retried is called when the request moved from Event.From to another endpoint. They are the same if the
	// endpoint begins anew: because nobody computes the prompt for it, say.
	Retried func(Event)
	// Finished is called when a decision ended. An expired booking ends with ErrExpired.
	Finished func(Event)
}

// Event is passed to hooks. It does not change afterwards.
type Event struct {
	// Request belongs to the Decision. It may be read until the hook returns.
	Request *types.Request
	// At is the time of the decision; Request.Now is the time of the event.
	At time.Time
	// Chosen is the first choice, and Fallbacks are the next ones, in memory of the Decision.
	Chosen    *types.Endpoint
	Fallbacks []*types.Endpoint
	// Endpoint is the current or final endpoint.
	Endpoint *types.Endpoint
	// Prefill is the endpoint that computes the prompt, nil if Endpoint does.
	Prefill *types.Endpoint
	// Booked is what the request is estimated to take at Endpoint: its PrefillTokens are those of the
	// prompt that are not taken to be cached there. Only for Scheduled and Retried.
	Booked types.Booking
	// From is the previous endpoint. Only for Retried.
	From *types.Endpoint
	// Outcome is how the attempt or the request ended. Only for Prefilled, Retried and Finished.
	Outcome types.Outcome
}
