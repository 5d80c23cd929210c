package config_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// admissionOf says how requests wait, in one line.
func admissionOf(t testing.TB, c *config.Config, pool types.NamespacedName) string {
	t.Helper()
	o := policy(c, pool).Admission()
	if o == nil {
		if key := policy(c, pool).AdmissionKey(); key != "" {
			t.Errorf("AdmissionKey = %q without admission control", key)
		}
		return "none"
	}
	must(t, o.Validate())
	if policy(c, pool).AdmissionKey() == "" || o == policy(c, pool).Admission() {
		t.Error("no key, or not new options each time")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d %v %v |", o.MaxRequests, o.MaxBytes, o.Fairness, o.Order)
	for _, one := range o.Bands {
		name := fmt.Sprint(one.Priority)
		if one.Priority == math.MinInt {
			name = "rest"
		}
		fmt.Fprintf(&b, " %s=%s{%d %d %v %g}", name, one.Name, one.MaxRequests, one.MaxBytes, one.MaxWait, one.Ceiling)
	}
	fmt.Fprintf(&b, " | %T%+v", o.Detector, o.Detector)
	return strings.ReplaceAll(b.String(), "admission.", "")
}

const gate = "featureGates: [flowControl]\n"

func TestFlowControl(t *testing.T) {
	rest := func(s string) string { return "rest=others{0 0 " + s + "} | <nil><nil>" }
	for _, tt := range []struct {
		name, text string
		want       string
		warnings   []string
	}{
		{"no gate", "plugins: [{type: queue-scorer}]\n", "none", nil},
		{"the gate alone", gate, "0 0 first-come fifo | " + rest("0s 0"), nil},
		{"as in its documentation", gate + `plugins:
- {type: queue-scorer}
- {type: static-usage-limit-policy}
- {type: round-robin-fairness-policy, name: rr}
- {type: edf-ordering-policy}
flowControl:
  maxBytes: 1Gi
  maxRequests: "1000"
  defaultRequestTTL: 45s
  defaultPriorityBand: {priority: 0, maxBytes: 256Mi, maxRequests: 1k, fairnessPolicyRef: rr, orderingPolicyRef: edf-ordering-policy}
  priorityBands:
  - {priority: 0, maxRequests: 20, fairnessPolicyRef: rr, orderingPolicyRef: edf-ordering-policy}
  - {priority: 100, maxBytes: 500Mi, maxRequests: "100", fairnessPolicyRef: rr, orderingPolicyRef: edf-ordering-policy}
  - {priority: 99, fairnessPolicyRef: rr, orderingPolicyRef: edf-ordering-policy}
  usageLimitPolicyPluginRef: static-usage-limit-policy
`, "1000 1073741824 virtual-tokens earliest-deadline | 101=above 100{1000 268435456 45s 0} 100=100{100 524288000 45s 0} 99=99{0 0 45s 0}" +
			" 1=above 0{1000 268435456 45s 0} 0=0{20 0 45s 0} rest=below 0{1000 268435456 45s 0} | <nil><nil>",
			[]string{"flowControl.defaultPriorityBand.fairnessPolicyRef: round-robin-fairness-policy is taken as virtual-tokens"}},
		{"policies that need not be declared", gate + "flowControl: {priorityBands: [{priority: -1, orderingPolicyRef: slo-deadline-ordering-policy, fairnessPolicyRef: global-strict-fairness-policy}]}\n",
			"0 0 first-come earliest-deadline | 0=above -1{0 0 0s 0} -1=-1{0 0 0s 0} rest=below -1{0 0 0s 0} | <nil><nil>",
			[]string{"flowControl.priorityBands[0].orderingPolicyRef: slo-deadline-ordering-policy holds for all bands here, also for flowControl.defaultPriorityBand"}},
		{"a usage limit", gate + "plugins: [{type: static-usage-limit-policy, parameters: {threshold: 0.8}}]\n", "0 0 first-come fifo | " + rest("0s 0.8"), nil},
		{"a usage limit by name", gate + "plugins: [{type: static-usage-limit-policy, name: l, parameters: {threshold: 0.5}}]\nflowControl: {usageLimitPolicyPluginRef: l}\n", "0 0 first-come fifo | " + rest("0s 0.5"), nil},
		{"bounds of 0", gate + "flowControl: {maxBytes: 0, maxRequests: \"0\", defaultRequestTTL: 0s}\n", "0 0 first-come fifo | " + rest("0s 0"),
			[]string{"flowControl: 0 stands for the default here, 1073741824 bytes or 10000 requests"}},
		{"a detector", gate + "plugins: [{type: queue-scorer}, {type: utilization-detector, parameters: {queueDepthThreshold: 9, kvCacheUtilThreshold: 0.7}}]\n",
			"0 0 first-come fifo | rest=others{0 0 0s 0} | Utilization{Queue:9 KVUsage:0.7 ReadingsOnly:false}", nil},
		{"thresholds", gate + "saturationDetector: {queueDepthThreshold: 3}\n", "0 0 first-come fifo | rest=others{0 0 0s 0} | Utilization{Queue:3 KVUsage:0 ReadingsOnly:false}", nil},
		{"a detector that is not declared", gate + "saturationDetector: {pluginRef: utilization-detector}\n", "0 0 first-come fifo | rest=others{0 0 0s 0} | Utilization{Queue:0 KVUsage:0 ReadingsOnly:false}", nil},
		{"places", gate + "plugins: [{type: queue-scorer}, {type: concurrency-detector, name: c, parameters: {maxConcurrency: 7, headroom: 0.2, maxTokenConcurrency: 5}}]\nsaturationDetector: {pluginRef: c}\n" +
			"schedulingProfiles: [{name: p, plugins: [{pluginRef: c}, {pluginRef: queue-scorer}]}]\n",
			"0 0 first-come fifo | rest=others{0 0 0s 0} | Concurrency{Requests:7 Tokens:0}",
			[]string{"plugins[1].parameters.maxTokenConcurrency has no effect", "plugins[1].parameters.headroom has no effect"}},
		{"tokens", gate + "plugins: [{type: concurrency-detector, parameters: {concurrencyMode: tokens, maxConcurrency: 7}}]\nsaturationDetector: {pluginRef: concurrency-detector}\n",
			"0 0 first-come fifo | rest=others{0 0 0s 0} | Concurrency{Requests:2147483647 Tokens:1000000}",
			[]string{"plugins[0].parameters.maxConcurrency has no effect"}},
		{"places that are not declared", gate + "saturationDetector: {pluginRef: concurrency-detector}\n", "0 0 first-come fifo | rest=others{0 0 0s 0} | Concurrency{Requests:0 Tokens:0}", nil},
		{"without the gate", "plugins: [{type: queue-scorer}, {type: fcfs-ordering-policy, parameters: {a: 1}}]\nflowControl: {maxRequests: 5}\n", "none",
			[]string{"plugins[1].parameters (fcfs-ordering-policy) has no effect here", "flowControl has no effect without flowControl in featureGates", "plugins[1] (fcfs-ordering-policy) has no effect without"}},
		{"not named", gate + "plugins: [{type: queue-scorer}, {type: concurrency-detector}]\n", "0 0 first-come fifo | " + rest("0s 0"), []string{"plugins[1] (concurrency-detector) is named by nothing"}},
		{"ours", "admission: {maxRequests: 50, fairness: prefix-locality, tenants: {a: {weight: 2}}, bands: [{name: all, maxWait: 5s, ceiling: 0.9}], detectors: [{type: backlog-detector, parameters: {tokens: 5}}]}\n",
			"50 0 prefix-locality fifo | rest=all{0 0 5s 0.9} | Backlog{Tokens:5}", nil},
		{"ours with what Envoy cannot do", "admission: {revoke: true, bands: [{name: all}]}\n", "0 0 virtual-tokens fifo | rest=all{0 0 0s 0} | <nil><nil>",
			[]string{"admission.revoke has no effect here"}},
		{"ours with their detector", "admission: {bands: [{name: all}]}\nsaturationDetector: {queueDepthThreshold: 3}\n",
			"0 0 virtual-tokens fifo | rest=all{0 0 0s 0} | Utilization{Queue:3 KVUsage:0 ReadingsOnly:false}", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := parse(t, poolYAML+pickerHead+tt.text)
			if got := admissionOf(t, c, llama); got != tt.want {
				t.Errorf("admission:\n%s, want\n%s", got, tt.want)
			}
			if len(c.Warnings) != len(tt.warnings) {
				t.Fatalf("Warnings = %q, want %q", c.Warnings, tt.warnings)
			}
			for i, want := range tt.warnings {
				require.Contains(t, c.Warnings[i], "EndpointPickerConfig: "+want)
			}
		})
	}
}

// What is said of flow control changes nothing of the profile, and each has its key.
func TestAdmissionKey(t *testing.T) {
	text := "plugins: [{type: queue-scorer}]\n"
	plain := parse(t, poolYAML+pickerHead+text)
	gated := parse(t, poolYAML+pickerHead+text+gate)
	again := parse(t, poolYAML+pickerHead+gate+"plugins:\n- {type: queue-scorer}\n")
	other := parse(t, poolYAML+pickerHead+text+gate+"flowControl: {maxRequests: 5}\n")
	if policy(plain, llama).Key() != policy(gated, llama).Key() || policy(gated, llama).Key() != policy(other, llama).Key() {
		t.Error("the profile's key follows admission control")
	}
	if policy(plain, llama).AdmissionKey() != "" || policy(gated, llama).AdmissionKey() == "" || policy(gated, llama).AdmissionKey() != policy(again, llama).AdmissionKey() || policy(gated, llama).AdmissionKey() == policy(other, llama).AdmissionKey() {
		t.Error("the key must follow what is declared of admission control")
	}
}

// What a profile says of the same endpoints holds for admission control too.
func TestAdmissionTakesOfTheProfile(t *testing.T) {
	c := parse(t, poolYAML+pickerHead+gate+"plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: p, metricsTTL: 2s, outputTokens: 64, plugins: [{pluginRef: queue-scorer}]}]\n")
	if o := policy(c, llama).Admission(); o.MetricsTTL != 2*time.Second || o.OutputTokens != 64 {
		t.Errorf("MetricsTTL %v, OutputTokens %d; want 2s and 64", o.MetricsTTL, o.OutputTokens)
	}
}

// Detectors of the program's own can be named.
func TestRegistryOfDetectors(t *testing.T) {
	reg := plugins.NewRegistry()
	reg.RegisterDetector("spy-detector", func(json.RawMessage) (func() admission.Detector, error) {
		return func() admission.Detector { return admission.Backlog{Tokens: 7} }, nil
	})
	c, err := config.Loader{Registry: reg}.Parse("c.yaml", []byte(poolYAML+pickerHead+"admission: {detectors: [{type: spy-detector}]}\n"))
	must(t, err)
	if got := policy(c, llama).Admission().Detector; got != (admission.Backlog{Tokens: 7}) {
		t.Errorf("Detector = %+v", got)
	}
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1000": 1000, `"1000"`: 1000, "1k": 1000, "1Ki": 1024, "512Mi": 512 << 20, "1.5G": 1_500_000_000, "1e3": 1000, "1E3": 1000,
		`"1E"`: 1e18, "1500m": 2, "1n": 1, "0.5": 1, "1.5Ki": 1536, `"+5"`: 5, "7Ei": 7 << 60, ".5k": 500,
		"-1": -1, "lots": -1, "1Zi": -1, "1 k": -1, "1kk": -1, `""`: -1, "8Ei": -1, "1e99": -1, "[]": -1, "1K": -1, "true": -1, "1e999999999": -1, `"0x10"`: -1,
	} {
		c, err := config.Loader{}.Parse("c.yaml", []byte(poolYAML+pickerHead+gate+"flowControl: {maxBytes: "+text+"}\n"))
		if want < 0 {
			if err == nil || !strings.Contains(err.Error(), "config: c.yaml:9:15: EndpointPickerConfig: flowControl.maxBytes is ") || !strings.Contains(err.Error(), ", want a quantity") {
				t.Errorf("%s: %v, want an error", text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := policy(c, llama).Admission().MaxBytes; got != want {
			t.Errorf("%s is %d, want %d", text, got, want)
		}
	}
}
