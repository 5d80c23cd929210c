package simulation

import (
	"math"
	"strconv"
	"time"
)

// Agentic is sessions of agents that use tools. A session begins with the system
// prompt of its application and a task; each turn's prompt is the one before, what
// the model answered, and what a tool returned for it. A turn begins a moment of
// thinking after the end of the one before: sessions arrive by themselves, turns
// do not. A session whose turn was not served in full is over.
//
// What a session draws depends on the seed and its number alone, so it is the same
// whatever the policy does to the others.
type Agentic struct {
	// Rate, CV and Vary are those of Arrivals, of sessions: default 1 per second, 1,
	// constant.
	Rate float64 `json:"rate,omitempty"`
	CV   float64 `json:"cv,omitempty"`
	Vary *Vary   `json:"vary,omitempty"`
	// Turns is the mean of the turns after the first, which are exponential and
	// rounded, 0 to 10,000. Default 9; negative: none.
	Turns float64 `json:"turns,omitempty"`
	// MaxTurns is how many turns a session has at most. Default 40; at most 10,000.
	MaxTurns int `json:"max_turns,omitempty"`
	// MaxPrompt ends a session before a turn whose prompt would have more tokens.
	// Default 131,072.
	MaxPrompt int `json:"max_prompt,omitempty"`
	// Apps is the number of applications, asked for by Zipf's law with exponent
	// Skew. Default 6 and 0.8; at most 100,000 and 5; negative Skew: all equally.
	Apps int     `json:"apps,omitempty"`
	Skew float64 `json:"skew,omitempty"`
	// SystemTokens is the length of an application's system prompt. Default 3008.
	SystemTokens int `json:"system_tokens,omitempty"`
	// Task is the length of the user's first message. Default: normal, mean 600,
	// standard deviation 400.
	Task Length `json:"task,omitzero"`
	// Output is the length of what the model answers. Default: lognormal, median 110,
	// sigma 0.9.
	Output Length `json:"output,omitzero"`
	// Tool is the length of what a tool returns. Default: lognormal, median 400,
	// sigma 1.
	Tool Length `json:"tool,omitzero"`
	// Think is the median, in seconds, of the lognormal time between the end of a
	// turn and the next, and ThinkSigma its sigma. Default 2 and 1; at most 86,400
	// and 5; negative: none.
	Think      float64 `json:"think_s,omitempty"`
	ThinkSigma float64 `json:"think_sigma,omitempty"`
}

func (a Agentic) arrivals() Arrivals { return Arrivals{withDefault(a.Rate, 1), a.CV, a.Vary} }

func (a Agentic) withDefaults() Agentic {
	a.Turns = max(0, withDefault(a.Turns, 9))
	a.MaxTurns = withDefault(a.MaxTurns, 40)
	a.MaxPrompt = withDefault(a.MaxPrompt, 131_072)
	a.Apps = withDefault(a.Apps, 6)
	a.Skew = max(0, withDefault(a.Skew, 0.8))
	a.SystemTokens = withDefault(a.SystemTokens, 3008)
	a.Task = a.Task.or(Length{Kind: LengthNormal, Mean: 600, SD: 400})
	a.Output = a.Output.or(Length{Kind: LengthLogNormal, Median: 110, Sigma: 0.9})
	a.Tool = a.Tool.or(Length{Kind: LengthLogNormal, Median: 400, Sigma: 1})
	a.Think = max(0, withDefault(a.Think, 2))
	a.ThinkSigma = max(0, withDefault(a.ThinkSigma, 1))
	return a
}

// Validate reports the first field that is out of its limits.
func (a Agentic) Validate() error {
	a = a.withDefaults()
	c := checker{kind: "agentic"}
	c.arrivals(a.arrivals())
	c.floatRange("turns", a.Turns, 0, 10_000)
	c.intRange("max_turns", a.MaxTurns, 1, 10_000)
	c.intRange("max_prompt", a.MaxPrompt, 1, maxTokens)
	c.intRange("apps", a.Apps, 1, 100_000)
	c.floatRange("skew", a.Skew, 0, 5)
	c.intRange("system_tokens", a.SystemTokens, 1, maxTokens)
	c.length("task", a.Task)
	c.length("output", a.Output)
	c.length("tool", a.Tool)
	c.floatRange("think_s", a.Think, 0, 86_400)
	c.floatRange("think_sigma", a.ThinkSigma, 0, 5)
	return c.err
}

// Start makes the stream of one run.
func (a Agentic) Start(seed uint64) Source {
	if err := a.Validate(); err != nil {
		return broken{err}
	}
	a = a.withDefaults()
	return &agents{
		spec:   a,
		times:  a.arrivals().Times(seed),
		seed:   derive(seed, streamSession),
		apps:   zipf(a.Apps, a.Skew),
		system: newIDs(seed, "agentic/system"),
		task:   a.Task.Sampler(),
		output: a.Output.Sampler(),
		tool:   a.Tool.Sampler(),
	}
}

// MeanRate returns sessions per second, before Vary.
func (a Agentic) MeanRate() float64 { return a.arrivals().withDefaults().Rate }

// AtRate returns the same workload with so many sessions per second.
func (a Agentic) AtRate(rate float64) (Spec, error) { a.Rate = rate; return a, nil }

// agents is a run of Agentic. It holds nothing of a session: that is in the Tag of
// the job under way.
type agents struct {
	spec               Agentic
	times              *ArrivalTimes
	seed               uint64
	n                  uint64 // sessions so far
	apps               popularity
	system             idSpace
	task, output, tool *LengthSampler
}

// turn is the Tag of a job: where in its session it is. It does not change.
type turn struct {
	session uint64 // seed of all its draws
	number  int    // from 0
	last    int
}

// The draws of a turn. Those of a session are draws of turn 0.
const (
	drawTurns uint64 = iota
	drawApp
	drawTask
	drawOutput
	drawTool
	drawThink
	drawIDs
	draws
)

// draw returns a uniform number that depends on nothing but the session, the turn
// and the quantity.
func (t turn) draw(quantity uint64) float64 {
	return unitOf(derive(t.session, uint64(t.number)*draws+quantity))
}

// ids are the content of a turn: 0 is what comes in, 1 what goes out.
func (t turn) ids() idSpace { return idSpace(derive(t.session, uint64(t.number)*draws+drawIDs)) }

func (a *agents) Next() (Job, bool) {
	at, ok := a.times.Next()
	if !ok {
		return Job{}, false
	}
	t := turn{session: derive(a.seed, a.n)}
	a.n++
	more := math.Round(-a.spec.Turns * math.Log1p(-t.draw(drawTurns)))
	t.last = min(a.spec.MaxTurns-1, int(min(more, 1e6)))
	app := a.apps.at(t.draw(drawApp))
	return a.job(t, at, []Segment{
		{a.system.id(uint64(app)), a.spec.SystemTokens},
		{t.ids().id(0), a.task.Quantile(t.draw(drawTask))},
	}, "agent-"+strconv.FormatUint(t.session, 36)), true
}

func (a *agents) job(t turn, at time.Duration, content []Segment, session string) Job {
	j := Job{
		Arrival: at,
		Content: content,
		Output:  a.output.Quantile(t.draw(drawOutput)),
		Session: session,
	}
	if t.number < t.last {
		j.OutputID = t.ids().id(1)
		j.Tag = t
	}
	return j
}

// Done returns the next turn of the session.
func (a *agents) Done(j *Job, at time.Duration, served bool) (Job, bool) {
	t, ok := j.Tag.(turn)
	if !ok || !served {
		return Job{}, false
	}
	t.number++
	content := make([]Segment, 0, len(j.Content)+2)
	content = append(content, j.Content...)
	content = append(content,
		Segment{j.OutputID, j.Output},
		Segment{t.ids().id(0), a.tool.Quantile(t.draw(drawTool))})
	next := a.job(t, at+thinking(t, a.spec.Think, a.spec.ThinkSigma), content, j.Session)
	if next.Prompt() > a.spec.MaxPrompt {
		return Job{}, false
	}
	return next, true
}

// thinking is the time before a turn, lognormal with that median, in seconds, and sigma.
func thinking(t turn, median, sigma float64) time.Duration {
	z := math.Sqrt2 * math.Erfinv(float64(2*t.draw(drawThink))-1)
	return toDuration(min(86_400*7, median*math.Exp(sigma*z)))
}

var (
	_ RatedSpec = Agentic{}
	_ Source    = (*agents)(nil)
)
