package simulation

import (
	"time"

	"github.com/inferpick/inferpick/types"
)

// Job is one request of a workload.
type Job struct {
	// Arrival is when it reaches a gateway, since the start of the run.
	Arrival time.Duration

	// Content is the prompt, piece by piece, in order. Equal pieces at the beginning
	// of two prompts of the same model are what a prefix cache can share.
	Content []Segment
	// Media are the pictures, sounds and films among Content, in order: each is the next Segment
	// with its ID.
	Media []Media
	// Work is what is asked of the server beside that, and what a gateway sees of it, unless it is
	// Unsized. A job that Pools or Denoises has no Output, and of one that Denoises Work.Denoise is known.
	Work types.Work
	// Unsized says that the request does not tell how much Work.Denoise is, since it leaves that to the
	// server's defaults, or how long what is to be heard.
	Unsized bool
	// Output is the number of tokens that will be produced, at least 1, unless Work.Kind is one without any. The engine
	// knows it; no policy does.
	Output int
	// OutputID is the content of the output, for a later prompt that contains it
	// as a Segment{OutputID, Output}. 0: nothing will.
	OutputID uint64

	// MaxTokens is the bound that the client gives, 0 if it gives none.
	MaxTokens int
	// Adapter is the LoRA adapter asked for; empty: the base model.
	Adapter string
	// Tenant and Session are labels that policies see (FairnessID, SessionID).
	Tenant, Session string
	// Priority is that of types.Request.
	Priority int
	// SLO is that of types.Request, and what Report.Classes counts as met.
	SLO types.SLO
	// Patience is after how long without a first token the client gives up; 0: never.
	Patience time.Duration

	// Tag is the workload's own; Source.Done gets it back.
	Tag any
}

// Segment is a piece of content: its tokens are those of ID from its beginning.
// Two segments with the same ID are equal as far as the shorter one goes.
type Segment struct {
	ID     uint64
	Tokens int
}

// Prompt returns the number of tokens in the prompt.
func (j *Job) Prompt() int {
	n := 0
	for _, s := range j.Content {
		n += s.Tokens
	}
	return n
}

// finish returns how the model ends its answer.
func (j *Job) finish() types.Finish {
	if j.whole() {
		return types.FinishUnknown
	}
	if j.MaxTokens > 0 && j.Output >= j.MaxTokens {
		return types.FinishLength
	}
	return types.FinishStop
}

// Spec describes a workload. Its fields are its parameters; it can be marshalled
// as JSON. Start makes the stream of one run: the same seed, the same stream.
// A Spec may be started any number of times.
type Spec interface {
	// Validate reports what is wrong with the parameters, naming the field.
	Validate() error
	Start(seed uint64) Source
}

// Source is the stream of jobs of one run. It is used by one goroutine.
type Source interface {
	// Next returns the next job that does not depend on a response, in order of
	// arrival, and whether there is one. The job belongs to the caller.
	Next() (Job, bool)
	// Done tells that a job has ended, when, and whether it was served in full. It
	// returns a job that follows from it, such as the next turn of a session, and
	// whether there is one; its Arrival is not before at.
	Done(j *Job, at time.Duration, served bool) (Job, bool)
}
