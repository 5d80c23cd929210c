package config

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
)

// Types of plugins that mean something to the translation.
const (
	typeHealthy  = "healthy-filter"
	typeServed   = "model-served-filter"
	typeAnswer   = "previous-answer-filter"
	typeFresh    = "fresh-filter"
	typeShed     = "shed-filter"
	typeMaxScore = "max-score-picker"
	typePrefix   = "prefix-cache-scorer"

	// Of the Inference Extension.
	typeDetector  = "utilization-detector"
	typeSource    = "metrics-data-source"
	typeExtractor = "core-metrics-extractor"
	typeParser    = "openai-parser"
)

// nothingToDo are types of the Inference Extension that only say how it works
// inside, each of which has its like here without being declared.
var nothingToDo = []string{
	"approx-prefix-cache-producer",
	typeExtractor,
	"inflight-load-producer",
	typeSource,
	typeParser,
	"single-profile-handler",
}

// safeTypes are the filters that a profile gets if it has none of them.
var safeTypes = []string{typeHealthy, typeServed, typeAnswer, typeFresh}

// aliases are types that bore another name in some version.
var aliases = map[string]string{"kv-cache-scorer": "kv-cache-utilization-scorer"}

// renamed are parameters that have another name here, by type.
var renamed = map[string][2]string{
	"low-queue-filter":     {"threshold", "below"},
	"lora-affinity-filter": {"threshold", "affinity"},
	"token-load-scorer":    {"queueThresholdTokens", "threshold"},
}

// pickersOfSeveral are the types with the parameter maxNumOfEndpoints.
var pickersOfSeveral = []string{typeMaxScore, "random-picker", "weighted-random-picker"}

// translation turns an EndpointPickerConfig into what a Registry builds.
type translation struct {
	fields
	registry *plugins.Registry
	warn     func(format string, args ...any)
	declared []*declared
	byName   map[string]*declared

	detectorGiven bool      // something says when endpoints are full
	concurrency   *declared // that, if it is a concurrency-detector
}

// declared is one of plugins.
type declared struct {
	path      string // plugins[3]
	typeName  string // as written
	plugin    plugins.PluginConfig
	nothing   bool // one of nothingToDo
	bad       bool // an error was told
	picker    bool
	scorer    bool
	endpoints int     // maxNumOfEndpoints of a picker; 0: not given
	flow      bool    // one of flowControlTypes, and nothing to a profile
	threshold float64 // of a static-usage-limit-policy; 0: not given
	used      bool
}

// translate reads what is about plugins and admission, and returns nil if something is
// wrong with it. flow: the feature gate flowControl is open.
func (t *translation) translate(flow bool) *scheduler {
	t.each("plugins", t.plugin)
	t.dataLayer("dataLayer")
	t.dataLayer("data") // its name up to version 1.2
	t.parsers()
	detector := t.saturation()
	refs, profile, given := t.profile()
	admits := t.admission(flow, detector)
	if t.concurrency != nil && admits == nil {
		t.warn("saturationDetector: %s (%s) has no effect without %s in featureGates: requests are shed by what the servers report", t.concurrency.plugin.Name, typeConcurrency, gateFlowControl)
	}
	if len(t.errs) > 0 {
		return nil
	}

	s := &scheduler{Admission: admits}
	if admits != nil { // about the same endpoints in the same document
		if admits.MetricsTTL == "" {
			admits.MetricsTTL = profile.MetricsTTL
		}
		if admits.OutputTokens == 0 {
			admits.OutputTokens = profile.OutputTokens
		}
	}
	if given || len(refs) > 0 {
		profile.Plugins = t.wire(refs, &profile, detector)
		s.Profiles.Profiles = []plugins.ProfileConfig{profile}
		for _, d := range t.declared {
			if d.used && !d.nothing {
				s.Profiles.Plugins = append(s.Profiles.Plugins, d.plugin)
			}
		}
	} else {
		detector.used = true
		if err := json.Unmarshal(detector.plugin.Parameters, &s.Limits); err != nil && len(detector.plugin.Parameters) > 0 {
			t.errorf("%s: %w", detector.path, err)
		}
	}
	for _, d := range t.declared {
		if !d.used && !d.nothing {
			t.warn("%s (%s) is used by no profile", d.path, d.plugin.Name)
		}
	}
	if len(t.errs) > 0 {
		return nil
	}
	s.finish()
	_, err := s.build(t.registry)
	if err == nil {
		err = s.connectAdmission(t.registry)
	}
	if err != nil {
		for _, err := range buildErrors(err) {
			t.errs = append(t.errs, moved{err: err})
		}
		return nil
	}
	return s
}

// plugin reads one of plugins.
func (t *translation) plugin(f fields) {
	d := &declared{path: f.path, typeName: f.need("type")}
	name := f.str("name")
	if name == "" {
		name = d.typeName
	}
	d.plugin = plugins.PluginConfig{Type: d.typeName, Name: name}
	parameters := f.object("parameters")
	f.done()
	t.declared = append(t.declared, d)
	if t.byName[name] != nil {
		t.errorf("%s.name: %q is used twice", f.path, name)
		d.bad = true
		return
	}
	t.byName[name] = d

	before := len(t.errs)
	ours := t.known(d, parameters.path, t.parameters(d, parameters))
	if len(ours) > 0 {
		data, err := json.Marshal(ours)
		if err != nil {
			t.errorf("%s: %w", parameters.path, err)
		}
		d.plugin.Parameters = data
	}
	if d.bad = d.typeName == "" || len(t.errs) > before; !d.bad && !d.nothing {
		t.probe(d)
	}
}

// parameters settles the type of d, and returns its parameters as ours.
func (t *translation) parameters(d *declared, p fields) map[string]any {
	if to, ok := aliases[d.typeName]; ok && !t.knows(d.typeName) {
		d.plugin.Type = to
	}
	switch typeName := d.plugin.Type; {
	case typeName == typePrefix:
		return t.prefixParameters(p)
	case slices.Contains(pickersOfSeveral, typeName):
		n, _ := p.integer("maxNumOfEndpoints", 1, 1+scheduling.MaxFallbacks)
		d.endpoints = n
		return without(p.m, "maxNumOfEndpoints")
	case t.knows(typeName):
		if names, ok := renamed[typeName]; ok {
			return rename(p, names[0], names[1])
		}
		return p.m
	case typeName == typeDetector:
		d.plugin.Type = typeShed
		return t.limits(p, true)
	case slices.Contains(nothingToDo, typeName):
		d.nothing = true
		if len(p.m) > 0 {
			t.warn("%s (%s) has no effect here", p.path, typeName)
		}
	case slices.Contains(flowControlTypes, typeName):
		d.nothing, d.flow = true, true
		return t.flowParameters(d, p)
	case typeName != "":
		t.errorf("%s.type %q is unknown%s; known are %s, and of the Inference Extension's %s", d.path, shorten(typeName), nearestOf(typeName, t.knownTypes()),
			strings.Join(t.registry.Types(), ", "), strings.Join(slices.Concat([]string{typeDetector, "kv-cache-scorer"}, nothingToDo, flowControlTypes), ", "))
	}
	return nil
}

// knownTypes are all types that a plugin may be of.
func (t *translation) knownTypes() []string {
	return slices.Concat(t.registry.Types(), []string{typeDetector}, slices.Sorted(maps.Keys(aliases)), nothingToDo, flowControlTypes)
}

func (t *translation) knows(typeName string) bool {
	return slices.Contains(t.registry.Types(), typeName)
}

// limits reads those of a utilization-detector as parameters of a shed-filter.
func (t *translation) limits(f fields, plugin bool) map[string]any {
	ours := make(map[string]any)
	if n, ok := f.number("queueDepthThreshold", 0, math.MaxInt32); ok && n > 0 {
		ours["maxQueue"] = n
	}
	if n, ok := f.number("kvCacheUtilThreshold", 0, 1); ok && n > 0 {
		ours["maxKVUsage"] = n
	}
	if s := f.str("metricsStalenessThreshold"); s != "" {
		if d, err := time.ParseDuration(s); err != nil || d < 0 {
			f.errorf("%s must be a duration such as \"200ms\", got %s", f.at("metricsStalenessThreshold"), show(s))
		} else {
			t.warn("%s has no effect here: a reading is unknown when it is older than metricsTTL of the profile, 5s by default", f.at("metricsStalenessThreshold"))
		}
	}
	if plugin {
		if n, ok := f.number("headroom", 0, math.MaxInt32); ok && n > 0 {
			t.warn("%s has no effect here: the thresholds are meant as they are", f.at("headroom"))
		}
	}
	f.done()
	return ours
}

// probe makes the plugin, to find out whether it can be made and what it is.
func (t *translation) probe(d *declared) {
	build := func(more ...plugins.PluginConfig) (scheduling.Profile, error) {
		c := plugins.Config{Plugins: append([]plugins.PluginConfig{d.plugin}, more...)}
		p := plugins.ProfileConfig{Name: "probe"}
		for _, plugin := range c.Plugins {
			p.Plugins = append(p.Plugins, plugins.PluginRef{PluginRef: plugin.Name})
		}
		c.Profiles = []plugins.ProfileConfig{p}
		profiles, err := t.registry.Build(c)
		return profiles[p.Name], err
	}
	// By itself a profile wants for a picker, if the plugin is none.
	profile, err := build()
	d.picker = err == nil
	if err != nil {
		for _, err := range buildErrors(err) {
			if strings.HasPrefix(err.Error(), "plugins[0]") {
				t.errs = append(t.errs, moved{"plugins[0]", d.path, err})
				d.bad = true
			}
		}
		if d.bad {
			return
		}
		if profile, err = build(plugins.PluginConfig{Type: typeMaxScore, Name: d.plugin.Name + "-picker"}); err != nil {
			t.errorf("%s: %w", d.path, err)
			d.bad = true
			return
		}
	}
	d.scorer = len(profile.Scorers) > 0
}

// rename returns the parameters with another name for one of them.
func rename(p fields, from, to string) map[string]any {
	v, ok := p.m[from]
	if !ok {
		return p.m
	}
	if p.m[to] != nil {
		p.errorf("%s: give one of %s and %s, which mean the same", p.path, from, to)
	}
	ours := without(p.m, from)
	ours[to] = v
	return ours
}
