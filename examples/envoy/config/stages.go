package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Types of llm-d for disaggregated serving: handlers that run a profile for each step of serving
// a request, and the deciders that say whether a step has a server of its own.
const (
	typeDisagg      = "disagg-profile-handler"
	typePD          = "pd-profile-handler"
	typePrefixBased = "prefix-based-pd-decider"
	typeAlways      = "always-disagg-pd-decider"
	typeMultimodal  = "always-disagg-multimodal-decider"

	typePrefillFilter = "prefill-filter"
	typeEncodeFilter  = "encode-filter"

	// Ours.
	typeStaged   = "staged-splitter"
	typeRevision = "revision-filter"
)

// deciderTypes are those of deciders.
var deciderTypes = []string{typeMultimodal, typeAlways, typePrefixBased}

// headersTypes are what writes the headers for llm-d's proxies there, since the handler did not.
var headersTypes = []string{"disagg-headers-handler", "prefill-header-handler"}

// decider is when a step has a server of its own.
type decider struct {
	always   bool
	media    bool   // for prompts with images, audio or other parts alone
	prompt   int    // tokens that the prompt has at least
	uncached int    // tokens of it that are not cached where it would be served; 0: never
	index    string // name of the plugin that knows what is cached; empty: the first that does
}

// stage is a step of serving a request that may have servers of its own.
type stage struct {
	profile  string // name of its profile
	named    string // where that is said
	by       *decider
	at       string // where by is said
	optional bool   // the profile need not be there
	spec     *profileSpec
}

// decides reads the parameters of a decider, and reports whether d is one.
func (t *translation) decides(d *declared, p fields) bool {
	switch d.typeName {
	case typeAlways:
		d.decider = &decider{always: true}
	case typeMultimodal:
		d.decider = &decider{media: true}
	case typePrefixBased:
		d.decider = &decider{}
		d.decider.prompt, _ = p.integer("promptTokens", 0, math.MaxInt32)
		d.decider.uncached, _ = p.integer("nonCachedTokens", 0, math.MaxInt32)
		if d.decider.never() {
			t.warn("%s (%s) never has a prompt computed elsewhere: nonCachedTokens is 0", d.path, d.typeName)
		}
		d.decider.index = t.indexOf(p, "prefixMatchInfoProducerName")
	default:
		return false
	}
	p.done()
	d.nothing = true
	return true
}

// writesHeaders reads the parameters of what writes headers, and reports whether d is that. They
// are written in any case.
func (t *translation) writesHeaders(d *declared, p fields) bool {
	if !slices.Contains(headersTypes, d.typeName) {
		return false
	}
	for _, name := range []string{"prefillProfile", "encodeProfile"} {
		p.str(name)
	}
	p.done()
	d.nothing = true
	return true
}

// staged reads the handler of llm-d.
func (t *translation) staged(p fields) *selection {
	profiles, deciders := p.object("profiles"), p.object("deciders")
	s := decodeFirst(profiles.str("decode"), profiles.at("decode"))
	for _, one := range []struct {
		name string
		to   *stage
	}{{"prefill", &s.prefill}, {"encode", &s.encode}} {
		name := profiles.str(one.name)
		*one.to = stage{profile: cmp.Or(name, one.name), named: profiles.at(one.name), at: deciders.at(one.name)}
		if name == "" {
			one.to.named = one.to.at
		}
		if ref := deciders.str(one.name); ref != "" {
			one.to.by = t.deciderOf(one.to.at, ref)
		}
	}
	if e := s.encode.by; e != nil && !e.always && !e.media {
		p.Failf(s.encode.at, "is a %s, want a %s or %s", typePrefixBased, typeMultimodal, typeAlways)
	}
	fallback := profiles.str("fallback")
	if t.prefillFirst(p) {
		if deciders.has("prefill") {
			p.Failf(deciders.at("prefill"), "is given, but with stageOrder prefill-first every prompt is computed by a server of its own: want one of them")
		}
		if fallback != "" {
			p.Failf(profiles.at("fallback"), "is given, but is for stageOrder decode-first alone")
		}
		s.prefill.by, s.prefill.at, s.prefill.optional = &decider{always: true}, p.at("stageOrder"), true
	}
	if fallback != "" {
		t.warn("%s has no effect here: where a step has no server, that of %s does it too", profiles.at("fallback"), s.others)
	}
	s.spare = []string{s.prefill.profile, s.encode.profile, fallback}
	profiles.done()
	deciders.done()
	return s
}

// stagedOlder reads the handler that llm-d had before. Its first versions had a threshold where
// later ones have a decider.
func (t *translation) stagedOlder(p fields) *selection {
	s := decodeFirst(p.str("decodeProfile"), p.at("decodeProfile"))
	s.prefill = stage{profile: cmp.Or(p.str("prefillProfile"), "prefill"), named: p.at("prefillProfile"), at: p.at("deciderPluginName")}
	bytes, given := p.integer("threshold", 0, math.MaxInt32)
	index := t.indexOf(p, "prefixPluginName")
	ref := p.str("deciderPluginName")
	switch {
	case ref != "" && given:
		p.Failf(p.path, "has both, want one of deciderPluginName and threshold")
	case ref != "":
		s.prefill.by = t.deciderOf(s.prefill.at, ref)
	case !given && t.byName[typePrefixBased] != nil:
		s.prefill.by = t.deciderOf(s.prefill.at, typePrefixBased)
	case bytes > 0:
		s.prefill.by = &decider{uncached: (bytes + bytesPerToken - 1) / bytesPerToken, index: index}
	default:
		s.prefill.by = &decider{always: true}
	}
	p.str("prefixPluginType")
	p.str("prefixMatchInfoProducerName")
	p.integer("hashBlockSize", 0, math.MaxInt32)
	s.readPrimaryPort(p, 0)
	s.spare = []string{s.prefill.profile, "encode"}
	return s
}

// decodeFirst is the selection of a profile for all requests, for decode.
func decodeFirst(profile, at string) *selection {
	return &selection{others: cmp.Or(profile, "decode"), named: at}
}

// deciderOf returns the decider of a name, nil if it is none.
func (t *translation) deciderOf(at, name string) *decider {
	d := t.byName[name]
	if d != nil {
		t.convert(d)
	}
	switch {
	case d == nil:
		t.Failf(at, "%s", t.noPlugin(name))
	case d.decider == nil && !d.bad:
		t.Failf(at, "is %q of type %s, want one of %s", check.Shorten(name), d.typeName, listed(deciderTypes))
	default:
		return d.decider
	}
	return nil
}

// prefillFirst reads in which order the steps are decided. It makes no difference here but that
// with prefill first every prompt is computed by a server of its own.
func (t *translation) prefillFirst(p fields) bool {
	order := p.str("stageOrder")
	switch strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(order)) {
	case "", "decodefirst", "decode":
		return false
	case "prefillfirst", "prefill":
		return true
	}
	p.Failf(p.at("stageOrder"), "is %s, want decode-first or prefill-first", check.Show(order))
	return false
}

// readPrimaryPort reads where the proxy in front of a server takes requests for all of its ranks.
func (s *selection) readPrimaryPort(p fields, def int) {
	var given bool
	if s.primaryPort, given = p.integer("primaryPort", 0, math.MaxUint16); !given {
		s.primaryPort = def
	}
}

// indexOf reads the name of a plugin that knows what is cached, and returns it if it is one of ours:
// what only produces that for others is of no meaning here.
func (t *translation) indexOf(p fields, field string) string {
	m := make(map[string]any)
	d := &declared{}
	t.prefixReference(d, p, m, field)
	name, _ := m["prefixPluginName"].(string)
	return name
}

// never reports whether a step never has a server of its own.
func (d *decider) never() bool { return !d.always && !d.media && d.uncached == 0 }

// prefillStage declares what chooses who computes the prompt, and returns a reference to it.
func (t *translation) prefillStage(one stage) plugins.PluginRef {
	ours := map[string]any{}
	if by := one.by; by.always || by.media {
		ours["always"] = true
		if by.media {
			ours["mediaOnly"] = true
		}
	} else {
		ours["uncachedTokens"] = by.uncached
		if by.prompt > 0 {
			ours["promptTokens"] = by.prompt
		}
		if by.index != "" {
			ours["prefixPluginName"] = by.index
		}
	}
	refs, _ := t.wireStage(one.spec)
	ours["plugins"] = refs
	data, err := sortedJSON(ours)
	if err != nil {
		t.Add(one.at, err)
	}
	d := &declared{plugin: plugins.PluginConfig{Type: typeStaged, Name: t.unique(typeStaged), Parameters: data}, used: true}
	t.add(d)
	return plugins.PluginRef{PluginRef: d.plugin.Name}
}

// checkRoles warns of filters that go by other roles than the picker does.
func (t *translation) checkRoles(set profileSet) {
	if t.roleLabel == "-" { // no server says what it is for
		return
	}
	for _, ref := range set.main.refs {
		if name := t.byName[ref.name].typeName; name == typePrefillFilter || name == typeEncodeFilter {
			t.warn("%s (%s): servers that are not for decode, by their label %s, are asked to answer nothing; if this picker is for one step alone, start it with -role-label -", ref.path, ref.name, t.roleLabel)
		}
	}
	for _, one := range []stage{set.prefill, set.encode} {
		if one.spec == nil {
			continue
		}
		var keys []string
		for _, ref := range one.spec.refs {
			keys = append(keys, t.byName[ref.name].labels()...)
		}
		if len(keys) > 0 && !slices.Contains(keys, t.roleLabel) {
			t.warn("%s (%s) goes by the label %s, but which servers it is for is what their label %s says: see -role-label", one.spec.path, one.profile, listed(slices.Compact(slices.Sorted(slices.Values(keys)))), t.roleLabel)
		}
	}
}

// labels returns the keys of the labels that a label-filter goes by.
func (d *declared) labels() (keys []string) {
	var f plugins.Labels
	if d.plugin.Type != typeLabels || json.Unmarshal(d.plugin.Parameters, &f) != nil {
		return nil
	}
	for key := range f.Match {
		keys = append(keys, key)
	}
	for _, e := range f.Expressions {
		keys = append(keys, e.Key)
	}
	return keys
}

// ownStaged reads ours, which refers to other plugins.
func (t *translation) ownStaged(d *declared, p fields) map[string]any {
	p.each("plugins", func(use fields) {
		if other := t.byName[use.str("pluginRef")]; other != nil && other != d {
			t.convert(other)
			other.used = true
			for _, one := range append([]*declared{other}, other.needs...) {
				if !slices.Contains(d.needs, one) {
					d.needs = append(d.needs, one)
				}
			}
		}
	})
	return p.m
}

// rolloutScreener makes a revision-filter of every profile of what keeps to one revision there.
func (t *translation) rolloutScreener(d *declared, p fields) map[string]any {
	d.everyone = true
	var unused []string
	note := func(f fields, name string, given bool) {
		if given {
			unused = append(unused, check.Join(strings.TrimPrefix(strings.TrimPrefix(f.path, p.path), "."), name))
		}
	}
	scope := p.object("scope")
	note(scope, "labelSelector", scope.str("labelSelector") != "")
	scope.done()
	note(p, "headerSelectors", p.has("headerSelectors"))
	gating := p.object("revisionGating")
	roles := gating.object("requireRoles")
	note(gating, "requiredRoles", len(gating.listOfStrings("requiredRoles"))+len(roles.listOfStrings("values")) > 0)
	roles.done()
	note(gating, "revisionHeaderName", gating.str("revisionHeaderName") != "")
	note(gating, "roleLabelKey", gating.str("roleLabelKey") != "")
	gating.boolean("disableCoordination")
	label := gating.str("revisionLabelKey")
	switch mode := gating.need("mode"); mode {
	case "", "sum", "max-role":
	case "disabled":
		d.nothing, d.everyone = true, false
	default:
		gating.Failf(gating.at("mode"), "is %s, want max-role, sum or disabled", check.Show(mode))
	}
	gating.done()
	p.done()
	if len(unused) > 0 {
		t.warn("%s: %s have no effect here: a request draws its revision among the endpoints that may answer, and no header says it", p.path, strings.Join(unused, ", "))
	}
	if label == "" {
		return nil
	}
	return map[string]any{"label": label}
}

// stageTypes are the filters that a step's own profile gets.
var stageTypes = []string{typeHealthy, typeServed, typeFresh}

// wireStage returns the references to plugins of a step's profile, with those that it lacks, and how
// many endpoints its picker chooses.
func (t *translation) wireStage(p *profileSpec) (out []plugins.PluginRef, most int) {
	use := func(d *declared, weight *float64) {
		d.used = true
		out = append(out, plugins.PluginRef{PluginRef: d.plugin.Name, Weight: weight})
	}
	refs := t.costOnce(p.refs)
	if !slices.ContainsFunc(refs, func(r reference) bool { return slices.Contains(stageTypes, t.byName[r.name].plugin.Type) }) {
		for _, one := range stageTypes {
			use(t.ensure(one), nil)
		}
	}
	for _, d := range t.declared {
		if d.everyone && d.plugin.Type == typeRevision && !slices.ContainsFunc(out, func(r plugins.PluginRef) bool { return r.PluginRef == d.plugin.Name }) {
			use(d, nil)
		}
	}
	var picker *declared
	for _, ref := range refs {
		d := t.byName[ref.name]
		switch {
		case d.picker:
			picker = d
		case d.everyone && d.plugin.Type == typeRevision:
		case d.predicts:
			use(d, nil)
		default:
			use(d, ref.weight)
		}
	}
	if picker == nil {
		picker = t.ensure(typeMaxScore)
	}
	use(picker, nil)
	return out, max(1, picker.endpoints)
}

// Encode is how those are chosen that encode images and other media. Immutable.
type Encode struct {
	registry *plugins.Registry
	config   plugins.Config // with one profile
	always   bool
	revision string // label of servers of which one revision must be for one request; empty: none
}

// encodeStage declares what chooses those that encode.
func (t *translation) encodeStage(one stage) *Encode {
	e := &Encode{registry: t.registry, always: one.by.always}
	for _, d := range t.declared {
		if d.everyone && d.plugin.Type == typeRevision {
			e.revision = cmp.Or(d.raw.object("revisionGating").str("revisionLabelKey"), plugins.RevisionLabel)
		}
	}
	profile := one.spec.config
	var most int
	profile.Plugins, most = t.wireStage(one.spec)
	if profile.Fallbacks == 0 {
		profile.Fallbacks = most - 1
	}
	e.config.Profiles = []plugins.ProfileConfig{profile}
	uses := make(map[string]bool)
	for _, ref := range profile.Plugins {
		uses[ref.PluginRef] = true
		for _, other := range t.byName[ref.PluginRef].needs {
			uses[other.plugin.Name] = true
		}
	}
	for _, d := range t.declared {
		if uses[d.plugin.Name] {
			e.config.Plugins = append(e.config.Plugins, d.plugin)
		}
	}
	return e
}

// Profile returns the scheduling profile, for scheduling.New: the endpoint and its fallbacks are those
// that encode. Its plugins are new at each call.
func (e *Encode) Profile() (scheduling.Profile, error) {
	profiles, err := e.registry.Build(e.config)
	if err != nil {
		return scheduling.Profile{}, fmt.Errorf("config: %w", err)
	}
	return profiles[e.config.Profiles[0].Name], nil
}

// Pairs reports whether one endpoint may encode for another.
func (e *Encode) Pairs(encoder, other *types.Endpoint) bool {
	return e.revision == "" || encoder.Labels[e.revision] == other.Labels[e.revision]
}

// Wanted reports whether a request has something to encode.
func (e *Encode) Wanted(req *types.Request) bool {
	return e.always || req.Prompt.Images+req.Prompt.Audio+req.Prompt.Other > 0
}

// pairedBy returns the label by which Pairs tells, empty if there is none.
func (e *Encode) pairedBy() string {
	if e == nil {
		return ""
	}
	return e.revision
}

// declared returns what the profile is made of, nil if there is none.
func (e *Encode) declared() *plugins.Config {
	if e == nil {
		return nil
	}
	return &e.config
}
