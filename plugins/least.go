package plugins

import (
	"cmp"
	"context"

	"github.com/inferpick/inferpick/types"
)

// TreeLowQueue is the default of LowQueue.Below, from the decision tree of the Inference Extension
// 0.3.
const TreeLowQueue = 128

// LowQueue is a Filter that keeps endpoints with fewer than Below requests waiting. Those whose
// queue is unknown are kept only if no queue is known.
type LowQueue struct {
	// Below is the exclusive bound. Default TreeLowQueue.
	Below float64 `json:"below"`
}

// Filter implements scheduling.Filter.
func (f LowQueue) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	below := cmp.Or(f.Below, TreeLowQueue)
	known := false
	for i, ep := range eps {
		q := ep.Waiting(req)
		known = known || q == q
		keep[i] = q < below
	}
	if !known {
		keepAll(keep)
	}
	return nil
}

func (f LowQueue) validate() error { return wantPositive("below", f.Below, TreeLowQueue) }

// LeastQueue is a Filter that keeps the endpoints near the shortest queue: those with at most
// min + (max-min)/n requests waiting, where min and max are over the n candidates, in integer
// arithmetic.
type LeastQueue struct{}

// Filter implements scheduling.Filter.
func (LeastQueue) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	keepLeast(eps, keep, func(ep *types.Endpoint) float64 { return ep.Waiting(req) }, func(lo, hi float64) float64 {
		return lo + float64((int(hi)-int(lo))/len(eps))
	})
	return nil
}

// LeastKV is a Filter that keeps the endpoints near the lowest KV cache usage: those with at most
// min + (max-min)/n, where min and max are over the n candidates.
type LeastKV struct{}

// Filter implements scheduling.Filter.
func (LeastKV) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	keepLeast(eps, keep, func(ep *types.Endpoint) float64 { return ep.KVUsage(req) }, func(lo, hi float64) float64 {
		return lo + (hi-lo)/float64(len(eps))
	})
	return nil
}

// keepLeast keeps the endpoints whose value is at most limit(min, max), or all if no value is
// known.
func keepLeast(eps []*types.Endpoint, keep []bool, read func(*types.Endpoint) float64, limit func(lo, hi float64) float64) {
	b := newBounds()
	for _, ep := range eps {
		b.see(read(ep))
	}
	if b.lo > b.hi {
		return // nothing is known
	}
	most := limit(b.lo, b.hi)
	for i, ep := range eps {
		keep[i] = read(ep) <= most
	}
}
