package types

// Work is what a request has a server do, and how much of it, where that is not all said by the tokens of its prompt
// and of its answer. What is not known is unknown, never 0 by guess. The zero value is that of text: a prompt is
// computed, and an answer produced token by token.
type Work struct {
	// Kind says through which stages of a server the request goes.
	Kind WorkKind
	// Items is the number of inputs that are computed apart from each other: texts to embed, pairs to rank. Their tokens
	// together are Prompt.Tokens. Of Denoises it is how many pictures or films come out. 0: one.
	Items int
	// Output is how many tokens the answer is likely to have, where that follows from the input, as of speech: 0: it
	// does not.
	Output int
	// AudioSeconds is the length of the sound that is to be heard, all of it together.
	AudioSeconds Gauge
	// Denoise is the work of a diffusion model. Only for Denoises.
	Denoise Denoise
}

// WorkKind says through which stages of a server a request goes.
type WorkKind uint8

// Kinds of work.
const (
	Generates WorkKind = iota // a prompt is computed, then an answer produced token by token
	Pools                     // a prompt is computed, and that is all: embeddings, rerank, score, classify. Nothing stays in the KV cache
	Denoises                  // pictures or a film come out of noise, step by step, and all at the end
	Converses                 // a session, in which the server listens and speaks for as long as the connection lives
	Fetches                   // nothing is computed: something that a server keeps is put there, looked at, fetched or deleted
)

// String returns the name of the kind in lower case.
func (k WorkKind) String() string {
	switch k {
	case Generates:
		return "generates"
	case Pools:
		return "pools"
	case Denoises:
		return "denoises"
	case Converses:
		return "converses"
	case Fetches:
		return "fetches"
	}
	return "invalid"
}

// Denoise is how much a diffusion model has to do. A field that is 0 is unknown.
type Denoise struct {
	// Steps is how many steps there are, and Runs how often the model runs in each of them for one picture: twice where
	// guidance has it run with and without the prompt.
	Steps, Runs float64
	// Passes is how often the model runs in all: pictures (see Work.Items) x Steps x Runs. With Steps and no Runs, it is as
	// if that were 1.
	Passes float64
	// Latents is the tokens in one pass: (width/16) x (height/16) for a picture, times 1 + (frames-1)/4 for a film.
	Latents float64
	// Pixels is what is decoded at the end: pictures x width x height x frames.
	Pixels float64
}

// Known reports whether both passes and their size are known.
func (d Denoise) Known() bool { return d.Passes > 0 && d.Latents > 0 }

// Tokens returns passes x latents: how many tokens go through the model. 0: unknown.
func (d Denoise) Tokens() float64 { return d.Passes * d.Latents }
