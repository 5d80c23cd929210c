package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// stageProfiles are profiles as they are in llm-d's own examples.
const stageProfiles = `
- {type: prefill-filter}
- {type: decode-filter}
- {type: encode-filter}
- {type: prefix-cache-scorer}
- {type: queue-scorer}
- {type: max-score-picker}
- {type: random-picker, parameters: {maxNumOfEndpoints: 2}}
schedulingProfiles:
- {name: prefill, plugins: [{pluginRef: prefill-filter}, {pluginRef: max-score-picker}, {pluginRef: prefix-cache-scorer, weight: 2}, {pluginRef: queue-scorer}]}
- {name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: max-score-picker}, {pluginRef: prefix-cache-scorer, weight: 2}, {pluginRef: queue-scorer}]}
- {name: encode, plugins: [{pluginRef: encode-filter}, {pluginRef: random-picker}]}
`

// stageFleet are ready endpoints of each role, and one that says none.
func stageFleet() []*types.Endpoint {
	var eps []*types.Endpoint
	for i, role := range []string{"prefill", "prefill", "decode", "decode", "encode", ""} {
		ep := types.NewEndpoint(role+string(rune('0'+i)), "10.0.0."+string(rune('1'+i))+":8000")
		if role != "" {
			ep.Labels = map[string]string{types.RoleLabel: role}
		}
		ep.Roles, _ = types.ParseRoles(role)
		eps = append(eps, ep)
	}
	return eps
}

func splitting(words int, images int) *types.Request {
	prompt := types.TextPrompt(strings.Repeat("word ", words))
	prompt.Images = images
	return &types.Request{Model: "m", Prompt: prompt, Split: true}
}

// TestStages: for which requests a server of its own computes the prompt, by each handler and decider.
func TestStages(t *testing.T) {
	const always, uncached = "{type: always-disagg-pd-decider}", "{type: prefix-based-pd-decider, parameters: {nonCachedTokens: 100, promptTokens: 200}}"
	type want struct{ short, middle, long, cached, image bool }
	for _, tt := range []struct {
		name, handler string // and deciders
		want          want
		warnings      []string
	}{
		{"always", "{type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}, " + always, want{true, true, true, true, true}, nil},
		{"by what is not cached", "{type: disagg-profile-handler, parameters: {deciders: {prefill: prefix-based-pd-decider}}}, " + uncached, want{false, false, true, false, true}, nil},
		{"a decider that comes later, by its name", "{type: disagg-profile-handler, parameters: {profiles: {prefill: prefill, decode: decode}, deciders: {prefill: mine}}}, " + strings.Replace(always, "}", ", name: mine}", 1), want{true, true, true, true, true}, nil},
		{"never", "{type: disagg-profile-handler, parameters: {deciders: {prefill: prefix-based-pd-decider}}}, {type: prefix-based-pd-decider, parameters: {promptTokens: 5}}", want{},
			[]string{"plugins[1] (prefix-based-pd-decider) never has a prompt computed elsewhere: nonCachedTokens is 0"}},
		{"without a decider", "{type: disagg-profile-handler}, " + always, want{}, nil},
		{"images alone", "{type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-multimodal-decider}}}, {type: always-disagg-multimodal-decider}", want{image: true}, nil},
		{"prefill first", "{type: disagg-profile-handler, parameters: {stageOrder: Prefill_First}}", want{true, true, true, true, true}, nil},
		{"decode first", "{type: disagg-profile-handler, parameters: {stageOrder: decode}}", want{}, nil},
		{"the older one, always", "{type: pd-profile-handler}, {type: prefill-header-handler}", want{true, true, true, true, true}, nil},
		{"the older one, always by its threshold", "{type: pd-profile-handler, parameters: {threshold: 0, hashBlockSize: 5}}", want{true, true, true, true, true}, nil},
		{"the older one, by bytes", "{type: pd-profile-handler, parameters: {threshold: 399, prefixPluginName: prefix-cache-scorer}}", want{false, true, true, false, true}, nil},
		{"the older one, by a decider", "{type: pd-profile-handler, parameters: {deciderPluginName: prefix-based-pd-decider}}, " + uncached, want{false, false, true, false, true}, nil},
		{"the older one, by the decider that it takes for granted", "{type: pd-profile-handler}, " + uncached, want{false, false, true, false, true}, nil},
		{"with what wrote headers", "{type: disagg-headers-handler, parameters: {prefillProfile: prefill, encodeProfile: encode}}, {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}, " + always, want{true, true, true, true, true}, nil},
		{"by another's cache", "{type: disagg-profile-handler, parameters: {deciders: {prefill: prefix-based-pd-decider}}}, {type: approx-prefix-cache-producer, name: p}, {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 100, promptTokens: 200, prefixMatchInfoProducerName: p}}", want{false, false, true, false, true}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := parse(t, poolYAML+pickerHead+"plugins:\n- "+strings.ReplaceAll(tt.handler, "}, {", "}\n- {")+stageProfiles)
			var told []string
			for _, w := range c.Warnings {
				if !strings.Contains(w, "is used by no profile") {
					told = append(told, w)
				}
			}
			require.Len(t, told, len(tt.warnings), "%q", c.Warnings)
			for i, w := range tt.warnings {
				require.Contains(t, told[i], w)
			}
			p, err := policy(c, llama).Profile()
			require.NoError(t, err)
			p.Seed = 1
			s, err := scheduling.New(p)
			require.NoError(t, err)
			fleet := stageFleet()
			ask := func(req *types.Request) bool {
				d, err := s.Schedule(t.Context(), req, fleet)
				require.NoError(t, err)
				require.True(t, d.Endpoint.Roles.Answers())
				helper := d.Prefill()
				if helper != nil {
					require.Equal(t, types.RolePrefill, helper.Roles)
				}
				d.FirstToken()
				d.Done(types.Outcome{Status: 200})
				return helper != nil
			}
			photo := splitting(300, 1)
			photo.CacheSalt = "another's"
			got := want{short: ask(splitting(50, 0)), middle: ask(splitting(140, 0)), long: ask(splitting(300, 0)), image: ask(photo)}
			for range 20 { // now whoever answers has it
				got.cached = ask(splitting(300, 0))
			}
			require.Equal(t, tt.want, got)
			alone := splitting(300, 0)
			alone.Split = false
			require.False(t, ask(alone))
		})
	}
}

// TestStageFilters: what a step's profile filters is about its servers alone, and they have to be healthy.
func TestStageFilters(t *testing.T) {
	c := parse(t, poolYAML+pickerHead+`plugins:
- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}
- {type: always-disagg-pd-decider}
- {type: prefill-filter}
- {type: decode-filter}
- {type: label-filter, name: big, parameters: {match: {size: big}}}
- {type: label-filter, name: small, parameters: {match: {size: small}}}
schedulingProfiles:
- {name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: small}]}
- {name: prefill, plugins: [{pluginRef: prefill-filter}, {pluginRef: big}]}
`)
	p, err := policy(c, llama).Profile()
	require.NoError(t, err)
	require.Equal(t, safe+"decode-filter small shed-filter{0 0} | | MaxScore | 0", wiring(p))
	var names []string
	for _, f := range p.PrefillFilters {
		names = append(names, f.Name)
	}
	require.Equal(t, []string{"healthy-filter", "model-served-filter", "fresh-filter", "prefill-filter", "big"}, names)
	s, err := scheduling.New(p)
	require.NoError(t, err)
	fleet := stageFleet()
	fleet[0].Labels["size"], fleet[3].Labels["size"] = "big", "small"
	d, err := s.Schedule(t.Context(), splitting(5, 0), fleet)
	require.NoError(t, err)
	require.Equal(t, "decode3", d.Endpoint.ID)
	require.Equal(t, "prefill0", d.Prefill().ID)
	d.Done(types.Outcome{})

	draining := *fleet[0]
	draining.State = types.Draining
	fleet[0] = &draining
	d, err = s.Schedule(t.Context(), splitting(5, 0), fleet)
	require.NoError(t, err)
	require.Nil(t, d.Prefill(), "who answers does it then")
	d.Done(types.Outcome{})
}

// TestEncodeStage: who encodes for others is chosen by a profile of its own.
func TestEncodeStage(t *testing.T) {
	for _, tt := range []struct {
		deciders    string
		text, image bool
	}{
		{"encode: always-disagg-multimodal-decider", false, true},
		{"encode: always-disagg-pd-decider, prefill: always-disagg-pd-decider", true, true},
	} {
		c := parse(t, poolYAML+pickerHead+"plugins:\n- {type: disagg-profile-handler, parameters: {deciders: {"+tt.deciders+"}}}\n- {type: always-disagg-multimodal-decider}\n- {type: always-disagg-pd-decider}"+stageProfiles)
		e := policy(c, llama).Encode()
		require.NotNil(t, e)
		require.Equal(t, tt.text, e.Wanted(splitting(5, 0)))
		require.Equal(t, tt.image, e.Wanted(splitting(5, 1)))
		p, err := e.Profile()
		require.NoError(t, err)
		require.Equal(t, "healthy-filter model-served-filter fresh-filter encode-filter | | Random | 1", wiring(p))
	}
	c := parse(t, poolYAML+pickerHead+"plugins:\n- {type: disagg-profile-handler}"+stageProfiles)
	require.Nil(t, policy(c, llama).Encode())
}

// TestRollout: of what a rollout has begun, one revision serves a request.
func TestRollout(t *testing.T) {
	const head = "plugins:\n- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider, encode: always-disagg-pd-decider}}}\n- {type: always-disagg-pd-decider}\n"
	c := parse(t, poolYAML+pickerHead+head+"- {type: disaggregatedset-rollout-screener, parameters: {revisionGating: {mode: max-role, revisionLabelKey: rev}}}"+stageProfiles)
	require.Empty(t, c.Warnings)
	p, err := policy(c, llama).Profile()
	require.NoError(t, err)
	require.Contains(t, wiring(p), " disaggregatedset-rollout-screener ")
	s, err := scheduling.New(p)
	require.NoError(t, err)
	fleet := stageFleet()
	for i, ep := range fleet[:4] {
		ep.Labels["rev"] = string(rune('A' + i%2))
	}
	for range 40 {
		d, err := s.Schedule(t.Context(), splitting(5, 0), fleet)
		require.NoError(t, err)
		require.Equal(t, d.Endpoint.Labels["rev"], d.Prefill().Labels["rev"])
		d.Done(types.Outcome{})
	}
	e := policy(c, llama).Encode()
	require.True(t, e.Pairs(fleet[0], fleet[2]))
	require.False(t, e.Pairs(fleet[0], fleet[1]))

	c = parse(t, poolYAML+pickerHead+head+`- type: disaggregatedset-rollout-screener
  parameters:
    scope: {labelSelector: "a=b"}
    headerSelectors: [{name: revision, headerName: x-r, labelKey: rev, mode: strict}]
    revisionGating: {mode: sum, requireRoles: {values: [prefill, decode]}, revisionHeaderName: x-r, roleLabelKey: role, disableCoordination: true}
`+strings.TrimPrefix(stageProfiles, "\n"))
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], "plugins[2].parameters: scope.labelSelector, headerSelectors, revisionGating.requiredRoles, revisionGating.revisionHeaderName, revisionGating.roleLabelKey have no effect here")

	c = parse(t, poolYAML+pickerHead+head+"- {type: disaggregatedset-rollout-screener, parameters: {revisionGating: {mode: disabled}}}"+stageProfiles)
	p, err = policy(c, llama).Profile()
	require.NoError(t, err)
	require.NotContains(t, wiring(p), "screener")
}

// TestPrimaryPort: where the proxy of a server takes requests for all ranks.
func TestPrimaryPort(t *testing.T) {
	for handler, want := range map[string]int{
		"{type: data-parallel-profile-handler}":                                  8000,
		"{type: data-parallel-profile-handler, parameters: {primaryPort: 9000}}": 9000,
		"{type: data-parallel-profile-handler, parameters: {primaryPort: 0}}":    0,
		"{type: single-profile-handler}":                                         0,
		"{type: pd-profile-handler, parameters: {primaryPort: 8001}}":            8001,
	} {
		text := "plugins: [" + handler + ", {type: queue-scorer}]\nschedulingProfiles: [{name: decode, plugins: [{pluginRef: queue-scorer}]}"
		if strings.Contains(handler, "pd-profile") {
			text += ", {name: prefill}"
		}
		c := parse(t, poolYAML+pickerHead+text+"]\n")
		require.Equal(t, want, policy(c, llama).PrimaryPort(), handler)
	}
}

// TestOwnStages: ours may be declared as such.
func TestOwnStages(t *testing.T) {
	c := parse(t, poolYAML+pickerHead+`plugins:
- {type: staged-splitter, parameters: {always: true, plugins: [{pluginRef: queue-scorer}, {pluginRef: max-score-picker}]}}
- {type: queue-scorer}
- {type: prefix-cache-scorer}
- {type: max-score-picker}
schedulingProfiles: [{name: default, plugins: [{pluginRef: prefix-cache-scorer}, {pluginRef: staged-splitter}]}]
`)
	require.Empty(t, c.Warnings)
	p, err := policy(c, llama).Profile()
	require.NoError(t, err)
	require.IsType(t, &plugins.Staged{}, p.Splitter)
	require.Nil(t, p.PrefillFilters)
}

// TestRoleLabels: a configuration that goes by other labels than the picker does is warned of.
func TestRoleLabels(t *testing.T) {
	const kaito = `plugins:
- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}
- {type: always-disagg-pd-decider}
- {type: by-label-selector, name: prefill-filter, parameters: {matchLabels: {inference-role: prefill}}}
- {type: label-selector-filter, name: decode-filter, parameters: {matchExpressions: [{key: inference-role, operator: In, values: [decode]}]}}
schedulingProfiles:
- {name: decode, plugins: [{pluginRef: decode-filter}]}
- {name: prefill, plugins: [{pluginRef: prefill-filter}]}
`
	c := parse(t, poolYAML+pickerHead+kaito)
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], "schedulingProfiles[1] (prefill) goes by the label inference-role, but which servers it is for is what their label llm-d.ai/role says: see -role-label")
	c, err := config.Loader{RoleLabel: "inference-role"}.Parse("c.yaml", []byte(poolYAML+pickerHead+kaito))
	require.NoError(t, err)
	require.Empty(t, c.Warnings)

	c = parse(t, poolYAML+pickerHead+"plugins: [{type: encode-filter}]\nschedulingProfiles: [{name: default, plugins: [{pluginRef: encode-filter}]}]\n")
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], "schedulingProfiles[0].plugins[0] (encode-filter): servers that are not for decode, by their label llm-d.ai/role, are asked to answer nothing; if this picker is for one step alone, start it with -role-label -")
	c, err = config.Loader{RoleLabel: "-"}.Parse("c.yaml", []byte(poolYAML+pickerHead+"plugins: [{type: encode-filter}]\n"))
	require.NoError(t, err)
	require.Empty(t, c.Warnings)
}

func TestStageErrors(t *testing.T) {
	const handler = "plugins:\n- {type: disagg-profile-handler, parameters: {"
	for text, want := range map[string]string{
		handler + "deciders: {prefill: queue-scorer}}}": `plugins[0].parameters.deciders.prefill is "queue-scorer" of type queue-scorer, want one of always-disagg-multimodal-decider, always-disagg-pd-decider, prefix-based-pd-decider`,
		handler + "deciders: {prefill: gone}}}":         `plugins[0].parameters.deciders.prefill is "gone", which no plugin is named`,
		handler + "deciders: {encode: p}}}\n- {type: prefix-based-pd-decider, name: p, parameters: {nonCachedTokens: 1}}": "plugins[0].parameters.deciders.encode is a prefix-based-pd-decider, want a always-disagg-multimodal-decider or always-disagg-pd-decider",
		handler + "profiles: {prefill: pre}, deciders: {prefill: p}}}\n- {type: always-disagg-pd-decider, name: p}":       `plugins[0].parameters.profiles.prefill names profile "pre", which is not there`,
		handler + "profiles: {decode: dec}, deciders: {prefill: p}}}\n- {type: always-disagg-pd-decider, name: p}":        `plugins[0].parameters.profiles.decode names profile "dec", which is not there`,
		handler + "stageOrder: encode-first}}": `plugins[0].parameters.stageOrder is "encode-first", want decode-first or prefill-first`,
		handler + "stageOrder: prefill-first, deciders: {prefill: p}}}\n- {type: always-disagg-pd-decider, name: p}":                            "plugins[0].parameters.deciders.prefill is given, but with stageOrder prefill-first every prompt is computed by a server of its own: want one of them",
		handler + "stageOrder: prefill-first, profiles: {fallback: f}}}":                                                                        "plugins[0].parameters.profiles.fallback is given, but is for stageOrder decode-first alone",
		"plugins:\n- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: -1}}":                                                        "plugins[0].parameters.nonCachedTokens is -1, want an integer of at least 0",
		"plugins:\n- {type: prefix-based-pd-decider, parameters: {prefixMatchInfoProducerName: queue-scorer}}":                                  `plugins[0].parameters.prefixMatchInfoProducerName is "queue-scorer" of type queue-scorer, which does not know what is cached`,
		"plugins:\n- {type: pd-profile-handler, parameters: {primaryPort: 70000}}":                                                              "plugins[0].parameters.primaryPort is 70000, want an integer from 0 to 65535",
		"plugins:\n- {type: pd-profile-handler, parameters: {threshold: 1, deciderPluginName: p}}\n- {type: always-disagg-pd-decider, name: p}": "plugins[0].parameters has both, want one of deciderPluginName and threshold",
		"plugins:\n- {type: disaggregatedset-rollout-screener}":                                                                                 "plugins[0].parameters.revisionGating.mode is required",
		"plugins:\n- {type: disaggregatedset-rollout-screener, parameters: {revisionGating: {mode: most}}}":                                     `revisionGating.mode is "most", want max-role, sum or disabled`,
	} {
		c, err := config.Loader{}.Parse("c.yaml", []byte(poolYAML+pickerHead+text+stageProfiles))
		err = wrong(c, err)
		require.Error(t, err, text)
		require.Contains(t, err.Error(), want, text)
	}
	c, err := config.Loader{}.Parse("c.yaml", []byte(poolYAML+pickerHead+handler+"deciders: {prefill: p}}}\n- {type: always-disagg-pd-decider, name: p}\nschedulingProfiles: [{name: decode}]\n"))
	require.ErrorContains(t, wrong(c, err), `plugins[0].parameters.deciders.prefill names profile "prefill", which is not there; in schedulingProfiles there are decode`)
	c, err = config.Loader{}.Parse("c.yaml", []byte(poolYAML+pickerHead+handler+"deciders: {prefill: p}}}\n- {type: always-disagg-pd-decider, name: p}\nschedulingProfiles: [{name: decode}, {name: prefill, seed: 5}]\n"))
	require.ErrorContains(t, wrong(c, err), `schedulingProfiles[1].seed is for all requests alike: give it to the profile "decode"`)
}
