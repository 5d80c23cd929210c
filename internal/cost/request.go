package cost

import (
	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/types"
)

// Request is what is kept of a request, for as long as it is at a server. Its first fields are
// its maker's; Server writes the others.
type Request struct {
	Prompt, Output Tokens // Output is what is expected
	Streamed       bool
	Apart          bool // its prompt is computed at another server

	Kind    types.WorkKind
	Items   float64 // that its prompt is of, which are computed apart from each other; 0: it is one
	Encode  Seconds // base seconds of encoding its media, those left out that the server has seen
	Denoise Sample  // of a diffusion model: see Engine.Denoise
	Guessed bool    // how much that is, is in part a guess

	// From Server.Add on.
	waiting   list.Node[Request] // among the server's without a first token
	compute   Tokens             // that are not cached there, and are to be computed
	fills     Tokens             // that are not cached there: they take up KV cache of their own
	base      float64            // base seconds of their prefill, and of encoding as many as take as long
	perEncode float64            // how many base seconds of prefill take as long as one of encoding
	work      Seconds            // the same on that server
	predicted Seconds            // until the first token, without work
	late      Seconds            // of these, what is not in the model
	sent      Seconds
	wait      Seconds // for the step under way
	steps     float64 // of its own until the first token
	joined    float64 // base seconds of the prefills that are computed with its own
	ahead     float64 // base seconds of all prefills that came before
	encodes   float64 // base seconds of encoding in ahead
	behind    float64 // how many these were
	crowd     float64 // requests that were there
	filling   Seconds // Server.filling then
	paused    bool    // Server.paused then

	begun      bool    // a first token was seen
	firstAt    Seconds // when
	firstAfter Seconds // until then

	// As it was when it was sent, and from the first token on as it was then.
	stepThen float64 // Server.baseStep
	beside   float64 // Server.decoding
	doneThen float64 // Server.done
	encoded  float64 // Server.encoded

	denoising list.Node[Request] // among those that the server denoises
	alone     bool               // of these, it found none
	served    bool               // it was answered as it should be
}

// Context is what it holds in the KV cache, at half of its output.
func (r *Request) Context() Tokens {
	if r.Kind == types.Pools || r.Kind == types.Denoises {
		return 0
	}
	return r.Prompt + r.Output/2
}

// Begun reports whether its first token was seen.
func (r *Request) Begun() bool { return r.begun }
