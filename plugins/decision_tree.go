package plugins

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Tree is a Filter made of a tree of filters. Each node's rule runs on what its
// parent left. It succeeds if it returns no error and keeps at least one
// endpoint: then OnSuccess goes on with those it kept. Otherwise OnFailure goes
// on with the endpoints the node was given. A node without a next one ends the
// tree; a failure there ends the call with the filter's error, or keeps nobody.
type Tree struct {
	Rule      scheduling.Filter
	OnSuccess *Tree
	OnFailure *Tree
}

// Filter implements scheduling.Filter.
func (t *Tree) Filter(ctx context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	sc := treePool.Get().(*treeScratch)
	defer treePool.Put(sc)
	left := append(sc.eps[:0], eps...)
	index := sc.index[:0] // of left's elements in eps
	for i := range eps {
		index = append(index, i)
	}
	ok := slices.Grow(sc.keep[:0], len(eps))
	sc.eps, sc.index, sc.keep = left, index, ok

	for node := t; node != nil; {
		ok = ok[:len(left)]
		keepAll(ok)
		err := node.Rule.Filter(ctx, req, left, ok)
		if err == nil && slices.Contains(ok, true) {
			n := 0
			for i := range left {
				if ok[i] {
					left[n], index[n] = left[i], index[i]
					n++
				}
			}
			left, index = left[:n], index[:n]
			node = node.OnSuccess
			continue
		}
		if node.OnFailure == nil {
			clear(keep)
			return err
		}
		node = node.OnFailure
	}
	clear(keep)
	for _, i := range index {
		keep[i] = true
	}
	return nil
}

type treeScratch struct {
	eps   []*types.Endpoint
	index []int
	keep  []bool
}

var treePool = sync.Pool{New: func() any { return new(treeScratch) }}

// Thresholds of the decision tree, as in the Inference Extension 0.3.
const (
	TreeLowQueue     = 128   // requests waiting, for "low queue"
	TreeLoRAAffinity = 0.999 // chance to stay with the servers that have the adapter
)

// DecisionTree returns the filter tree of the Inference Extension 0.3 as a
// profile, with a random choice among the survivors:
//
//	Critical:  waiting < 128 somewhere?
//	           yes: those → LoRA affinity → least queue → least KV
//	           no:  least queue → LoRA affinity → least KV
//	others:    waiting <= 5 and KV <= 0.8 somewhere?
//	           yes: those → least queue → LoRA affinity → least KV
//	           no:  Sheddable: ErrSaturated
//	                Standard: as Critical, but ErrSaturated if no queue is below 128
//
// The last line is ours: 0.3 documents Standard as more important than Sheddable
// and then treats both alike.
//
// Two further deviations: "least" ignores endpoints whose figure is unknown
// while another's is known, where 0.3 took them as idle; and LoRA affinity reads
// the adapters in use, which may be none.
func DecisionTree() scheduling.Profile {
	return scheduling.Profile{
		Filters: []scheduling.Named{
			{Name: "healthy", Filter: Healthy{}},
			{Name: "model-served", Filter: new(ModelServed)},
			{Name: "previous-answer", Filter: mustPreviousAnswer(AnswerOptions{})},
			{Name: "fresh", Filter: Fresh{}},
			{Name: "decision-tree", Filter: decisionTree()},
		},
		Picker:    Random{},
		Fallbacks: DefaultFallbacks,
	}
}

func decisionTree() *Tree {
	least := func(first, second, third scheduling.Filter) *Tree {
		last := &Tree{Rule: third}
		mid := &Tree{Rule: second, OnSuccess: last, OnFailure: last}
		return &Tree{Rule: first, OnSuccess: mid, OnFailure: mid}
	}
	spread := func() *Tree { return least(LeastQueue{}, LoRASoftAffinity{}, LeastKV{}) }
	lowQueue := func(onFailure *Tree) *Tree {
		return &Tree{
			Rule:      LowQueue{},
			OnSuccess: least(LoRASoftAffinity{}, LeastQueue{}, LeastKV{}),
			OnFailure: onFailure,
		}
	}
	shed := &Tree{Rule: scheduling.FilterFunc(func(_ context.Context, req *types.Request, eps []*types.Endpoint, _ []bool) error {
		return fmt.Errorf("%w: priority %d is shed while none of %d endpoints has room", scheduling.ErrSaturated, req.Priority, len(eps))
	})}
	return &Tree{
		Rule:      whenPriority(func(p int) bool { return p >= types.PriorityCritical }),
		OnSuccess: lowQueue(spread()),
		OnFailure: &Tree{
			Rule:      HasCapacity{},
			OnSuccess: spread(),
			OnFailure: &Tree{
				Rule:      whenPriority(func(p int) bool { return p >= types.PriorityStandard }),
				OnSuccess: lowQueue(shed),
				OnFailure: shed,
			},
		},
	}
}

// whenPriority keeps all endpoints for some priorities and none for others: a
// branch of a Tree.
func whenPriority(is func(int) bool) scheduling.Filter {
	return scheduling.FilterFunc(func(_ context.Context, req *types.Request, _ []*types.Endpoint, keep []bool) error {
		if !is(req.Priority) {
			clear(keep)
		}
		return nil
	})
}

// LowQueue is a Filter that keeps endpoints with fewer than Below requests
// waiting. Those of which the queue is unknown are kept only if no queue is known.
type LowQueue struct {
	// Below is the exclusive bound. Default TreeLowQueue.
	Below float64 `json:"below"`
}

// Filter implements scheduling.Filter.
func (f LowQueue) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	below := f.Below
	if below == 0 {
		below = TreeLowQueue
	}
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

func (f LowQueue) validate() error {
	var c check.Checks
	check.Positive(&c, "below", &f.Below, TreeLowQueue)
	return c.Err()
}

// LeastQueue is a Filter that keeps the endpoints near the shortest queue: with
// min and max over n endpoints, those with at most min + (max-min)/n requests
// waiting, in whole numbers.
type LeastQueue struct{}

// Filter implements scheduling.Filter.
func (LeastQueue) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	keepLeast(eps, keep, func(ep *types.Endpoint) float64 { return ep.Waiting(req) }, func(lo, hi float64) float64 {
		return lo + float64((int(hi)-int(lo))/len(eps))
	})
	return nil
}

// LeastKV is a Filter that keeps the endpoints near the least KV cache usage:
// with min and max over n endpoints, those with at most min + (max-min)/n.
type LeastKV struct{}

// Filter implements scheduling.Filter.
func (LeastKV) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	keepLeast(eps, keep, func(ep *types.Endpoint) float64 { return ep.KVUsage(req) }, func(lo, hi float64) float64 {
		return lo + (hi-lo)/float64(len(eps))
	})
	return nil
}

// keepLeast keeps those whose reading is at most limit(min, max), or all if no
// reading is known.
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

// LoRASoftAffinity is a Filter that keeps the endpoints that have the request's
// adapter in use or, with a small chance or if there are none, those with a free
// adapter slot. The chance lets an adapter spread to more servers.
type LoRASoftAffinity struct {
	// Affinity is the chance to stay with the servers that have the adapter when
	// others have a slot free, above 0 to 1. Default TreeLoRAAffinity.
	Affinity float64 `json:"affinity"`
}

// Filter implements scheduling.Filter. It keeps nobody if no endpoint has the
// adapter or a slot.
func (f LoRASoftAffinity) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	affinity := f.Affinity
	if affinity == 0 {
		affinity = TreeLoRAAffinity
	}
	target := req.Target()
	have, free := false, false
	for _, ep := range eps {
		if hasAdapter(req, ep, target) {
			have = true
		} else if slotFree(req, ep) {
			free = true
		}
	}
	stay := have && (!free || req.Rand.Float64() < affinity)
	for i, ep := range eps {
		has := hasAdapter(req, ep, target)
		keep[i] = stay && has || !stay && !has && slotFree(req, ep)
	}
	return nil
}

func (f LoRASoftAffinity) validate() error {
	var c check.Checks
	check.Default(&c, "affinity", &f.Affinity, TreeLoRAAffinity, 0, 1)
	return c.Err()
}

// slotFree reports whether fewer adapters are in use than fit. One that is both
// running and waiting takes one slot.
func slotFree(req *types.Request, ep *types.Endpoint) bool {
	used := len(ep.Metrics.RunningAdapters)
	for _, a := range ep.Metrics.WaitingAdapters {
		if !slices.Contains(ep.Metrics.RunningAdapters, a) {
			used++
		}
	}
	return float64(used) < ep.MaxAdapters(req)
}

var (
	_ scheduling.Filter = (*Tree)(nil)
	_ scheduling.Filter = LowQueue{}
	_ scheduling.Filter = LeastQueue{}
	_ scheduling.Filter = LeastKV{}
	_ scheduling.Filter = LoRASoftAffinity{}
)
