package simulation

import (
	"math"

	"github.com/inferpick/inferpick/types"
)

// Embeddings is batches of texts to be embedded: from one to thousands in a request.
type Embeddings struct {
	// Rate, CV and Vary are those of Arrivals: default 10 per second, 1, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Items is how many texts are in a request. Default: lognormal, median 4, sigma 2, at most 2048.
	Items Length `json:"items,omitzero"`
	// Tokens is the length of each text. Default: lognormal, median 100, sigma 0.8, at most 8192.
	Tokens Length `json:"tokens,omitzero"`
}

// maxItems bounds the texts of one request.
const maxItems = 1 << 16

func (e Embeddings) arrivals() Arrivals { return Arrivals{e.Rate, e.CV, e.Vary} }

func (e Embeddings) withDefaults() Embeddings {
	e.Items = e.Items.or(Length{Kind: LengthLogNormal, Median: 4, Sigma: 2, Max: 2048})
	e.Tokens = e.Tokens.or(Length{Kind: LengthLogNormal, Median: 100, Sigma: .8, Max: 8192})
	return e
}

// Validate reports the first field that is out of its limits.
func (e Embeddings) Validate() error {
	e = e.withDefaults()
	c := checker{kind: "embeddings"}
	c.arrivals(e.arrivals())
	c.length("items", e.Items)
	c.length("tokens", e.Tokens)
	return c.err
}

// Start makes the stream of one run.
func (e Embeddings) Start(seed uint64) Source {
	if err := e.Validate(); err != nil {
		return broken{err}
	}
	e = e.withDefaults()
	var (
		items  = e.Items.Sampler()
		tokens = e.Tokens.Sampler()
		many   = types.NewRand(derive(seed, streamQuestion))
		texts  = derive(seed, streamInput)
		ids    = newIDs(seed, "embeddings")
	)
	return &openLoop{times: e.arrivals().Times(seed), make: func(n uint64) Job {
		count, sum := min(items.Sample(&many), maxItems), 0
		lengths := types.NewRand(derive(texts, n))
		for range count {
			sum = min(sum+tokens.Sample(&lengths), maxTokens)
		}
		return Job{
			Content: []Segment{{ids.id(n), sum}},
			Work:    types.Work{Kind: types.Pools, Items: count},
		}
	}}
}

// MeanRate returns jobs per second, before Vary.
func (e Embeddings) MeanRate() float64 { return e.arrivals().withDefaults().Rate }

// AtRate returns the same workload with so many jobs per second.
func (e Embeddings) AtRate(rate float64) (Spec, error) { e.Rate = rate; return e, nil }

// Transcription is sound that a model writes down: how much it has to read, and how long its answer is, both
// follow from how long it is.
type Transcription struct {
	// Rate, CV and Vary are those of Arrivals: default 10 per second, 1, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Median, Sigma and MaxSeconds are of the lognormal length of the sound, in seconds. Default 30, 1 and 600; at
	// most 10,000, 5 and 10,000.
	Median     float64 `json:"median_s,omitempty"`
	Sigma      float64 `json:"sigma,omitempty"`
	MaxSeconds float64 `json:"max_s,omitempty"`
	// PerSecond is the tokens in a second of sound. Default 25, as in Qwen2-Audio; at most 100.
	PerSecond float64 `json:"tokens_per_s,omitempty"`
	// Words is the tokens that are written for a second of sound, on average. Default 3.5; at most 100. Its
	// standard deviation is a quarter of it.
	Words float64 `json:"words_per_s,omitempty"`
	// Unsized is the part of the requests of which no gateway knows how long the sound is, 0 to 1. Default 0.
	Unsized float64 `json:"unsized,omitempty"`
}

func (t Transcription) arrivals() Arrivals { return Arrivals{t.Rate, t.CV, t.Vary} }

func (t Transcription) withDefaults() Transcription {
	t.Median = withDefault(t.Median, 30)
	t.Sigma = withDefault(t.Sigma, 1)
	t.MaxSeconds = withDefault(t.MaxSeconds, 600)
	t.PerSecond = withDefault(t.PerSecond, 25)
	t.Words = withDefault(t.Words, 3.5)
	return t
}

// Validate reports the first field that is out of its limits.
func (t Transcription) Validate() error {
	t = t.withDefaults()
	c := checker{kind: "transcription"}
	c.arrivals(t.arrivals())
	c.floatRange("median_s", t.Median, .1, 10_000)
	c.floatRange("sigma", t.Sigma, 0, 5)
	c.floatRange("max_s", t.MaxSeconds, .1, 10_000)
	c.floatRange("tokens_per_s", t.PerSecond, .1, 100)
	c.floatRange("words_per_s", t.Words, .1, 100)
	c.floatRange("unsized", t.Unsized, 0, 1)
	return c.err
}

// seenWords is the tokens for a second of sound that a request parser expects.
const seenWords = 4

// Start makes the stream of one run.
func (t Transcription) Start(seed uint64) Source {
	if err := t.Validate(); err != nil {
		return broken{err}
	}
	t = t.withDefaults()
	var (
		in    = types.NewRand(derive(seed, streamInput))
		out   = types.NewRand(derive(seed, streamOutput))
		tells = types.NewRand(derive(seed, streamClass))
		text  = newIDs(seed, "transcription/text")
		ids   = newIDs(seed, "transcription")
	)
	normal := func(r *types.Rand) float64 { return math.Sqrt2 * math.Erfinv(float64(2*unit(r))-1) }
	return &openLoop{times: t.arrivals().Times(seed), make: func(n uint64) Job {
		seconds := min(t.Median*math.Exp(t.Sigma*normal(&in)), t.MaxSeconds)
		words := seconds * t.Words * max(.1, 1+.25*normal(&out))
		unsized := unit(&tells) < t.Unsized
		sound := Media{ID: ids.id(n), Kind: types.Audio, Seconds: seconds, Address: unsized}
		return Job{
			Content: []Segment{{sound.ID, max(1, int(seconds*t.PerSecond))}, {text.id(0), 8}},
			Media:   []Media{sound},
			Output:  max(1, int(words)),
			Work:    types.Work{AudioSeconds: types.Known(seconds), Output: max(1, int(seenWords*seconds))},
			Unsized: unsized,
		}
	}}
}

// MeanRate returns jobs per second, before Vary.
func (t Transcription) MeanRate() float64 { return t.arrivals().withDefaults().Rate }

// AtRate returns the same workload with so many jobs per second.
func (t Transcription) AtRate(rate float64) (Spec, error) { t.Rate = rate; return t, nil }

var (
	_ RatedSpec = Embeddings{}
	_ RatedSpec = Transcription{}
)
