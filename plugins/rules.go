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
	// Name is what explanations call it; not empty.
	Name string `json:"name"`
	// When says which requests.
	When When `json:"when"`
	// Plugins and Fallbacks are as those of ProfileConfig.
	Plugins   []PluginRef `json:"plugins"`
	Fallbacks int         `json:"fallbacks,omitempty"`
}

// When is a condition on requests: all that is given must hold, and something must be
// given.
type When struct {
	// MinPriority and MaxPriority bound the priority, both included.
	MinPriority *int `json:"minPriority,omitempty"`
	MaxPriority *int `json:"maxPriority,omitempty"`
	// Models are names of which the request's is one: the public one, or the target's.
	Models []string `json:"models,omitempty"`
	// Header is what a header of the request must be. Who can set it chooses.
	Header *HeaderMatch `json:"header,omitempty"`
}

// HeaderMatch is a condition on the first value of a header, without blanks around it.
type HeaderMatch struct {
	// Name is that of the header, in any case.
	Name string `json:"name"`
	// Values are what it may be. Empty: anything, but for nothing at all.
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

// canonicalHeader is the form that types.Request.Header has names in.
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

// rules builds those of a profile.
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
			Filters: p.Filters, Scorers: p.Scorers, Costs: p.Costs, Picker: p.Picker, Fallbacks: p.Fallbacks,
		})
		b.trackers = append(b.trackers, p.Trackers...)
	}
	return rules
}
