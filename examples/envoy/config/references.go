package config

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/plugins"
)

// saturation returns the detector, which there is always, as in the Inference
// Extension: the one named, or the one that is declared under the type's name, or
// a new one.
func (t *translation) saturation() *declared {
	f := t.object("saturationDetector")
	if flow := t.object("flowControl"); flow.has("saturationDetector") { // where it is since llm-d 0.8
		if f.m != nil {
			t.warn("saturationDetector has no effect: flowControl.saturationDetector is given")
		}
		f = flow.object("saturationDetector")
	}
	ref := f.str("pluginRef")
	inline := t.limits(f, false)
	t.detectorGiven = ref != "" || len(inline) > 0 || t.byName[typeDetector] != nil
	switch d := t.byName[ref]; {
	case ref != "" && len(f.m) > 1:
		t.Failf(f.path, "has pluginRef and thresholds, want one of them")
	case ref == "" && len(inline) > 0:
		data, err := json.Marshal(inline)
		if err != nil {
			t.Add(f.path, err)
		}
		return &declared{path: f.path, plugin: plugins.PluginConfig{Type: typeShed, Name: t.unique(typeShed), Parameters: data}}
	case d != nil && d.plugin.Type == typeShed, d != nil && d.bad:
		return d
	case d != nil && d.typeName == typeConcurrency:
		t.concurrency, d.used = d, true
	case d == nil && ref == typeConcurrency:
		t.concurrency = &declared{typeName: ref, plugin: plugins.PluginConfig{Type: ref, Name: ref}}
	case d != nil:
		t.Failf(f.at("pluginRef"), "is %q of type %s, want %s or %s", ref, d.typeName, typeDetector, typeConcurrency)
	case ref != "" && ref != typeDetector:
		t.Failf(f.at("pluginRef"), "%s", t.noPlugin(ref))
	}
	if d := t.byName[typeDetector]; d != nil && d.plugin.Type == typeShed {
		return d
	}
	return &declared{path: f.path, plugin: plugins.PluginConfig{Type: typeShed, Name: t.unique(typeShed)}}
}

// dataLayer checks the references of a section of which only the parameters of what it
// refers to have an effect here.
func (t *translation) dataLayer(name string) {
	f := t.object(name)
	f.each("sources", func(source fields) {
		t.refersTo(source, sourceTypes)
		source.each("extractors", func(extractor fields) {
			t.refersTo(extractor, extractorTypes)
			extractor.done()
		})
		source.done()
	})
	if v := f.get("injectDefaults"); v != nil && !f.boolean("injectDefaults") {
		t.warn("%s has no effect here: metrics are read in any case, but of endpoints with metrics.disabled", f.at("injectDefaults"))
	}
	for _, unused := range []string{"discovery", "peerDiscovery", "crossReplicaSyncerPluginRef", "crossReplicaSyncInterval"} {
		if f.has(unused) {
			t.warn("%s has no effect here: endpoints are those of StaticEndpoints, and pickers tell each other nothing", f.at(unused))
		}
	}
	f.done()
}

// refersTo checks a reference to a plugin that is not for a profile, of one of the types.
func (t *translation) refersTo(f fields, among []string) {
	ref := f.need("pluginRef")
	switch d := t.byName[ref]; {
	case ref == "" || d != nil && d.bad:
	case d == nil:
		t.Failf(f.at("pluginRef"), "%s", t.noPlugin(ref))
	case !slices.Contains(among, d.typeName):
		t.Failf(f.at("pluginRef"), "is %q of type %s, want %s", ref, d.typeName, list(among))
	default:
		d.used = true
	}
}

func (t *translation) noPlugin(name string) string {
	names := make([]string, len(t.declared))
	for i, d := range t.declared {
		names[i] = d.plugin.Name
	}
	text := "is " + check.Show(name) + ", which no plugin is named; "
	if len(names) == 0 {
		return text + "none is declared in plugins"
	}
	return text + "in plugins there are " + strings.Join(names, ", ")
}
