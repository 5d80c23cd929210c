package scheduling

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Defaults and limits of a Profile.
const (
	DefaultMetricsTTL   = 5 * time.Second
	DefaultBookingTTL   = 30 * time.Minute
	DefaultOutputTokens = 256
	MaxFallbacks        = 8
	DefaultAlonePrefill = time.Second
	DefaultAloneShare   = 0.1
)

// Profile is a scheduling policy: plugins, their order and their weights. Only Picker is required.
type Profile struct {
	// Filters run in order, each on the endpoints that the previous one left.
	Filters []Named
	// Scorers are added up with their weights.
	Scorers []Weighted
	// Costs are in seconds, and are subtracted from the sum of scores.
	Costs []Costed
	// Splitter decides for which requests one endpoint computes the prompt and another one answers.
	// Default: the first of Costs that is a Splitter, if there is one.
	Splitter Splitter
	// PrefillFilters take the place of Filters for the endpoints that are to compute the prompt for
	// another one. Nil: Filters are for these, too.
	PrefillFilters []Named
	// Picker chooses by the totals. Required.
	Picker Picker
	// Rules schedule some requests differently: the first rule whose When is true replaces the
	// fields above.
	Rules []Rule
	// Trackers learn where requests went, in addition to the plugins above that are Trackers.
	Trackers []Tracker

	// Fallbacks is the number of further endpoints in a Decision, best first, for a data plane that
	// can retry. 0 to MaxFallbacks, default 0.
	Fallbacks int

	// MetricsTTL is the age beyond which a reading counts as unknown. Default 5s.
	MetricsTTL time.Duration

	// BookingTTL is how long a booking lasts after the last Schedule, Retry or FirstToken; after
	// Alive it may last twice as long. It only matters if a caller fails to call Done. Default 30m.
	BookingTTL time.Duration

	// OutputTokens is the expected output of a request, for the context tokens in the ledger. The
	// request's MaxTokens bounds it. Default 256.
	OutputTokens int

	// Alone bounds what happens where those fail that were to compute the prompt for another endpoint.
	Alone AloneLimits

	Hooks Hooks

	// Seed makes decisions repeatable. 0: a random seed.
	Seed uint64
	// Now is the clock. Default time.Now, which also takes its place where it panics.
	Now func() time.Time
}

// Named is a Filter with its name in errors and explanations. Name defaults to the name of its type.
type Named struct {
	Name   string
	Filter Filter
}

// Weighted is a Scorer with its weight, and its name in errors and explanations. Name defaults to the
// name of its type.
type Weighted struct {
	Name   string
	Scorer Scorer
	// Weight multiplies the score. It is at least 0 and not normalized. With 0 the scorer runs and
	// is explained, but does not count.
	Weight float64
}

// Costed is a Coster with its name in errors and explanations. Name defaults to the name of its type.
type Costed struct {
	Name   string
	Coster Coster
}

// Plugins returns the plugins of the profile and of its Rules, each once: filters, scorers, costs, splitters with
// their parts, filters of prefill endpoints, pickers; and at last the trackers.
func (p Profile) Plugins() (all []any) {
	add := func(plugin any) {
		if plugin != nil && !contains(all, plugin) {
			all = append(all, plugin)
		}
	}
	for _, r := range append([]Rule{p.rest()}, p.Rules...) {
		for _, f := range r.Filters {
			add(f.Filter)
		}
		for _, s := range r.Scorers {
			add(s.Scorer)
		}
		for _, c := range r.Costs {
			add(c.Coster)
		}
		add(r.Splitter)
		if c, ok := r.Splitter.(Composite); ok {
			for _, part := range c.Plugins() {
				add(part)
			}
		}
		for _, f := range r.PrefillFilters {
			add(f.Filter)
		}
		add(r.Picker)
	}
	for _, t := range p.Trackers {
		add(t)
	}
	return all
}

// withDefaults returns p with defaults filled in, or an error.
func (p Profile) withDefaults() (Profile, error) {
	if p.Picker == nil {
		return p, fmt.Errorf("scheduling: profile has no Picker")
	}
	for _, f := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"MetricsTTL", &p.MetricsTTL, DefaultMetricsTTL},
		{"BookingTTL", &p.BookingTTL, DefaultBookingTTL},
	} {
		if *f.value < 0 {
			return p, fmt.Errorf("scheduling: %s is %v, want more than 0, or 0 for the default %v", f.name, *f.value, f.def)
		}
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	if p.OutputTokens < 0 {
		return p, fmt.Errorf("scheduling: OutputTokens is %d, want more than 0, or 0 for the default %d", p.OutputTokens, DefaultOutputTokens)
	}
	if p.OutputTokens == 0 {
		p.OutputTokens = DefaultOutputTokens
	}
	if p.Alone.Prefill == 0 {
		p.Alone.Prefill = DefaultAlonePrefill
	}
	if p.Alone.Share == 0 {
		p.Alone.Share = DefaultAloneShare
	}
	if !(p.Alone.Share > 0 && p.Alone.Share <= 1) {
		return p, fmt.Errorf("scheduling: Alone.Share is %v, want above 0 and at most 1, or 0 for the default %v", p.Alone.Share, DefaultAloneShare)
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	for i, t := range p.Trackers {
		if t == nil {
			return p, fmt.Errorf("scheduling: Trackers[%d] is nil", i)
		}
	}
	return p, nil
}

// nameAll returns a copy of a list of plugins with a name for each, or what is wrong
// with it. of points to the name of one and returns its plugin.
func nameAll[T any](field, kind string, in []T, of func(*T) (name *string, plugin any)) ([]T, error) {
	out := slices.Clone(in)
	names := map[string]bool{}
	for i := range out {
		name, plugin := of(&out[i])
		if plugin == nil {
			return nil, fmt.Errorf("%s[%d] has no %s", field, i, kind)
		}
		*name = nameOf(*name, plugin)
		if names[*name] {
			return nil, fmt.Errorf("two of %s are named %q: give one of them a Name", field, *name)
		}
		names[*name] = true
	}
	return out, nil
}

// nameOf returns name, or the bare name of plugin's type: QueueDepth for a
// *plugins.QueueDepth.
func nameOf(name string, plugin any) string {
	if name != "" {
		return name
	}
	t := fmt.Sprintf("%T", plugin)
	return t[strings.LastIndexByte(t, '.')+1:]
}
