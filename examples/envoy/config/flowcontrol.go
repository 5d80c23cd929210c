package config

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
)

// Types of plugins of the Inference Extension that say how requests wait.
const (
	typeConcurrency = "concurrency-detector"

	typeStrict     = "global-strict-fairness-policy"
	typeRoundRobin = "round-robin-fairness-policy"
	typeFCFS       = "fcfs-ordering-policy"
	typeEDF        = "edf-ordering-policy"
	typeSLO        = "slo-deadline-ordering-policy"
	typeUsageLimit = "static-usage-limit-policy"
)

var (
	fairnessTypes = []string{typeStrict, typeRoundRobin}
	orderTypes    = []string{typeFCFS, typeEDF, typeSLO}
	limitTypes    = []string{typeUsageLimit}
	// flowControlTypes are those that only admission control has a use for.
	flowControlTypes = slices.Sorted(slices.Values(slices.Concat(fairnessTypes, orderTypes, limitTypes, []string{typeConcurrency})))
)

// admission returns what is declared of admission control: by a section of our own, or
// by the feature gate and section of the Inference Extension. Nil: there is none.
func (t *translation) admission(gate bool, detector *declared) *admission.Config {
	var c *admission.Config
	ours, theirs := t.get("admission"), t.get("flowControl")
	switch {
	case ours != nil && (gate || theirs != nil):
		t.Failf("admission", "is beside the section flowControl, want that, with %s in featureGates: they are about the same", gateFlowControl)
	case ours != nil:
		c = own[admission.Config](t, t.object("admission"))
	default:
		c = t.flowControl(t.object("flowControl"))
		if !gate {
			if m, _ := theirs.(map[string]any); len(m) > 0 {
				t.warn("flowControl has no effect without %s in featureGates: requests do not wait, and those of negative priority are shed when the pool is saturated", gateFlowControl)
			}
			c = nil
		}
	}
	t.unusedOfFlowControl(c != nil)
	if c == nil || t.Len() > 0 {
		return nil
	}
	if len(c.Detectors) == 0 {
		c.Detectors = t.detectors(detector)
	}
	if c.Revoke {
		t.warn("admission.revoke has no effect here: Envoy cannot be told to end a request that is under way")
		c.Revoke = false
	}
	return c
}

// unusedOfFlowControl warns of plugins that only flow control has a use for.
func (t *translation) unusedOfFlowControl(on bool) {
	for _, d := range t.declared {
		switch {
		case !d.flow || d.bad:
		case !on:
			t.warn("%s (%s) has no effect without %s in featureGates", d.path, d.plugin.Name, gateFlowControl)
		case !d.used:
			t.warn("%s (%s) is named by nothing", d.path, d.plugin.Name)
		}
	}
}

// flowControl reads the section of the Inference Extension, which may be empty.
func (t *translation) flowControl(f fields) *admission.Config {
	c := new(admission.Config)
	c.MaxBytes, c.MaxRequests = f.quantity("maxBytes"), f.requests("maxRequests")
	if f.m["maxBytes"] != nil && c.MaxBytes == 0 || f.m["maxRequests"] != nil && c.MaxRequests == 0 {
		t.warn("%s: 0 stands for the default here, %d bytes or %d requests: there is always a bound", f.path, admission.DefaultMaxBytes, admission.DefaultMaxRequests)
	}
	c.WaitForEndpoints = f.positiveDuration("noEndpointRequestTTL")
	f.read["saturationDetector"] = true // by saturation
	if f.boolean("enableEviction") {
		t.warn("%s has no effect here: Envoy cannot be told to end a request that is under way", f.at("enableEviction"))
	}
	bands := flowBands{translation: t, ttl: f.positiveDuration("defaultRequestTTL"), ceiling: t.usageLimit(f)}
	bands.read(f)
	c.Bands = bands.all()
	c.Fairness = map[string]admission.Fairness{typeStrict: admission.FirstCome, typeRoundRobin: admission.VirtualTokens}[bands.fairness.taken(typeStrict)]
	if bands.fairness.typeName == typeRoundRobin {
		t.warn("%s: %s is taken as %s: tenants have equal shares of tokens, and not of requests", bands.fairness.path, typeRoundRobin, admission.VirtualTokens)
	}
	c.Order = admission.FIFO
	if o := bands.order.taken(typeFCFS); o != typeFCFS {
		c.Order = admission.EarliestDeadline
	}
	f.done()
	return c
}

// usageLimit reads how full an endpoint may be, 0 for the default.
func (t *translation) usageLimit(f fields) float64 {
	typeName, d := t.policy(f, "usageLimitPolicyPluginRef", limitTypes)
	if typeName == "" {
		d = t.byName[typeUsageLimit] // as there, one that is declared by this name counts
		if d == nil || d.typeName != typeUsageLimit {
			return 0
		}
		d.used = true
	}
	if d == nil {
		return 0
	}
	return d.threshold
}

// flowBands makes bands, which are ranges of priorities, of those that the Inference
// Extension has, which are single ones and a default for all others.
type flowBands struct {
	*translation
	ttl             time.Duration
	ceiling         float64
	others          admission.BandConfig
	negative        *admission.BandConfig // of the others, those below 0; nil: as the rest
	listed          []admission.BandConfig
	fairness, order policyChoice
}

// policyChoice is a policy that holds for all bands here.
type policyChoice struct {
	path     string // where it is named
	typeName string // empty: nowhere
	silent   string // a band that names none
}

func (c *policyChoice) taken(def string) string {
	if c.typeName == "" {
		return def
	}
	return c.typeName
}

func (b *flowBands) read(f fields) {
	others := f.object("defaultPriorityBand")
	others.get("priority") // means nothing there
	b.others = b.band(others)
	if negative := f.object("defaultNegativePriorityBand"); negative.m != nil {
		negative.get("priority")
		band := b.band(negative)
		b.negative = &band
	}
	f.each("priorityBands", func(one fields) {
		band := b.band(one)
		p, ok := one.integer("priority", math.MinInt32, math.MaxInt32)
		if one.m["priority"] == nil {
			b.Failf(one.at("priority"), "is required")
		}
		if !ok {
			return
		}
		if slices.ContainsFunc(b.listed, func(o admission.BandConfig) bool { return *o.Priority == p }) {
			b.Failf(one.at("priority"), "is %d, as that of another band", p)
			return
		}
		band.Priority, band.Name = &p, strconv.Itoa(p)
		b.listed = append(b.listed, band)
	})
	for _, c := range []struct {
		*policyChoice
		def string
	}{{&b.fairness, typeStrict}, {&b.order, typeFCFS}} {
		if c.typeName != "" && c.typeName != c.def && c.silent != "" {
			b.warn("%s: %s holds for all bands here, also for %s, which names none", c.path, c.typeName, c.silent)
		}
	}
}

// band reads what can be said of a priority, or of all others.
func (b *flowBands) band(f fields) admission.BandConfig {
	c := admission.BandConfig{Band: admission.Band{
		MaxRequests: f.requests("maxRequests"), MaxBytes: f.quantity("maxBytes"),
		MaxWait: b.ttl, Ceiling: b.ceiling,
	}}
	b.choose(f, "fairnessPolicyRef", fairnessTypes, &b.fairness)
	b.choose(f, "orderingPolicyRef", orderTypes, &b.order)
	f.read["priority"] = true
	f.done()
	return c
}

// choose reads the reference to a policy, which must be the same in all bands.
func (b *flowBands) choose(f fields, name string, among []string, c *policyChoice) {
	switch typeName, _ := b.policy(f, name, among); {
	case typeName == "" && c.silent == "":
		c.silent = f.path
	case typeName == "":
	case c.typeName != "" && c.typeName != typeName:
		b.Failf(f.at(name), "is another than that of %s, %s: here all bands have the same", c.path, c.typeName)
	case c.typeName == "":
		c.path, c.typeName = f.at(name), typeName
	}
}

// policy returns the type of the plugin that a field names, which must be one of some
// types, and the plugin if it is declared. The empty type: none is named.
func (t *translation) policy(f fields, name string, among []string) (string, *declared) {
	ref := f.str(name)
	d := t.byName[ref]
	switch {
	case ref == "" || d != nil && d.bad:
		return "", nil
	case d == nil && slices.Contains(among, ref): // as there, it need not be declared
		return ref, nil
	case d == nil && slices.Contains(flowControlTypes, ref):
		t.Failf(f.at(name), "is %q, want one of %s", ref, list(among))
	case d == nil:
		t.Failf(f.at(name), "%s", t.noPlugin(ref))
	case !slices.Contains(among, d.typeName):
		t.Failf(f.at(name), "is %q of type %s, want %s", ref, d.typeName, list(among))
	default:
		d.used = true
		return d.typeName, d
	}
	return "", nil
}

// all returns the bands from the highest to the lowest, without gaps between.
func (b *flowBands) all() []admission.BandConfig {
	slices.SortFunc(b.listed, func(x, y admission.BandConfig) int { return *y.Priority - *x.Priority })
	var out []admission.BandConfig
	above := math.MaxInt
	for _, band := range b.listed {
		p := *band.Priority
		if from := p + 1; from < above {
			out = append(out, b.gap(&from, above, "above "+strconv.Itoa(p))...)
		}
		out = append(out, band)
		above = p
	}
	name := "others"
	if len(b.listed) > 0 {
		name = "below " + strconv.Itoa(above)
	}
	return append(out, b.gap(nil, above, name)...)
}

// gap returns the bands of the priorities from one to below another of which nothing is
// said by itself. from nil: from the lowest.
func (b *flowBands) gap(from *int, above int, name string) []admission.BandConfig {
	band := b.others
	band.Priority, band.Name = from, name
	if b.negative == nil || from != nil && *from >= 0 {
		return []admission.BandConfig{band}
	}
	negative := *b.negative
	negative.Priority, negative.Name = from, name
	if above <= 0 {
		return []admission.BandConfig{negative}
	}
	zero := 0
	band.Priority = &zero
	negative.Name = name + ", negative"
	return []admission.BandConfig{band, negative}
}

// detectors returns what says how full endpoints are: what is declared to, and nothing
// otherwise, for the default of package admission.
func (t *translation) detectors(d *declared) []admission.DetectorConfig {
	switch {
	case t.concurrency != nil:
		return []admission.DetectorConfig{{Type: typeConcurrency, Parameters: t.concurrency.plugin.Parameters}}
	case !t.detectorGiven:
		return nil
	}
	var limits struct{ MaxQueue, MaxKVUsage float64 }
	if err := json.Unmarshal(d.plugin.Parameters, &limits); err != nil && len(d.plugin.Parameters) > 0 {
		return nil // told where the filter is built
	}
	ours := map[string]float64{}
	if limits.MaxQueue > 0 {
		ours["queueDepthThreshold"] = limits.MaxQueue
	}
	if limits.MaxKVUsage > 0 {
		ours["kvCacheUtilThreshold"] = limits.MaxKVUsage
	}
	data, err := json.Marshal(ours)
	if err != nil {
		t.Add(d.path, err)
	}
	return []admission.DetectorConfig{{Type: typeDetector, Parameters: data}}
}

// flowParameters reads the parameters of one of flowControlTypes as ours.
func (t *translation) flowParameters(d *declared, p fields) map[string]any {
	switch d.typeName {
	case typeConcurrency:
		return t.concurrencyParameters(p)
	case typeUsageLimit:
		if v, ok := p.number("threshold", 0, 1); ok && v > 0 {
			d.threshold = v
		} else if ok {
			p.Failf(p.at("threshold"), "is 0, want above 0")
		}
		p.done()
		return nil
	}
	if len(p.m) > 0 {
		t.warn("%s (%s) has no effect here", p.path, d.typeName)
	}
	return nil
}

// Defaults of the Inference Extension's concurrency-detector.
const maxTokenConcurrency = 1_000_000

func (t *translation) concurrencyParameters(p fields) map[string]any {
	ours := map[string]any{}
	requests, _ := p.integer("maxConcurrency", 0, math.MaxInt32)
	tokens, _ := p.integer("maxTokenConcurrency", 0, math.MaxInt32)
	ignored := "maxTokenConcurrency"
	switch mode := p.str("concurrencyMode"); mode {
	case "", "requests":
		if requests > 0 {
			ours["maxConcurrency"] = requests
		}
	case "tokens":
		if tokens == 0 {
			tokens = maxTokenConcurrency
		}
		ours["maxConcurrency"], ours["maxTokenConcurrency"] = math.MaxInt32, tokens
		ignored = "maxConcurrency"
	default:
		p.Want(false, p.at("concurrencyMode"), mode, "requests or tokens")
		ignored = ""
	}
	if p.m[ignored] != nil {
		t.warn("%s has no effect: concurrencyMode asks for the other", p.at(ignored))
	}
	if n, ok := p.number("headroom", 0, math.MaxInt32); ok && n > 0 {
		t.warn("%s has no effect here: the bound is meant as it is", p.at("headroom"))
	}
	p.done()
	return ours
}

// requests reads a quantity of them.
func (f fields) requests(name string) int { return int(min(f.quantity(name), math.MaxInt32)) }

// positiveDuration reads a duration; "0s" is none, as there.
func (f fields) positiveDuration(name string) time.Duration {
	s := f.str(name)
	d, err := time.ParseDuration(s)
	switch {
	case s == "":
	case err != nil || d < 0:
		f.Want(false, f.at(name), s, "a duration such as \"30s\"")
	case d > 0:
		return d
	}
	return 0
}
