package config

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/openai"
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

	typeLabels   = "label-filter"
	typeCost     = "latency-cost"
	typeWeighted = "weighted-random-picker"

	// Of the Inference Extension.
	typeDetector  = "utilization-detector"
	typeSource    = "metrics-data-source"
	typeExtractor = "core-metrics-extractor"
	typeParser    = "openai-parser"
)

// safeTypes are the filters that a profile gets if it has none of them.
var safeTypes = []string{typeHealthy, typeServed, typeAnswer, typeFresh}

// translation turns an EndpointPickerConfig into what a Registry builds.
type translation struct {
	fields
	registry *plugins.Registry
	warn     func(format string, args ...any)
	declared []*declared
	byName   map[string]*declared

	roleLabel string // by which the picker knows what servers are for

	passthrough bool     // bodies are not looked at
	reports     []Report // what Envoy is told of usage

	detectorGiven bool      // something says when endpoints are full
	concurrency   *declared // that, if it is a concurrency-detector
}

// declared is one of plugins.
type declared struct {
	path      string // plugins[3]
	typeName  string // as written
	raw       fields // parameters as written
	plugin    plugins.PluginConfig
	converted progress
	nothing   bool        // nothing that a profile has a use for
	bad       bool        // an error was told
	predicts  bool        // it asks for predicted latency, which a latency-cost knows
	everyone  bool        // it is used by every profile, without being named there
	selects   *selection  // a profile handler
	decider   *decider    // says when a step has a server of its own
	needs     []*declared // others that it asks
	picker    bool
	scorer    bool
	endpoints int                 // maxNumOfEndpoints of a picker; 0: not given
	flow      bool                // one of flowControlTypes, and nothing to a profile
	threshold float64             // of a static-usage-limit-policy; 0: not given
	source    *scrape.PoolOptions // of a metrics-data-source or core-metrics-extractor
	used      bool
	inTree    bool // a decision tree has one like it
}

// progress is how far the conversion of a plugin has come.
type progress uint8

const (
	unconverted progress = iota
	converting
	converted
)

// translate reads what is about plugins and admission, and returns nil if something is
// wrong with it. flow: the feature gate flowControl is open.
func (t *translation) translate(flow bool) *Policy {
	t.each("plugins", t.plugin)
	for _, d := range t.declared {
		t.convert(d)
	}
	t.dataLayer("dataLayer")
	t.dataLayer("data") // its name up to version 1.2
	t.parsers()
	detector := t.saturation()
	profiles := t.profiles()
	admits := t.admission(flow, detector)
	scaled := t.autoscale()
	if t.concurrency != nil && admits == nil {
		t.warn("saturationDetector: %s (%s) has no effect without %s in featureGates: requests are shed by what the servers report", t.concurrency.plugin.Name, typeConcurrency, gateFlowControl)
	}
	if t.Len() > 0 {
		return nil
	}

	s := &Policy{
		registry: t.registry, admits: admits, passthrough: t.passthrough, reports: t.reports, metrics: t.serverMetrics(),
		primaryPort: profiles.primaryPort, autoscale: scaled,
	}
	profile := profiles.main.config
	if admits != nil { // about the same endpoints in the same document
		if admits.MetricsTTL == 0 {
			admits.MetricsTTL = profile.MetricsTTL
		}
		if admits.OutputTokens == 0 {
			admits.OutputTokens = profile.OutputTokens
		}
	}
	if profiles.given || len(profiles.main.refs) > 0 {
		profile.Plugins, profile.Fallbacks = t.wire(profiles.main, detector)
		t.checkRoles(profiles)
		if one := profiles.prefill; one.spec != nil && !one.by.never() {
			profile.Plugins = append(profile.Plugins, t.prefillStage(one))
		}
		if one := profiles.encode; one.spec != nil {
			s.encode = t.encodeStage(one)
		}
		for _, r := range profiles.rules {
			rule := plugins.RuleConfig{Name: r.profile.config.Name, When: r.when}
			rule.Plugins, rule.Fallbacks = t.wire(r.profile, detector)
			profile.Rules = append(profile.Rules, rule)
		}
		s.profiles.Profiles = []plugins.ProfileConfig{profile}
		for _, d := range t.declared {
			if d.used && !d.nothing {
				s.profiles.Plugins = append(s.profiles.Plugins, d.plugin)
			}
		}
	} else {
		detector.used = true
		if err := json.Unmarshal(detector.plugin.Parameters, &s.limits); err != nil && len(detector.plugin.Parameters) > 0 {
			t.Add(detector.path, err)
		}
	}
	for _, d := range t.declared {
		switch cost := t.first(typeCost); {
		case d.everyone && d.predicts && (cost == nil || !cost.used):
			t.warn("%s (%s) has no effect without latency-scorer in the profile, or another that estimates latency", d.path, d.plugin.Name)
		case !d.used && !d.inTree && !d.nothing:
			t.warn("%s (%s) is used by no profile", d.path, d.plugin.Name)
		}
	}
	if t.Len() > 0 {
		return nil
	}
	s.finish()
	_, err := s.Profile()
	if err == nil && s.encode != nil {
		_, err = s.Encode().Profile()
	}
	if err == nil {
		err = s.connectAdmission()
	}
	if err != nil {
		t.Add("", err)
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
	d.raw = f.object("parameters")
	f.done()
	t.declared = append(t.declared, d)
	if t.byName[name] != nil {
		t.Failf(f.path+".name", "is %q, which is used twice", name)
		d.bad, d.converted = true, converted
		return
	}
	t.byName[name] = d
}

// convert makes one of ours of a plugin, once. It may be asked for by another that refers
// to it.
func (t *translation) convert(d *declared) {
	if d.converted != unconverted {
		return
	}
	d.converted = converting
	defer func() { d.converted = converted }()
	before := t.Len()
	ours := t.known(d, d.raw.path, t.parameters(d, d.raw))
	if len(ours) > 0 {
		data, err := sortedJSON(ours)
		if err != nil {
			t.Add(d.raw.path, err)
		}
		d.plugin.Parameters = data
	}
	if d.bad = d.typeName == "" || t.Len() > before; !d.bad && !d.nothing {
		t.probe(d)
	}
}

// sortedJSON is v with the names of all fields sorted, so that what means the same has the
// same digest.
func sortedJSON(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err == nil {
		if v, err = parseTree(data, 1); err == nil {
			data, err = json.Marshal(v)
		}
	}
	return data, err
}

// parameters settles the type of d, and returns its parameters as ours.
func (t *translation) parameters(d *declared, p fields) map[string]any {
	typeName := d.typeName
	if c, ok := conversions[typeName]; ok && (c.to == "" || !t.knows(typeName)) {
		if c.to != "" {
			d.plugin.Type = c.to
		}
		if c.parameters == nil {
			return p.m
		}
		return c.parameters(t, d, p)
	}
	switch {
	case t.knows(typeName):
		return p.m
	case t.handler(d, p), t.decides(d, p), t.writesHeaders(d, p), slices.Contains(parserTypes, typeName):
		d.nothing = true
	case typeName == typeSource:
		d.nothing = true
		t.metricsSource(d, p)
	case typeName == typeExtractor:
		d.nothing = true
		t.metricsExtractor(d, p)
	case slices.Contains(nothingToDo, typeName):
		d.nothing = true
		switch {
		case len(p.m) == 0:
		case slices.Contains(tokenizers, typeName):
			t.warn("%s (%s) has no effect here: tokens are estimated by the picker itself, %d bytes of text each", p.path, typeName, openai.BytesPerToken)
		default:
			t.warn("%s (%s) has no effect here", p.path, typeName)
		}
	case slices.Contains(flowControlTypes, typeName):
		d.nothing, d.flow = true, true
		return t.flowParameters(d, p)
	case notHere[typeName] != "":
		t.Failf(d.path+".type", "is %q, which is not supported: %s", typeName, notHere[typeName])
	case typeName != "":
		t.Failf(d.path+".type", "is %q, which is unknown%s; known are %s, and of the Inference Extension's and llm-d's %s", check.Shorten(typeName), nearestOf(typeName, t.knownTypes()), strings.Join(t.registry.Types(), ", "), strings.Join(t.originals(), ", "))
	}
	return nil
}

// originals are the types that are known and not ours.
func (t *translation) originals() []string {
	var names []string
	for name := range conversions {
		if !t.knows(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Concat(names, handlerTypes, deciderTypes, headersTypes, parserTypes, nothingToDo, flowControlTypes)
}

// knownTypes are all types that a plugin may be of, and those that are refused by name.
func (t *translation) knownTypes() []string {
	return slices.Concat(t.registry.Types(), t.originals())
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
			f.Want(false, f.at("metricsStalenessThreshold"), s, "a duration such as \"200ms\"")
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
		for _, other := range d.needs {
			c.Plugins = append(c.Plugins, other.plugin)
		}
		c.Profiles = []plugins.ProfileConfig{p}
		profiles, err := t.registry.Build(c)
		return profiles[p.Name], err
	}
	// By itself a profile wants for a picker, if the plugin is none.
	profile, err := build()
	d.picker = err == nil
	if err != nil {
		for _, e := range check.From(err) {
			if rest, ok := strings.CutPrefix(e.Field, "plugins[0]"); ok {
				moved := *e
				moved.Field = d.path + rest
				t.Add("", &moved)
				d.bad = true
			}
		}
		if d.bad {
			return
		}
		if profile, err = build(plugins.PluginConfig{Type: typeMaxScore, Name: d.plugin.Name + "-picker"}); err != nil {
			t.Add(d.path, err)
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
		p.Failf(p.path, "has both, want one of %s and %s, which mean the same", from, to)
	}
	ours := without(p.m, from)
	ours[to] = v
	return ours
}
