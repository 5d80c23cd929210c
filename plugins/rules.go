package plugins

import (
	"errors"
	"fmt"
	"slices"
	"strings"

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
	switch {
	case w.MinPriority == nil && w.MaxPriority == nil && len(w.Models) == 0 && w.Header == nil:
		return errors.New("is empty, want minPriority, maxPriority, models or header")
	case w.MinPriority != nil && w.MaxPriority != nil && *w.MinPriority > *w.MaxPriority:
		return fmt.Errorf("minPriority is %d, above maxPriority %d", *w.MinPriority, *w.MaxPriority)
	case slices.Contains(w.Models, ""):
		return errors.New("models has an empty name")
	case w.Header != nil && w.Header.Name == "":
		return errors.New("header.name is required")
	}
	return nil
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
		at, before := fmt.Sprintf("%s.rules[%d]", path, i), len(b.errs)
		if rc.Name == "" {
			b.errorf("%s.name: is required", at)
		}
		if err := rc.When.validate(); err != nil {
			b.errorf("%s.when: %w", at, err)
		}
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
