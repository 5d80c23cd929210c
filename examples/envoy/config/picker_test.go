package config_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

const pickerHead = `---
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
`

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

const safe = "healthy-filter model-served-filter previous-answer-filter fresh-filter "

func TestPickerConfig(t *testing.T) {
	shed := "shed-filter{0 0} | "
	for _, tt := range []struct {
		name, text string
		want       string
		warnings   []string
	}{
		{"scorers of version 0.5", read(t, "testdata/picker/scorers-0.5.yaml"),
			safe + shed + "queue-scorer*1 kv-cache-scorer*1 prefix-cache-scorer*1 | MaxScore | 0", nil},
		{"default of version 1.5", read(t, "testdata/picker/default-1.5.yaml"),
			safe + "utilization-detector{5 0.8} | queue-scorer*2 kv-cache-utilization-scorer*2 prefix-cache-scorer*3 | MaxScore | 0",
			[]string{"plugins[9].parameters.metricsStalenessThreshold has no effect here"}},
		{"nothing", "", wiring(plugins.Default()), nil},
		{"nothing but what has nothing to do", "plugins: [{type: single-profile-handler}]\nfeatureGates: [prepareDataPlugins]\n", wiring(plugins.Default()), nil},
		{"limits for the default", "saturationDetector: {queueDepthThreshold: 9, kvCacheUtilThreshold: 0.5, metricsStalenessThreshold: 200ms}\n",
			strings.Replace(wiring(plugins.Default()), "shed{0 0}", "shed{9 0.5}", 1), []string{"saturationDetector.metricsStalenessThreshold has no effect here"}},
		{"a detector for the default", "plugins: [{type: utilization-detector, name: d, parameters: {queueDepthThreshold: 9, headroom: 0.2}}]\nsaturationDetector: {pluginRef: d}\n",
			strings.Replace(wiring(plugins.Default()), "shed{0 0}", "shed{9 0}", 1), []string{"plugins[0].parameters.headroom has no effect here"}},
		{"no profile", "plugins: [{type: queue-scorer}, {type: random-picker, parameters: {maxNumOfEndpoints: 3}}, {type: label-filter, parameters: {match: {a: b}}}, {type: utilization-detector}]\n",
			safe + "label-filter utilization-detector{0 0} | queue-scorer*1 | Random | 2", nil},
		{"old thresholds", "saturationDetector: {queueDepthThreshold: 8, kvCacheUtilThreshold: 0.75}\nplugins: [{type: queue-scorer}]\n",
			safe + "shed-filter{8 0.75} | queue-scorer*1 | MaxScore | 0", nil},
		{"a detector as a filter", "plugins: [{type: utilization-detector, name: d, parameters: {queueDepthThreshold: 9}}, {type: label-filter, parameters: {match: {a: b}}}, {type: queue-scorer}]\n" +
			"schedulingProfiles: [{name: p, plugins: [{pluginRef: d}, {pluginRef: label-filter}, {pluginRef: queue-scorer, weight: 0.5}]}]\n",
			safe + "d{9 0} label-filter | queue-scorer*0.5 | MaxScore | 0", nil},
		{"ours", "plugins: [{type: fresh-filter}, {type: shed-filter, name: s, parameters: {maxQueue: 3, hardQueue: 9}}, {type: latency-cost}, {type: power-of-two-picker}]\n" +
			"schedulingProfiles: [{name: p, plugins: [{pluginRef: s}, {pluginRef: fresh-filter}, {pluginRef: latency-cost}, {pluginRef: power-of-two-picker}], fallbacks: 2, metricsTTL: 2s, bookingTTL: 1m, outputTokens: 64, seed: 7}]\n",
			"s{3 0} fresh-filter | -latency-cost | PowerOfTwo | 2", nil},
		{"names that are taken", "plugins: [{type: queue-scorer, name: healthy-filter}, {type: kv-cache-utilization-scorer, name: shed-filter}, {type: running-requests-size-scorer, name: shed-filter-2}, {type: lora-affinity-scorer, name: max-score-picker}]\n",
			"healthy-filter-2 model-served-filter previous-answer-filter fresh-filter shed-filter-3{0 0} | healthy-filter*1 shed-filter*1 shed-filter-2*1 max-score-picker*1 | MaxScore | 0", nil},
		{"not used", "plugins: [{type: queue-scorer}, {type: random-picker}, {type: max-score-picker, name: m, parameters: {maxNumOfEndpoints: 2}}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: queue-scorer}]}]\n",
			safe + shed + "queue-scorer*1 | MaxScore | 1", []string{"plugins[1] (random-picker) is used by no profile"}},
		{"a profile of nothing", "schedulingProfiles: [{name: p}]\n", safe + shed[:len(shed)-1] + " | MaxScore | 0", nil},
		{"references to what need not be declared", "plugins: [{type: queue-scorer}, {type: metrics-data-source, name: m, parameters: {path: /m}}, {type: core-metrics-extractor}]\n" +
			"saturationDetector: {pluginRef: utilization-detector}\nparser: {pluginRef: openai-parser}\ndata: {sources: [{pluginRef: m, extractors: [{pluginRef: core-metrics-extractor}]}]}\nflowControl: {}\n",
			safe + shed + "queue-scorer*1 | MaxScore | 0", nil},
		{"filters of version 0.5", "plugins: [{type: low-queue-filter, parameters: {threshold: 128}}, {type: lora-affinity-filter, parameters: {threshold: 0.999}}, {type: token-load-scorer, parameters: {queueThresholdTokens: 1000}}]\n",
			safe + "low-queue-filter lora-affinity-filter " + shed + "token-load-scorer*1 | MaxScore | 0", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := tt.text
			if !strings.HasPrefix(text, "apiVersion") {
				text = pickerHead + text
			}
			c := parse(t, poolYAML+"---\n"+text)
			if got := wiringOf(t, c, llama); got != tt.want {
				t.Errorf("profile:\n%s, want\n%s", got, tt.want)
			}
			if len(c.Warnings) != len(tt.warnings) {
				t.Errorf("Warnings = %q, want %q", c.Warnings, tt.warnings)
			}
			for i, want := range tt.warnings {
				if i < len(c.Warnings) && !regexp.MustCompile(`^c\.yaml:\d+(:\d+)?: EndpointPickerConfig: `+regexp.QuoteMeta(want)).MatchString(c.Warnings[i]) {
					t.Errorf("warning %q, want %q", c.Warnings[i], want)
				}
			}
			if got := strings.Contains(text, "enableLegacyMetrics"); c.LegacyMetrics != got {
				t.Errorf("LegacyMetrics = %v", c.LegacyMetrics)
			}
		})
	}
}

// prefixRegistry tells of each prefix-cache-scorer with what parameters it is made.
func prefixRegistry(got *plugins.PrefixOptions) *plugins.Registry {
	r := plugins.NewRegistry()
	r.Register("spy-scorer", func(p json.RawMessage) (any, error) {
		if err := plugins.Parameters(p, got); err != nil {
			return nil, err
		}
		return plugins.NewPrefixCache(*got)
	})
	return r
}

func TestPrefixParameters(t *testing.T) {
	for _, tt := range []struct {
		parameters string
		want       string // as our parameters
		warnings   []string
	}{
		{"{blockSizeTokens: 16}", "{blockBytes: 64}", nil},
		{"{blockSizeTokens: 5, maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 31250}", "{blockBytes: 64, maxPromptBlocks: 80, capacityBlocks: 9765}", []string{"blockSizeTokens is taken as 64 bytes"}},
		{"{hashBlockSize: 64, maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 31250}", "{blockBytes: 64, maxPromptBlocks: 256, capacityBlocks: 31250}", nil},
		{"{maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 31250}", "{maxPromptBlocks: 64, capacityBlocks: 7812}", nil},
		{"{blockBytes: 128, maxPrefixBlocksToMatch: 256}", "{blockBytes: 128, maxPromptBlocks: 256}", nil},
		{"{blockSize: 64, blockSizeTokens: 32, autoTune: false, prefixMatchInfoProducerName: p}", "{blockBytes: 128}", []string{"blockSize has no effect", "autoTune has no effect", "prefixMatchInfoProducerName has no effect"}},
		{"{maxPrefixTokensToMatch: 1024, maxPrefixBlocksToMatch: 1}", "{maxPromptBlocks: 16}", []string{"maxPrefixBlocksToMatch has no effect"}},
		{"{maxPrefixTokensToMatch: 1}", "{maxPromptBlocks: 1}", nil},
		{"{blockSizeTokens: 0, isolateTenants: true, maxBytes: 2097152}", "{isolateTenants: true, maxBytes: 2097152}", nil},
	} {
		t.Run(tt.parameters, func(t *testing.T) {
			key := func(p string) (string, []string) {
				c := parse(t, poolYAML+pickerHead+"plugins: [{type: prefix-cache-scorer, parameters: "+p+"}]\n")
				return policy(c, llama).Key(), c.Warnings
			}
			got, warnings := key(tt.parameters)
			if want, _ := key(tt.want); got != want {
				t.Errorf("not the same profile as with %s", tt.want)
			}
			if len(warnings) != len(tt.warnings) {
				t.Fatalf("Warnings = %q, want %q", warnings, tt.warnings)
			}
			for i, want := range tt.warnings {
				require.Contains(t, warnings[i], "plugins[0].parameters."+want)
			}
		})
	}
	if policy(parse(t, poolYAML+pickerHead+"plugins: [{type: prefix-cache-scorer}]\n"), llama).Key() ==
		policy(parse(t, poolYAML+pickerHead+"plugins: [{type: prefix-cache-scorer, parameters: {blockSizeTokens: 16}}]\n"), llama).Key() {
		t.Error("the parameters make no difference to the key")
	}
}

func TestRegistry(t *testing.T) {
	var got plugins.PrefixOptions
	c, err := config.Loader{Registry: prefixRegistry(&got)}.Parse("c.yaml", []byte(poolYAML+pickerHead+
		"plugins: [{type: spy-scorer, parameters: {blockBytes: 128}}]\n"))
	must(t, err)
	if want := safe + "shed-filter{0 0} | spy-scorer*1 | MaxScore | 0"; wiringOf(t, c, llama) != want || got.BlockBytes != 128 {
		t.Errorf("profile %s with %+v, want %s", wiringOf(t, c, llama), got, want)
	}
	_, err = config.Loader{Registry: prefixRegistry(&got)}.Parse("c.yaml", []byte(poolYAML+pickerHead+
		"plugins: [{type: spy-scorer, parameters: {blockBytes: 100}}]\n"))
	require.ErrorContains(t, err, "c.yaml:8:43: EndpointPickerConfig: plugins[0].parameters.blockBytes is 100, want a multiple of 64")
}

// Each profile is new, and the key tells whether it is declared as before.
func TestProfileKey(t *testing.T) {
	lab := strings.Replace(poolYAML, "llama}", "lab}", 1)
	general := pickerHead + "plugins: [{type: prefix-cache-scorer, parameters: {blockBytes: 128, maxBytes: 2097152}}]\n"
	bound := pickerHead + "poolRef: {name: lab}\nplugins: [{type: queue-scorer}]\n"
	c := parse(t, poolYAML+"---\n"+lab+general+bound)
	name := types.NamespacedName{Name: "lab"}

	p1, err := policy(c, llama).Profile()
	must(t, err)
	p2, err := policy(c, llama).Profile()
	must(t, err)
	if p1.Scorers[0].Scorer == p2.Scorers[0].Scorer {
		t.Error("two profiles share a plugin that learns")
	}
	if got := wiringOf(t, c, name); !strings.Contains(got, "| queue-scorer*1 |") {
		t.Errorf("profile of the pool with one of its own: %s", got)
	}
	if policy(c, llama).Key() == policy(c, name).Key() || policy(c, llama).Key() == "" {
		t.Error("the keys of different profiles are the same, or empty")
	}

	again := parse(t, poolYAML+"---\n"+lab+"---\n# moved\n"+bound+pickerHead+
		"plugins:\n- parameters:\n    maxBytes: 2097152\n    blockBytes: 128\n  type: prefix-cache-scorer\n- {type: inflight-load-producer}\n")
	if policy(c, llama).Key() != policy(again, llama).Key() || policy(c, name).Key() != policy(again, name).Key() {
		t.Error("the same declarations in another form have other keys")
	}
	changed := parse(t, poolYAML+"---\n"+lab+strings.Replace(general, "128", "192", 1)+bound)
	if policy(c, llama).Key() == policy(changed, llama).Key() || policy(c, name).Key() != policy(changed, name).Key() {
		t.Error("the key must follow the pool's declaration and no other")
	}

	all := parse(t, poolYAML+general+strings.Replace(bound, "lab", "llama", 1))
	if len(all.Warnings) != 1 || !strings.Contains(all.Warnings[0], "holds for no pool") {
		t.Errorf("Warnings = %q, want that one document holds for no pool", all.Warnings)
	}
}
