package plugins_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// TestDeclaredRules: which rule a request goes by.
func TestDeclaredRules(t *testing.T) {
	profiles, err := plugins.NewRegistry().Load([]byte(`{
		"plugins": [{"type": "queue-scorer"}, {"type": "prefix-cache-scorer"}, {"type": "max-score-picker"}, {"type": "random-picker"}],
		"schedulingProfiles": [{"name": "p", "plugins": [{"pluginRef": "queue-scorer"}, {"pluginRef": "max-score-picker"}], "rules": [
			{"name": "batch", "when": {"maxPriority": -1}, "plugins": [{"pluginRef": "random-picker"}], "fallbacks": 3},
			{"name": "big", "when": {"models": ["big", "big-v2"], "minPriority": 0, "maxPriority": 9}, "plugins": [{"pluginRef": "random-picker"}]},
			{"name": "named", "when": {"header": {"name": "x-PROFILE", "values": ["a", "b"]}}, "plugins": [{"pluginRef": "prefix-cache-scorer", "weight": 3}, {"pluginRef": "max-score-picker"}]},
			{"name": "any", "when": {"header": {"name": "X-Profile"}}, "plugins": [{"pluginRef": "random-picker"}]}]}]}`))
	require.NoError(t, err)
	s := mustNew(t, seeded(profiles["p"]))
	eps := idle(5)
	for _, tt := range []struct {
		rule, model, target string
		priority            int
		header              []string
	}{
		{"", "m", "", 0, nil},
		{"batch", "big", "", -1, []string{"a"}},
		{"big", "big", "", 0, []string{"a"}},
		{"big", "small", "big-v2", 9, nil},
		{"", "big", "", 10, nil},
		{"named", "m", "", 0, []string{" b "}},
		{"any", "m", "", 0, []string{"c", "a"}},
		{"any", "m", "", 0, []string{"A"}},
		{"", "m", "", 0, []string{"  "}},
		{"", "m", "", 0, []string{}},
	} {
		req := schedulingtest.Request("x")
		req.Model, req.TargetModel, req.Priority = tt.model, tt.target, tt.priority
		req.Header = map[string][]string{"X-Profile": tt.header}
		ex, err := s.Explain(ctx, req, eps)
		require.NoError(t, err)
		require.Equal(t, tt.rule, ex.Rule, "%+v", tt)
		if tt.rule == "batch" {
			require.Len(t, ex.Fallbacks, 3)
		}
	}

	// What one rule learns, the prefix cache here, it learns of all requests.
	req := schedulingtest.Request(text("a", 2048))
	d := mustSchedule(t, s, req, eps)
	d.FirstToken()
	d.Done(types.Outcome{Status: 200})
	req = schedulingtest.Request(text("a", 2048))
	req.Header = map[string][]string{"X-Profile": {"a"}}
	require.Same(t, d.Endpoint, mustSchedule(t, s, req, eps).Endpoint)
}

func TestDeclaredRuleErrors(t *testing.T) {
	for rule, want := range map[string]string{
		`{"when": {"models": ["a"]}, "plugins": [{"pluginRef": "random-picker"}]}`:                                 "schedulingProfiles[0].rules[0].name is required",
		`{"name": "r", "plugins": [{"pluginRef": "random-picker"}]}`:                                               "rules[0].when is empty, want minPriority",
		`{"name": "r", "when": {"models": [""]}, "plugins": [{"pluginRef": "random-picker"}]}`:                     "rules[0].when.models[0] is empty, want a name",
		`{"name": "r", "when": {"header": {}}, "plugins": [{"pluginRef": "random-picker"}]}`:                       "rules[0].when.header.name is required",
		`{"name": "r", "when": {"minPriority": 2, "maxPriority": 1}, "plugins": [{"pluginRef": "random-picker"}]}`: "rules[0].when.minPriority is 2, want at most maxPriority, which is 1",
		`{"name": "r", "when": {"models": ["a"]}, "plugins": [{"pluginRef": "queue-scorer"}]}`:                     "schedulingProfiles[0].rules[0]: scheduling: profile has no Picker",
		`{"name": "r", "when": {"models": ["a"]}, "plugins": [{"pluginRef": "nothing"}]}`:                          `rules[0].plugins[0].pluginRef is "nothing", which is unknown`,
		`{"name": "r", "when": {"models": ["a"]}, "plugins": [{"pluginRef": "random-picker"}], "fallbacks": 99}`:   "Fallbacks is 99",
		`{"name": "r", "when": {"model": "a"}, "plugins": [{"pluginRef": "random-picker"}]}`:                       "rules[0].when.model is not a field; the nearest is models",
	} {
		_, err := plugins.NewRegistry().Load([]byte(declare(`{"type": "queue-scorer"}, {"type": "random-picker"}`,
			`{"name": "p", "plugins": [{"pluginRef": "random-picker"}], "rules": [`+rule+`]}`)))
		require.ErrorContains(t, err, want)
	}
}
