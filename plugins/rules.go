package plugins

import (
	"fmt"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// RuleConfig declares a scheduling.Rule: how some requests of a profile are scheduled.
type RuleConfig struct {
	// Name identifies the rule in explanations; not empty.
	Name string `json:"name"`
	// When selects the requests.
	When When `json:"when"`
	// Plugins and Fallbacks are as in ProfileConfig.
	Plugins   []PluginRef `json:"plugins"`
	Fallbacks int         `json:"fallbacks,omitempty"`
}

// When is a condition on requests. All fields that are set must match, and at least one must be
// set.
type When struct {
	// MinPriority and MaxPriority bound the priority, inclusively.
	MinPriority *int `json:"minPriority,omitempty"`
	MaxPriority *int `json:"maxPriority,omitempty"`
	// Models lists names of models, either public or target ones.
	Models []string `json:"models,omitempty"`
	// Header is a condition on a header. Clients that can set it choose the rule.
	Header *HeaderMatch `json:"header,omitempty"`
}

// HeaderMatch is a condition on the first value of a header, without surrounding white space.
type HeaderMatch struct {
	// Name is the name of the header, case-insensitive.
	Name string `json:"name"`
	// Values lists the allowed values. Empty: any value but the empty one.
	Values []string `json:"values,omitempty"`
}

func (w *When) validate() error {
	var c check.Checks
	if w.MinPriority == nil && w.MaxPriority == nil && len(w.Models) == 0 && w.Header == nil {
		c.Failf("", "is empty, want minPriority, maxPriority, models or header")
	}
	if w.MinPriority != nil && w.MaxPriority != nil {
		c.Want(*w.MinPriority <= *w.MaxPriority, "minPriority", *w.MinPriority, "at most maxPriority, which is %d", *w.MaxPriority)
	}
	if i := slices.Index(w.Models, ""); i >= 0 {
		c.Failf(fmt.Sprintf("models[%d]", i), "is empty, want a name")
	}
	if w.Header != nil {
		check.Required(&c, "header.name", w.Header.Name)
	}
	return c.Err()
}

// match returns the condition as a function.
func (w When) match() func(*types.Request) bool {
	header := ""
	if w.Header != nil {
		header = canonicalHeader(w.Header.Name)
	}
	return func(req *types.Request) bool {
		switch {
		case w.MinPriority != nil && req.Priority < *w.MinPriority,
			w.MaxPriority != nil && req.Priority > *w.MaxPriority,
			len(w.Models) > 0 && !slices.Contains(w.Models, req.Model) && !slices.Contains(w.Models, req.Target()):
			return false
		case w.Header == nil:
			return true
		}
		values := req.Header[header]
		if len(values) == 0 {
			return false
		}
		value := strings.TrimSpace(values[0])
		return value != "" && (len(w.Header.Values) == 0 || slices.Contains(w.Header.Values, value))
	}
}

// canonicalHeader returns a header name in the form of types.Request.Header.
func canonicalHeader(name string) string {
	b, upper := []byte(name), true
	for i, c := range b {
		switch {
		case upper && 'a' <= c && c <= 'z':
			b[i] = c - 'a' + 'A'
		case !upper && 'A' <= c && c <= 'Z':
			b[i] = c - 'A' + 'a'
		}
		upper = c == '-'
	}
	return string(b)
}

// rules builds the rules of a profile.
func (b *builder) rules(path string, configs []RuleConfig) (rules []scheduling.Rule) {
	for i, rc := range configs {
		at, before := fmt.Sprintf("%s.rules[%d]", path, i), b.Len()
		check.Required(&b.Checks, at+".name", rc.Name)
		b.Add(at+".when", rc.When.validate())
		p := b.steps(at, rc.Plugins)
		p.Fallbacks = rc.Fallbacks
		b.check(at, before, p)
		rules = append(rules, scheduling.Rule{
			Name: rc.Name, When: rc.When.match(),
			Filters: p.Filters, Scorers: p.Scorers, Costs: p.Costs, Splitter: p.Splitter, PrefillFilters: p.PrefillFilters,
			Picker: p.Picker, Fallbacks: p.Fallbacks,
		})
		b.trackers = append(b.trackers, p.Trackers...)
	}
	return rules
}
