package plugins

import (
	"encoding/json"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
)

// TreeConfig declares a Tree: a filter, and what goes on after it.
type TreeConfig struct {
	// Rule is a filter that learns nothing of where requests go. Rules of the same type
	// and name are one plugin.
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

// ruleID is what tells the rules of a tree apart.
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
	case needsTelling(v):
		b.Failf(path+".type", "is %q, which learns from where requests go, which the filters of a tree are not told: use it in the profile itself", c.Type)
	}
	b.rules[id] = f
	return f
}

// needsTelling reports whether a plugin must be known to the scheduler or the registry
// itself.
func needsTelling(v any) bool {
	switch v.(type) {
	case scheduling.Tracker, interface{ reads() *prefixReader }:
		return true
	}
	return false
}
