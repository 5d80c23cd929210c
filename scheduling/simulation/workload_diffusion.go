package simulation

import (
	"fmt"

	"github.com/inferpick/inferpick/types"
)

// Size is a size in pixels, and how often it comes, relative to others.
type Size struct {
	Width  int     `json:"width"`
	Height int     `json:"height"`
	Share  float64 `json:"share,omitempty"` // default 1
}

// Choice is a value, and how often it comes, relative to others.
type Choice struct {
	Value int     `json:"value"`
	Share float64 `json:"share,omitempty"` // default 1
}

// Diffusion is pictures that a diffusion model makes, of different sizes, in different numbers of steps.
type Diffusion struct {
	// Rate, CV and Vary are those of Arrivals: default 0.1 per second, 1, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Sizes are of pictures, sides of 16 to 16,384 pixels. Default: 512 x 512 three times as often as 1536 x 1536, and
	// 768 x 768, 1024 x 1024 and 1536 x 1024 twice.
	Sizes []Size `json:"sizes,omitempty"`
	// Steps are 1 to 1000. Default: 20, 28 and 50, equally.
	Steps []Choice `json:"steps,omitempty"`
	// Pictures is how many a request asks for, 1 to 128. Default: 1 in seven of ten, 2 in two, 4 in one.
	Pictures []Choice `json:"pictures,omitempty"`
	// Runs is how often the model runs in a step: 2 where guidance has it run with and without the prompt. Default 2.
	Runs int `json:"runs,omitempty"`
	// Unsized is the part of the requests that leave sizes or steps to the server, so that no gateway
	// knows them, 0 to 1. Default 0.
	Unsized float64 `json:"unsized,omitempty"`
	// Prompt is the length of prompts. Default: normal, mean 60, standard deviation 30.
	Prompt Length `json:"prompt,omitzero"`
}

// Video is films that a diffusion model makes, of different lengths.
type Video struct {
	// Rate, CV and Vary are those of Arrivals: default 0.05 per second, 1, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Sizes are of films, sides of 16 to 16,384 pixels. Default: 832 x 480 twice as often as 1280 x 704.
	Sizes []Size `json:"sizes,omitempty"`
	// Frames are 1 to 10,000. Default: 17, 49 and 81, equally.
	Frames []Choice `json:"frames,omitempty"`
	// Steps are 1 to 1000. Default: 30 and 50, equally.
	Steps []Choice `json:"steps,omitempty"`
	// Runs, Unsized and Prompt are those of Diffusion.
	Runs    int     `json:"runs,omitempty"`
	Unsized float64 `json:"unsized,omitempty"`
	Prompt  Length  `json:"prompt,omitzero"`
}

// denoised is either of them.
type denoised struct {
	kind                    string
	arrivals                Arrivals
	sizes                   []Size
	steps, frames, pictures []Choice
	runs                    int
	unsized                 float64
	prompt                  Length
}

func (d Diffusion) denoised() denoised {
	if d.Sizes == nil {
		d.Sizes = []Size{{512, 512, 3}, {768, 768, 2}, {1024, 1024, 2}, {1536, 1024, 2}, {1536, 1536, 1}}
	}
	if d.Steps == nil {
		d.Steps = []Choice{{20, 1}, {28, 1}, {50, 1}}
	}
	if d.Pictures == nil {
		d.Pictures = []Choice{{1, 7}, {2, 2}, {4, 1}}
	}
	return denoised{"diffusion", Arrivals{withDefault(d.Rate, .1), d.CV, d.Vary}, d.Sizes, d.Steps, []Choice{{Value: 1}}, d.Pictures,
		withDefault(d.Runs, 2), d.Unsized, d.Prompt.or(Length{Kind: LengthNormal, Mean: 60, SD: 30})}
}

func (v Video) denoised() denoised {
	if v.Sizes == nil {
		v.Sizes = []Size{{832, 480, 2}, {1280, 704, 1}}
	}
	if v.Frames == nil {
		v.Frames = []Choice{{17, 1}, {49, 1}, {81, 1}}
	}
	if v.Steps == nil {
		v.Steps = []Choice{{30, 1}, {50, 1}}
	}
	return denoised{"video", Arrivals{withDefault(v.Rate, .05), v.CV, v.Vary}, v.Sizes, v.Steps, v.Frames, []Choice{{Value: 1}},
		withDefault(v.Runs, 2), v.Unsized, v.Prompt.or(Length{Kind: LengthNormal, Mean: 60, SD: 30})}
}

func (d denoised) validate() error {
	c := checker{kind: d.kind}
	c.arrivals(d.arrivals)
	c.intRange("number of sizes", len(d.sizes), 1, maxChoices)
	for i, s := range d.sizes {
		c.intRange(fmt.Sprintf("sizes[%d].width", i), s.Width, 16, 16_384)
		c.intRange(fmt.Sprintf("sizes[%d].height", i), s.Height, 16, 16_384)
		c.floatRange(fmt.Sprintf("sizes[%d].share", i), s.Share, 0, 1e6)
	}
	c.choices("steps", d.steps, 1000)
	c.choices("frames", d.frames, 10_000)
	c.choices("pictures", d.pictures, 128)
	c.intRange("runs", d.runs, 1, 100)
	c.floatRange("unsized", d.unsized, 0, 1)
	c.length("prompt", d.prompt)
	return c.err
}

// maxChoices bounds lists of Size and Choice.
const maxChoices = 1000

func (c *checker) choices(field string, all []Choice, most int) {
	c.intRange("number of "+field, len(all), 1, maxChoices)
	for i, v := range all {
		c.intRange(fmt.Sprintf("%s[%d].value", field, i), v.Value, 1, most)
		c.floatRange(fmt.Sprintf("%s[%d].share", field, i), v.Share, 0, 1e6)
	}
}

// chooser draws one of several by their shares.
type chooser[T any] struct {
	all []T
	of  popularity
}

func choosing[T any](all []T, share func(T) float64) chooser[T] {
	shares, sum := make([]float64, len(all)), 0.0
	for i, v := range all {
		shares[i] = withDefault(share(v), 1)
		sum += shares[i]
	}
	for i := range shares {
		shares[i] /= sum
	}
	return chooser[T]{all, sharesOf(shares)}
}

func (c *chooser[T]) pick(r *types.Rand) T { return c.all[min(c.of.pick(r), len(c.all)-1)] }

func (d denoised) start(seed uint64) Source {
	if err := d.validate(); err != nil {
		return broken{err}
	}
	share := func(c Choice) float64 { return c.Share }
	var (
		sizes    = choosing(d.sizes, func(s Size) float64 { return s.Share })
		steps    = choosing(d.steps, share)
		frames   = choosing(d.frames, share)
		pictures = choosing(d.pictures, share)
		prompt   = d.prompt.Sampler()
		in       = types.NewRand(derive(seed, streamInput))
		size     = types.NewRand(derive(seed, streamMedia))
		step     = types.NewRand(derive(seed, streamOutput))
		frame    = types.NewRand(derive(seed, streamQuestion))
		picture  = types.NewRand(derive(seed, streamSpread))
		tells    = types.NewRand(derive(seed, streamClass))
		ids      = newIDs(seed, d.kind)
	)
	return &openLoop{times: d.arrivals.Times(seed), make: func(n uint64) Job {
		s, st, f, p := sizes.pick(&size), steps.pick(&step).Value, float64(frames.pick(&frame).Value), pictures.pick(&picture).Value
		return Job{
			Content: []Segment{{ids.id(n), prompt.Sample(&in)}},
			Unsized: unit(&tells) < d.unsized,
			Work: types.Work{Kind: types.Denoises, Items: p, Denoise: types.Denoise{
				Passes:  float64(p * st * d.runs),
				Latents: float64(s.Width/16) * float64(s.Height/16) * (1 + (f-1)/4),
				Pixels:  float64(p) * float64(s.Width) * float64(s.Height) * f,
			}},
		}
	}}
}

// Validate reports the first field that is out of its limits.
func (d Diffusion) Validate() error { return d.denoised().validate() }

// Start makes the stream of one run.
func (d Diffusion) Start(seed uint64) Source { return d.denoised().start(seed) }

// MeanRate returns jobs per second, before Vary.
func (d Diffusion) MeanRate() float64 { return d.denoised().arrivals.withDefaults().Rate }

// AtRate returns the same workload with so many jobs per second.
func (d Diffusion) AtRate(rate float64) (Spec, error) { d.Rate = rate; return d, nil }

// Validate reports the first field that is out of its limits.
func (v Video) Validate() error { return v.denoised().validate() }

// Start makes the stream of one run.
func (v Video) Start(seed uint64) Source { return v.denoised().start(seed) }

// MeanRate returns jobs per second, before Vary.
func (v Video) MeanRate() float64 { return v.denoised().arrivals.withDefaults().Rate }

// AtRate returns the same workload with so many jobs per second.
func (v Video) AtRate(rate float64) (Spec, error) { v.Rate = rate; return v, nil }

var (
	_ RatedSpec = Diffusion{}
	_ RatedSpec = Video{}
)
