package config

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
)

// reference is a use of a plugin in a profile.
type reference struct {
	path   string
	name   string
	weight *float64
}

// profile reads the one profile and the plugins that it uses, or if there is none
// makes one of all plugins that there are. given: there was one.
func (t *translation) profile() (refs []reference, p plugins.ProfileConfig, given bool) {
	if n := len(t.list("schedulingProfiles")); n > 1 {
		t.errorf("schedulingProfiles must have at most one profile, got %d: this picker runs one for every request", n)
		return nil, p, true
	} else if n == 0 {
		return t.allPlugins(), plugins.ProfileConfig{Name: "default"}, false
	}
	t.each("schedulingProfiles", func(f fields) {
		p.Name = f.need("name")
		f.each("plugins", func(use fields) {
			ref := reference{path: use.path, name: use.need("pluginRef")}
			if w, ok := use.number("weight", 0, math.MaxFloat64); ok {
				ref.weight = &w
			}
			use.done()
			if d := t.byName[ref.name]; d != nil && d.typeName == typeConcurrency && d.flow {
				t.filterOfPlaces(d, ref)
				return
			} else if d != nil && d.nothing && !d.bad {
				t.warn("%s: %q is of type %s, which is no filter, scorer or picker and has no effect in a profile", use.at("pluginRef"), ref.name, d.typeName)
				return
			}
			refs = append(refs, ref)
		})
		p.Fallbacks, _ = f.integer("fallbacks", 0, scheduling.MaxFallbacks)
		p.MetricsTTL, p.BookingTTL = f.str("metricsTTL"), f.str("bookingTTL")
		p.OutputTokens, _ = f.integer("outputTokens", 0, math.MaxInt32)
		p.Seed = f.unsigned("seed")
		f.done()
		t.check(refs, f, p.Fallbacks)
	})
	return refs, p, true
}

// filterOfPlaces is the use of a concurrency-detector as a filter: that endpoints without
// a place are left out if others have one, admission control sees to.
func (t *translation) filterOfPlaces(d *declared, ref reference) {
	if ref.weight != nil {
		t.errorf("%s.weight: %q is no scorer", ref.path, ref.name)
	}
	if t.concurrency != d {
		t.errorf("%s.pluginRef: %q leaves out endpoints that are full only where saturationDetector names it too", ref.path, ref.name)
	}
}

// allPlugins uses each plugin that is declared, if there is one beside what only
// says when the pool is saturated.
func (t *translation) allPlugins() []reference {
	var refs []reference
	some := false
	for _, d := range t.declared {
		if !d.nothing && !d.bad {
			refs = append(refs, reference{path: d.path, name: d.plugin.Name})
			some = some || d.typeName != typeDetector || d.plugin.Type != typeShed
		}
	}
	if !some {
		return nil
	}
	t.check(refs, fields{}, 0)
	return refs
}

// check tells what is wrong with the use of plugins in a profile.
func (t *translation) check(refs []reference, profile fields, fallbacks int) {
	used := make(map[string]bool)
	var picker *declared
	for _, ref := range refs {
		at := ref.path + ".pluginRef"
		d := t.byName[ref.name]
		switch {
		case ref.name == "" || d != nil && d.bad: // told already
		case d == nil:
			t.errorf("%s: %s", at, t.noPlugin(ref.name))
		case used[ref.name]:
			t.errorf("%s: %q is used twice in this profile", at, ref.name)
		case ref.weight != nil && !d.scorer:
			t.errorf("%s.weight: %q is no scorer", ref.path, ref.name)
		case d.picker && picker != nil:
			t.errorf("%s: %q is a second picker, beside %q", at, ref.name, picker.plugin.Name)
		case d.picker:
			picker = d
		}
		used[ref.name] = true
	}
	if picker != nil && picker.endpoints > 0 && profile.m["fallbacks"] != nil && picker.endpoints-1 != fallbacks {
		t.errorf("%s is %d, but maxNumOfEndpoints of the picker %q is %d, which makes %d; give one of them",
			profile.at("fallbacks"), fallbacks, picker.plugin.Name, picker.endpoints, picker.endpoints-1)
	}
}

// wire returns the references to plugins of the profile, with those that it lacks.
func (t *translation) wire(refs []reference, profile *plugins.ProfileConfig, detector *declared) []plugins.PluginRef {
	var (
		out         []plugins.PluginRef
		safe, sheds bool
		picker      *declared
		use         = func(d *declared, weight *float64) {
			d.used = true
			out = append(out, plugins.PluginRef{PluginRef: d.plugin.Name, Weight: weight})
		}
	)
	for _, ref := range refs {
		d := t.byName[ref.name]
		safe = safe || slices.Contains(safeTypes, d.plugin.Type)
		sheds = sheds || d.plugin.Type == typeShed
		if d.picker {
			picker = d
		}
	}
	if !safe {
		for _, one := range safeTypes {
			use(t.ensure(one), nil)
		}
	}
	for _, ref := range refs {
		use(t.byName[ref.name], ref.weight)
	}
	if !sheds {
		if t.byName[detector.plugin.Name] == nil {
			t.add(detector)
		}
		use(detector, nil)
	}
	if picker == nil {
		picker = t.ensure(typeMaxScore)
		use(picker, nil)
	}
	if picker.endpoints > 0 {
		profile.Fallbacks = picker.endpoints - 1
	}
	return out
}

// ensure returns the first plugin of a type, added if there is none.
func (t *translation) ensure(typeName string) *declared {
	for _, d := range t.declared {
		if d.plugin.Type == typeName {
			return d
		}
	}
	d := &declared{plugin: plugins.PluginConfig{Type: typeName, Name: t.unique(typeName)}}
	t.add(d)
	return d
}

func (t *translation) add(d *declared) {
	t.declared = append(t.declared, d)
	t.byName[d.plugin.Name] = d
}

// unique returns a name like name that no plugin has.
func (t *translation) unique(name string) string {
	for n := 2; ; n++ {
		if t.byName[name] == nil {
			return name
		}
		name = fmt.Sprintf("%s-%d", strings.TrimSuffix(name, fmt.Sprintf("-%d", n-1)), n)
	}
}
