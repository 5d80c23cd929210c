package plugins

import (
	"encoding/json"
	"errors"
	"fmt"

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
	return b.node("", &c)
}

// ruleID is what tells the rules of a tree apart.
type ruleID struct{ Type, Name string }

type treeBuilder struct {
	registry *Registry
	rules    map[ruleID]scheduling.Filter
	nodes    int
}

func (b *treeBuilder) node(path string, c *TreeConfig) (*Tree, error) {
	if c == nil {
		return nil, nil
	}
	if b.nodes++; b.nodes > maxTreeNodes {
		return nil, fmt.Errorf("the tree has more than %d filters", maxTreeNodes)
	}
	rule, err := b.rule(c.Rule)
	if err != nil {
		return nil, fmt.Errorf("%srule: %w", path, err)
	}
	t := &Tree{Rule: rule}
	if t.OnSuccess, err = b.node(path+"onSuccess.", c.OnSuccess); err != nil {
		return nil, err
	}
	t.OnFailure, err = b.node(path+"onFailure.", c.OnFailure)
	return t, err
}

func (b *treeBuilder) rule(c PluginConfig) (scheduling.Filter, error) {
	id := ruleID{c.Type, c.Name}
	if f, ok := b.rules[id]; ok && c.Name != "" {
		return f, nil
	}
	factory, ok := b.registry.factories[c.Type]
	if !ok {
		return nil, fmt.Errorf("type %q is unknown", c.Type)
	}
	v, err := factory(c.Parameters)
	if err != nil {
		return nil, fmt.Errorf("parameters (%s): %w", c.Type, err)
	}
	f, ok := v.(scheduling.Filter)
	if !ok {
		return nil, fmt.Errorf("type %q is no filter", c.Type)
	}
	if needsTelling(v) {
		return nil, errors.New("type " + c.Type + " learns from where requests go, which the filters of a tree are not told: use it in the profile itself")
	}
	b.rules[id] = f
	return f, nil
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
