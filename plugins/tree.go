package plugins

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Tree is a Filter made of a tree of filters. A node succeeds if its Rule returns no error and
// keeps at least one endpoint; OnSuccess then continues with these. Otherwise OnFailure continues
// with the endpoints that the node was given. The tree ends at a node without a successor; if
// that node fails, Filter returns its error, or keeps no endpoint.
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
	index := sc.index[:0] // of left's elements, in eps
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

// TreeConfig declares a Tree.
type TreeConfig struct {
	// Rule is a filter that does not track requests. Rules of the same type and name are one
	// plugin.
	Rule      PluginConfig `json:"rule"`
	OnSuccess *TreeConfig  `json:"onSuccess,omitempty"`
	OnFailure *TreeConfig  `json:"onFailure,omitempty"`
}

// maxTreeNodes bounds a declared tree.
const maxTreeNodes = 256

// tree is the Factory of the declared Tree.
func (r *Registry) tree(p json.RawMessage) (any, error) {
	var c TreeConfig
	if err := Parameters(p, &c); err != nil {
		return nil, err
	}
	b := treeBuilder{registry: r, rules: map[ruleID]scheduling.Filter{}}
	t := b.node("", &c)
	return t, b.Err()
}

// ruleID identifies a rule of a tree.
type ruleID struct{ Type, Name string }

type treeBuilder struct {
	check.Checks
	registry *Registry
	rules    map[ruleID]scheduling.Filter
	nodes    int
}

func (b *treeBuilder) node(path string, c *TreeConfig) *Tree {
	if c == nil {
		return nil
	}
	if b.nodes++; b.nodes > maxTreeNodes {
		if b.nodes == maxTreeNodes+1 {
			b.Failf(path, "is one filter too many, want at most %d", maxTreeNodes)
		}
		return nil
	}
	return &Tree{
		Rule:      b.rule(check.Join(path, "rule"), c.Rule),
		OnSuccess: b.node(check.Join(path, "onSuccess"), c.OnSuccess),
		OnFailure: b.node(check.Join(path, "onFailure"), c.OnFailure),
	}
}

func (b *treeBuilder) rule(path string, c PluginConfig) scheduling.Filter {
	id := ruleID{c.Type, c.Name}
	if f, ok := b.rules[id]; ok && c.Name != "" {
		return f
	}
	factory, ok := b.registry.factories[c.Type]
	if !ok {
		b.Unknown(path+".type", c.Type, b.registry.Types())
		return nil
	}
	v, err := factory(c.Parameters)
	if err != nil {
		b.Add(path+".parameters", err)
		return nil
	}
	f, ok := v.(scheduling.Filter)
	switch {
	case !ok:
		b.Failf(path+".type", "is %q, want a filter", c.Type)
	case tracks(v):
		b.Failf(path+".type", "is %q, which learns from where requests go, which the filters of a tree are not told: use it in the profile itself", c.Type)
	}
	b.rules[id] = f
	return f
}

// tracks reports whether a plugin must be known to the scheduler or the registry itself.
func tracks(v any) bool {
	switch v.(type) {
	case scheduling.Tracker, interface{ reads() *prefixReader }:
		return true
	}
	return false
}
