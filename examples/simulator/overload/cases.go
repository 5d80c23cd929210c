package overload

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// scenario is a fleet and what is asked of it.
type scenario struct {
	name     string
	what     string // bounds it
	engine   engine.Config
	workload simulation.RatedSpec
	about    float64 // its capacity, for Quick, which does not measure it
}

const replicas = 10

// scenarios are fleets that are bounded by different things.
func scenarios() []scenario {
	llama := engine.Llama31H100()
	return []scenario{
		{"chat, 64 places", "ShareGPT lengths; engines run at most 64 requests at once (max_num_seqs)",
			engine.Config{Calibration: llama, MaxSeqs: 64}, simulation.ShareGPT{}, 260},
		{"chat, 128 places", "the same with 128",
			engine.Config{Calibration: llama, MaxSeqs: 128}, simulation.ShareGPT{}, 370},
		{"chat, KV cache", "the same with 1024: the KV cache is full first",
			engine.Config{Calibration: llama}, simulation.ShareGPT{}, 520},
		{"shared prefixes", "500 system prompts of 4,096 tokens by Zipf's law: prefill and KV cache",
			engine.Config{Calibration: llama}, simulation.SharedPrefix{Groups: 500, Skew: 1}, 170},
		{"long prompts", "prompts of 4,000 tokens, nothing shared: prefill",
			engine.Config{Calibration: llama}, simulation.ShareGPT{
				Input:  simulation.Length{Kind: simulation.LengthNormal, Mean: 4000, SD: 2000},
				Output: simulation.Length{Kind: simulation.LengthNormal, Mean: 200, SD: 100},
			}, 56},
	}
}

// mixed is a workload of which a fifth is critical, half standard and the rest sheddable,
// with the targets that each has.
func mixed(w simulation.Spec) simulation.Criticality {
	return simulation.Criticality{Workload: w, Classes: []simulation.Class{
		{Name: "critical", Share: 0.2, Priority: types.PriorityCritical, TTFT: 0.5},
		{Name: "standard", Share: 0.5, Priority: types.PriorityStandard, TTFT: 2},
		{Name: "sheddable", Share: 0.3, Priority: types.PrioritySheddable, TTFT: 5},
	}}
}

// control is a way to admit requests. All schedule by the same policy.
type control struct {
	name    string
	options func() admission.Options // nil: none
}

// Names of the controls.
const (
	none      = "none"
	reference = "reference"
	ours      = "inferpick"
)

func controls(more map[string]func() admission.Options) []control {
	list := []control{
		{none, nil},
		{reference, referenceShedding},
		{ours, func() admission.Options { return admission.Options{} }},
	}
	for name, o := range more {
		list = append(list, control{name, o})
	}
	return list
}

// referenceShedding is what the Inference Extension does by default, to this day without
// its experimental flow control: while the pool is saturated all that is not critical is
// refused, and all else is sent. An endpoint is saturated from 5 requests in the queue or
// 0.8 of the KV cache in use, by its last reading; the pool is when all of its endpoints
// are.
func referenceShedding() admission.Options {
	return admission.Options{
		Bands: []admission.Band{
			{Name: "critical", Priority: types.PriorityCritical, Ceiling: 1000, MaxRequests: -1},
			{Name: "others", Priority: math.MinInt, MaxRequests: -1},
		},
		Fairness: admission.FirstCome,
		Detector: admission.DetectorFunc(func(_ admission.Query, ep *types.Endpoint) float64 {
			waiting, ok := ep.Metrics.Waiting.Value()
			if !ok {
				return 1
			}
			kv, _ := ep.Metrics.KVUsage.Value()
			// Full is above the thresholds, not at them; never so full that critical
			// requests are held.
			if waiting > 5 || kv > 0.8 {
				return 1
			}
			return 0
		}),
	}
}

// policy is plugins.Default without its own shedding, which is the control's part here.
func policy() simulation.Policy {
	return simulation.Policy{Name: "default", Profile: func() scheduling.Profile {
		p := plugins.Default()
		p.Filters = p.Filters[:len(p.Filters)-1] // the last one sheds
		return p
	}}
}

// Times of a run.
const (
	arrivals = 150 * time.Second
	warmup   = 50 * time.Second
	drain    = 90 * time.Second
)

func base(s scenario, seed uint64, part float64) simulation.Config {
	of := func(d time.Duration) time.Duration { return time.Duration(float64(d) * part) }
	return simulation.Config{
		Fleet:    simulation.Uniform(replicas, s.engine),
		Policy:   policy(),
		Duration: of(arrivals), Warmup: of(warmup), Drain: of(drain),
		Seed: seed,
	}
}
