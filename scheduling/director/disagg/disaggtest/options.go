package disaggtest

import (
	"cmp"
	"fmt"
	"time"
)

// Protocol is how the two legs of a request find each other.
type Protocol uint8

// The protocols.
const (
	// NIXL is vLLM's NixlConnector: the prefill leg's answer has kv_transfer_params, which the decode leg
	// must carry unchanged.
	NIXL Protocol = iota
	// Mooncake is vLLM's MooncakeConnector: both legs are sent at once and carry a transfer_id; the decode
	// leg names the prefiller's engine id, which its bootstrap port tells.
	Mooncake
	// SGLang is a bootstrap room in which both legs meet; the prefill leg ends only after the decode leg
	// has come.
	SGLang
	// TensorRT is TensorRT-LLM, context first: the answer of the context leg has disaggregated_params
	// and prompt_token_ids, which the generation leg must carry.
	TensorRT
)

// String returns the name.
func (p Protocol) String() string { return name(p, "NIXL", "Mooncake", "SGLang", "TensorRT") }

// Leg is what a request to an engine is.
type Leg uint8

// The legs.
const (
	AnyLeg   Leg = iota // in a Fault: whichever
	Prefill             // computes the prompt, and hands over its KV
	Decode              // takes the KV, and generates the answer
	Ordinary            // both, by one engine
	Encode              // encodes an image, audio or video for who computes the prompt
)

// String returns the name.
func (l Leg) String() string { return name(l, "any", "prefill", "decode", "ordinary", "encode") }

func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown (%d)", v)
}

// Options are what a Cluster is made of.
type Options struct {
	// Protocol that all engines speak. Default NIXL.
	Protocol Protocol
	// Prefill and Decode are the numbers of engines of these roles; if all three are 0, there is one of
	// each. Plain engines are not disaggregated: they serve ordinary requests and ignore what they do not
	// know.
	Prefill, Decode, Plain int
	// Encode is the number of engines that encode media for the others, and EC how these get it.
	Encode int
	EC     EC
	// Lease is how long a prefiller keeps KV that no decode leg asks for. Default 30 s for NIXL, 480 s
	// for Mooncake, 60 s for TensorRT. SGLang has none.
	Lease time.Duration
	// Wait is how long a leg waits for its other leg. Default 300 s for SGLang, 480 s for Mooncake; the
	// others do not wait. Tests want it short.
	Wait time.Duration
	// Settle is how long Check waits, in real time, for legs to end and KV to be freed. Default 1 s.
	Settle time.Duration
	// Now is the clock of leases. Default time.Now.
	Now func() time.Time
	// Ranks is the number of data-parallel ranks of a Mooncake prefiller. Default 1, at most 1024.
	Ranks int
	// Seed of the chances of faults.
	Seed uint64
	// MaxBody bounds the body of a request, in bytes. Default 64 MiB.
	MaxBody int64
	// Behaviour of all engines, until it is set for one.
	Behaviour Behaviour
}

// Behaviour is how an engine is built and configured. The zero value is a current engine that takes no
// time.
type Behaviour struct {
	// Tokens is the length of answers that are not capped below it. Default 8.
	Tokens int
	// PrefillTime is the time before the first token where the prompt is computed, TransferTime that in
	// which KV moves, TokenTime that of each token of a decode or ordinary leg.
	PrefillTime, TransferTime, TokenTime time.Duration
	// EncodeTime is the time that an image, audio or video takes that is encoded.
	EncodeTime time.Duration
	// CachedTokens is how much of a prompt the engine finds in its prefix cache.
	CachedTokens int

	// NoConnector: the engine was started without a connector. It ignores kv_transfer_params, so that a
	// decode leg computes the whole prompt again. NIXL and Mooncake. An encoder: nobody can get what it makes.
	NoConnector bool
	// NullParams: prefill legs answer null for kv_transfer_params, and keep nothing; encoders the same
	// with ec_transfer_params. NIXL.
	NullParams bool
	// ParamsBytes is the least size of kv_transfer_params. NIXL.
	ParamsBytes int
	// OldUsage: before remote_prefill_cached_tokens, when a decode leg reported the whole prompt as
	// cached. NIXL.
	OldUsage bool
	// Recompute is kv_load_failure_policy "recompute" instead of "fail": if KV cannot be had, the
	// decoder computes the prompt. NIXL and Mooncake.
	Recompute bool
	// Complete: context legs answer finally, with finish_reason "stop". TensorRT.
	Complete bool
}

func (b *Behaviour) complete() {
	if b.Tokens == 0 {
		b.Tokens = 8
	}
}

func (o *Options) complete() error {
	if o.Prefill == 0 && o.Decode == 0 && o.Plain == 0 {
		o.Prefill, o.Decode = 1, 1
	}
	for _, f := range []struct {
		name        string
		value       int64
		least, most int64
	}{
		{"Protocol", int64(o.Protocol), 0, int64(TensorRT)},
		{"Prefill", int64(o.Prefill), 0, 1 << 10}, {"Decode", int64(o.Decode), 0, 1 << 10}, {"Plain", int64(o.Plain), 0, 1 << 10},
		{"Encode", int64(o.Encode), 0, 1 << 10}, {"EC", int64(o.EC), 0, int64(ECStorage)},
		{"Lease", int64(o.Lease), 0, 1 << 62}, {"Wait", int64(o.Wait), 0, 1 << 62}, {"Settle", int64(o.Settle), 0, 1 << 62},
		{"Ranks", int64(o.Ranks), 0, 1 << 10}, {"MaxBody", o.MaxBody, 0, 1 << 40},
	} {
		if f.value < f.least || f.value > f.most {
			return fmt.Errorf("disaggtest: Options.%s is %d, not within %d to %d", f.name, f.value, f.least, f.most)
		}
	}
	o.Lease = cmp.Or(o.Lease, [...]time.Duration{30 * time.Second, 480 * time.Second, 0, 60 * time.Second}[o.Protocol])
	o.Wait = cmp.Or(o.Wait, [...]time.Duration{0, 480 * time.Second, 300 * time.Second, 0}[o.Protocol])
	o.Settle = cmp.Or(o.Settle, time.Second)
	o.Ranks = cmp.Or(o.Ranks, 1)
	o.MaxBody = cmp.Or(o.MaxBody, 64<<20)
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Behaviour.complete()
	return nil
}
