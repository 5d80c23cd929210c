package simulation

import (
	"slices"

	"github.com/inferpick/inferpick/types"
)

// RAG is questions about documents that were retrieved for them: each prompt is a system
// prompt that all share, a few chunks of a corpus in the order of their relevance, and a
// question that is new. Chunks are shared far more often than they are at the same place behind
// the same others, so that a prefix cache finds little beyond the first.
type RAG struct {
	// Rate, CV and Vary are those of Arrivals: default 10 per second, 1, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// SystemTokens is the length of the system prompt. Default 512.
	SystemTokens int `json:"system_tokens,omitempty"`
	// Corpus is the number of chunks there are, asked for by Zipf's law with exponent Skew.
	// Default 5000 and 1; at most 1,000,000 and 5; negative Skew: all equally.
	Corpus int     `json:"corpus,omitempty"`
	Skew   float64 `json:"skew,omitempty"`
	// Chunks is how many are in a prompt, at most 100. Default 5. No chunk is in it twice,
	// unless the corpus has fewer.
	Chunks int `json:"chunks,omitempty"`
	// ChunkTokens is the length of each. Default 512.
	ChunkTokens int `json:"chunk_tokens,omitempty"`
	// Question is the length of the rest of the prompt. Default: normal, mean 64, standard
	// deviation 32.
	Question Length `json:"question,omitzero"`
	// Output is the length of answers. Default: normal, mean 200, standard deviation 100.
	Output Length `json:"output,omitzero"`
}

func (r RAG) arrivals() Arrivals { return Arrivals{r.Rate, r.CV, r.Vary} }

func (r RAG) withDefaults() RAG {
	r.SystemTokens = withDefault(r.SystemTokens, 512)
	r.Corpus = withDefault(r.Corpus, 5000)
	r.Skew = max(0, withDefault(r.Skew, 1))
	r.Chunks = withDefault(r.Chunks, 5)
	r.ChunkTokens = withDefault(r.ChunkTokens, 512)
	r.Question = r.Question.or(Length{Kind: LengthNormal, Mean: 64, SD: 32})
	r.Output = r.Output.or(Length{Kind: LengthNormal, Mean: 200, SD: 100})
	return r
}

// Validate reports the first field that is out of its limits.
func (r RAG) Validate() error {
	r = r.withDefaults()
	c := checker{kind: "rag"}
	c.arrivals(r.arrivals())
	c.intRange("system_tokens", r.SystemTokens, 1, maxTokens)
	c.intRange("corpus", r.Corpus, 1, 1_000_000)
	c.floatRange("skew", r.Skew, 0, 5)
	c.intRange("chunks", r.Chunks, 1, 100)
	c.intRange("chunk_tokens", r.ChunkTokens, 1, maxTokens)
	c.length("question", r.Question)
	c.length("output", r.Output)
	return c.err
}

// Start makes the stream of one run.
func (r RAG) Start(seed uint64) Source {
	if err := r.Validate(); err != nil {
		return broken{err}
	}
	r = r.withDefaults()
	var (
		question = r.Question.Sampler()
		output   = r.Output.Sampler()
		corpus   = zipf(r.Corpus, r.Skew)
		chunk    = types.NewRand(derive(seed, streamPopularity))
		in       = types.NewRand(derive(seed, streamInput))
		out      = types.NewRand(derive(seed, streamOutput))
		system   = newIDs(seed, "rag/system")
		chunks   = newIDs(seed, "rag/chunk")
		ids      = newIDs(seed, "rag/question")
	)
	return &openLoop{times: r.arrivals().Times(seed), make: func(n uint64) Job {
		content := make([]Segment, 0, r.Chunks+2)
		content = append(content, Segment{system.id(0), r.SystemTokens})
		for tries := 0; len(content) <= r.Chunks && tries < 100*r.Chunks; tries++ {
			next := Segment{chunks.id(uint64(corpus.pick(&chunk))), r.ChunkTokens}
			if r.Corpus >= r.Chunks && slices.Contains(content, next) {
				continue
			}
			content = append(content, next)
		}
		return Job{
			Content: append(content, Segment{ids.id(n), question.Sample(&in)}),
			Output:  output.Sample(&out),
		}
	}}
}

// MeanRate returns jobs per second, before Vary.
func (r RAG) MeanRate() float64 { return r.arrivals().withDefaults().Rate }

// AtRate returns the same workload with so many jobs per second.
func (r RAG) AtRate(rate float64) (Spec, error) { r.Rate = rate; return r, nil }
