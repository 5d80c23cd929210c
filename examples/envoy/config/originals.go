package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
)

// conversion is how a type of the Inference Extension or of llm-d becomes one of ours.
type conversion struct {
	to         string                                                     // our type; empty: that of the same name
	parameters func(t *translation, d *declared, p fields) map[string]any // nil: as they are
}

// conversions are those of all types that are not taken as they are. It is filled in by
// init because a conversion may ask for that of another plugin.
var conversions map[string]conversion

func init() {
	conversions = map[string]conversion{
		typePrefix:                     {"", (*translation).prefixCache},
		typeMaxScore:                   {"", (*translation).pickerOfSeveral},
		"random-picker":                {"", (*translation).pickerOfSeveral},
		typeWeighted:                   {"", (*translation).pickerOfSeveral},
		"low-queue-filter":             {"", renamed("threshold", "below")},
		"lora-affinity-filter":         {"", renamed("threshold", "affinity")},
		"token-load-scorer":            {"", (*translation).tokenLoad},
		"session-affinity-scorer":      {"", (*translation).sessionAffinity},
		"active-request-scorer":        {"", (*translation).activeRequests},
		"no-hit-lru-scorer":            {"", (*translation).noHitLRU},
		"endpoint-attribute-filter":    {"", (*translation).attributeFilter},
		"endpoint-attribute-scorer":    {"", (*translation).attributeScorer},
		"decision-tree-filter":         {"", (*translation).decisionTree},
		"prefix-cache-affinity-filter": {"", (*translation).prefixAffinity},

		typeReporter:            {"", (*translation).reporter},
		typeStaged:              {"", (*translation).ownStaged},
		"context-length-aware":  {"", (*translation).contextLength},
		"kv-cache-scorer":       {"kv-cache-utilization-scorer", nil},
		typeDetector:            {typeShed, (*translation).detectorFilter},
		"label-selector-filter": {typeLabels, (*translation).labelSelector},
		"by-label-selector":     {typeLabels, (*translation).labelSelector},
		"by-label":              {typeLabels, (*translation).byLabel},
		"decode-filter":         {typeLabels, role(true, "decode", "prefill-decode", "both", "encode-prefill-decode")},
		typePrefillFilter:       {typeLabels, role(false, "prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode")},
		typeEncodeFilter:        {typeLabels, role(false, "encode", "encode-prefill", "encode-prefill-decode")},
		"active-request-filter": {"endpoint-attribute-filter", (*translation).activeRequestFilter},

		"disaggregatedset-rollout-screener": {typeRevision, (*translation).rolloutScreener},

		"latency-scorer":             {typeCost, (*translation).predicted},
		"predicted-latency-scorer":   {typeCost, (*translation).predicted},
		"slo-aware-routing":          {typeCost, (*translation).predicted},
		"slo-scorer":                 {typeCost, (*translation).predicted},
		"slo-headroom-tier-filter":   {"", (*translation).partOfPrediction},
		"predicted-latency-producer": {"", (*translation).partOfPrediction},
		"slo-request-tracker":        {"", (*translation).partOfPrediction},
		"latency-slo-admitter":       {"", (*translation).admitter},
	}
}

// nothingToDo are types that only say how the Inference Extension or llm-d works inside,
// each of which has its like here without being declared.
var nothingToDo = []string{
	"approx-prefix-cache-producer",
	"burst-prefix-cache-producer", // a prompt is taken to be cached where it goes, at once
	typeExtractor,
	"destination-endpoint-served-verifier",
	"endpoint-notification-source",
	"inflight-load-producer",
	"k8s-notification-source",
	typeSource,
	"model-server-protocol-metrics",
	"model-server-protocol-models",
	"models-data-extractor",
	"models-data-source",
	"models-responder",
	"session-id-producer",
	"token-producer",
	"tokenizer",
}

// What sections of the data layer may refer to.
var (
	sourceTypes    = []string{typeSource, "models-data-source", "k8s-notification-source", "endpoint-notification-source"}
	extractorTypes = []string{typeExtractor, "model-server-protocol-metrics", "model-server-protocol-models", "models-data-extractor"}
)

// tokenizers say how prompts become tokens.
var tokenizers = []string{"token-producer", "tokenizer"}

const (
	noFetching    = "no server is told here to fetch what another one has cached; each computes what it lacks"
	needsTopology = "who answers is chosen here without regard to where the prompt is computed; label-filter keeps to servers of one place"
	needsKVEvents = "it needs the KV events of the servers, which this picker does not read; prefix-cache-scorer tells what is cached where from what was sent there"
)

// notHere are types that are known, and why they are refused.
var notHere = map[string]string{
	"p2p-source-producer":           noFetching,
	"topology-affinity-filter":      needsTopology,
	"topology-affinity-scorer":      needsTopology,
	"topology-extractor":            needsTopology,
	"topology-stamp-handler":        needsTopology,
	"precise-prefix-cache-scorer":   needsKVEvents,
	"precise-prefix-cache-producer": needsKVEvents,
	"kv-events":                     needsKVEvents,
}

// unused warns of the parameters of some names that are given, and returns all others.
func (t *translation) unused(p fields, why string, names ...string) map[string]any {
	ours := maps.Clone(p.m)
	for _, name := range names {
		if _, ok := ours[name]; ok {
			p.read[name] = true
			delete(ours, name)
			t.warn("%s has no effect here: %s", p.at(name), why)
		}
	}
	return ours
}

func (t *translation) prefixCache(_ *declared, p fields) map[string]any {
	for _, name := range []string{"prefixLengthWeight", "maxModelLen"} {
		if p.m[name] != nil {
			t.warn("%s has no effect here: the score is the part of the prompt that is cached", p.at(name))
		}
	}
	p.m = without(without(p.m, "prefixLengthWeight"), "maxModelLen")
	return t.prefixParameters(p)
}

func (t *translation) pickerOfSeveral(d *declared, p fields) map[string]any {
	d.endpoints, _ = p.integer("maxNumOfEndpoints", 1, 1+scheduling.MaxFallbacks)
	return without(p.m, "maxNumOfEndpoints")
}

// renamed is the conversion of a type one of whose parameters has another name here.
func renamed(from, to string) func(*translation, *declared, fields) map[string]any {
	return func(_ *translation, _ *declared, p fields) map[string]any { return rename(p, from, to) }
}

// ledger is why it is of no meaning who counts the requests under way.
const ledger = "what is under way is counted by the picker itself, exactly"

func (t *translation) tokenLoad(_ *declared, p fields) map[string]any {
	p.m = t.unused(p, "tokens count alike, of text or not", "nonTextTokenWeight")
	p.m = t.unused(p, ledger, "inFlightLoadProducerName")
	return rename(p, "queueThresholdTokens", "threshold")
}

func (t *translation) activeRequests(_ *declared, p fields) map[string]any {
	return t.unused(p, ledger, "requestTimeout", "inFlightLoadProducerName")
}

func (t *translation) activeRequestFilter(_ *declared, p fields) map[string]any {
	most, ok := p.integer("maxRequests", 1, math.MaxInt32)
	if p.m["maxRequests"] == nil {
		p.Failf(p.at("maxRequests"), "is required")
	}
	fallback := p.boolean("fallbackOnEmpty")
	p.m = t.unused(p, ledger, "inFlightLoadProducerName")
	p.done()
	if !ok {
		return nil
	}
	return map[string]any{
		"attribute": "inFlightRequests", "fallbackOnEmpty": fallback,
		"algorithm": map[string]any{"type": "threshold", "threshold": map[string]any{"operator": "LessThanOrEqual", "value": most}},
	}
}

func (t *translation) contextLength(_ *declared, p fields) map[string]any {
	if p.str("reusableTokensProducerName") != "" {
		p.Failf(p.at("reusableTokensProducerName"), "is not supported: %s", noFetching)
	}
	return without(p.m, "reusableTokensProducerName")
}

// sessionAffinity reads llm-d's parameters beside ours.
func (t *translation) sessionAffinity(_ *declared, p fields) map[string]any {
	const ours = "a session is named by the picker's session header, and remembered here"
	if a := p.str("algorithm"); a != "" && a != "encoded_endpoint_header" && a != "session_id_header" {
		p.Want(false, p.at("algorithm"), a, "encoded_endpoint_header or session_id_header")
	}
	ttl, given := p.number("evictionTtlSeconds", 0, math.MaxInt32)
	m := t.unused(p, ours, "algorithm", "headerName", "profileName", "evictionSweepSeconds", "missThreshold")
	if given {
		delete(m, "evictionTtlSeconds")
		if m["ttl"] != nil {
			p.Failf(p.path, "has both, want one of evictionTtlSeconds and ttl, which mean the same")
		} else if ttl > 0 {
			m["ttl"] = fmt.Sprintf("%gs", ttl)
		}
	}
	return m
}

// noHitLRU and prefixAffinity name a plugin that knows what is cached where.
func (t *translation) noHitLRU(d *declared, p fields) map[string]any {
	p.str("prefixPluginType")
	m := without(p.m, "prefixPluginType")
	t.prefixReference(d, p, m, "prefixPluginName")
	return m
}

func (t *translation) prefixAffinity(d *declared, p fields) map[string]any {
	switch source := p.str("ttftSource"); source {
	case "", "prefillThroughput":
	case "latencyPredictor":
		t.warn("%s is taken as prefillThroughput: the tokens that a server owes, by peakPrefillThroughput", p.at("ttftSource"))
	default:
		p.Want(false, p.at("ttftSource"), source, "prefillThroughput or latencyPredictor")
	}
	if p.boolean("prefillCalibrationRequired") {
		p.Failf(p.at("prefillCalibrationRequired"), "is true, but no calibration is read here: give peakPrefillThroughput")
	}
	m := without(without(p.m, "ttftSource"), "prefillCalibrationRequired")
	p.m = m
	p.m = t.unused(p, "give peakPrefillThroughput", "prefillCalibrationFile", "prefillCalibrationFingerprint")
	m = t.unused(p, ledger, "inFlightLoadProducerName")
	if x, ok := p.number("affinityThreshold", 0, 1); ok && x == 0 { // as there: nobody is stuck to
		m["affinityThreshold"], m["explorationProbability"] = plugins.DefaultAffinityThreshold, 1
	}
	t.prefixReference(d, p, m, "prefixMatchInfoProducerName")
	return m
}

// prefixReference turns the name of a plugin that knows what is cached into ours, if it is
// one of ours: what only produces that for others is of no meaning here.
func (t *translation) prefixReference(d *declared, p fields, m map[string]any, field string) {
	name := p.str(field)
	delete(m, field)
	ref := t.byName[name]
	if ref != nil {
		t.convert(ref)
	}
	switch {
	case name == "" || name == typePrefix && ref == nil || ref != nil && (ref.bad || ref.nothing):
	case ref == nil:
		t.warn("%s %s; the first plugin is asked that knows what is cached", p.at(field), t.noPlugin(name))
	case ref.plugin.Type == typePrefix || ref.plugin.Type == typeCost:
		m["prefixPluginName"] = name
		ref.used = true
		d.needs = append(d.needs, ref)
	default:
		p.Failf(p.at(field), "is %q of type %s, which does not know what is cached", name, ref.typeName)
	}
}

// detectorFilter is a utilization-detector as a filter.
func (t *translation) detectorFilter(_ *declared, p fields) map[string]any { return t.limits(p, true) }

// decisionTree reads the tree of version 0.5, whose filters are declared by themselves.
func (t *translation) decisionTree(d *declared, p fields) map[string]any {
	if p.m["rule"] != nil {
		return p.m // ours
	}
	return t.treeNode(p)
}

func (t *translation) treeNode(f fields) map[string]any {
	current := f.object("current")
	if current.m == nil {
		f.Failf(f.at("current"), "is required")
	}
	either := t.treeEntry(f, "nextOnSuccessOrFailure")
	success, failure := t.treeEntry(f, "nextOnSuccess"), t.treeEntry(f, "nextOnFailure")
	f.done()
	if success == nil {
		success = either
	}
	if failure == nil {
		failure = either
	}
	if current.has("decisionTree") { // a tree in place of a filter: its end goes on as the filter would
		current.Failf(f.at("current"), "is a tree, want pluginRef of a filter")
		return nil
	}
	node := map[string]any{"rule": t.treeRule(current)}
	current.done()
	for name, next := range map[string]map[string]any{"onSuccess": success, "onFailure": failure} {
		if next != nil {
			node[name] = next
		}
	}
	return node
}

// treeEntry is what comes next in a tree: another node, or a filter alone.
func (t *translation) treeEntry(f fields, name string) map[string]any {
	entry := f.object(name)
	if entry.m == nil {
		return nil
	}
	tree, ref := entry.object("decisionTree"), entry.m["pluginRef"]
	switch {
	case tree.m != nil && ref != nil || tree.m == nil && ref == nil:
		entry.Failf(entry.path, "has none or both, want one of pluginRef and decisionTree")
		return nil
	case tree.m != nil:
		entry.done()
		return t.treeNode(tree)
	}
	node := map[string]any{"rule": t.treeRule(entry)}
	entry.done()
	return node
}

// treeRule is the filter that a node refers to.
func (t *translation) treeRule(f fields) map[string]any {
	name := f.need("pluginRef")
	d := t.byName[name]
	switch {
	case name == "":
		return nil
	case d == nil:
		t.Failf(f.at("pluginRef"), "%s", t.noPlugin(name))
		return nil
	case d.converted == converting:
		t.Failf(f.at("pluginRef"), "is %q, which would be a part of itself", name)
		return nil
	}
	t.convert(d)
	d.inTree = true
	rule := map[string]any{"type": d.plugin.Type, "name": name}
	if d.plugin.Parameters != nil {
		rule["parameters"] = d.plugin.Parameters
	}
	return rule
}

// listOfStrings reads a list of strings.
func (f fields) listOfStrings(name string) []string {
	var out []string
	for i, v := range f.list(name) {
		s, ok := v.(string)
		if !ok {
			f.Want(false, index(f.at(name), i), v, "%s", wantString(v))
		}
		out = append(out, s)
	}
	return out
}

// without returns a copy of m without one of its fields.
func without(m map[string]any, name string) map[string]any {
	c := maps.Clone(m)
	delete(c, name)
	return c
}

// listed writes names for people, sorted.
func listed(names []string) string { return strings.Join(slices.Sorted(slices.Values(names)), ", ") }
