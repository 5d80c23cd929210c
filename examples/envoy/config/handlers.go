package config

import (
	"fmt"
	"math"
	"slices"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/plugins"
)

// Types of profile handlers: they say which profile a request goes by.
const (
	typeSingle       = "single-profile-handler"
	typeDataParallel = "data-parallel-profile-handler"
	typeHeader       = "header-profile-handler"
	typeDisagg       = "disagg-profile-handler"
	typeSLOAware     = "slo-aware-profile-handler"
	typePredicted    = "predicted-latency-profile-handler"
	typeRequest      = "request-profile-handler" // ours
)

var handlerTypes = []string{typeDataParallel, typeDisagg, typeHeader, typePredicted, typeRequest, typeSingle, typeSLOAware}

// selection is what a profile handler says.
type selection struct {
	rules []selectionRule // the first that is for a request counts
	// others is the profile of requests that no rule is for, and named where that is said.
	// Empty: the only profile.
	others, named string
	// byHeader is the header whose value names the profile. Empty: none does.
	byHeader string
	// spare may be left unused, for what they are for is done in the others.
	spare []string
}

type selectionRule struct {
	at      string // where the profile is named
	profile string
	when    plugins.When
}

// handler reads the parameters of a profile handler, and reports whether d is one.
func (t *translation) handler(d *declared, p fields) bool {
	switch d.typeName {
	case typeSingle:
		d.selects = &selection{}
	case typeDataParallel:
		if _, ok := p.integer("primaryPort", 0, math.MaxUint16); ok {
			t.warn("%s has no effect here: a request goes to the port of the rank that is chosen, which a server with a port for each rank takes", p.at("primaryPort"))
		}
		d.selects = &selection{}
	case typeHeader:
		s := &selection{byHeader: p.str("headerName"), others: p.str("defaultProfile"), named: p.at("defaultProfile")}
		if s.byHeader == "" {
			s.byHeader = "EPP-Profile"
		}
		if s.others == "" {
			s.others = "decode"
		}
		d.selects = s
	case typeDisagg:
		d.selects = t.decodeOnly(d, p)
	case typeSLOAware, typePredicted:
		d.selects = &selection{others: "default", named: d.path, spare: []string{"prefix"}, rules: []selectionRule{{
			at: d.path, profile: "slo", when: plugins.When{Header: &plugins.HeaderMatch{Name: "x-prediction-based-scheduling", Values: []string{"true", "True", "TRUE", "1", "t", "T"}}},
		}}}
	case typeRequest:
		d.selects = t.byRequest(p)
	default:
		return false
	}
	p.done()
	return true
}

// decodeOnly is a handler of disaggregation that is asked for none.
func (t *translation) decodeOnly(d *declared, p fields) *selection {
	profiles, deciders := p.object("profiles"), p.object("deciders")
	s := &selection{others: profiles.str("decode"), named: profiles.at("decode")}
	if s.others == "" {
		s.others = "decode"
	}
	for _, stage := range []string{"prefill", "encode"} {
		name := profiles.str(stage)
		if name == "" {
			name = stage
		}
		s.spare = append(s.spare, name)
		if deciders.has(stage) {
			t.Failf(deciders.at(stage), "is of %s, which is not supported with a decider: %s", d.typeName, needsDisaggregation)
		}
	}
	profiles.done()
	deciders.done()
	return s
}

// byRequest reads our own handler: profiles by priority, model and header.
func (t *translation) byRequest(p fields) *selection {
	s := &selection{others: p.need("defaultProfile"), named: p.at("defaultProfile")}
	p.each("rules", func(f fields) {
		r := selectionRule{at: f.at("profile"), profile: f.need("profile")}
		if n, ok := f.integer("minPriority", math.MinInt32, math.MaxInt32); ok {
			r.when.MinPriority = &n
		}
		if n, ok := f.integer("maxPriority", math.MinInt32, math.MaxInt32); ok {
			r.when.MaxPriority = &n
		}
		r.when.Models = f.listOfStrings("models")
		if header := f.object("header"); header.m != nil {
			r.when.Header = &plugins.HeaderMatch{Name: header.need("name"), Values: header.listOfStrings("values")}
			header.done()
		}
		f.done()
		switch {
		case r.when.MinPriority == nil && r.when.MaxPriority == nil && len(r.when.Models) == 0 && r.when.Header == nil:
			f.Failf(f.path, "has no condition, want minPriority, maxPriority, models or header: a rule for every request is defaultProfile")
		case r.when.MinPriority != nil && r.when.MaxPriority != nil && *r.when.MinPriority > *r.when.MaxPriority:
			f.Failf(f.at("minPriority"), "is %d, above maxPriority %d", *r.when.MinPriority, *r.when.MaxPriority)
		}
		s.rules = append(s.rules, r)
	})
	return s
}

// selection returns what the document's handler says, nil if it has none.
func (t *translation) selection() (s *selection, path string) {
	for _, d := range t.declared {
		switch {
		case d.selects == nil:
		case s != nil:
			t.Failf(d.path, "is a %s, a second profile handler beside %s", d.typeName, path)
		default:
			s, path = d.selects, fmt.Sprintf("%s (%s)", d.path, d.typeName)
		}
	}
	return s, path
}

// profileRule is a profile for some of the requests.
type profileRule struct {
	profile *profileSpec
	when    plugins.When
}

// choose returns the profile for most requests and those for some, out of all.
func (t *translation) choose(all []*profileSpec) (main *profileSpec, rules []profileRule) {
	s, path := t.selection()
	if len(all) == 1 && (s == nil || len(s.rules) == 0) {
		return all[0], nil // there is nothing to choose, as in the originals
	}
	if s == nil && slices.ContainsFunc(t.declared, func(d *declared) bool { return d.bad }) {
		return all[0], nil // told: it may be the handler
	}
	if s == nil || s.others == "" {
		what := "no profile handler is declared"
		if s != nil {
			what = path + " has one"
		}
		t.Failf("schedulingProfiles", "has %d profiles, want at most one, as %s; of several %s, %s or %s choose", len(all), what, typeRequest, typeHeader, typeDisagg)
		return all[0], nil
	}
	use := func(name, at string) *profileSpec {
		i := slices.IndexFunc(all, func(p *profileSpec) bool { return p.config.Name == name })
		if i < 0 {
			t.Failf(at, "%s", noProfile(name, all))
			return nil
		}
		all[i].used = true
		return all[i]
	}
	main = use(s.others, s.named)
	for _, r := range s.rules {
		if p := use(r.profile, r.at); p != nil {
			rules = append(rules, profileRule{p, r.when})
		}
	}
	for _, p := range all {
		switch {
		case s.byHeader != "" && p != main:
			p.used = true
			rules = append(rules, profileRule{p, plugins.When{Header: &plugins.HeaderMatch{Name: s.byHeader, Values: []string{p.config.Name}}}})
		case !p.used && !slices.Contains(s.spare, p.config.Name):
			t.warn("%s (%s) is used for no request", p.path, p.config.Name)
		}
	}
	if main == nil {
		main = all[0]
	}
	return main, rules
}

func noProfile(name string, all []*profileSpec) string {
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.config.Name
	}
	return fmt.Sprintf("names profile %q, which is not there%s; in schedulingProfiles there are %s", check.Shorten(name), nearestOf(name, names), listed(names))
}
