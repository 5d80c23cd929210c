package simulation

import "github.com/inferpick/inferpick/types"

// MultiLoRA is chat, each prompt for one of many LoRA adapters of the same model
// or for the base model.
//
// By default 15 adapters take everything, 5 of them 12 % each, 5 of them 6 %, and
// 5 of them 2 %, which is how the Gateway API Inference Extension tests LoRA
// affinity. A long tail is Adapters: 100, Skew: 1.
type MultiLoRA struct {
	// Rate, CV and Vary are those of Arrivals: default 10 per second, 1, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Shares is the part of jobs that each adapter gets, 0 to 1, together at most 1;
	// the rest is for the base model. Not together with Adapters.
	Shares []float64 `json:"shares,omitempty"`
	// Adapters is the number of adapters asked for by Zipf's law with exponent Skew,
	// 0 to 5; at most 100,000. Default 0: Shares holds.
	Adapters int     `json:"adapters,omitempty"`
	Skew     float64 `json:"skew,omitempty"`
	// Base is, with Adapters, the part of jobs for the base model, 0 to 1.
	Base float64 `json:"base,omitempty"`
	// Prefix is what adapters are called, before a dash and a number from 0.
	// Default "lora".
	Prefix string `json:"prefix,omitempty"`
	// Input and Output are the lengths of prompts and replies. Default: ShareGPT's.
	Input  Length `json:"input,omitzero"`
	Output Length `json:"output,omitzero"`
}

func (m MultiLoRA) arrivals() Arrivals { return Arrivals{m.Rate, m.CV, m.Vary} }

func (m MultiLoRA) shares() []float64 {
	if m.Shares != nil {
		return m.Shares
	}
	return []float64{.12, .12, .12, .12, .12, .06, .06, .06, .06, .06, .02, .02, .02, .02, .02}
}

// Validate reports the first field that is out of its limits.
func (m MultiLoRA) Validate() error {
	c := checker{kind: "multi-lora"}
	c.arrivals(m.arrivals())
	c.intRange("adapters", m.Adapters, 0, 100_000)
	c.floatRange("skew", m.Skew, 0, 5)
	c.floatRange("base", m.Base, 0, 1)
	if m.Adapters > 0 && m.Shares != nil {
		c.failf("adapters is %d and shares has %d entries, want one of the two", m.Adapters, len(m.Shares))
	}
	if m.Adapters == 0 && (m.Skew != 0 || m.Base != 0) {
		c.failf("skew is %v and base %v without adapters, want adapters above 0", m.Skew, m.Base)
	}
	if len(m.Shares) > 100_000 {
		c.failf("shares has %d entries, want at most 100000", len(m.Shares))
	}
	sum := 0.0
	for i, s := range m.Shares {
		if !(s >= 0 && s <= 1) {
			c.failf("shares[%d] is %v, want 0 to 1", i, s)
		}
		sum += s
	}
	if sum > 1+1e-9 {
		c.failf("shares add up to %v, want at most 1", sum)
	}
	c.length("input", m.Input)
	c.length("output", m.Output)
	return c.err
}

// Names returns the names of the adapters, which a fleet must serve.
func (m MultiLoRA) Names() []string {
	n := m.Adapters
	if n == 0 {
		n = len(m.shares())
	}
	return labels(withDefault(m.Prefix, "lora"), n)
}

// Start makes the stream of one run.
func (m MultiLoRA) Start(seed uint64) Source {
	if err := m.Validate(); err != nil {
		return broken{err}
	}
	var (
		input   = m.Input.or(Length{Kind: LengthShareGPTInputs}).Sampler()
		output  = m.Output.or(Length{Kind: LengthShareGPTOutputs}).Sampler()
		pick    = m.picker()
		names   = append(m.Names(), "") // the base model comes last
		adapter = types.NewRand(derive(seed, streamPopularity))
		in      = types.NewRand(derive(seed, streamInput))
		out     = types.NewRand(derive(seed, streamOutput))
		ids     = newIDs(seed, "multi-lora")
	)
	return &openLoop{times: m.arrivals().Times(seed), make: func(n uint64) Job {
		return Job{
			Content: []Segment{{ids.id(n), input.Sample(&in)}},
			Output:  output.Sample(&out),
			Adapter: names[pick(unit(&adapter))],
		}
	}}
}

// picker returns the function from a uniform number to an index into the adapters,
// the one after the last for the base model.
func (m MultiLoRA) picker() func(u float64) int {
	if m.Adapters == 0 {
		p := sharesOf(m.shares())
		return p.at
	}
	p := zipf(m.Adapters, m.Skew)
	tuned := 1 - m.Base
	return func(u float64) int {
		if u >= tuned {
			return m.Adapters
		}
		return p.at(u / tuned)
	}
}

// MeanRate returns jobs per second, before Vary.
func (m MultiLoRA) MeanRate() float64 { return m.arrivals().withDefaults().Rate }

// AtRate returns the same workload with so many jobs per second.
func (m MultiLoRA) AtRate(rate float64) (Spec, error) { m.Rate = rate; return m, nil }

var _ RatedSpec = MultiLoRA{}
