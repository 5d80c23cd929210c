package config

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/plugins"
)

// cloneTree copies maps and lists.
func cloneTree(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for key, inner := range v {
			c[key] = cloneTree(inner)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, inner := range v {
			c[i] = cloneTree(inner)
		}
		return c
	}
	return v
}

// known returns the parameters without those that the type has not, with a warning for
// each.
func (t *translation) known(d *declared, path string, parameters map[string]any) map[string]any {
	if t.strict || len(parameters) == 0 || !t.knows(d.plugin.Type) {
		return parameters
	}
	c := cloneTree(parameters).(map[string]any)
	for again := true; again; {
		data, err := json.Marshal(c)
		if err != nil {
			return c // told where it is marshalled for good
		}
		plugin := d.plugin
		plugin.Parameters = data
		_, err = t.registry.Build(plugins.Config{
			Plugins:  []plugins.PluginConfig{plugin},
			Profiles: []plugins.ProfileConfig{{Name: "probe", Plugins: []plugins.PluginRef{{PluginRef: plugin.Name}}}},
		})
		again = false
		for _, e := range check.From(err) {
			rest, ok := strings.CutPrefix(e.Field, "plugins[0].parameters")
			if ok && errors.Is(e, strictjson.ErrUnknownField) && takeOut(c, steps(rest)) {
				again = true
				moved := *e
				moved.Field = path + rest
				t.warnf("%s; it has no effect", moved.Text())
			}
		}
	}
	return c
}

// takeOut removes the field that a path leads to, and reports whether it was there.
func takeOut(v any, path []step) bool {
	for i, s := range path {
		switch inner := v.(type) {
		case map[string]any:
			if _, ok := inner[s.name]; ok && i == len(path)-1 {
				delete(inner, s.name)
				return true
			}
			v = inner[s.name]
		case []any:
			if s.index >= len(inner) {
				return false
			}
			v = inner[s.index]
		default:
			return false
		}
	}
	return false
}
