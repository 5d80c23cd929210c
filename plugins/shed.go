package plugins

import (
	"cmp"
	"context"
	"fmt"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Defaults of Room, as in the Inference Extension, and of Shed.HardQueue, which was the bound for
// critical requests in its version 0.3.
const (
	DefaultMaxQueue   = 5
	DefaultMaxKVUsage = 0.8
	DefaultHardQueue  = 128
)

// Room defines when a server has room for more requests. A single unknown value does not count
// against it, but a server of which both are unknown is not known to have room.
type Room struct {
	// MaxQueue is the highest number of waiting requests. Default DefaultMaxQueue.
	MaxQueue float64 `json:"maxQueue"`
	// MaxKVUsage is the largest fraction of the KV cache in use, 0..1. Default DefaultMaxKVUsage.
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

// of returns whether ep is known to have room, and whether anything is known. r must have its
// defaults filled in.
func (r Room) of(req *types.Request, ep *types.Endpoint) (room, known bool) {
	q, kv := ep.Waiting(req), ep.KVUsage(req)
	known = q == q || kv == kv
	return known && !(q > r.MaxQueue) && !(kv > r.MaxKVUsage), known
}

// HasCapacity is a Filter that keeps the endpoints that have room. If none has, the call ends
// with ErrSaturated, for which a gateway answers 429. If nothing is known of any endpoint it
// keeps all.
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

// Shed is a Filter that keeps all endpoints, but ends the call with ErrSaturated for requests
// that must not be added to a full pool:
//
//   - of priority below 0 (Sheddable), if no endpoint has Room;
//   - of priority below PriorityCritical (Standard), only if every endpoint has more than
//     HardQueue requests waiting, far beyond saturation;
//   - of PriorityCritical and above, never.
//
// It ignores requests that admission control let in (types.Request.Admitted).
//
// Endpoints of which nothing is known count as full, unless nothing is known of any: then nothing
// is shed. Place it after the filters that narrow the candidates, so that it looks only at the
// endpoints the request could go to.
type Shed struct {
	Room
	// HardQueue is the queue length beyond which Standard requests are shed too. Default
	// DefaultHardQueue.
	HardQueue float64 `json:"hardQueue"`
}

// Filter implements scheduling.Filter.
func (f Shed) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, _ []bool) error {
	if req.Admitted || req.Priority >= types.PriorityCritical {
		return nil
	}
	limits := f.withDefaults()
	if req.Priority >= 0 {
		limits = Room{MaxQueue: cmp.Or(f.HardQueue, DefaultHardQueue), MaxKVUsage: 1}
	}
	known := false
	for _, ep := range eps {
		room, k := limits.of(req, ep)
		if room {
			return nil
		}
		known = known || k
	}
	if !known {
		return nil
	}
	if req.Priority >= 0 {
		return fmt.Errorf("%w: priority %d is shed while all of %d endpoints have more than %g waiting",
			scheduling.ErrSaturated, req.Priority, len(eps), limits.MaxQueue)
	}
	return fmt.Errorf("%w: priority %d is shed while all of %d endpoints have more than %g waiting or more than %g of their KV cache in use",
		scheduling.ErrSaturated, req.Priority, len(eps), limits.MaxQueue, limits.MaxKVUsage)
}

// Screen implements scheduling.Screener.
func (f Shed) Screen(req *types.Request, _ *scheduling.Overview) bool {
	return req.Admitted || req.Priority >= types.PriorityCritical
}

func (f Shed) validate() error {
	var c check.Checks
	check.Range(&c, "hardQueue", f.HardQueue, 0, 0)
	c.Add("", f.Room.validate())
	return c.Err()
}

// coldKV is the KV cache usage below which a server has seen too little to be judged.
const coldKV = 0.02

// SLOAdmitter is a Filter that keeps all endpoints, but ends the call with ErrSaturated for
// requests of negative priority with an SLO that no endpoint is expected to meet, unless one is
// idle or new. It is llm-d's latency-slo-admitter, with the estimates of a Cost instead of a
// predictor. It ignores requests that admission control let in.
type SLOAdmitter struct {
	Cost *Cost // of the same profile; nil: nothing is shed
}

// Filter implements scheduling.Filter.
func (f *SLOAdmitter) Filter(ctx context.Context, req *types.Request, eps []*types.Endpoint, _ []bool) error {
	if req.Priority >= 0 || req.Admitted || req.SLO == (types.SLO{}) || f.Cost == nil {
		return nil
	}
	for _, ep := range eps {
		if isIdle(req, ep) || ep.KVUsage(req) < coldKV {
			return nil
		}
	}
	meets, err := f.Cost.meets(ctx, req, eps)
	if meets || err != nil {
		return err
	}
	return fmt.Errorf("%w: priority %d is shed while none of %d endpoints is expected to meet its SLO", scheduling.ErrSaturated, req.Priority, len(eps))
}

// isIdle reports whether an endpoint has nothing to do, by its metrics or else by the ledger.
func isIdle(req *types.Request, ep *types.Endpoint) bool {
	n := ep.Running(req)
	return n == 0 || n != n && (ep.Load == nil || ep.Load.Requests() == 0)
}
