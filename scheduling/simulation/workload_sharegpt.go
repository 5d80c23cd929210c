package simulation

import "github.com/inferpick/inferpick/types"

// ShareGPT is chat without anything in common between prompts: each is content of
// its own. Lengths are those of the ShareGPT dataset's first turns, as load tests
// of model servers use them (prompts and replies of up to 1024 tokens; means of
// 252 and 227), unless others are set.
type ShareGPT struct {
	// Rate, CV and Vary are those of Arrivals: default 10 per second, 1, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Input and Output are the lengths of prompts and replies. Default: ShareGPT's.
	Input  Length `json:"input,omitzero"`
	Output Length `json:"output,omitzero"`
}

func (s ShareGPT) arrivals() Arrivals { return Arrivals{s.Rate, s.CV, s.Vary} }

// Validate reports the first field that is out of its limits.
func (s ShareGPT) Validate() error { return s.check("sharegpt") }

func (s ShareGPT) check(kind string) error {
	c := checker{kind: kind}
	c.arrivals(s.arrivals())
	c.length("input", s.Input)
	c.length("output", s.Output)
	return c.err
}

// Start makes the stream of one run.
func (s ShareGPT) Start(seed uint64) Source { return s.start("sharegpt", seed) }

func (s ShareGPT) start(kind string, seed uint64) Source {
	if err := s.check(kind); err != nil {
		return broken{err}
	}
	var (
		input  = s.Input.or(Length{Kind: LengthShareGPTInputs}).Sampler()
		output = s.Output.or(Length{Kind: LengthShareGPTOutputs}).Sampler()
		in     = types.NewRand(derive(seed, streamInput))
		out    = types.NewRand(derive(seed, streamOutput))
		ids    = newIDs(seed, kind)
	)
	return &openLoop{times: s.arrivals().Times(seed), make: func(n uint64) Job {
		return Job{
			Content: []Segment{{ids.id(n), input.Sample(&in)}},
			Output:  output.Sample(&out),
		}
	}}
}

// MeanRate returns jobs per second, before Vary.
func (s ShareGPT) MeanRate() float64 { return s.arrivals().withDefaults().Rate }

// AtRate returns the same workload with so many jobs per second.
func (s ShareGPT) AtRate(rate float64) (Spec, error) { s.Rate = rate; return s, nil }

// Bursty is ShareGPT with arrivals in bursts: gaps whose standard deviation is
// three times their mean.
type Bursty struct {
	// Rate, CV and Vary are those of Arrivals: default 10 per second, 3, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Input and Output are the lengths of prompts and replies. Default: ShareGPT's.
	Input  Length `json:"input,omitzero"`
	Output Length `json:"output,omitzero"`
}

func (b Bursty) shareGPT() ShareGPT {
	b.CV = withDefault(b.CV, 3)
	return ShareGPT(b)
}

// Validate reports the first field that is out of its limits.
func (b Bursty) Validate() error { return b.shareGPT().check("bursty") }

// Start makes the stream of one run.
func (b Bursty) Start(seed uint64) Source { return b.shareGPT().start("bursty", seed) }

// MeanRate returns jobs per second, before Vary.
func (b Bursty) MeanRate() float64 { return b.shareGPT().MeanRate() }

// AtRate returns the same workload with so many jobs per second.
func (b Bursty) AtRate(rate float64) (Spec, error) { b.Rate = rate; return b, nil }

var (
	_ RatedSpec = ShareGPT{}
	_ RatedSpec = Bursty{}
)
