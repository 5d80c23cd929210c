package engine

import (
	"math"
	"time"
)

// Calibration holds the constants of the step-time formula for one model on
// one kind of machine, and the size of the KV cache there:
//
//	o + p·B + sqrt(w² + (c·T)²) + d·K + e·A
//
// for a step of B sequences and T tokens, with K tokens of context read by the
// decoding sequences and A pairs of tokens attended to by the prefills. The
// root of the sum of squares is a smooth roofline: streaming the weights
// dominates a small step, arithmetic a large one.
//
// The constants come from published measurements (Vidur's operator tables,
// llm-d and BLIS benchmarks) and from model sizes. Simulated latencies are
// good for comparing policies, never to be quoted as measured.
type Calibration struct {
	// Name identifies the calibration, as in "llama-3.1-8b-h100".
	Name string

	Fixed            float64 // o: seconds per step for the host and the launch
	PerSequence      float64 // p: seconds per sequence in the step
	WeightFloor      float64 // w: seconds to stream the weights once
	PerToken         float64 // c: seconds per token in the linear layers
	PerContextToken  float64 // d: seconds to read one token of context in a decode
	PrefillAttention float64 // e: seconds per attended pair of tokens in a prefill

	// Encoder is how long media take, which models that take none have not.
	Encoder Encoder

	// Blocks is the KV cache in blocks of BlockTokens tokens.
	Blocks int

	AdapterToGPU  float64 // seconds to copy a LoRA adapter from host memory into a slot
	AdapterToHost float64 // seconds to read a LoRA adapter from disk
	AdapterFactor float64 // share by which each active adapter lengthens a step

	// Speed is the relative speed of this machine: 2 halves every duration.
	// Zero means 1.
	Speed float64
}

// Llama2H100 is Llama-2-7B on one H100: multi-head attention, so the KV cache
// is small and binds first.
func Llama2H100() Calibration {
	return Calibration{
		Name:  "llama-2-7b-h100",
		Fixed: 2.2e-3, PerSequence: 4e-6, WeightFloor: 4.7e-3, PerToken: 20e-6,
		PerContextToken: 0.178e-6, PrefillAttention: 1.3e-9,
		Blocks:       7340,
		AdapterToGPU: 30e-3, AdapterToHost: 250e-3, AdapterFactor: 0.02,
	}
}

// Llama31H100 is Llama-3.1-8B on one H100.
func Llama31H100() Calibration {
	return Calibration{
		Name:  "llama-3.1-8b-h100",
		Fixed: 2.2e-3, PerSequence: 8e-6, WeightFloor: 5.4e-3, PerToken: 24e-6,
		PerContextToken: 0.047e-6, PrefillAttention: 1.3e-9,
		Blocks:       27500,
		AdapterToGPU: 30e-3, AdapterToHost: 250e-3, AdapterFactor: 0.02,
	}
}

// Qwen3H100x2 is Qwen3-32B on two H100.
func Qwen3H100x2() Calibration {
	return Calibration{
		Name:  "qwen3-32b-2xh100",
		Fixed: 4e-3, PerSequence: 8e-6, WeightFloor: 11.8e-3, PerToken: 39e-6,
		PerContextToken: 0.047e-6, PrefillAttention: 2.1e-9,
		Blocks:       19208,
		AdapterToGPU: 30e-3, AdapterToHost: 250e-3, AdapterFactor: 0.02,
	}
}

// Qwen3MoEH100 is Qwen3-30B-A3B, a mixture of experts, on one H100, by the sizes of the model:
// a batch of decodes touches nearly all experts, so that each step streams all weights, while a
// token is computed by a tenth of them.
func Qwen3MoEH100() Calibration {
	return Calibration{
		Name:  "qwen3-30b-a3b-h100",
		Fixed: 3e-3, PerSequence: 8e-6, WeightFloor: 17e-3, PerToken: 11e-6,
		PerContextToken: 0.03e-6, PrefillAttention: 0.8e-9,
		Blocks:       6400,
		AdapterToGPU: 30e-3, AdapterToHost: 250e-3, AdapterFactor: 0.02,
	}
}

// Llama70H100x4 is a Llama-3 model of 70B parameters on four H100.
func Llama70H100x4() Calibration {
	return Calibration{
		Name:  "llama-3-70b-4xh100",
		Fixed: 5e-3, PerSequence: 8e-6, WeightFloor: 12.5e-3, PerToken: 62e-6,
		PerContextToken: 0.029e-6, PrefillAttention: 1.6e-9,
		Blocks:       27000,
		AdapterToGPU: 30e-3, AdapterToHost: 250e-3, AdapterFactor: 0.02,
	}
}

// Qwen2VLH100 is Qwen2-VL-7B on one H100, by the sizes of the model: in its encoder all patches of a
// picture attend to all others, so that large pictures take more than their share: 28 ms for 1,280
// tokens, 165 ms for 4,096.
func Qwen2VLH100() Calibration {
	return Calibration{
		Name:  "qwen2-vl-7b-h100",
		Fixed: 2.2e-3, PerSequence: 8e-6, WeightFloor: 5.3e-3, PerToken: 23e-6,
		PerContextToken: 0.02e-6, PrefillAttention: 1e-9,
		Encoder:      Encoder{Fixed: 0.5e-3, PerToken: 13.2e-6, PerToken2: 6.6e-9},
		Blocks:       55_000,
		AdapterToGPU: 30e-3, AdapterToHost: 250e-3, AdapterFactor: 0.02,
	}
}

// Qwen25VLH100 is Qwen2.5-VL-7B on one H100, by the sizes of the model: in 28 of the 32 layers of its
// encoder patches attend to a window around them, so that it takes little more than in proportion: 19 ms for
// 1,280 tokens, 70 ms for 4,096.
func Qwen25VLH100() Calibration {
	c := Qwen2VLH100()
	c.Name = "qwen2.5-vl-7b-h100"
	c.Encoder = Encoder{Fixed: 0.5e-3, PerToken: 13.6e-6, PerToken2: 0.82e-9}
	return c
}

// Qwen2AudioH100 is Qwen2-Audio-7B on one H100: 25 tokens for a second of sound, which is encoded in
// windows of 30 seconds, 6 ms each, by the size of the model.
func Qwen2AudioH100() Calibration {
	c := Qwen2VLH100()
	c.Name = "qwen2-audio-7b-h100"
	c.PerContextToken, c.Blocks = 0.18e-6, 6_000
	c.Encoder = Encoder{Fixed: 0.5e-3, PerToken: 7e-6}
	return c
}

// Calibrations returns the named calibrations, for a program that lets its
// user choose one by name.
func Calibrations() []Calibration {
	return []Calibration{Llama2H100(), Llama31H100(), Qwen3MoEH100(), Qwen3H100x2(), Llama70H100x4(), Qwen2VLH100(), Qwen25VLH100(), Qwen2AudioH100()}
}

// batch is what a step was given to do, in the terms of the formula.
type batch struct {
	budget    int     // tokens that may still be scheduled
	sequences int     // B
	tokens    int     // T
	context   int     // K
	pairs     float64 // A
	adapters  int     // LoRA adapters active in the step
	loads     float64 // seconds of adapter loads, before Speed
	more      int     // inputs beyond one of each sequence
	encoded   int     // tokens of media that are encoded in the step
	encode    float64 // seconds that takes, before Speed
}

// stepTime returns the duration of a step. Each product is rounded before it
// is added (the conversions forbid fused multiply-add), so that every
// architecture gives the same nanosecond.
func (c *Calibration) stepTime(b *batch) time.Duration {
	linear := float64(c.PerToken * float64(b.tokens))
	seconds := c.Fixed +
		float64(c.PerSequence*float64(b.sequences+b.more)) +
		math.Sqrt(float64(c.WeightFloor*c.WeightFloor)+float64(linear*linear)) +
		float64(c.PerContextToken*float64(b.context)) +
		float64(c.PrefillAttention*b.pairs)
	seconds *= 1 + float64(c.AdapterFactor*float64(b.adapters))
	seconds += b.loads + b.encode
	return time.Duration(math.Round(seconds / c.Speed * 1e9))
}
