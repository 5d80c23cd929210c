package types

import "time"

// Request is what a decision may depend on. openai.Parse fills one from bytes;
// the director adds what headers and manifests say.
//
// A Request belongs to one goroutine while it is scheduled, and to its Decision
// until that is done: the body must not change before.
type Request struct {
	// ID is a label for people and logs. It is never a key of anything: two
	// requests may carry the same.
	ID string

	// Model is the public name the client asked for.
	Model string

	// TargetModel is the name the server knows: the model or adapter that a
	// manifest maps Model to. Empty: Model.
	TargetModel string

	// Body is the request body, untouched. Prompt holds spans into it, or the prompt itself:
	// see TextPrompt, TokenPrompt and BlockPrompt for requests that have no body.
	Body   []byte
	Prompt Prompt

	// Header holds the request's headers in the form of net/http.Header.
	Header map[string][]string

	// Priority orders requests: higher first; below 0 may be shed.
	// See PriorityCritical, PriorityStandard and PrioritySheddable.
	Priority int
	// Admitted says that an admission control let the request in: what sheds for itself
	// leaves it alone.
	Admitted bool
	// Reserve are endpoints that are not to be chosen, because they have no place for it now,
	// but may be fallbacks, after all others: better a full server than none.
	Reserve []*Endpoint

	FairnessID string // the tenant, for fair sharing
	SessionID  string // the conversation, for affinity
	CacheSalt  string // the body's cache_salt: prompts of other salts share no cache

	// PreviousID is the id of the answer that this request continues, or asks for again, as
	// the server gave it, which may be the only one to know it. Empty: none. Another one with
	// each turn, it is no SessionID. At most 1 KiB, unless openai.Limits say otherwise.
	PreviousID string

	SLO       SLO
	MaxTokens int  // bound on the output, 0 if the client gave none
	Stream    bool // the client asked for server-sent events

	// Attrs is what plugins leave for each other, for the life of the request.
	Attrs Attrs

	// The scheduler sets these at the start of each call.

	// Now is the instant of the decision, and while Trackers and hooks are told of
	// something that happened later, of that.
	Now time.Time
	// StaleBefore is the oldest instant of a reading that may be used. Zero:
	// readings of any age, which is what a unit test of a plugin wants.
	StaleBefore time.Time
	// Rand is the randomness of this decision. A plugin that draws from it, and
	// from nothing else, gives the same result for the same seed.
	Rand Rand
}

// Target returns the name of the model as the server knows it.
func (r *Request) Target() string {
	if r.TargetModel != "" {
		return r.TargetModel
	}
	return r.Model
}

// Priorities that the criticality of an InferenceModel stands for. An
// InferenceObjective may have any integer.
const (
	PriorityCritical  = 100  // never shed while anything can serve it
	PriorityStandard  = 0    // goes after Critical; refused only when every server is far beyond saturation
	PrioritySheddable = -100 // refused at saturation
)

// SLO is what the client wants. A zero field means no target.
type SLO struct {
	TTFT time.Duration // time to first token
	TPOT time.Duration // time per output token after the first
}

// Usage is what a server reported that a request took. Fields that were not
// reported are unknown.
type Usage struct {
	PromptTokens     Gauge
	CompletionTokens Gauge
	CachedTokens     Gauge // prompt tokens found in the prefix cache
}

// Outcome is how a request ended, or an attempt of it. The zero value is a success of
// which nothing more is known.
type Outcome struct {
	// Err is why the request failed, nil if it did not. A disconnected client is
	// no failure of the server: set Cancelled instead.
	Err error
	// Status is the HTTP status the server answered with, 0 if it did not. Where a server
	// answers 200 and then says in the body that the request was wrong or that it is too
	// busy, it is the status that this means.
	Status int
	// Unsent is set when nothing was sent to the server: what failed is not its fault.
	Unsent bool
	// RetryAfter is for how long a server that is busy (see Busy) asked to be
	// spared. 0: it did not say.
	RetryAfter time.Duration
	// Cancelled is set when the client went away before the end.
	Cancelled bool
	// Retried is set when the request went on to another endpoint, and this is
	// its end at the first one; the other fields say how it ended there.
	Retried bool
	Usage   Usage
	// ResponseBytes is the size of the response's body as the server sent it, as
	// far as it came.
	ResponseBytes int64
	// ResponseID is the id that the server gave its answer, where an API lets later
	// requests continue it by that. Empty: none.
	ResponseID string

	// Tokens is how many pieces with something generated came in a stream, for answers
	// without Usage. 0: not counted.
	Tokens int
	// Reads is in how many pieces the body came from the first token on: where there are
	// far fewer than tokens, somebody on the way collects them, and their times say
	// nothing. 0: not counted.
	Reads int
	// Stalled is for how long, of the time since the first token, nobody took what the
	// server sent: a slow client, as a rule.
	Stalled time.Duration

	// Duration is the time from the decision to this end, and TTFT that to the
	// first token, 0 if none was seen. A Decision sets both, whatever they were.
	Duration, TTFT time.Duration
}

// Failed reports whether the request failed by no fault of the client: an error, or a
// status of 500 or above.
func (o Outcome) Failed() bool { return o.Err != nil || o.Status >= 500 }

// Busy reports whether the server said that it has too much to do: a status of 429 or 503, or
// 529, which is what servers of Anthropic's API say.
func (o Outcome) Busy() bool { return o.Status == 429 || o.Status == 503 || o.Status == 529 }

// Served reports whether the request was answered as it should be.
func (o Outcome) Served() bool {
	return !o.Failed() && o.Status < 400 && !o.Cancelled && !o.Retried && !o.Unsent
}
