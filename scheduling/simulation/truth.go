package simulation

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// Truth is what no gateway can know. It is handed to Policy.Clairvoyant alone, to see
// what knowing it would be worth.
type Truth interface {
	// Outstanding is what is at the endpoint's server now, from all gateways and
	// requests on their way to it included: how many requests, how many of their
	// prompt tokens are not computed yet and not cached, and how many tokens of
	// context their sequences hold in the KV cache.
	Outstanding(ep *types.Endpoint) (requests, prefillTokens, contextTokens int)
	// Cached is how many tokens of the prompt are in the server's prefix cache now.
	Cached(req *types.Request, ep *types.Endpoint) int
	// Output is how many tokens the request will produce.
	Output(req *types.Request) int
	// StepTime is how long a step of that server takes that decodes so many
	// sequences with so many tokens of context in all, but for the engine's noise.
	StepTime(ep *types.Endpoint, sequences, contextTokens int) time.Duration
}

// truth is a view of everything.
type truth struct{ s *sim }

func (t truth) replica(ep *types.Endpoint) *replica { return t.s.replicas[ep.Slot] }

// Outstanding implements Truth.
func (t truth) Outstanding(ep *types.Endpoint) (requests, prefillTokens, contextTokens int) {
	r := t.replica(ep)
	m := r.engine.Metrics(t.s.now)
	return r.live, r.owed, (m.Blocks - m.FreeBlocks) * engine.BlockTokens
}

// Cached implements Truth.
func (t truth) Cached(req *types.Request, ep *types.Endpoint) int {
	l, ok := t.s.key.Get(&req.Attrs)
	if !ok {
		return 0
	}
	n := t.replica(ep).engine.Cached(l.hashes, l.adapter) * engine.BlockTokens
	return min(n, l.prompt-1)
}

// Output implements Truth.
func (t truth) Output(req *types.Request) int {
	l, ok := t.s.key.Get(&req.Attrs)
	if !ok {
		return 0
	}
	return l.job.Output
}

// StepTime implements Truth.
func (t truth) StepTime(ep *types.Endpoint, sequences, contextTokens int) time.Duration {
	c := t.replica(ep).engine.Config().Calibration
	b, k := float64(sequences), float64(contextTokens)
	s := c.Fixed + c.PerSequence*b + math.Hypot(c.WeightFloor, c.PerToken*b) + c.PerContextToken*k
	if c.Speed > 0 {
		s /= c.Speed
	}
	return time.Duration(s * float64(time.Second))
}
