package simulation

import "github.com/inferpick/inferpick/types"

// SharedPrefix is many applications that each begin their prompts with a long
// system prompt of their own and go on with a question that is new each time.
//
// What matters is how Groups·SystemTokens compares with the KV cache of one
// replica and with that of the fleet: the default of 500 groups of 4096 tokens is
// far more than one server holds.
type SharedPrefix struct {
	// Rate, CV and Vary are those of Arrivals: default 10 per second, 1, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Groups is the number of system prompts, at most 1,000,000. Default 500.
	Groups int `json:"groups,omitempty"`
	// SystemTokens is the length of each. Default 4096.
	SystemTokens int `json:"system_tokens,omitempty"`
	// Skew is the exponent s of Zipf's law by which groups are asked for, 0 to 5.
	// Default 0: all equally often.
	Skew float64 `json:"skew,omitempty"`
	// Question is the length of the rest of the prompt. Default: normal, mean 256,
	// standard deviation 128.
	Question Length `json:"question,omitzero"`
	// Output is the length of replies. Default: normal, mean 200, standard
	// deviation 100.
	Output Length `json:"output,omitzero"`
}

func (s SharedPrefix) arrivals() Arrivals { return Arrivals{s.Rate, s.CV, s.Vary} }

func (s SharedPrefix) withDefaults() SharedPrefix {
	s.Groups = withDefault(s.Groups, 500)
	s.SystemTokens = withDefault(s.SystemTokens, 4096)
	s.Question = s.Question.or(Length{Kind: LengthNormal, Mean: 256, SD: 128})
	s.Output = s.Output.or(Length{Kind: LengthNormal, Mean: 200, SD: 100})
	return s
}

// Validate reports the first field that is out of its limits.
func (s SharedPrefix) Validate() error {
	s = s.withDefaults()
	c := checker{kind: "shared-prefix"}
	c.arrivals(s.arrivals())
	c.intRange("groups", s.Groups, 1, 1_000_000)
	c.intRange("system_tokens", s.SystemTokens, 1, maxTokens)
	c.floatRange("skew", s.Skew, 0, 5)
	c.length("question", s.Question)
	c.length("output", s.Output)
	return c.err
}

// Start makes the stream of one run.
func (s SharedPrefix) Start(seed uint64) Source {
	if err := s.Validate(); err != nil {
		return broken{err}
	}
	s = s.withDefaults()
	var (
		question = s.Question.Sampler()
		output   = s.Output.Sampler()
		groups   = zipf(s.Groups, s.Skew)
		group    = types.NewRand(derive(seed, streamPopularity))
		in       = types.NewRand(derive(seed, streamInput))
		out      = types.NewRand(derive(seed, streamOutput))
		system   = newIDs(seed, "shared-prefix/system")
		ids      = newIDs(seed, "shared-prefix/question")
		tokens   = s.SystemTokens
	)
	return &openLoop{times: s.arrivals().Times(seed), make: func(n uint64) Job {
		g := uint64(groups.pick(&group))
		return Job{
			Content: []Segment{{system.id(g), tokens}, {ids.id(n), question.Sample(&in)}},
			Output:  output.Sample(&out),
		}
	}}
}

// MeanRate returns jobs per second, before Vary.
func (s SharedPrefix) MeanRate() float64 { return s.arrivals().withDefaults().Rate }

// AtRate returns the same workload with so many jobs per second.
func (s SharedPrefix) AtRate(rate float64) (Spec, error) { s.Rate = rate; return s, nil }

// B2B is a service for businesses: each customer has a long system prompt and asks
// one of a few fixed questions again and again, for long answers. Its defaults are
// those of an experiment that the llm-d project published in 2025 ("KV-cache
// wins"): 150 customers, system prompts of 6000 tokens, 5 questions of 1200 tokens
// for each, answers of 1000.
type B2B struct {
	// Rate, CV and Vary are those of Arrivals: default 10 per second, 1, constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Customers is how many there are, at most 100,000. Default 150. Each is a
	// tenant: customer-0, customer-1, …
	Customers int `json:"customers,omitempty"`
	// SystemTokens is the length of a customer's system prompt. Default 6000.
	SystemTokens int `json:"system_tokens,omitempty"`
	// Questions is how many a customer has, at most 10,000. Default 5.
	Questions int `json:"questions,omitempty"`
	// QuestionTokens is the length of each. Default 1200.
	QuestionTokens int `json:"question_tokens,omitempty"`
	// Skew is the exponent of Zipf's law by which customers come, 0 to 5. Default 0.
	Skew float64 `json:"skew,omitempty"`
	// Output is the length of answers. Default: 1000, fixed.
	Output Length `json:"output,omitzero"`
}

func (b B2B) arrivals() Arrivals { return Arrivals{b.Rate, b.CV, b.Vary} }

func (b B2B) withDefaults() B2B {
	b.Customers = withDefault(b.Customers, 150)
	b.SystemTokens = withDefault(b.SystemTokens, 6000)
	b.Questions = withDefault(b.Questions, 5)
	b.QuestionTokens = withDefault(b.QuestionTokens, 1200)
	b.Output = b.Output.or(Length{Kind: LengthFixed, Tokens: 1000})
	return b
}

// Validate reports the first field that is out of its limits.
func (b B2B) Validate() error {
	b = b.withDefaults()
	c := checker{kind: "b2b"}
	c.arrivals(b.arrivals())
	c.intRange("customers", b.Customers, 1, 100_000)
	c.intRange("system_tokens", b.SystemTokens, 1, maxTokens)
	c.intRange("questions", b.Questions, 1, 10_000)
	c.intRange("question_tokens", b.QuestionTokens, 1, maxTokens)
	c.floatRange("skew", b.Skew, 0, 5)
	c.length("output", b.Output)
	return c.err
}

// Start makes the stream of one run.
func (b B2B) Start(seed uint64) Source {
	if err := b.Validate(); err != nil {
		return broken{err}
	}
	b = b.withDefaults()
	var (
		output    = b.Output.Sampler()
		customers = zipf(b.Customers, b.Skew)
		tenants   = labels("customer", b.Customers)
		customer  = types.NewRand(derive(seed, streamPopularity))
		question  = types.NewRand(derive(seed, streamQuestion))
		out       = types.NewRand(derive(seed, streamOutput))
		system    = newIDs(seed, "b2b/system")
		questions = newIDs(seed, "b2b/question")
	)
	return &openLoop{times: b.arrivals().Times(seed), make: func(uint64) Job {
		i := customers.pick(&customer)
		q := i*b.Questions + question.IntN(b.Questions)
		return Job{
			Content: []Segment{{system.id(uint64(i)), b.SystemTokens}, {questions.id(uint64(q)), b.QuestionTokens}},
			Output:  output.Sample(&out),
			Tenant:  tenants[i],
		}
	}}
}

// MeanRate returns jobs per second, before Vary.
func (b B2B) MeanRate() float64 { return b.arrivals().withDefaults().Rate }

// AtRate returns the same workload with so many jobs per second.
func (b B2B) AtRate(rate float64) (Spec, error) { b.Rate = rate; return b, nil }

var (
	_ RatedSpec = SharedPrefix{}
	_ RatedSpec = B2B{}
)
