package plugins

import (
	"cmp"
	"context"
	"fmt"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Thresholds within which a server counts as having room, as in the Inference
// Extension, and the queue beyond which one is far beyond saturation, which was
// its version 0.3's bound for critical requests.
const (
	DefaultMaxQueue   = 5
	DefaultMaxKVUsage = 0.8
	DefaultHardQueue  = 128
)

// Room says when a server has room for more. A figure that is unknown does not
// speak against it, but a server of which both are unknown is not known to have
// room.
type Room struct {
	// MaxQueue is the most requests waiting. Default DefaultMaxQueue.
	MaxQueue float64 `json:"maxQueue"`
	// MaxKVUsage is the largest fraction of the KV cache in use, 0..1.
	// Default DefaultMaxKVUsage.
	MaxKVUsage float64 `json:"maxKVUsage"`
}

func (r Room) withDefaults() Room {
	return Room{cmp.Or(r.MaxQueue, DefaultMaxQueue), cmp.Or(r.MaxKVUsage, DefaultMaxKVUsage)}
}

func (r Room) validate() error {
	var c check.Checks
	check.Range(&c, "maxQueue", r.MaxQueue, 0, 0)
	check.Range(&c, "maxKVUsage", r.MaxKVUsage, 0, 1)
	return c.Err()
}

// of returns whether ep is known to have room, and whether anything is known.
// r has its defaults.
func (r Room) of(req *types.Request, ep *types.Endpoint) (room, known bool) {
	q, kv := ep.Waiting(req), ep.KVUsage(req)
	known = q == q || kv == kv
	return known && !(q > r.MaxQueue) && !(kv > r.MaxKVUsage), known
}

// HasCapacity is a Filter that keeps the endpoints that have room: no more than
// MaxQueue requests waiting, and no more than MaxKVUsage of the KV cache in use.
// If none has, the call ends with ErrSaturated: a gateway answers 429. Endpoints
// of which nothing is known are kept only if nothing is known of any.
type HasCapacity struct{ Room }

// Filter implements scheduling.Filter.
func (f HasCapacity) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	limits := f.withDefaults()
	anyKnown, anyRoom := false, false
	for i, ep := range eps {
		room, known := limits.of(req, ep)
		keep[i] = room
		anyKnown = anyKnown || known
		anyRoom = anyRoom || room
	}
	if !anyKnown {
		keepAll(keep)
		return nil
	}
	if !anyRoom {
		return fmt.Errorf("%w: none of %d endpoints has at most %g waiting and at most %g of its KV cache in use",
			scheduling.ErrSaturated, len(eps), limits.MaxQueue, limits.MaxKVUsage)
	}
	return nil
}

// Describe implements scheduling.Describer.
func (f HasCapacity) Describe(req *types.Request, ep *types.Endpoint) string {
	return count(ep.Waiting(req), "waiting") + ", " + KVCache{}.Describe(req, ep)
}

var (
	_ scheduling.Filter    = HasCapacity{}
	_ scheduling.Describer = HasCapacity{}
)
