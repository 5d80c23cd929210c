package plugins

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// StagedOptions configure Staged. Picker is required, and one of Always and UncachedTokens.
type StagedOptions struct {
	// Scorers, Costs and Picker choose among the endpoints that may compute the prompt, as those of a
	// Profile do among the endpoints that may answer. In a declaration they are in plugins.
	Scorers []scheduling.Weighted `json:"-"`
	Costs   []scheduling.Costed   `json:"-"`
	Picker  scheduling.Picker     `json:"-"`

	// Always has every prompt computed by another endpoint than the one that answers.
	Always bool `json:"always,omitempty"`
	// MediaOnly restricts it to prompts with images, audio or other parts that are no text.
	MediaOnly bool `json:"mediaOnly,omitempty"`
	// PromptTokens is the least number of tokens of a prompt that is computed elsewhere. Default 0:
	// any.
	PromptTokens int `json:"promptTokens,omitempty"`
	// UncachedTokens is how many tokens of the prompt must at least be missing in the cache of the
	// endpoint that answers. Above 0, unless Always is set, which takes its place.
	UncachedTokens int `json:"uncachedTokens,omitempty"`
	// Prefix names the plugin whose prefix index is used for UncachedTokens, in a declaration.
	// Default: the first one that has an index.
	Prefix string `json:"prefixPluginName,omitempty"`
}

// Staged is a Splitter that decides step by step, as llm-d does: the profile chooses who answers. If
// the prompt is long enough, given what that endpoint has of it in its cache, one of those that may
// compute prompts is chosen by scorers and a picker of its own. It compares nothing: the gain is
// always 0, so that who answers is chosen as if there were no other endpoints. Cost compares.
//
// Who may compute prompts at all is up to the filters of the profile, see Profile.PrefillFilters.
//
// Create it with NewStaged. Safe for concurrent use.
type Staged struct {
	prefixReader
	o StagedOptions

	// of a declared one
	refs     []PluginRef
	filters  []scheduling.Named
	trackers []scheduling.Tracker
}

// NewStaged returns a Staged that reads cache, or an error that lists all invalid options. With a nil
// cache nothing counts as cached. Staged does not update the cache: make it a Scorer or a Tracker of
// the same profile.
func NewStaged(o StagedOptions, cache *PrefixCache) (*Staged, error) {
	c := check.Checks{Package: "plugins"}
	if o.Picker == nil {
		c.Failf("picker", "is required")
	}
	o.check(&c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &Staged{prefixReader: prefixReader{name: o.Prefix, cache: cache}, o: o}, nil
}

func (o *StagedOptions) check(c *check.Checks) {
	check.Range(c, "promptTokens", o.PromptTokens, 0, 0)
	check.Range(c, "uncachedTokens", o.UncachedTokens, 0, 0)
	switch {
	case o.Always && o.UncachedTokens > 0:
		c.Failf("uncachedTokens", "is %d, but always is set: want one of them", o.UncachedTokens)
	case !o.Always && o.UncachedTokens == 0:
		c.Failf("uncachedTokens", "is 0, want above 0, or always: true")
	}
}

// Split implements scheduling.Splitter.
func (s *Staged) Split(ctx context.Context, req *types.Request, eps, prefill []*types.Endpoint, must bool, by []int32, _ []float64) error {
	sc := stagedPool.Get().(*stagedScratch)
	defer stagedPool.Put(sc)
	apart, err := s.apart(ctx, req, eps, must, sc)
	if err != nil || !slices.Contains(apart, true) {
		return err
	}
	best, err := s.best(ctx, req, prefill, sc)
	if err != nil {
		return err
	}
	for i, ep := range eps {
		if apart[i] && ep.Load != prefill[best].Load { // or else it is the best for that itself
			by[i] = int32(best)
		}
	}
	return nil
}

// wants reports whether the prompt may be computed elsewhere, whoever answers.
func (s *Staged) wants(req *types.Request) bool {
	p := &req.Prompt
	return p.Tokens >= s.o.PromptTokens && p.Tokens >= s.o.UncachedTokens &&
		(!s.o.MediaOnly || p.Images+p.Audio+p.Other > 0)
}

// apart says of each endpoint whether another one is to compute the prompt: it lacks so much of it, or it
// must not do so itself.
func (s *Staged) apart(ctx context.Context, req *types.Request, eps []*types.Endpoint, must bool, sc *stagedScratch) ([]bool, error) {
	apart := grown(&sc.apart, len(eps))
	switch {
	case must, s.wants(req) && (s.o.Always || s.cache == nil):
		keepAll(apart)
		return apart, nil
	case s.wants(req):
		cached := grown(&sc.scores, len(eps))
		if err := s.cache.cachedTokens(ctx, req, eps, cached); err != nil {
			return nil, err
		}
		for i := range eps {
			apart[i] = float64(req.Prompt.Tokens)-cached[i] >= float64(s.o.UncachedTokens)
		}
	default:
		clear(apart)
	}
	for i, ep := range eps {
		apart[i] = apart[i] || ep.Roles.Has(types.RoleNotAlone)
	}
	return apart, nil
}

// best returns the place of the endpoint that is to compute the prompt. Scores count as in a Profile.
func (s *Staged) best(ctx context.Context, req *types.Request, eps []*types.Endpoint, sc *stagedScratch) (int, error) {
	totals, scores := grown(&sc.totals, len(eps)), grown(&sc.scores, len(eps))
	clear(totals)
	for _, w := range s.o.Scorers {
		fill(scores, math.NaN())
		if err := w.Scorer.Score(ctx, req, eps, scores); err != nil {
			return 0, fmt.Errorf("scorer %q: %w", w.Name, err)
		}
		for i, v := range scores {
			scores[i] = min(max(v, 0), 1) // NaN stays
		}
		add(totals, scores, w.Weight)
	}
	for _, c := range s.o.Costs {
		fill(scores, math.NaN())
		if err := c.Coster.Cost(ctx, req, eps, scores); err != nil {
			return 0, fmt.Errorf("cost %q: %w", c.Name, err)
		}
		add(totals, scores, -1)
	}
	best, err := s.o.Picker.Pick(ctx, req, eps, totals)
	switch {
	case err != nil:
		return 0, fmt.Errorf("picker: %w", err)
	case best < 0 || best >= len(eps):
		return 0, fmt.Errorf("picker chose %d of %d endpoints", best, len(eps))
	}
	return best, nil
}

// add adds w times each value to totals. What is not finite counts as the mean of the others, or 0.
func add(totals, values []float64, w float64) {
	sum, known := 0.0, 0
	for _, v := range values {
		if v-v == 0 {
			sum += v
			known++
		}
	}
	mean := sum / max(1, float64(known))
	for i, v := range values {
		if v-v != 0 {
			v = mean
		}
		totals[i] += w * v
	}
}

// Plugins returns the scorers, costers and the picker, so that the scheduler tells those that learn
// what it tells others.
func (s *Staged) Plugins() []any {
	var all []any
	for _, w := range s.o.Scorers {
		all = append(all, w.Scorer)
	}
	for _, c := range s.o.Costs {
		all = append(all, c.Coster)
	}
	for _, t := range s.trackers {
		all = append(all, t)
	}
	return append(all, s.o.Picker)
}

var (
	_ scheduling.Splitter  = (*Staged)(nil)
	_ scheduling.Composite = (*Staged)(nil)
)

type stagedScratch struct {
	apart          []bool
	scores, totals []float64
}

var stagedPool = sync.Pool{New: func() any { return new(stagedScratch) }}

// grown returns *s with length n. Its content is arbitrary.
func grown[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n+n/4)
	}
	*s = (*s)[:n]
	return *s
}

func fill(s []float64, v float64) {
	for i := range s {
		s[i] = v
	}
}

// StagedConfig declares a Staged.
type StagedConfig struct {
	StagedOptions
	// Plugins are those that choose who computes the prompt, declared as others are. Exactly one of them
	// is a picker. If there are filters, they take the place of the profile's filters for these
	// endpoints.
	Plugins []PluginRef `json:"plugins"`
}

// newStagedFrom is the Factory of the declared Staged.
func newStagedFrom(p json.RawMessage) (any, error) {
	var c StagedConfig
	if err := Parameters(p, &c); err != nil {
		return nil, err
	}
	checks := check.Checks{}
	c.check(&checks)
	if len(c.Plugins) == 0 {
		checks.Failf("plugins", "is empty, want a picker at least")
	}
	if err := checks.Err(); err != nil {
		return nil, err
	}
	return &Staged{prefixReader: prefixReader{name: c.Prefix}, o: c.StagedOptions, refs: c.Plugins}, nil
}

// connectStaged gives a declared Staged the plugins that it refers to.
func (b *builder) connectStaged(path string, s *Staged) {
	before := b.Len()
	p := b.steps(path, s.refs)
	s.o.Scorers, s.o.Costs, s.o.Picker = p.Scorers, p.Costs, p.Picker
	s.filters, s.trackers = p.Filters, p.Trackers
	switch {
	case b.Len() > before:
	case p.Splitter != nil:
		b.Failf(path+".plugins", "has a splitter, want filters, scorers and a picker")
	case p.Picker == nil:
		b.Failf(path+".plugins", "has no picker, want one")
	default:
		p.Splitter, p.PrefillFilters = s, s.filters
		b.check(path+".plugins", before, p)
	}
}

// useSplitter adds a splitter to p. A coster that is one is used as such by the scheduler itself, unless
// there is another.
func (b *builder) useSplitter(p *scheduling.Profile, at string, ref PluginRef, one scheduling.Splitter) {
	if _, ok := one.(scheduling.Coster); ok {
		return
	}
	if p.Splitter != nil {
		b.Failf(at+".pluginRef", "is %q, which is a second splitter", ref.PluginRef)
	}
	p.Splitter = one
	if s, ok := one.(*Staged); ok {
		p.PrefillFilters = s.filters
	}
}

// cachedTokens sets tokens to how many of the prompt's each endpoint holds.
func (p *PrefixCache) cachedTokens(ctx context.Context, req *types.Request, eps []*types.Endpoint, tokens []float64) error {
	if err := p.Score(ctx, req, eps, tokens); err != nil || req.Prompt.Bytes == 0 {
		return err
	}
	blocks := float64(len(p.prefixOf(req).hashes) * p.index.Options().BlockBytes)
	all := blocks / float64(req.Prompt.Bytes) * float64(req.Prompt.Tokens)
	for i := range tokens {
		tokens[i] *= all
	}
	return nil
}
