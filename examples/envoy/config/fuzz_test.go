package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
)

// FuzzParse: no configuration makes Parse panic, errors and warnings say where, and what is
// good can be put in force, whatever is wrong beside it. Strict lets no more through.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*/*")
	must(f, err)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		must(f, err)
		f.Add(data, strings.HasSuffix(path, ".json"))
		f.Add([]byte(poolYAML+"---\n"+string(data)), false)
	}
	for _, s := range []string{"--- |\n---\n...\n%", "\ufeffa: b: c\r--- x\r\n", "? a\n: *b", "- &a [*a]", "a: \"\u2028--- \"", "!!binary x: y", "<<: {a: b}"} {
		f.Add([]byte(s), false)
	}
	for _, s := range []string{
		gate + "flowControl: {maxBytes: 1.5Gi, maxRequests: \"1k\", defaultRequestTTL: 30s, defaultPriorityBand: {maxRequests: 5}, priorityBands: [{priority: 100, maxBytes: 5e6}, {priority: -1, fairnessPolicyRef: round-robin-fairness-policy}]}\n",
		gate + "plugins: [{type: concurrency-detector, parameters: {concurrencyMode: tokens}}, {type: static-usage-limit-policy, parameters: {threshold: 0.5}}]\nsaturationDetector: {pluginRef: concurrency-detector}\n",
		"admission: {bands: [{name: a, priority: 1, floor: 0.1}, {name: b, ceiling: 0.5, maxRequests: -1}], tenants: {x: {weight: 2}}, budgets: [{tenant: x, tokensPerMinute: 5}], detectors: [{type: learned-batch-detector}]}\n",
		"plugins:\n- {type: disagg-profile-handler, parameters: {stageOrder: decode-first, profiles: {decode: decode}, deciders: {prefill: prefix-based-pd-decider, encode: always-disagg-multimodal-decider}}}\n- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 5}}\n- {type: always-disagg-multimodal-decider}\n- {type: disaggregatedset-rollout-screener, parameters: {revisionGating: {mode: sum}}}" + stageProfiles,
		"plugins:\n- {type: pd-profile-handler, parameters: {threshold: 5, primaryPort: 8000}}" + stageProfiles,
		"plugins: [{type: staged-splitter, parameters: {always: true, plugins: [{pluginRef: s}]}}, {type: max-score-picker, name: s}]\n",
	} {
		f.Add([]byte(poolYAML+pickerHead+s), false)
	}
	for _, s := range []string{
		"spec2: 1\n---\nkind: InferencePol\n---\n{}\n---\n- 1\n---\nkind: {\n", labYAML + labYAML + strings.Replace(modelYAML, "spec:", "spce: {}\nspec:", 1),
		pickerHead + "featureGates: [flowControl=true, dataLayer=false, x=y]\nrequestHandler: {parsers: [{pluginRef: openai-parser}]}\nflowControl: {saturationDetector: {pluginRef: utilization-detector}, noEndpointRequestTTL: 5s, defaultNegativePriorityBand: {maxRequests: 1}}\n",
		pickerHead + "plugins: [{type: metrics-data-source, parameters: {path: m, scheme: https}}, {type: core-metrics-extractor, parameters: {engineConfigs: [{name: x, kvUsageSpec: 'a{b=c,d=\"e\"}'}]}}, {type: shed-filter, parameters: {a: {b: 1}}}]\n",
		"---\napiVersion: v1\nkind: ConfigMap\ndata:\n  a.yaml: |\n    kind: EndpointPickerConfig\n    apiVersion: llm-d.ai/v1\n    plugin: x\n",
		"---\nkind: List\napiVersion: v1\nitems:\n- {apiVersion: llm-d.ai/v1, kind: InferenceObjective, metadata: {name: o}, spec: {poolRefs: [{name: a}], poolSelector: {matchExpressions: [{key: a, operator: Exists}]}, extra: &x [1], more: *x}}\n",
	} {
		f.Add([]byte(poolYAML+s), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		name := "f.yaml"
		if isJSON {
			name = "f.json"
		}
		c, err := config.Loader{}.Parse(name, data)
		strict, strictErr := config.Loader{Strict: true}.Parse(name, data)
		if strictErr == nil && (err != nil || len(strict.Rejected) < len(c.Rejected)) {
			t.Fatalf("Strict lets through what is an error otherwise: %v", err)
		}
		loads := inspect(t, name, data)
		if err != nil {
			placed(t, name, err)
			return
		}
		for _, r := range c.Rejected {
			placed(t, name, r.Err)
		}
		for _, text := range c.Warnings {
			if !strings.HasPrefix(text, name+":") {
				t.Fatalf("warning %q does not say where", text)
			}
		}
		if len(c.Change.Objects) > loads {
			t.Fatalf("%d manifests, Inspect found %d", len(c.Change.Objects), loads)
		}
		for _, pool := range c.Pools() {
			p, err := policy(c, pool).Profile()
			must(t, err)
			if _, err := scheduling.New(p); err != nil {
				t.Fatal(err)
			}
			if o := policy(c, pool).Admission(); o != nil {
				c, err := admission.New(*o)
				must(t, err)
				c.Close()
			}
			if policy(c, pool).Key() == "" {
				t.Fatalf("pool %s has no key", pool)
			}
			if _, ok := c.Change.Endpoints[pool]; !ok {
				t.Fatalf("pool %s has no list of endpoints", pool)
			}
		}
		must(t, datastore.New(datastore.Options{DeclaredPoolsOnly: true}).Commit(c.Change))
		again, err := config.Loader{}.Parse(name, data)
		must(t, err)
		for _, pool := range c.Pools() {
			if policy(c, pool).Key() != policy(again, pool).Key() || policy(c, pool).AdmissionKey() != policy(again, pool).AdmissionKey() {
				t.Fatalf("the key of pool %s is another the second time", pool)
			}
		}
	})
}

// placed fails if a line of an error does not say where.
func placed(t *testing.T, name string, err error) {
	t.Helper()
	for _, one := range leaves(err) {
		text := one.Error()
		if !strings.HasPrefix(text, "config: "+name+":") && !strings.HasPrefix(text, "config: and ") {
			t.Fatalf("error %q does not say where", text)
		}
		var e *config.Error
		if errors.As(one, &e) && (e.Line < 0 || e.Document < 0 || e.Document > 0 && e.Line == 0) {
			t.Fatalf("error %q is at line %d of document %d", text, e.Line, e.Document)
		}
	}
}

func leaves(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, one := range joined.Unwrap() {
		out = append(out, leaves(one)...)
	}
	return out
}

// inspect returns how many objects load by themselves.
func inspect(t *testing.T, name string, data []byte) int {
	t.Helper()
	lines := 1 + strings.Count(strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(string(data)), "\n")
	n := 0
	for _, item := range (config.Loader{}).Inspect(name, data) {
		switch item.Verdict {
		case config.Loads:
			n++
		case config.Fails:
			placed(t, name, item.Err)
		}
		if item.File != name || item.Line < 0 || item.Within == "" && item.Line > lines {
			t.Fatalf("item is at line %d of %d: %+v", item.Line, lines, item)
		}
	}
	return n
}
