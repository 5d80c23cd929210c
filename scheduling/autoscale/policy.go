package autoscale

import (
	"encoding/json"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
)

// Policy says how a pool is scaled. The zero value is good: from 1 to 100 replicas.
type Policy struct {
	// Min and Max bound the recommendation. Defaults 1 and 100.
	Min int `json:"min,omitempty"`
	Max int `json:"max,omitempty"`
	// ToZero allows 0 too, whatever Min is, when nothing has come, waited or run for IdleAfter. Default of that 10
	// minutes.
	ToZero    bool          `json:"toZero,omitempty"`
	IdleAfter time.Duration `json:"idleAfter,omitempty"`

	// TTFT and TPOT are the targets for requests that have none. Defaults 2 s and 100 ms.
	TTFT time.Duration `json:"ttft,omitempty"`
	TPOT time.Duration `json:"tpot,omitempty"`

	// StartUp is how long a new replica takes until it serves. Default 0: it is learned from how long it takes until
	// there are as many as were recommended, beginning with 2 minutes.
	StartUp time.Duration `json:"startUp,omitempty"`

	Tuning
}

// Tuning is the part of a Policy that few need to change: what the law is made of. Zero fields have the defaults below,
// which were chosen on simulated fleets.
type Tuning struct {
	// Utilization is which part of what a replica can do is asked of it. Less costs more replicas, and more requests meet
	// their targets. Above 0, at most 1. Default DefaultUtilization.
	Utilization float64 `json:"utilization,omitempty"`
	// KVTarget and SlotsTarget are which part of the KV cache may be in use, and which part of the requests may run that a
	// server can run at once. Default: with Utilization, DefaultKVTarget and DefaultSlotsTarget at its default.
	KVTarget    float64 `json:"kvTarget,omitempty"`
	SlotsTarget float64 `json:"slotsTarget,omitempty"`
	// Slots is how many requests a server can run at once, where its types.Capacity does not say. Default DefaultSlots.
	Slots int `json:"slots,omitempty"`

	// Spare is how many standard deviations, by which what is at servers varies by chance, are added to what comes: a
	// small pool needs more to spare than a large one. Default DefaultSpare; negative: none.
	Spare float64 `json:"spare,omitempty"`

	// Drain is in how long what waits should be worked off once new replicas serve. Default DefaultDrain.
	Drain time.Duration `json:"drain,omitempty"`

	// Trend is over how long the growth of arrivals is averaged, and TrendMost by which part it may raise them. Defaults
	// DefaultTrend and DefaultTrendMost; a negative TrendMost: growth does not count.
	Trend     time.Duration `json:"trend,omitempty"`
	TrendMost float64       `json:"trendMost,omitempty"`
	// Surprise is by how many standard errors arrivals of the last seconds must be above those of the last minute to
	// count in their place. Default DefaultSurprise.
	Surprise float64 `json:"surprise,omitempty"`

	// Reserve is for how long replicas are kept that a surge needed which was over before one could have started, since it
	// was there last. Default DefaultReserve; 1s: hardly at all.
	Reserve time.Duration `json:"reserve,omitempty"`

	// SLOMet is which part of the requests should meet their targets, and SLOStep by which part replicas are added at
	// most while fewer do. Defaults DefaultSLOMet and DefaultSLOStep; a negative SLOStep: none are.
	SLOMet  float64 `json:"sloMet,omitempty"`
	SLOStep float64 `json:"sloStep,omitempty"`

	// StepUp bounds how many replicas are added in 15 s: to so many times those that there were, or 4 more if that is
	// more. Default DefaultStepUp.
	StepUp float64 `json:"stepUp,omitempty"`
	// Slack is by which part of a replica what is needed may be above the whole number below before one is added.
	// Default DefaultSlack.
	Slack float64 `json:"slack,omitempty"`
	// Margin is by which part what is needed is raised before replicas are taken away; by 0.8 of a replica at least.
	// Default DefaultMargin.
	Margin float64 `json:"margin,omitempty"`
	// Window is for how long what was needed holds against less. What was asked for a trend or a surprise holds for Brief.
	// Defaults DefaultWindow and DefaultBrief.
	Window time.Duration `json:"window,omitempty"`
	Brief  time.Duration `json:"brief,omitempty"`
}

// Defaults of a Policy.
const (
	DefaultMin       = 1
	DefaultMax       = 100
	DefaultIdleAfter = 10 * time.Minute
	DefaultTTFT      = 2 * time.Second
	DefaultTPOT      = 100 * time.Millisecond
	DefaultStartUp   = 2 * time.Minute

	DefaultUtilization = .8
	DefaultKVTarget    = .85
	DefaultSlotsTarget = .9
	DefaultSlots       = 256
	DefaultSpare       = .7
	DefaultDrain       = 20 * time.Second
	DefaultTrend       = 90 * time.Second
	DefaultTrendMost   = 1
	DefaultSurprise    = 3
	DefaultReserve     = 15 * time.Minute
	DefaultSLOMet      = .9
	DefaultSLOStep     = .25
	DefaultStepUp      = 4
	DefaultSlack       = .02
	DefaultMargin      = .05
	DefaultWindow      = 75 * time.Second
	DefaultBrief       = 15 * time.Second
)

// Validate returns all that is wrong with the policy, nil if nothing is.
func (p Policy) Validate() error {
	_, err := p.withDefaults()
	return err
}

// LoadPolicy reads a Policy from JSON with durations as strings such as "90s"; unknown fields and values out of range
// are errors, each with its place.
func LoadPolicy(data []byte) (p Policy, err error) {
	doc, err := strictjson.Parse(data, strictjson.Options{Package: "autoscale"})
	if err == nil {
		err = doc.Decode((*plainPolicy)(&p))
	}
	if err == nil {
		err = doc.Locate(p.Validate())
	}
	return p, err
}

// UnmarshalJSON implements json.Unmarshaler: it is LoadPolicy.
func (p *Policy) UnmarshalJSON(data []byte) error {
	read, err := LoadPolicy(data)
	if err == nil {
		*p = read
	}
	return err
}

// plainPolicy is a Policy without its methods.
type plainPolicy Policy

// MarshalJSON implements json.Marshaler. LoadPolicy reads what it returns.
func (p Policy) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		plainPolicy
		IdleAfter string `json:"idleAfter,omitempty"`
		TTFT      string `json:"ttft,omitempty"`
		TPOT      string `json:"tpot,omitempty"`
		StartUp   string `json:"startUp,omitempty"`
		Drain     string `json:"drain,omitempty"`
		Trend     string `json:"trend,omitempty"`
		Window    string `json:"window,omitempty"`
		Brief     string `json:"brief,omitempty"`
		Reserve   string `json:"reserve,omitempty"`
	}{
		plainPolicy(p), text(p.IdleAfter), text(p.TTFT), text(p.TPOT), text(p.StartUp),
		text(p.Drain), text(p.Trend), text(p.Window), text(p.Brief), text(p.Reserve),
	})
}

// text is a duration as JSON has it; "" stands for none.
func text(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// withDefaults returns p with its defaults, or what is wrong with it.
func (p Policy) withDefaults() (Policy, error) {
	c := check.Checks{Package: "autoscale"}
	const long = 24 * time.Hour
	check.Default(&c, "min", &p.Min, DefaultMin, 1, 100_000)
	check.Default(&c, "max", &p.Max, max(DefaultMax, p.Min), p.Min, 100_000)
	check.Default(&c, "idleAfter", &p.IdleAfter, DefaultIdleAfter, time.Second, 30*long)
	check.Default(&c, "ttft", &p.TTFT, DefaultTTFT, time.Millisecond, time.Hour)
	check.Default(&c, "tpot", &p.TPOT, DefaultTPOT, time.Microsecond, time.Hour)
	check.Range(&c, "startUp", p.StartUp, 0, long)
	check.Default(&c, "utilization", &p.Utilization, DefaultUtilization, .05, 1)
	scale := p.Utilization / DefaultUtilization
	check.Default(&c, "kvTarget", &p.KVTarget, min(scale*DefaultKVTarget, 1), .01, 1)
	check.Default(&c, "slotsTarget", &p.SlotsTarget, min(scale*DefaultSlotsTarget, 1), .01, 1)
	check.Default(&c, "slots", &p.Slots, DefaultSlots, 1, 1_000_000)
	check.Default(&c, "spare", &p.Spare, DefaultSpare, -1, 100)
	check.Default(&c, "drain", &p.Drain, DefaultDrain, time.Second, long)
	check.Default(&c, "trend", &p.Trend, DefaultTrend, time.Second, long)
	check.Default(&c, "trendMost", &p.TrendMost, DefaultTrendMost, -1, 100)
	check.Default(&c, "surprise", &p.Surprise, DefaultSurprise, .1, 1000)
	check.Default(&c, "reserve", &p.Reserve, DefaultReserve, time.Millisecond, long)
	check.Default(&c, "sloMet", &p.SLOMet, DefaultSLOMet, .01, 1)
	check.Default(&c, "sloStep", &p.SLOStep, DefaultSLOStep, -1, 10)
	check.Default(&c, "stepUp", &p.StepUp, DefaultStepUp, 1.01, 1000)
	check.Default(&c, "slack", &p.Slack, DefaultSlack, .0001, .99)
	check.Default(&c, "margin", &p.Margin, DefaultMargin, .0001, 10)
	check.Default(&c, "window", &p.Window, DefaultWindow, time.Second, long)
	check.Default(&c, "brief", &p.Brief, DefaultBrief, time.Second, long)
	p.Spare, p.TrendMost, p.SLOStep = max(p.Spare, 0), max(p.TrendMost, 0), max(p.SLOStep, 0)
	return p, c.Err()
}
