package disagg

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// Request is what a hand-over is made for.
type Request struct {
	API  openai.API
	Path string // as it is sent, with its query
	Body []byte // what an engine that serves the request alone would get. It is never modified

	// ID goes with both legs as X-Request-Id, by which the logs of both engines can be
	// joined. It should be new for every attempt. Empty: none goes.
	ID string

	// Encoded is what encode engines have for the engine that computes the prompt, by
	// MergeEncoded. It goes with the prefill leg of the protocols of vLLM. Nil: nothing.
	// Experimental.
	Encoded []byte

	// Prefill and Decode are the engines. Of Decode only its rank is looked at.
	Prefill, Decode *types.Endpoint
}

// Protocol is how a pair of engines is told to serve one request together. It is safe for
// concurrent use.
type Protocol interface {
	// Begin prepares a hand-over. An error that wraps ErrUnsupported says that the request
	// cannot be served in two places, and one that wraps ErrPrefill that the prefill engine
	// is to blame. Others are those of ctx, which only Mooncake's makes use of.
	Begin(ctx context.Context, r Request) (Handover, error)
}

// Handover is the hand-over of one request: one attempt at one pair. It is for one goroutine.
type Handover interface {
	// AtOnce reports whether both legs are sent at the same time. If so the prefill leg
	// does not end before the decode leg has come in, and must not be ended because the
	// decode leg has ended. Otherwise the decode leg is made of the prefill leg's whole
	// answer, and sent after it.
	AtOnce() bool

	// Prefill returns the leg for the prefill engine. Its answer is never for the client
	// unless Decode says so, but for an error that is the client's fault.
	Prefill() Leg

	// Decode returns the leg for the decode engine. answer is the body of the prefill leg's
	// answer, which had a status of 200; nil if AtOnce. It is not kept, but may be part of
	// what is returned. An error wraps ErrPrefill: nothing can be made of the answer.
	Decode(answer []byte) (Decode, error)

	// Abort is to be called when a leg has failed. What it returns, if true, ends what the
	// other engine does for the request, beside closing its connection, which is to be done
	// in any case: an engine that waits for its pair may not notice that. It may be sent to
	// either engine, and its answer does not matter.
	Abort() (Leg, bool)
}

// Leg is a request to one engine: a POST with a body in JSON.
type Leg struct {
	Path   string
	Header map[string]string // to set beside what goes with every request. Names are in the canonical form
	Body   []byte
}

// Decode is the leg for the decode engine, or why there is none.
type Decode struct {
	Leg

	// Ignored is set if the prefill engine took no part: it has answered as one does that
	// knows nothing of hand-overs. The leg is then the ordinary request, so that the decode
	// engine computes the prompt, too. It should be counted: somebody has configured it wrongly.
	Ignored bool

	// Complete is the whole answer for the client, where the prefill engine came to the end
	// of it; ContentType is its type, that of a stream of events if the client asked for
	// one. There is no leg then. Nil: there is one.
	Complete    []byte
	ContentType string

	// Cached is how many tokens of the prompt the prefill engine had in its prefix cache, if
	// its answer says so. It is what the client should be told (see
	// openai.StreamOptions.CachedTokens), and what is to be learned of the prefill engine.
	Cached types.Gauge
}

var (
	// ErrUnsupported says that a request cannot be handed over: it is to be served by one
	// engine. See Protocol.
	ErrUnsupported = errors.New("cannot be handed over")

	// ErrPrefill says that what the prefill engine has said is of no use: it, or how it is
	// configured, is to blame, and another may be tried.
	ErrPrefill = errors.New("the prefill engine")
)

// Options configure a protocol. The zero value is good for all but Mooncake, which needs Query.
type Options struct {
	// MaxParams bounds, in bytes, what is relayed from an engine to another; the token ids of
	// a prompt may be eight times as long. Beyond it Decode fails. Default: 1 MiB.
	MaxParams int

	// Port is where the prefill engines can be reached by the decode engines, or by the
	// gateway in Mooncake's protocol, at the host of their address. An endpoint's label of the
	// name PortLabel, if that is set, comes before it. Default: 8998; P2P: 7777.
	Port      int
	PortLabel string

	// Rank tells which data-parallel rank of its engine an endpoint stands for, and how many
	// there are. Where there is more than one, the legs are bound to the rank; with a size below 2
	// the engine chooses. It must be safe for concurrent use. Nil: Endpoint.Rank.
	Rank func(*types.Endpoint) (rank, size int)

	// Query gets a URL, for Mooncake, and returns the body of an answer whose status is 200.
	// It must be safe for concurrent use, and bound what it reads. It has 5 seconds. Package
	// httptransport has one.
	Query func(ctx context.Context, url string) ([]byte, error)

	// Remember is for how long what Query returned is used again. Default: 1 minute.
	Remember time.Duration

	// MaxEngines bounds the prefill engines that are remembered. Default: 1024.
	MaxEngines int

	// Now is the clock. Default: time.Now.
	Now func() time.Time

	// Rand returns 64 random bits, of which ids are made. Whoever can foresee them can take
	// another's KV cache, should engines let clients in beside the gateway. It must be safe
	// for concurrent use. Default: crypto/rand.
	Rand func() uint64
}

func (o Options) withDefaults(port int) Options {
	if o.MaxParams <= 0 {
		o.MaxParams = 1 << 20
	}
	if o.Port <= 0 {
		o.Port = port
	}
	if o.Remember <= 0 {
		o.Remember = time.Minute
	}
	if o.MaxEngines <= 0 {
		o.MaxEngines = 1024
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = secureRandom
	}
	return o
}

func secureRandom() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// Names returns the names that ByName knows.
func Names() []string { return []string{"nixl", "mooncake", "p2p", "sglang", "trtllm"} }

// ByName returns the protocol with a name of Names.
func ByName(name string, o Options) (Protocol, error) {
	switch name {
	case "nixl":
		return NIXL(o), nil
	case "mooncake":
		return Mooncake(o)
	case "p2p":
		return P2P(o), nil
	case "sglang":
		return SGLang(o), nil
	case "trtllm":
		return TensorRTLLM(o), nil
	}
	return nil, fmt.Errorf("disagg: no protocol %q: want one of %v", name, Names())
}
