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

// profileSpec is one of schedulingProfiles.
type profileSpec struct {
	path   string
	fields fields
	refs   []reference
	config plugins.ProfileConfig // without plugins
	used   bool
}

// profileSet is the profile for most requests, those for some, and those for single steps.
type profileSet struct {
	main            *profileSpec
	rules           []profileRule
	prefill, encode stage
	primaryPort     int  // see selection
	given           bool // there was one
}

// profiles reads the profiles and the plugins that they use, or if there is none makes one
// of all plugins that there are.
func (t *translation) profiles() profileSet {
	var all []*profileSpec
	t.each("schedulingProfiles", func(f fields) { all = append(all, t.profile(f)) })
	if len(all) == 0 {
		set := profileSet{main: &profileSpec{refs: t.allPlugins(), config: plugins.ProfileConfig{Name: "default"}}}
		if s, _ := t.selection(); s != nil {
			set.primaryPort = s.primaryPort
			for _, one := range []stage{s.prefill, s.encode} {
				if one.by != nil && !one.optional {
					t.Failf(one.named, "%s", noProfile(one.profile, nil))
				}
			}
		}
		return set
	}
	for i, p := range all {
		if slices.ContainsFunc(all[:i], func(o *profileSpec) bool { return o.config.Name == p.config.Name && o.config.Name != "" }) {
			t.Failf(p.path+".name", "is %q, which is used twice", p.config.Name)
		}
	}
	set := t.choose(all)
	set.given = true
	parts := make([]*profileSpec, 0, len(set.rules)+1)
	for _, r := range set.rules {
		parts = append(parts, r.profile)
	}
	if p := set.prefill.spec; p != nil {
		parts = append(parts, p)
		if p.config.Fallbacks > 0 {
			t.warn("%s has no effect here: one server computes a prompt", p.fields.at("fallbacks"))
		}
	}
	for _, p := range parts {
		for _, name := range []string{"metricsTTL", "bookingTTL", "outputTokens", "seed"} {
			if p.fields.m[name] != nil {
				t.Failf(p.fields.at(name), "is for all requests alike: give it to the profile %q", set.main.config.Name)
			}
		}
	}
	return set
}

// profile reads one profile.
func (t *translation) profile(f fields) *profileSpec {
	p := &profileSpec{path: f.path, fields: f}
	p.config.Name = f.need("name")
	f.each("plugins", func(use fields) {
		ref := reference{path: use.path, name: use.need("pluginRef")}
		if w, ok := use.number("weight", 0, math.MaxFloat64); ok {
			ref.weight = &w
		}
		use.done()
		if d := t.byName[ref.name]; d != nil && d.typeName == typeConcurrency && d.flow {
			t.filterOfPlaces(d, ref)
			return
		}
		p.refs = append(p.refs, ref)
	})
	c := &p.config
	c.Fallbacks, _ = f.integer("fallbacks", 0, scheduling.MaxFallbacks)
	c.MetricsTTL, c.BookingTTL = f.duration("metricsTTL"), f.duration("bookingTTL")
	c.OutputTokens, _ = f.integer("outputTokens", 0, math.MaxInt32)
	c.Seed = f.unsigned("seed")
	f.done()
	t.check(p.refs, f, c.Fallbacks)
	return p
}

// filterOfPlaces is the use of a concurrency-detector as a filter: that endpoints without
// a place are left out if others have one, admission control sees to.
func (t *translation) filterOfPlaces(d *declared, ref reference) {
	if ref.weight != nil {
		t.Failf(ref.path+".weight", "is for scorers, which %q is not", ref.name)
	}
	if t.concurrency != d {
		t.Failf(ref.path+".pluginRef", "is %q, which leaves out endpoints that are full only where saturationDetector names it too", ref.name)
	}
}

// allPlugins uses each plugin that is declared, if there is one beside what only
// says when the pool is saturated.
func (t *translation) allPlugins() []reference {
	var refs []reference
	some := false
	for _, d := range t.declared {
		if !d.nothing && !d.bad && !d.everyone {
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
			t.Failf(at, "%s", t.noPlugin(ref.name))
		case d.nothing && d.predicts: // a part of the latency-cost that the profile gets
		case d.nothing:
			d.used = true
			t.warn("%s: %q is of type %s, which is no filter, scorer or picker and has no effect in a profile", at, ref.name, d.typeName)
		case used[ref.name]:
			t.Failf(at, "is %q, which is used twice in this profile", ref.name)
		case ref.weight != nil && !d.scorer && d.predicts:
			t.warn("%s.weight has no effect here: a latency-cost is in seconds", ref.path)
		case ref.weight != nil && !d.scorer:
			t.Failf(ref.path+".weight", "is for scorers, which %q is not", ref.name)
		case d.picker && picker != nil:
			t.Failf(at, "is %q, a second picker beside %q", ref.name, picker.plugin.Name)
		case d.picker:
			picker = d
		}
		used[ref.name] = true
	}
	if picker != nil && picker.endpoints > 0 && profile.m["fallbacks"] != nil && picker.endpoints-1 != fallbacks {
		t.Failf(profile.at("fallbacks"), "is %d, but maxNumOfEndpoints of the picker %q is %d, which makes %d; give one of them", fallbacks, picker.plugin.Name, picker.endpoints, picker.endpoints-1)
	}
}

// wire returns the references to plugins of a profile, with those that it lacks, and the
// number of fallbacks.
func (t *translation) wire(p *profileSpec, detector *declared) (out []plugins.PluginRef, fallbacks int) {
	var (
		safe, sheds, predicts bool
		picker                *declared
		use                   = func(d *declared, weight *float64) {
			d.used = true
			out = append(out, plugins.PluginRef{PluginRef: d.plugin.Name, Weight: weight})
		}
		refs = t.costOnce(p.refs)
	)
	for _, ref := range refs {
		d := t.byName[ref.name]
		safe = safe || slices.Contains(safeTypes, d.plugin.Type)
		sheds = sheds || d.plugin.Type == typeShed
		predicts = predicts || d.plugin.Type == typeCost
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
		if d := t.byName[ref.name]; d.predicts && ref.weight != nil {
			use(d, nil)
		} else if !d.picker {
			use(d, ref.weight)
		}
	}
	for _, d := range t.declared {
		if d.everyone && !slices.ContainsFunc(out, func(r plugins.PluginRef) bool { return r.PluginRef == d.plugin.Name }) {
			use(d, nil)
		}
	}
	if !sheds {
		if t.byName[detector.plugin.Name] == nil {
			t.add(detector)
		}
		use(detector, nil)
	}
	named := picker
	if picker != nil && picker.plugin.Type == typeWeighted && predicts {
		t.warn("%s (%s) is taken as %s: costs are no chances", picker.path, picker.plugin.Name, typeMaxScore)
		picker.used, picker = true, nil
	}
	if picker == nil {
		picker = t.ensure(typeMaxScore)
	}
	use(picker, nil)
	if named == nil {
		named = picker
	}
	fallbacks = p.config.Fallbacks
	if named.endpoints > 0 {
		fallbacks = named.endpoints - 1
	}
	return out, fallbacks
}

// costOnce returns the references with one to a latency-cost in place of all that ask for
// predicted latency.
func (t *translation) costOnce(refs []reference) []reference {
	var out []reference
	asked, has := false, false
	for _, ref := range refs {
		d := t.byName[ref.name]
		d.used = true
		switch {
		case d.nothing && !d.predicts:
		case d.everyone || !d.predicts:
			has = has || d.plugin.Type == typeCost
			out = append(out, ref)
		case !d.nothing && !has:
			has = true
			out = append(out, ref)
		case d.nothing:
			asked = true
		}
	}
	if asked && !has {
		out = append(out, reference{name: t.ensure(typeCost).plugin.Name})
	}
	return out
}

func (t *translation) first(typeName string) *declared {
	for _, d := range t.declared {
		if d.plugin.Type == typeName {
			return d
		}
	}
	return nil
}

// ensure returns the first plugin of a type, added if there is none.
func (t *translation) ensure(typeName string) *declared {
	if d := t.first(typeName); d != nil {
		return d
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
