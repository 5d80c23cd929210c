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
	typeSLOAware     = "slo-aware-profile-handler"
	typePredicted    = "predicted-latency-profile-handler"
	typeRequest      = "request-profile-handler" // ours
)

var handlerTypes = []string{typeDataParallel, typeDisagg, typeHeader, typePD, typePredicted, typeRequest, typeSingle, typeSLOAware}

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
	// prefill and encode are the steps that may have servers of their own.
	prefill, encode stage
	// primaryPort is where the proxy in front of a server with several ranks takes requests for all of
	// them. 0: requests go to the port of their rank.
	primaryPort int
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
		d.selects = &selection{}
		d.selects.readPrimaryPort(p, 8000)
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
		d.selects = t.staged(p)
	case typePD:
		d.selects = t.stagedOlder(p)
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

// choose returns the profiles for most requests, for some, and for single steps, out of all.
func (t *translation) choose(all []*profileSpec) (set profileSet) {
	s, path := t.selection()
	if s != nil {
		set.primaryPort = s.primaryPort
	}
	set.main = all[0]
	if len(all) == 1 && (s == nil || len(s.rules) == 0 && s.prefill.by == nil && s.encode.by == nil) {
		return set // there is nothing to choose, as in the originals
	}
	if s == nil && slices.ContainsFunc(t.declared, func(d *declared) bool { return d.bad }) {
		return set // told: it may be the handler
	}
	if s == nil || s.others == "" {
		what := "no profile handler is declared"
		if s != nil {
			what = path + " has one"
		}
		t.Failf("schedulingProfiles", "has %d profiles, want at most one, as %s; of several %s, %s or %s choose", len(all), what, typeRequest, typeHeader, typeDisagg)
		return set
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
	if main := use(s.others, s.named); main != nil {
		set.main = main
	}
	for _, r := range s.rules {
		if p := use(r.profile, r.at); p != nil {
			set.rules = append(set.rules, profileRule{p, r.when})
		}
	}
	set.prefill, set.encode = s.prefill, s.encode
	for _, one := range []*stage{&set.prefill, &set.encode} {
		if one.by != nil && !(one.optional && !slices.ContainsFunc(all, func(p *profileSpec) bool { return p.config.Name == one.profile })) {
			one.spec = use(one.profile, one.named)
		}
	}
	for _, p := range all {
		switch {
		case s.byHeader != "" && p != set.main:
			p.used = true
			set.rules = append(set.rules, profileRule{p, plugins.When{Header: &plugins.HeaderMatch{Name: s.byHeader, Values: []string{p.config.Name}}}})
		case !p.used && !slices.Contains(s.spare, p.config.Name):
			t.warn("%s (%s) is used for no request", p.path, p.config.Name)
		}
	}
	return set
}

func noProfile(name string, all []*profileSpec) string {
	if len(all) == 0 {
		return fmt.Sprintf("is given, but there is no profile %q: schedulingProfiles has none", check.Shorten(name))
	}
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.config.Name
	}
	return fmt.Sprintf("names profile %q, which is not there%s; in schedulingProfiles there are %s", check.Shorten(name), nearestOf(name, names), listed(names))
}
