package plugins

import (
	"cmp"
	"math"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/cost"
)

// CostOptions configure Cost. Zero fields have defaults, which were chosen on simulated fleets
// across many workloads. Weights are per second.
type CostOptions struct {
	// Prefix configures the comparison of prompts.
	Prefix PrefixOptions `json:"prefix"`

	// FavorTTFT chooses between the two latencies where both cannot be had: above 0 the time to the
	// first token (TTFT) is shorter and the time per output token (TPOT) longer, below 0 the other way
	// round. -1 to 1. It multiplies FirstToken, Recompute, KVPressure and AdapterSlot by 8 to the power
	// of it. Default 0: balanced.
	FavorTTFT float64 `json:"favorTTFT,omitempty"`
	// FirstToken is the weight of the time to the first token. Default 5.
	FirstToken float64 `json:"firstToken,omitempty"`
	// Output is the weight of the time for the request's own output. Default 0.2. The time that the
	// request takes from others there has weight 1, and matters more than how fast a server is with
	// little to do.
	Output float64 `json:"output,omitempty"`
	// Recompute is the weight of the time by which requests that decode there are held up to
	// compute prompt tokens that another endpoint has cached. It counts in part if only a part of the
	// prompt is cached anywhere, and more the more of the time prefills take. Default 1.5.
	Recompute float64 `json:"recompute,omitempty"`
	// LongPrefill is the weight of the time by which they are held up beyond LongSteps steps by a
	// long prefill, whether cached elsewhere or not. Defaults 0.3 and 6.
	LongPrefill float64 `json:"longPrefill,omitempty"`
	LongSteps   float64 `json:"longSteps,omitempty"`
	// Join is the weight of the time by which its prefill delays the first tokens of requests that
	// are computed in the same step, on top of FirstToken. Default 3: what is computed together
	// takes longer than each alone. Not of embeddings and the like, whose delay of others is counted by itself.
	Join float64 `json:"join,omitempty"`
	// KVPressure is the cost, in seconds, of filling half of an empty KV cache. The fuller it is, the
	// more each token costs. Default 0.15.
	KVPressure float64 `json:"kvPressure,omitempty"`
	// AdapterSlot is the weight of the time that others wait for the LoRA slot this request takes,
	// where slots are scarce. Default 15: that wait is part of their time to the first token.
	AdapterSlot float64 `json:"adapterSlot,omitempty"`
	// AdapterLoad is the time to load a LoRA adapter, in seconds. Default 0.1.
	AdapterLoad float64 `json:"adapterLoad,omitempty"`
	// Home is the value of sending a prompt to its home endpoint if other gateways use the servers
	// too, as a multiple of the cost of computing what is likely to be cached. Default 2.
	Home float64 `json:"home,omitempty"`
	// Lean is the fraction of the cost of its output by which a request without a home is cheaper at
	// a server used only by this process than at one used only by others, if other gateways use
	// the servers too. So gateways settle on different servers, whose steps they know, without
	// communicating. Default 0.3.
	Lean float64 `json:"lean,omitempty"`
	// Price is how many seconds longer a request with an SLO may take, among the endpoints that meet
	// it, to be served by a free one instead of the most expensive one by Capacity.CostPerHour.
	// Default 0: prices are ignored.
	Price float64 `json:"price,omitempty"`
	// PriceWithoutSLO is the same for requests without an SLO, in weighted seconds. Default 0: prices
	// are ignored.
	PriceWithoutSLO float64 `json:"priceWithoutSLO,omitempty"`

	// Media configures what is remembered of the images, sounds and films that endpoints have seen.
	Media MediaOptions `json:"media"`

	// Engine holds the assumed rates of servers, from which learning starts.
	Engine EngineRates `json:"engine"`
	// Transport is the assumed time, in seconds, for a request to get to the engine and back, from
	// which learning starts. Default 0.003. Negative: none.
	Transport float64 `json:"transport,omitempty"`
	// AcceleratorLabel is the endpoint label that names the accelerator, such as
	// "NVIDIA-H100-80GB-HBM3", for which Accelerators gives the likely speed of a new server.
	// Capacity.Speed takes precedence. Default "accelerator".
	AcceleratorLabel string `json:"acceleratorLabel,omitempty"`
	// PullLabel is the endpoint label of servers that pull what they lack of a prompt's KV cache from
	// another server of the pool, or from a store that all fill, in place of computing it: those where it is
	// "true". What pulling takes is learned. Default: none is asked for, and nobody pulls.
	PullLabel string `json:"pullLabel,omitempty"`
	// Links are the labels that say how near two endpoints are to each other, the nearest first, such as
	// "kubernetes.io/hostname", "topology.kubernetes.io/zone": at most 3. What it takes to hand over a prompt
	// that one computes for another is learned for each, and for endpoints that have none in common.
	// Default: none.
	Links []string `json:"links,omitempty"`
	// PairLabels are labels of which two endpoints must have the same values, or neither has any, to serve a
	// request together: those of a revision, or of a set of servers that belong together. Default:
	// "disaggregatedset.x-k8s.io/revision". An empty list that is not nil: none.
	PairLabels []string `json:"pairLabels,omitempty"`
	// Transfer is what it takes to hand over a prompt, from which learning starts.
	Transfer TransferRates `json:"transfer"`
	// FixedRates turns learning off.
	FixedRates bool `json:"fixedRates,omitempty"`
}

// EngineRates models the speed of a continuously batching engine, in seconds: a step of n sequences
// with k context tokens in total takes Step + n·Sequence + k·Context, and each prompt token in it
// Token·(1 + Attention·(tokens before it)) more. Zero fields have the defaults, those of an
// 8-billion-parameter model on one H100. In the long run only proportions matter, since Cost learns
// the factors of steps and prefills of a fleet, the growth of steps with sequences, and which
// servers differ.
type EngineRates struct {
	Step      float64 `json:"step,omitempty"`      // default 7.6e-3
	Sequence  float64 `json:"sequence,omitempty"`  // default 18e-6
	Context   float64 `json:"context,omitempty"`   // default 47e-9
	Token     float64 `json:"token,omitempty"`     // default 24e-6
	Attention float64 `json:"attention,omitempty"` // default 50e-6
	// Batch is the maximum number of tokens in a step. Default 8192.
	Batch float64 `json:"batch,omitempty"`

	// Before a prompt is computed, each image, sound or film in it is encoded, which takes EncodeItem, and for each of
	// the tokens that come of it EncodeToken·(1 + EncodeAttention·tokens) more. Defaults 4e-3, 0.6 times Token, and
	// 1/4096: what it takes grows faster than the tokens, and is twice as much as them at 4,096.
	EncodeItem      float64 `json:"encodeItem,omitempty"`
	EncodeToken     float64 `json:"encodeToken,omitempty"`
	EncodeAttention float64 `json:"encodeAttention,omitempty"`
	// A diffusion model takes for each token of latents and each pass DenoiseToken·(1 + DenoiseAttention·latents), and
	// at the end Pixel for each pixel that is decoded. Defaults 50e-6, 20e-6 and 100e-9, those of a 20-billion-parameter
	// model on one H100.
	DenoiseToken     float64 `json:"denoiseToken,omitempty"`
	DenoiseAttention float64 `json:"denoiseAttention,omitempty"`
	Pixel            float64 `json:"pixel,omitempty"`
}

// TransferRates models what it takes to hand the KV cache of a prompt over from the endpoint that computes it to
// the one that answers, in seconds: Setup, which includes the second request, and Token for each token that the
// other lacks. Zero fields have the defaults, those of an 8-billion-parameter model over 400 Gb/s.
type TransferRates struct {
	Setup float64 `json:"setup,omitempty"` // default 7e-3
	Token float64 `json:"token,omitempty"` // default 3e-6
}

// mostLinks is how many CostOptions.Links there may be.
const mostLinks = 3

// withDefaults returns o with defaults filled in, or an error that lists all invalid options.
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
		{"join", &o.Join, 3},
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
		{"engine.encodeItem", &o.Engine.EncodeItem, 4e-3},
		{"engine.encodeAttention", &o.Engine.EncodeAttention, 1. / 4096},
		{"engine.denoiseToken", &o.Engine.DenoiseToken, 50e-6},
		{"engine.denoiseAttention", &o.Engine.DenoiseAttention, 20e-6},
		{"engine.pixel", &o.Engine.Pixel, 100e-9},
		{"transfer.setup", &o.Transfer.Setup, 7e-3},
		{"transfer.token", &o.Transfer.Token, 3e-6},
	} {
		check.Positive(&c, f.name, f.value, f.def)
	}
	check.Positive(&c, "engine.encodeToken", &o.Engine.EncodeToken, .6*o.Engine.Token)
	check.Positive(&c, "media.entries", &o.Media.Entries, 1<<16)
	check.Positive(&c, "media.endpointTokens", &o.Media.EndpointTokens, 1<<14)
	c.Want(len(o.Links) <= mostLinks, "links", len(o.Links), "at most 3 labels")
	if o.PairLabels == nil {
		o.PairLabels = []string{"disaggregatedset.x-k8s.io/revision"}
	}
	check.Range(&c, "favorTTFT", o.FavorTTFT, -1, 1)
	c.Want(!math.IsNaN(o.Transport) && !math.IsInf(o.Transport, 0), "transport", o.Transport, "a number")
	o.Transport = cmp.Or(o.Transport, .003)
	o.Transport = max(o.Transport, 0)
	o.AcceleratorLabel = cmp.Or(o.AcceleratorLabel, "accelerator")
	return o, c.Err()
}

// mostFavor is by how much FavorTTFT can shift the weights.
const mostFavor = 8

// model returns the model of the cost.
func (o *CostOptions) model() cost.Model {
	favor := math.Pow(mostFavor, o.FavorTTFT)
	return cost.Model{
		Weights: cost.Weights{
			FirstToken: favor * o.FirstToken, Output: o.Output, Recompute: favor * o.Recompute, LongPrefill: o.LongPrefill, LongSteps: o.LongSteps,
			Join: o.Join, KVPressure: favor * o.KVPressure, AdapterSlot: favor * o.AdapterSlot, AdapterLoad: o.AdapterLoad, Home: o.Home, Lean: o.Lean,
			Price: o.Price, PriceWithoutSLO: o.PriceWithoutSLO,
		},
		Engine: cost.Engine(o.Engine),
	}
}
