package simulation

import (
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// Truth is what no gateway can know. It is handed to Policy.Clairvoyant alone, to see
// what knowing it would be worth.
type Truth interface {
	// Cached is how many tokens of the prompt are in the prefix cache of the endpoint's
	// server now.
	Cached(req *types.Request, ep *types.Endpoint) int
}

// truth is a view of everything.
type truth struct{ s *sim }

// Cached implements Truth.
func (t truth) Cached(req *types.Request, ep *types.Endpoint) int {
	l, ok := t.s.key.Get(&req.Attrs)
	if !ok {
		return 0
	}
	e := t.s.replicas[ep.Slot].engine
	if e == nil {
		return 0
	}
	n := e.Cached(l.hashes, l.adapter) * engine.BlockTokens
	return min(n, l.prompt-1)
}
