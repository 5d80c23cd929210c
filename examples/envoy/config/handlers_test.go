package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// TestProfilesByRequest: which profile a request goes by, under each handler.
func TestProfilesByRequest(t *testing.T) {
	const three = `
- {type: queue-scorer}
- {type: kv-cache-utilization-scorer}
- {type: random-picker, parameters: {maxNumOfEndpoints: 2}}
schedulingProfiles:
- {name: decode, metricsTTL: 3s, plugins: [{pluginRef: queue-scorer, weight: 2}]}
- {name: prefill, fallbacks: 3, plugins: [{pluginRef: kv-cache-utilization-scorer}]}
- {name: encode, plugins: [{pluginRef: random-picker}]}
`
	type request struct {
		priority int
		model    string
		header   string // of X-Profile and EPP-Profile
	}
	for _, tt := range []struct {
		name, handler string
		want          map[request]string
		warnings      []string
	}{
		{"by request", `{type: request-profile-handler, parameters: {defaultProfile: decode, rules: [
  {profile: encode, maxPriority: -1},
  {profile: prefill, models: [big], minPriority: 0, maxPriority: 9},
  {profile: encode, header: {name: x-profile, values: [e]}}]}}`,
			map[request]string{{}: "", {priority: -1}: "encode", {model: "big"}: "prefill", {model: "big", priority: 10}: "", {header: "e"}: "encode", {header: "prefill"}: ""}, nil},
		{"by header", "{type: header-profile-handler}",
			map[request]string{{}: "", {header: "prefill"}: "prefill", {header: "encode"}: "encode", {header: "decode"}: "", {header: "other"}: ""}, nil},
		{"by another header", "{type: header-profile-handler, parameters: {headerName: X-Profile, defaultProfile: decode}}",
			map[request]string{{}: "", {header: "encode"}: "encode"}, nil},
		{"decode only", "{type: disagg-profile-handler}", map[request]string{{}: "", {header: "encode"}: ""},
			[]string{"plugins[2] (kv-cache-utilization-scorer) is used by no profile", "plugins[3] (random-picker) is used by no profile"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := parse(t, poolYAML+pickerHead+"plugins:\n- "+tt.handler+three)
			require.Len(t, c.Warnings, len(tt.warnings), "%q", c.Warnings)
			for i, w := range tt.warnings {
				require.Contains(t, c.Warnings[i], w)
			}
			p, err := policy(c, llama).Profile()
			require.NoError(t, err)
			require.Equal(t, safe+"shed-filter{0 0} | queue-scorer*2 | MaxScore | 0", wiring(p))
			require.Equal(t, "3s", p.MetricsTTL.String())
			s, err := scheduling.New(p)
			require.NoError(t, err)
			eps := []*types.Endpoint{types.NewEndpoint("a", "10.0.0.1:1"), types.NewEndpoint("b", "10.0.0.2:1"), types.NewEndpoint("c", "10.0.0.3:1"), types.NewEndpoint("d", "10.0.0.4:1"), types.NewEndpoint("e", "10.0.0.5:1")}
			fallbacks := map[string]int{"": 0, "prefill": 3, "encode": 1}
			for r, want := range tt.want {
				req := &types.Request{Model: r.model, Priority: r.priority, Header: map[string][]string{}}
				if r.header != "" {
					req.Header["X-Profile"], req.Header["Epp-Profile"] = []string{r.header}, []string{r.header}
				}
				ex, err := s.Explain(t.Context(), req, eps)
				require.NoError(t, err)
				require.Equal(t, want, ex.Rule, "%+v", r)
				require.Len(t, ex.Fallbacks, fallbacks[want])
			}
			for _, r := range p.Rules {
				require.Equal(t, "healthy-filter", r.Filters[0].Name, "a profile for some requests is as safe")
				require.Equal(t, "shed-filter", r.Filters[len(r.Filters)-1].Name)
			}
		})
	}
}

// TestOneProfile: with one profile no handler has anything to choose.
func TestOneProfile(t *testing.T) {
	for _, handler := range []string{"single-profile-handler", "header-profile-handler", "disagg-profile-handler", "data-parallel-profile-handler"} {
		c := parse(t, poolYAML+pickerHead+"plugins: [{type: "+handler+"}, {type: queue-scorer}]\nschedulingProfiles: [{name: mine, plugins: [{pluginRef: queue-scorer}]}]\n")
		require.Equal(t, safe+"shed-filter{0 0} | queue-scorer*1 | MaxScore | 0", wiringOf(t, c, llama), handler)
	}
}

func TestProfilesOfSLO(t *testing.T) {
	c := parse(t, poolYAML+pickerHead+`plugins: [{type: slo-aware-profile-handler}, {type: slo-aware-routing}, {type: slo-scorer}, {type: prefix-cache-scorer}, {type: queue-scorer}]
schedulingProfiles:
- {name: prefix, plugins: [{pluginRef: prefix-cache-scorer}]}
- {name: default, plugins: [{pluginRef: slo-aware-routing, weight: 0}, {pluginRef: queue-scorer}, {pluginRef: prefix-cache-scorer}]}
- {name: slo, plugins: [{pluginRef: slo-aware-routing}, {pluginRef: slo-scorer}]}
`)
	p, err := policy(c, llama).Profile()
	require.NoError(t, err)
	require.Len(t, p.Rules, 1)
	require.Equal(t, "slo", p.Rules[0].Name)
	require.Len(t, p.Rules[0].Costs, 1)
	require.True(t, p.Rules[0].When(&types.Request{Header: map[string][]string{"X-Prediction-Based-Scheduling": {"true"}}}))
	require.False(t, p.Rules[0].When(&types.Request{Header: map[string][]string{"X-Prediction-Based-Scheduling": {"false"}}}))
}

func TestHandlerErrors(t *testing.T) {
	const two = "\nschedulingProfiles: [{name: a}, {name: bbbb}]"
	for text, want := range map[string]string{
		"plugins: []" + two: "schedulingProfiles has 2 profiles, want at most one, as no profile handler is declared; of several request-profile-handler, header-profile-handler or disagg-profile-handler choose",
		"plugins: [{type: single-profile-handler}]" + two:                                                                                                      "as plugins[0] (single-profile-handler) has one",
		"plugins: [{type: header-profile-handler}]" + two:                                                                                                      `plugins[0].parameters.defaultProfile names profile "decode", which is not there; in schedulingProfiles there are a, bbbb`,
		"plugins: [{type: request-profile-handler}]" + two:                                                                                                     "plugins[0].parameters.defaultProfile is required",
		"plugins: [{type: request-profile-handler, parameters: {defaultProfile: a, rules: [{profile: bbb, models: [m]}]}}]" + two:                              `plugins[0].parameters.rules[0].profile names profile "bbb", which is not there; the nearest is bbbb;`,
		"plugins: [{type: request-profile-handler, parameters: {defaultProfile: a, rules: [{profile: bbbb}]}}]" + two:                                          "plugins[0].parameters.rules[0] has no condition, want minPriority, maxPriority, models or header: a rule for every request is defaultProfile",
		"plugins: [{type: request-profile-handler, parameters: {defaultProfile: a, rules: [{profile: bbbb, minPriority: 2, maxPriority: 1}]}}]" + two:          "rules[0].minPriority is 2, above maxPriority 1",
		"plugins: [{type: request-profile-handler, parameters: {defaultProfile: a, rules: [{profile: bbbb, header: {values: [x]}}]}}]" + two:                   "rules[0].header.name is required",
		"plugins: [{type: header-profile-handler, parameters: {defaultProfile: a}}]\nschedulingProfiles: [{name: a}, {name: b, seed: 5}]":                      `schedulingProfiles[1].seed is for all requests alike: give it to the profile "a"`,
		"plugins: [{type: header-profile-handler, parameters: {defaultProfile: a}}]\nschedulingProfiles: [{name: a}, {name: a}]":                               `schedulingProfiles[1].name is "a", which is used twice`,
		"plugins: [{type: slo-aware-profile-handler}]\nschedulingProfiles: [{name: default}, {name: other}]":                                                   `names profile "slo", which is not there; in schedulingProfiles there are default, other`,
		"plugins: [{type: header-profile-handler, parameters: {defaultProfile: a}}]\nschedulingProfiles: [{name: a}, {name: b, plugins: [{pluginRef: gone}]}]": `schedulingProfiles[1].plugins[0].pluginRef is "gone", which no plugin is named; in plugins there are header-profile-handler`,
	} {
		c, err := config.Loader{}.Parse("c.yaml", []byte(poolYAML+pickerHead+text+"\n"))
		err = wrong(c, err)
		require.Error(t, err, text)
		require.Contains(t, err.Error(), want, text)
	}
}
