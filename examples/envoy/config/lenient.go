package config

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/inferpick/inferpick/plugins"
)

// unknownField is how encoding/json tells of a field that a form has not. Where it is the
// text does not say.
var unknownField = regexp.MustCompile(`json: unknown field ("(?:[^"\\]|\\.)*")$`)

// readOver takes out of form what try has no field for, with a warning for each, until it
// has no more to say against a field. path is that of form.
func (t *translation) readOver(path string, form map[string]any, try func(data []byte) error) {
	for !t.strict {
		data, err := json.Marshal(form)
		if err != nil {
			return // told where it is marshalled for good
		}
		err = try(data)
		if err == nil {
			return
		}
		m := unknownField.FindStringSubmatch(err.Error())
		if m == nil {
			return
		}
		name, err := strconv.Unquote(m[1])
		if err != nil {
			return
		}
		at, ok := takeOut(form, path, name)
		if !ok {
			return
		}
		t.warnf("%s is not a field of this object; it has no effect", at)
	}
}

// takeOut removes the first field of a name that there is, and returns its path.
func takeOut(v any, path, name string) (at string, ok bool) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v[name]; ok {
			delete(v, name)
			return join(path, name), true
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if at, ok := takeOut(v[key], join(path, key), name); ok {
				return at, true
			}
		}
	case []any:
		for i := range v {
			if at, ok := takeOut(v[i], index(path, i), name); ok {
				return at, true
			}
		}
	}
	return "", false
}

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

// known returns the parameters without those that the type has not.
func (t *translation) known(d *declared, path string, parameters map[string]any) map[string]any {
	if t.strict || len(parameters) == 0 || !t.knows(d.plugin.Type) {
		return parameters
	}
	c := cloneTree(parameters).(map[string]any)
	t.readOver(path, c, func(data []byte) error {
		plugin := d.plugin
		plugin.Parameters = data
		_, err := t.registry.Build(plugins.Config{
			Plugins:  []plugins.PluginConfig{plugin},
			Profiles: []plugins.ProfileConfig{{Name: "probe", Plugins: []plugins.PluginRef{{PluginRef: plugin.Name}}}},
		})
		if err == nil {
			return nil
		}
		return buildErrors(err)[0]
	})
	return c
}
