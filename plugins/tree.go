package plugins

import (
	"context"
	"slices"
	"sync"

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

var _ scheduling.Filter = (*Tree)(nil)
