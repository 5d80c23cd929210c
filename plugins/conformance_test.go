package plugins_test

import (
	"fmt"
	"testing"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/stretchr/testify/require"
)

// Every plugin of the package, by the way it is made. TestRegistryTypes checks
// that none is missing.

type madeFilter struct {
	name string
	make func() scheduling.Filter
}

func mustPrefixCache() *plugins.PrefixCache {
	p, err := plugins.NewPrefixCache(plugins.PrefixOptions{})
	if err != nil {
		panic(err)
	}
	return p
}

func allFilters() []madeFilter {
	tree := plugins.DecisionTree().Filters[4].Filter
	value := func(f scheduling.Filter) func() scheduling.Filter {
		return func() scheduling.Filter { return f }
	}
	return []madeFilter{
		{"healthy", value(plugins.Healthy{})},
		{"fresh", value(plugins.Fresh{})},
		{"ejection", func() scheduling.Filter { f, _ := plugins.NewEjection(plugins.EjectionOptions{}); return f }},
		{"model-served", func() scheduling.Filter { return new(plugins.ModelServed) }},
		{"previous-answer", func() scheduling.Filter { f, _ := plugins.NewPreviousAnswer(plugins.AnswerOptions{}); return f }},
		{"labels", value(plugins.Labels{Match: map[string]string{"zone": "a"}})},
		{"no labels", value(plugins.Labels{})},
		{"has-capacity", value(plugins.HasCapacity{})},
		{"shed", value(plugins.Shed{})},
		{"adapter-present", value(plugins.AdapterPresent{})},
		{"low-queue", value(plugins.LowQueue{})},
		{"least-queue", value(plugins.LeastQueue{})},
		{"least-kv", value(plugins.LeastKV{})},
		{"lora-soft-affinity", value(plugins.LoRASoftAffinity{})},
		{"lora-soft-affinity at a half", value(plugins.LoRASoftAffinity{Affinity: .5})},
		{"decision-tree", value(tree)},
		{"revision", func() scheduling.Filter {
			f, _ := plugins.NewRevision(plugins.RevisionOptions{Label: "zone"})
			return f
		}},
		{"label expression", value(expression(plugins.OpIn, false, "a"))},
		{"attribute", value(rule("waiting", plugins.AttributeRule{Type: "topK", TopK: &plugins.TopKRule{K: 2}}))},
		{"context-length", value(plugins.ContextLengthFilter{ContextLength: plugins.ContextLength{Label: "zone"}})},
		{"prefix-affinity", func() scheduling.Filter {
			f, _ := plugins.NewPrefixAffinity(plugins.AffinityOptions{Exploration: .5}, mustPrefixCache())
			return f
		}},
		{"slo-admitter", func() scheduling.Filter {
			c, _ := plugins.NewCost(plugins.CostOptions{})
			return &plugins.SLOAdmitter{Cost: c}
		}},
	}
}

type madeScorer struct {
	name string
	make func() scheduling.Scorer
}

func allScorers(t testing.TB) []madeScorer {
	value := func(s scheduling.Scorer) func() scheduling.Scorer {
		return func() scheduling.Scorer { return s }
	}
	return []madeScorer{
		{"queue-depth", value(plugins.QueueDepth{})},
		{"running-requests", value(plugins.RunningRequests{})},
		{"kv-cache", value(plugins.KVCache{})},
		{"lora-affinity", value(plugins.LoRAAffinity{})},
		{"in-flight", value(plugins.InFlightRequests{})},
		{"token-load", value(plugins.TokenLoad{Threshold: 1000})},
		{"active-requests", value(plugins.ActiveRequests{})},
		{"load-aware", value(plugins.LoadAware{})},
		{"context-length", value(plugins.ContextLength{})},
		{"attribute", value(attributeScorer("kvUsage", plugins.HigherIsBetter, &plugins.FixedRange{Max: 1}))},
		{"no-hit-lru", func() scheduling.Scorer {
			s, _ := plugins.NewNoHitLRU(plugins.NoHitOptions{}, mustPrefixCache())
			return s
		}},
		{"prefix-cache", func() scheduling.Scorer { return mustPrefix(t, plugins.PrefixOptions{}) }},
		{"session-affinity", func() scheduling.Scorer { return mustSessions(t, plugins.SessionOptions{}) }},
	}
}

func mustCost(t testing.TB, o plugins.CostOptions) *plugins.Cost {
	t.Helper()
	c, err := plugins.NewCost(o)
	require.NoError(t, err)
	return c
}

type madePicker struct {
	name string
	make func() scheduling.Picker
}

func allPickers() []madePicker {
	return []madePicker{
		{"max-score", func() scheduling.Picker { return plugins.MaxScore{} }},
		{"weighted-random", func() scheduling.Picker { return plugins.WeightedRandom{} }},
		{"random", func() scheduling.Picker { return plugins.Random{} }},
		{"power-of-two", func() scheduling.Picker { return plugins.PowerOfTwo{} }},
		{"round-robin", func() scheduling.Picker { return new(plugins.RoundRobin) }},
	}
}

func TestConformance(t *testing.T) {
	for _, f := range allFilters() {
		t.Run("filter="+f.name, func(t *testing.T) { schedulingtest.TestFilter(t, f.make) })
	}
	for _, s := range allScorers(t) {
		t.Run("scorer="+s.name, func(t *testing.T) { schedulingtest.TestScorer(t, s.make) })
	}
	t.Run("coster=cost", func(t *testing.T) {
		schedulingtest.TestCoster(t, func() scheduling.Coster { return mustCost(t, plugins.CostOptions{}) })
	})
	for _, p := range allPickers() {
		t.Run("picker="+p.name, func(t *testing.T) { schedulingtest.TestPicker(t, p.make) })
	}
}

// needed are parameters of the types that cannot be without.
var needed = map[string]string{
	"decision-tree-filter":      `{"rule": {"type": "low-queue-filter"}}`,
	"endpoint-attribute-filter": `{"attribute": "waiting", "algorithm": {"type": "topK", "topK": {"k": 3}}}`,
	"endpoint-attribute-scorer": `{"attributeKey": "kvUsage", "algorithm": {"type": "linear_lower_is_better"}}`,
	"staged-splitter":           `{"always": true, "plugins": [{"pluginRef": "default"}]}`,
}

// TestRegistryTypes builds every registered type from its name and what it needs, and
// checks that it is one of the plugins above.
func TestRegistryTypes(t *testing.T) {
	tested := map[string]bool{}
	for _, f := range allFilters() {
		tested[fmt.Sprintf("%T", f.make())] = true
	}
	for _, s := range allScorers(t) {
		tested[fmt.Sprintf("%T", s.make())] = true
	}
	for _, p := range allPickers() {
		tested[fmt.Sprintf("%T", p.make())] = true
	}
	tested[fmt.Sprintf("%T", new(plugins.Cost))] = true
	tested[fmt.Sprintf("%T", new(plugins.Staged))] = true
	r := plugins.NewRegistry()
	for _, name := range r.Types() {
		variants := []string{``, `, "parameters": {}`, `, "parameters": null`}
		if needed[name] != "" {
			variants = []string{`, "parameters": ` + needed[name]}
		}
		for _, parameters := range variants {
			profiles, err := r.Load([]byte(`{
				"plugins": [{"type": "` + name + `"` + parameters + `}, {"type": "random-picker", "name": "default"}],
				"schedulingProfiles": [
					{"name": "alone", "plugins": [{"pluginRef": "default"}]},
					{"name": "p", "plugins": [{"pluginRef": "` + name + `"}` + pickerUnless(name) + `]}]}`))
			if err != nil {
				t.Errorf("Load of %s%s: %v", name, parameters, err)
				continue
			}
			p := profiles["p"]
			var made any = p.Picker
			if len(p.Filters) > 0 {
				made = p.Filters[0].Filter
			}
			if len(p.Scorers) > 0 {
				made = p.Scorers[0].Scorer
			}
			if len(p.Costs) > 0 {
				made = p.Costs[0].Coster
			}
			if p.Splitter != nil {
				made = p.Splitter
			}
			if !tested[fmt.Sprintf("%T", made)] {
				t.Errorf("%s makes a %T, which is not in the conformance tables", name, made)
			}
			s := mustNew(t, p)
			if _, err := s.Schedule(ctx, schedulingtest.Request("hello"), schedulingtest.Fleet(40)); err != nil {
				t.Errorf("Schedule with %s: %v", name, err)
			}
		}
	}
}

// pickerUnless returns a reference to the default picker, unless the type of that
// name is a picker itself.
func pickerUnless(name string) string {
	switch name {
	case "max-score-picker", "weighted-random-picker", "random-picker", "power-of-two-picker", "round-robin-picker":
		return ""
	}
	return `, {"pluginRef": "default"}`
}
