package plugins

import (
	"cmp"
	"context"
	"fmt"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Shed is a Filter that strikes out nobody, but ends the call with ErrSaturated
// for requests that must not be added to a full pool:
//
//   - priority below 0 (Sheddable): if no endpoint has Room;
//   - below PriorityCritical (Standard): only if every endpoint has more than
//     HardQueue requests waiting, that is far beyond saturation;
//   - PriorityCritical and above: never.
//
// Requests that an admission control let in (types.Request.Admitted) are let through.
//
// Endpoints of which nothing is known count only if nothing is known of any, and
// then nothing is shed. Place it after the filters that narrow the candidates,
// so that saturation is that of the endpoints the request could go to.
type Shed struct {
	Room
	// HardQueue is the queue beyond which Standard requests are shed too.
	// Default DefaultHardQueue.
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

var _ scheduling.Filter = Shed{}
