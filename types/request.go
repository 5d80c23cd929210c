package types

import "time"

// Request is what a decision may depend on. openai.Parse fills one in from a body; a
// director.Director adds what headers and manifests say.
//
// A Request belongs to one goroutine while it is scheduled, and to its Decision until that is
// done; the body must not change before then.
type Request struct {
	// ID is for people and logs. It need not be unique and is never used as a key.
	ID string

	// Model is the public name the client asked for.
	Model string

	// TargetModel is the model or adapter as the server knows it, to which a manifest maps
	// Model. Default Model.
	TargetModel string

	// Body is the unmodified request body. Prompt has spans into it, or for requests without a
	// body the prompt itself: see TextPrompt, TokenPrompt and BlockPrompt.
	Body   []byte
	Prompt Prompt

	// Header holds the request's headers in the form of net/http.Header.
	Header map[string][]string

	// Priority orders requests, higher first; those below 0 may be shed. See
	// PriorityCritical, PriorityStandard and PrioritySheddable.
	Priority int
	// Admitted is set if admission control let the request in; filters that shed then ignore it.
	Admitted bool
	// Reserve lists endpoints that are full: they are not chosen, but may be fallbacks, after
	// all others.
	Reserve []*Endpoint

	// Work is what is asked of the server beside text.
	Work Work

	FairnessID string // the tenant, for fair sharing
	SessionID  string // the conversation, for affinity
	ProgramID  string // the agent's task that the conversation is part of: several may be; empty: unknown
	CacheSalt  string // the body's cache_salt: prompts with different salts share no cache

	// EngineSession is a name that only this request has and that goes to the engine as its
	// session_id, so that it comes back in the KV events that the request causes: see KVEvent.
	// Empty: none.
	EngineSession string

	// Split says that the data plane can have the prompt computed by one endpoint and the answer
	// produced by another. Without it each request is served by one. See scheduling.Splitter.
	Split bool

	// PreviousID is the ID of what this request continues, asks for or uses, and that a server has
	// made or keeps: a response, a job, a file. It was assigned by the server, which may be the only
	// one to know it. Empty: none. Unlike a SessionID it changes with every turn. At most 1 KiB,
	// unless openai.Limits say otherwise.
	PreviousID string

	SLO       SLO
	MaxTokens int  // bound on the output, 0 if the client gave none
	Stream    bool // the client asked for server-sent events

	// Attrs lets plugins share data for the life of the request.
	Attrs Attrs

	// The scheduler sets the following at the start of each call.

	// Now is the time of the decision or, in Trackers and hooks, of the event they are told of.
	Now time.Time
	// StaleBefore is the oldest time of a reading that may be used. Zero: readings of any age,
	// which suits unit tests of plugins.
	StaleBefore time.Time
	// Rand is the source of randomness for this decision. A plugin that uses no other gives the
	// same result for the same seed.
	Rand Rand
}

// Target returns the model name as the server knows it.
func (r *Request) Target() string {
	if r.TargetModel != "" {
		return r.TargetModel
	}
	return r.Model
}

// Priorities that correspond to the Criticality of an InferenceModel. An InferenceObjective
// may have any integer.
const (
	PriorityCritical  = 100  // never shed while any server can take it
	PriorityStandard  = 0    // after critical; shed only when every server is far beyond saturation
	PrioritySheddable = -100 // shed at saturation
)

// SLO holds latency targets. A zero field means no target.
type SLO struct {
	TTFT time.Duration // time to first token
	TPOT time.Duration // time per output token after the first
}

// Usage is the token usage that a server reported for a request. Fields that were not
// reported are unknown.
type Usage struct {
	PromptTokens     Gauge
	CompletionTokens Gauge
	CachedTokens     Gauge // prompt tokens found in the prefix cache
}

// Outcome is how a request, or one attempt of it, ended. The zero value is a success with no
// further details.
type Outcome struct {
	// Err is why the request failed, nil if it did not. If the client disconnected, set
	// Cancelled instead.
	Err error
	// Status is the HTTP status of the response, 0 if there was none. If a server answers 200
	// and then reports in the body a bad request or that it is too busy, Status is the
	// corresponding code.
	Status int
	// ModelMissing is set if the server said with a 404 that it does not have the model, and not something else, such as
	// the path: as it does for an adapter that is not loaded.
	ModelMissing bool
	// Unsent is set if nothing was sent to the server, which is then not to blame.
	Unsent bool
	// RetryAfter is how long a busy server (see Busy) asked to be left alone. 0: it did not say.
	RetryAfter time.Duration
	// Cancelled is set if the client went away before the end.
	Cancelled bool
	// Retried is set if the request moved on to another endpoint; the Outcome then describes
	// the attempt at the first one.
	Retried bool
	Usage   Usage
	// ResponseBytes is the size of the response body received from the server.
	ResponseBytes int64
	// ResponseID is the ID that the server assigned to its response, or to the job or file that it
	// is about, if the API lets later requests refer to it. Empty: none.
	ResponseID string
	// OtherIDs are those of what else is to be had from that server alone: the files of a batch.
	OtherIDs []string
	// KeptUntil is until when the server keeps all that, as it says. Zero: it does not.
	KeptUntil time.Time

	// Finish is how the model ended its answer; of several choices the rarest end, as
	// openai.Stream.Finish says. FinishUnknown: it did not, or that was not read.
	Finish Finish
	// Tokens is the number of stream events with generated content, for responses without
	// Usage. 0: not counted.
	Tokens int
	// Reads is the number of pieces in which the body arrived, from the first token on. If it
	// is much less than the number of tokens, something on the way buffers them and their times
	// tell nothing. 0: not counted.
	Reads int
	// Stalled is how long after the first token data from the server was waiting to be taken,
	// usually by a slow client.
	Stalled time.Duration

	// Duration is the time from the decision to this end, and TTFT the time from the decision
	// to the first token, 0 if there was none. A Decision overwrites both.
	Duration, TTFT time.Duration
}

// Failed reports whether the request failed through no fault of the client: Err is set or
// Status is at least 500.
func (o Outcome) Failed() bool { return o.Err != nil || o.Status >= 500 }

// Busy reports whether the server said that it is overloaded: status 429, 503 or, as in
// Anthropic's API, 529.
func (o Outcome) Busy() bool { return o.Status == 429 || o.Status == 503 || o.Status == 529 }

// Served reports whether the request succeeded: not failed, refused, cancelled, retried or
// unsent.
func (o Outcome) Served() bool {
	return !o.Failed() && o.Status < 400 && !o.Cancelled && !o.Retried && !o.Unsent
}
