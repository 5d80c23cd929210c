package plugins

import (
	"cmp"
	"math"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/cost"
)

// CostOptions configure Cost. A zero field has its default; the defaults were chosen
// on simulated fleets and hold for all workloads alike. Weights are per second.
type CostOptions struct {
	// Prefix is how prompts are compared.
	Prefix PrefixOptions `json:"prefix"`

	// FirstToken is the weight of a second until the first token. Default 5.
	FirstToken float64 `json:"firstToken,omitempty"`
	// Output is the weight of a second of the request's own output. Default 0.2: how
	// fast a server is when it has little to do matters less than what one more
	// request takes from the others there, whose weight is 1.
	Output float64 `json:"output,omitempty"`
	// Recompute is the weight of a second by which decoding neighbours are held up
	// for prompt tokens that another endpoint has cached. Default 1.5.
	Recompute float64 `json:"recompute,omitempty"`
	// LongPrefill is the weight of the same for a long prefill, cached elsewhere or
	// not, as far as it is longer than LongSteps steps. Defaults 0.3 and 6.
	LongPrefill float64 `json:"longPrefill,omitempty"`
	LongSteps   float64 `json:"longSteps,omitempty"`
	// KVPressure is the cost in seconds of a KV cache that will be half full.
	// Default 0.15.
	KVPressure float64 `json:"kvPressure,omitempty"`
	// AdapterSlot is the weight of a second that others wait for a LoRA slot which
	// this request takes where slots are short. Default 15: the wait for a slot is a part
	// of the time to the first token.
	AdapterSlot float64 `json:"adapterSlot,omitempty"`
	// AdapterLoad is the time to load a LoRA adapter in seconds. Default 0.1.
	AdapterLoad float64 `json:"adapterLoad,omitempty"`
	// Home is what it is worth to send a prompt to its home endpoint where other
	// gateways use the servers too, as a part of the cost of computing what can be
	// expected to be cached. Default 2.
	Home float64 `json:"home,omitempty"`
	// Lean is the part of the cost of its output by which a request without a home is
	// cheaper at a server that only this process uses than at one that only others use, where
	// others use the servers too: of a server of its own a gateway knows the steps. So gateways
	// settle on servers of their own without talking. Default 0.3.
	Lean float64 `json:"lean,omitempty"`
	// Price is how many seconds a request that has an SLO may lose among the
	// endpoints that meet it, to be served by one that costs nothing in place of the
	// dearest by Capacity.CostPerHour. Default 0: what servers cost does not matter.
	Price float64 `json:"price,omitempty"`
	// PriceWithoutSLO is how many seconds, weighted, a request that has no SLO may cost more at an
	// endpoint that costs nothing than at the dearest. Default 0: what servers cost does not
	// matter.
	PriceWithoutSLO float64 `json:"priceWithoutSLO,omitempty"`

	// Engine is what a server is taken for until its own rates are known.
	Engine EngineRates `json:"engine"`
	// Transport is how long a request takes to get to the engine and back, in seconds, until it
	// is known better. Default 0.003; negative: no time.
	Transport float64 `json:"transport,omitempty"`
	// AcceleratorLabel is the endpoint label that names the accelerator, such as
	// "NVIDIA-H100-80GB-HBM3", by which Accelerators says how fast a new server is
	// likely to be. Default "accelerator". Capacity.Speed goes before.
	AcceleratorLabel string `json:"acceleratorLabel,omitempty"`
	// FixedRates turns learning off.
	FixedRates bool `json:"fixedRates,omitempty"`
}

// EngineRates is how long a continuously batching engine takes: a step of n sequences
// with k tokens of context in all takes Step + n·Sequence + k·Context seconds, and
// every prompt token in it Token seconds more, times 1 + Attention·(tokens before it).
// Zero fields have the defaults, which are those of an 8-billion-parameter model on
// one H100. Only their proportions matter for long: Cost learns by which factors
// steps and prefills of a fleet differ, by how much more a step grows with sequences, and
// which servers are not like the others.
type EngineRates struct {
	Step      float64 `json:"step,omitempty"`      // default 7.6e-3
	Sequence  float64 `json:"sequence,omitempty"`  // default 18e-6
	Context   float64 `json:"context,omitempty"`   // default 47e-9
	Token     float64 `json:"token,omitempty"`     // default 24e-6
	Attention float64 `json:"attention,omitempty"` // default 50e-6
	// Batch is the most tokens in a step. Default 8192.
	Batch float64 `json:"batch,omitempty"`
}

// withDefaults returns o with its defaults, or what is wrong with it.
func (o CostOptions) withDefaults() (CostOptions, error) {
	c := check.Checks{Package: "plugins: cost"}
	c.Add("prefix", o.Prefix.index().Validate())
	for _, f := range []struct {
		name  string
		value *float64
		def   float64
	}{
		{"firstToken", &o.FirstToken, 5},
		{"output", &o.Output, .2},
		{"recompute", &o.Recompute, 1.5},
		{"longPrefill", &o.LongPrefill, .3},
		{"longSteps", &o.LongSteps, 6},
		{"kvPressure", &o.KVPressure, .15},
		{"adapterSlot", &o.AdapterSlot, 15},
		{"adapterLoad", &o.AdapterLoad, .1},
		{"home", &o.Home, 2},
		{"lean", &o.Lean, .3},
		{"price", &o.Price, 0},
		{"priceWithoutSLO", &o.PriceWithoutSLO, 0},
		{"engine.step", &o.Engine.Step, 7.6e-3},
		{"engine.sequence", &o.Engine.Sequence, 18e-6},
		{"engine.context", &o.Engine.Context, 47e-9},
		{"engine.token", &o.Engine.Token, 24e-6},
		{"engine.attention", &o.Engine.Attention, 50e-6},
		{"engine.batch", &o.Engine.Batch, 8192},
	} {
		check.Positive(&c, f.name, f.value, f.def)
	}
	c.Want(!math.IsNaN(o.Transport) && !math.IsInf(o.Transport, 0), "transport", o.Transport, "a number")
	o.Transport = cmp.Or(o.Transport, .003)
	o.Transport = max(o.Transport, 0)
	o.AcceleratorLabel = cmp.Or(o.AcceleratorLabel, "accelerator")
	return o, c.Err()
}

// model returns what a cost is computed by.
func (o *CostOptions) model() cost.Model {
	return cost.Model{
		Weights: cost.Weights{
			FirstToken: o.FirstToken, Output: o.Output, Recompute: o.Recompute, LongPrefill: o.LongPrefill, LongSteps: o.LongSteps,
			KVPressure: o.KVPressure, AdapterSlot: o.AdapterSlot, AdapterLoad: o.AdapterLoad, Home: o.Home, Lean: o.Lean,
			Price: o.Price, PriceWithoutSLO: o.PriceWithoutSLO,
		},
		Engine: cost.Engine(o.Engine),
	}
}
