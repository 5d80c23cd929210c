package plugins

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
)

// A Factory creates a plugin, a value that is a Filter, Scorer, Coster, Splitter or Picker or several of them,
// from the parameters of its declaration, nil if there are none. Decode them with Parameters. Its
// error should name the invalid parameter.
type Factory func(parameters json.RawMessage) (any, error)

// Registry holds the plugin types that declarations can name. There is no global one. Register all
// types first; Load may then be called concurrently.
type Registry struct {
	factories map[string]Factory
	detectors map[string]admission.DetectorFactory
}

// NewRegistry returns a Registry with the plugins of this package and the detectors of package
// admission. Types that the Inference Extension has too are named as there.
func NewRegistry() *Registry {
	r := &Registry{factories: map[string]Factory{}, detectors: admission.Detectors()}
	for name, f := range map[string]Factory{
		"healthy-filter":         fixed(Healthy{}),
		"fresh-filter":           fixed(Fresh{}),
		"ejection-filter":        made(NewEjection),
		"model-served-filter":    each[ModelServed],
		"previous-answer-filter": made(NewPreviousAnswer),
		"label-filter":           decoded[Labels],
		"revision-filter":        made(NewRevision),

		"endpoint-attribute-filter":    decoded[AttributeFilter],
		"prefix-cache-affinity-filter": made(func(o AffinityOptions) (*PrefixAffinity, error) { return NewPrefixAffinity(o, nil) }),
		"decision-tree-filter":         r.tree,
		"latency-slo-admitter":         each[SLOAdmitter],

		"capacity-filter":           decoded[HasCapacity],
		"shed-filter":               decoded[Shed],
		"adapter-filter":            fixed(AdapterPresent{}),
		"low-queue-filter":          decoded[LowQueue],
		"least-queue-filter":        fixed(LeastQueue{}),
		"least-kv-cache-filter":     fixed(LeastKV{}),
		"lora-affinity-filter":      decoded[LoRASoftAffinity],
		"v0.3-decision-tree-filter": fixed(decisionTree()),

		"queue-scorer":                 fixed(QueueDepth{}),
		"running-requests-size-scorer": fixed(RunningRequests{}),
		"kv-cache-utilization-scorer":  fixed(KVCache{}),
		"lora-affinity-scorer":         fixed(LoRAAffinity{}),
		"prefix-cache-scorer":          made(NewPrefixCache),
		"session-affinity-scorer":      made(NewSessionAffinity),
		"in-flight-requests-scorer":    decoded[InFlightRequests],
		"active-request-scorer":        decoded[ActiveRequests],
		"load-aware-scorer":            decoded[LoadAware],
		"no-hit-lru-scorer":            made(func(o NoHitOptions) (*NoHitLRU, error) { return NewNoHitLRU(o, nil) }),
		"context-length-aware":         newContextLengthFrom,
		"endpoint-attribute-scorer":    decoded[AttributeScorer],
		"token-load-scorer":            decoded[TokenLoad],

		"latency-cost":    made(NewCost),
		"staged-splitter": newStagedFrom,

		"max-score-picker":       fixed(MaxScore{}),
		"weighted-random-picker": fixed(WeightedRandom{}),
		"random-picker":          fixed(Random{}),
		"power-of-two-picker":    fixed(PowerOfTwo{}),
		"round-robin-picker":     each[RoundRobin],
	} {
		r.factories[name] = f
	}
	return r
}

// Register adds a plugin type. It panics if the name is empty or taken, or if f is nil.
func (r *Registry) Register(typeName string, f Factory) {
	if typeName == "" || f == nil {
		panic("plugins: Register without a type name or factory")
	}
	if _, ok := r.factories[typeName]; ok {
		panic(fmt.Sprintf("plugins: plugin type %q is registered twice", typeName))
	}
	r.factories[typeName] = f
}

// RegisterDetector adds a detector type for admission control. It panics as Register does.
func (r *Registry) RegisterDetector(typeName string, f admission.DetectorFactory) {
	if typeName == "" || f == nil {
		panic("plugins: RegisterDetector without a type name or factory")
	}
	if _, ok := r.detectors[typeName]; ok {
		panic(fmt.Sprintf("plugins: detector type %q is registered twice", typeName))
	}
	r.detectors[typeName] = f
}

// Types returns the names of the registered plugin types, sorted.
func (r *Registry) Types() []string { return slices.Sorted(maps.Keys(r.factories)) }

// Config declares profiles and admission control, in the form of the Inference Extension's
// EndpointPickerConfig: plugins are declared once and referred to by name, so that profiles can
// share one and what it learned.
type Config struct {
	Plugins  []PluginConfig  `json:"plugins"`
	Profiles []ProfileConfig `json:"schedulingProfiles"`
	// Admission configures admission control. Nil: there is none. An empty one has the defaults
	// of admission.Options.
	Admission *admission.Config `json:"admission,omitempty"`
}

// PluginConfig declares one plugin.
type PluginConfig struct {
	Type string `json:"type"`
	// Name is unique in the Config. Default Type.
	Name       string          `json:"name,omitempty"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
}

// ProfileConfig declares one profile.
type ProfileConfig struct {
	// Name is unique in the Config; not empty.
	Name string `json:"name"`
	// Plugins are used in this order. Exactly one of them is a picker.
	Plugins []PluginRef `json:"plugins"`
	// The following are the fields of scheduling.Profile of the same names. In JSON durations are
	// strings such as "500ms".
	Fallbacks    int           `json:"fallbacks,omitempty"`
	MetricsTTL   time.Duration `json:"metricsTTL,omitempty"`
	BookingTTL   time.Duration `json:"bookingTTL,omitempty"`
	OutputTokens int           `json:"outputTokens,omitempty"`
	Seed         uint64        `json:"seed,omitempty"`
	// Rules schedule some requests differently: the first rule that applies to a request replaces
	// Plugins.
	Rules []RuleConfig `json:"rules,omitempty"`
}

// PluginRef refers to a declared plugin.
type PluginRef struct {
	PluginRef string `json:"pluginRef"`
	// Weight is for scorers only. Default 1.
	Weight *float64 `json:"weight,omitempty"`
}

// Loaded is the result of LoadAll and BuildAll.
type Loaded struct {
	// Profiles are ready for scheduling.New, by name.
	Profiles map[string]scheduling.Profile
	// Admission returns new options for admission control at each call: each pool needs its own,
	// since detectors learn. Nil: the Config has none. For director.Options.Admission use
	//
	//	func(types.NamespacedName) *admission.Options { return loaded.Admission() }
	Admission func() *admission.Options
}

// Load decodes a Config from JSON, with unknown fields as errors, and builds its profiles, by name
// and ready for scheduling.New. The caller adds hooks and a clock. Load checks the Config's
// admission control; LoadAll returns it.
func (r *Registry) Load(data []byte) (map[string]scheduling.Profile, error) {
	loaded, err := r.LoadAll(data)
	return loaded.Profiles, err
}

// LoadAll is Load for everything that the Config declares. The error lists all problems with line,
// column and field: those of form or, if there are none, those of content.
func (r *Registry) LoadAll(data []byte) (Loaded, error) { return r.loadAll("", data) }

// loadAll is LoadAll for a file, which errors name.
func (r *Registry) loadAll(file string, data []byte) (Loaded, error) {
	doc, err := strictjson.Parse(data, strictjson.Options{Package: errPackage, File: file})
	if err != nil {
		return Loaded{}, err
	}
	var c Config
	if err := doc.Decode(&c); err != nil {
		return Loaded{}, err
	}
	loaded, err := r.BuildAll(c)
	return loaded, doc.Locate(err)
}

// Build builds the profiles of c, by name. The error lists all problems with their fields.
func (r *Registry) Build(c Config) (map[string]scheduling.Profile, error) {
	loaded, err := r.BuildAll(c)
	return loaded.Profiles, err
}

// errPackage begins errors of declarations.
const errPackage = "plugins: profiles"

// BuildAll is Build for everything that c declares.
func (r *Registry) BuildAll(c Config) (Loaded, error) {
	b := builder{Checks: check.Checks{Package: errPackage}, registry: r, plugins: map[string]any{}}
	for i, p := range c.Plugins {
		b.plugin(fmt.Sprintf("plugins[%d]", i), p)
	}
	b.connect()
	loaded := Loaded{Profiles: map[string]scheduling.Profile{}}
	for i, pc := range c.Profiles {
		path := fmt.Sprintf("schedulingProfiles[%d]", i)
		check.Required(&b.Checks, path+".name", pc.Name)
		if _, ok := loaded.Profiles[pc.Name]; ok && pc.Name != "" {
			b.Failf(path+".name", "is %q, which is used twice", pc.Name)
		}
		loaded.Profiles[pc.Name] = b.profile(path, pc)
	}
	if len(c.Profiles) == 0 {
		b.Failf("schedulingProfiles", "is empty, want at least one")
	}
	if c.Admission != nil {
		var err error
		loaded.Admission, err = c.Admission.Make(r.detectors)
		b.Add("admission", err)
	}
	if err := b.Err(); err != nil {
		return Loaded{}, err
	}
	return loaded, nil
}

type builder struct {
	check.Checks
	registry *Registry
	plugins  map[string]any
	order    []declaration        // of plugins
	trackers []scheduling.Tracker // of the rules of the current profile
}

// declaration is where a plugin was declared.
type declaration struct{ path, name string }

func (b *builder) plugin(path string, p PluginConfig) {
	name := p.Name
	if name == "" {
		name = p.Type
	}
	if _, ok := b.plugins[name]; ok {
		b.Failf(path+".name", "is %q, which is used twice", name)
		return
	}
	b.order = append(b.order, declaration{path, name})
	b.plugins[name] = nil // declared, so that references to it are not errors as well
	f, ok := b.registry.factories[p.Type]
	if !ok {
		b.Unknown(path+".type", p.Type, b.registry.Types())
		return
	}
	v, err := f(p.Parameters)
	if err != nil {
		b.Add(path+".parameters", err)
		return
	}
	if !isPlugin(v) {
		b.Failf(path+".type", "is %q, whose factory returned a %T, which is no Filter, Scorer, Coster, Splitter or Picker", p.Type, v)
		return
	}
	b.plugins[name] = v
}

func isPlugin(v any) bool {
	switch v.(type) {
	case scheduling.Filter, scheduling.Scorer, scheduling.Coster, scheduling.Splitter, scheduling.Picker:
		return true
	}
	return false
}

func (b *builder) profile(path string, pc ProfileConfig) scheduling.Profile {
	before := b.Len()
	p := b.steps(path, pc.Plugins)
	p.Fallbacks, p.MetricsTTL, p.BookingTTL = pc.Fallbacks, pc.MetricsTTL, pc.BookingTTL
	p.OutputTokens, p.Seed = pc.OutputTokens, pc.Seed
	b.check(path, before, p)
	b.trackers = nil
	p.Rules = b.rules(path, pc.Rules)
	p.Trackers = append(p.Trackers, b.trackers...)
	return p
}

// steps returns a profile with the plugins only.
func (b *builder) steps(path string, refs []PluginRef) (p scheduling.Profile) {
	used := map[string]bool{}
	for i, ref := range refs {
		at := fmt.Sprintf("%s.plugins[%d]", path, i)
		v, ok := b.plugins[ref.PluginRef]
		if !ok {
			b.Unknown(at+".pluginRef", ref.PluginRef, b.names())
			continue
		}
		if used[ref.PluginRef] {
			b.Failf(at+".pluginRef", "is %q, which is used twice in this profile", ref.PluginRef)
			continue
		}
		used[ref.PluginRef] = true
		b.use(&p, at, ref, v)
	}
	return p
}

// check reports what scheduling.New would reject, here where the path is known, unless there are
// already more errors than before.
func (b *builder) check(path string, before int, p scheduling.Profile) {
	if b.Len() > before {
		return
	}
	if _, err := scheduling.New(p); err != nil {
		b.Add(path, err)
	}
}

// use adds plugin v to p in every role that it has.
func (b *builder) use(p *scheduling.Profile, at string, ref PluginRef, v any) {
	if r, ok := v.(interface{ reads() *prefixReader }); ok && r.reads().owner != nil {
		p.Trackers = append(p.Trackers, r.reads().owner)
	}
	if f, ok := v.(scheduling.Filter); ok {
		p.Filters = append(p.Filters, scheduling.Named{Name: ref.PluginRef, Filter: f})
	}
	s, isScorer := v.(scheduling.Scorer)
	if isScorer {
		w := 1.0
		if ref.Weight != nil {
			w = *ref.Weight
		}
		p.Scorers = append(p.Scorers, scheduling.Weighted{Name: ref.PluginRef, Scorer: s, Weight: w})
	}
	if ref.Weight != nil && !isScorer && v != nil {
		b.Failf(at+".weight", "is for scorers, which %q is not", ref.PluginRef)
	}
	if c, ok := v.(scheduling.Coster); ok {
		p.Costs = append(p.Costs, scheduling.Costed{Name: ref.PluginRef, Coster: c})
	}
	if one, ok := v.(scheduling.Splitter); ok {
		b.useSplitter(p, at, ref, one)
	}
	if k, ok := v.(scheduling.Picker); ok {
		if p.Picker != nil {
			b.Failf(at+".pluginRef", "is %q, which is a second picker", ref.PluginRef)
		}
		p.Picker = k
	}
}

// names returns the names of the declared plugins, in order.
func (b *builder) names() []string {
	names := make([]string, len(b.order))
	for i, d := range b.order {
		names[i] = d.name
	}
	return names
}

// fixed returns the Factory of a plugin without parameters.
func fixed(v any) Factory {
	return func(p json.RawMessage) (any, error) { return v, Parameters(p, &struct{}{}) }
}

// each is the Factory of a plugin with state and without parameters.
func each[T any](p json.RawMessage) (any, error) { return new(T), Parameters(p, &struct{}{}) }

// decoded is the Factory of a plugin whose parameters are its own fields.
func decoded[T any](p json.RawMessage) (any, error) {
	var v T
	if err := Parameters(p, &v); err != nil {
		return nil, err
	}
	if c, ok := any(v).(interface{ validate() error }); ok {
		if err := c.validate(); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// made returns the Factory of a plugin whose parameters are the options of a constructor.
func made[O, T any](make func(O) (T, error)) Factory {
	return func(p json.RawMessage) (any, error) {
		var o O
		if err := Parameters(p, &o); err != nil {
			return nil, err
		}
		return make(o)
	}
}
