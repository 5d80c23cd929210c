package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

const poolYAML = `apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}]}
`

const endpointsHead = `apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: rack}
`

var (
	llama   = types.NamespacedName{Namespace: "default", Name: "llama"}
	mistral = types.NamespacedName{Namespace: "lab", Name: "mistral"}
)

func must(t testing.TB, err error) {
	t.Helper()
	require.NoError(t, err)
}

func parse(t testing.TB, text string) *config.Config {
	t.Helper()
	c, err := config.Loader{}.Parse("c.yaml", []byte(text))
	must(t, err)
	return c
}

// policy returns what holds for a pool that is new.
func policy(c *config.Config, pool types.NamespacedName) *config.Policy {
	p, err := c.Policy(pool, nil, nil)
	if err != nil {
		panic(err)
	}
	return p
}

// wrong joins all that is wrong with what was parsed.
func wrong(c *config.Config, err error) error {
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range c.Rejected {
		errs = append(errs, r.Err)
	}
	return errors.Join(errs...)
}

func TestLoadDirectory(t *testing.T) {
	c, err := config.Load("testdata/cluster", nil)
	must(t, err)
	if got := c.Pools(); !slices.Equal(got, []types.NamespacedName{llama, mistral}) {
		t.Errorf("Pools = %v", got)
	}
	if !c.Change.OnlyObjects || len(c.Change.Objects) != 6 {
		t.Errorf("%d objects, OnlyObjects %v; want 6 and true", len(c.Change.Objects), c.Change.OnlyObjects)
	}
	if len(c.Warnings) != 0 || c.LegacyMetrics {
		t.Errorf("Warnings %q, LegacyMetrics %v; want none", c.Warnings, c.LegacyMetrics)
	}
	want := []datastore.EndpointSpec{
		{ID: "a", Address: "10.0.0.1:8000", State: types.Draining, Engine: "vllm"},
		{
			ID: "10.0.0.2:8000", Address: "10.0.0.2:8000",
			Capacity:       types.Capacity{Speed: 2, MaxConcurrency: 256, KVTokens: 500000, CostPerHour: 2.5},
			MetricsAddress: ":9100", MetricsPath: "/m", MetricsScheme: "https", NoMetrics: true,
		},
		{ID: "b", Address: "10.0.0.3:8000", Labels: map[string]string{"app": "llama"}},
	}
	if got := c.Change.Endpoints[llama]; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("endpoints of %s:\n%+v, want\n%+v", llama, got, want)
	}
	if got := c.Change.Endpoints[mistral]; len(got) != 1 || got[0].Address != "10.0.0.4:8000" {
		t.Errorf("endpoints of %s: %+v", mistral, got)
	}

	s := datastore.New(datastore.Options{DeclaredPoolsOnly: true})
	must(t, s.Commit(c.Change))
	for model, want := range map[string]string{"chat": "llama-8b", "helper": "llama-8b"} {
		r, err := s.Snapshot().Resolve(datastore.Query{Model: model, Pool: llama})
		if err != nil || !strings.HasPrefix(r.TargetModel, want) {
			t.Errorf("Resolve(%s) = %q, %v; want %s", model, r.TargetModel, err, want)
		}
	}
	r, err := s.Snapshot().Resolve(datastore.Query{Model: "chat", Pool: llama, Objective: "batch"})
	if err != nil || r.Priority != -1 {
		t.Errorf("priority with objective = %d, %v; want -1", r.Priority, err)
	}
	if status, ok := s.Status("InferenceModel", types.NamespacedName{Name: "later"}); !ok || status[0].Reason != types.ReasonPending {
		t.Errorf("status of a model without a pool = %+v", status)
	}

	if got, want := wiringOf(t, c, mistral), "healthy-filter model-served-filter previous-answer-filter fresh-filter shed-filter{0 0} | queue-scorer*1 | MaxScore | 0"; got != want {
		t.Errorf("profile of %s:\n%s, want\n%s", mistral, got, want)
	}
	if got, want := wiringOf(t, c, llama), wiring(plugins.Default()); got != want {
		t.Errorf("profile of %s:\n%s, want\n%s", llama, got, want)
	}
}

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "inferpick") // YAML, whatever the name
	must(t, os.WriteFile(path, []byte(poolYAML), 0o600))
	c, err := config.Load(path, nil)
	must(t, err)
	if got, ok := c.Change.Endpoints[llama]; !ok || len(got) != 0 {
		t.Errorf("Endpoints = %v; want an empty list for the pool", c.Change.Endpoints)
	}
	if _, err := (config.Loader{MaxBytes: 10}).Load(path); err == nil || !strings.Contains(err.Error(), "more than 10 bytes (MaxBytes)") {
		t.Errorf("Load of too much: %v", err)
	}
	if _, err := (config.Loader{MaxBytes: 10}).Parse("x", []byte(poolYAML)); err == nil || !strings.Contains(err.Error(), "more than 10 bytes (MaxBytes)") {
		t.Errorf("Parse of too much: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(poolYAML), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "b.yaml"), []byte("# padding: the limit is for both\n"), 0o600))
	if _, err := (config.Loader{MaxBytes: int64(len(poolYAML)) + 5}).Load(dir); err == nil || !strings.Contains(err.Error(), "b.yaml") {
		t.Errorf("Load of too much in two files: %v", err)
	}
	for _, path := range []string{filepath.Join(dir, "gone"), "/dev/null"} {
		_, err := config.Load(path, nil)
		var pathError *fs.PathError
		if !errors.As(err, &pathError) || !strings.HasPrefix(err.Error(), "config: ") {
			t.Errorf("Load(%s): %v, want an fs.PathError", path, err)
		}
	}
	must(t, os.Symlink("gone", filepath.Join(dir, "c.yaml")))
	must(t, os.Remove(filepath.Join(dir, "a.yaml")))
	if _, err := config.Load(dir, nil); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "config: "+filepath.Join(dir, "c.yaml")+": ") {
		t.Errorf("Load with a link that leads nowhere: %v", err)
	}
	if _, err := config.Load(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "has no file *.yaml") {
		t.Errorf("Load of an empty directory: %v", err)
	}
}

func TestDocuments(t *testing.T) {
	model := func(name string) string {
		return "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferenceModel\nmetadata: {name: " + name +
			"}\nspec: {modelName: " + name + ", poolRef: {name: llama}}\n"
	}
	jsonModel := `{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "j"},
		"spec": {"modelName": "j", "poolRef": {"name": "llama"}}}`
	for _, tt := range []struct {
		name, file, text string
		objects          int
	}{
		{"one", "c.yaml", poolYAML, 1},
		{"two", "c.yaml", poolYAML + "---\n" + model("a"), 2},
		{"line ends of Windows", "c.yaml", strings.ReplaceAll("---\n"+poolYAML+"---\n"+model("a"), "\n", "\r\n"), 2},
		{"line ends of old", "c.yaml", strings.ReplaceAll(poolYAML+"---\n"+model("a"), "\n", "\r"), 2},
		{"byte order mark", "c.yaml", "\ufeff---\n" + poolYAML, 1},
		{"empty ones", "c.yaml", "---\n---\n# nothing\n--- # nor here\n---\n" + poolYAML + "---\nnull\n---\n~\n---\n", 1},
		{"comment and directive first", "c.yaml", "# license\n%YAML 1.1\n---\n" + poolYAML + "...\n%YAML 1.1\n---\n" + model("a"), 2},
		{"without a line between", "c.yaml", poolYAML + "... # done\n" + model("a"), 2},
		{"on the line itself", "c.yaml", poolYAML + "--- " + jsonModel, 2},
		{"JSON in YAML, with tabs", "c.yaml", poolYAML + "---\n" + strings.ReplaceAll(jsonModel, " ", "\t"), 2},
		{"no more than a look-alike", "c.yaml", strings.Replace(poolYAML, "{name: llama}", "{name: llama, annotations: {note: \"x\n ---\n\"}}", 1) + "---\n" + model("x"), 2},
		{"in a block scalar", "c.yaml", strings.Replace(poolYAML, "{name: llama}", "\n  name: llama\n  annotations:\n    note: |\n      x\n      ---\n      y", 1), 1},
		{"JSON, several", "c.json", `{"kind": "List", "items": []}` + jsonModel + "\n\n{\"apiVersion\": \"inference.networking.k8s.io/v1\", \"kind\": \"InferencePool\", \"metadata\": {\"name\": \"llama\"}, \"spec\": {\"selector\": {\"matchLabels\": {\"a\": \"b\"}}, \"targetPorts\": [{\"number\": 1}]}} null", 2},
		{"merge", "c.yaml", "base: &b {}\n" + "---\n" + poolYAML, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config.Loader{}.Parse(tt.file, []byte(tt.text))
			if tt.objects == 0 {
				require.Error(t, wrong(c, err), "Parse of a document without a kind: no error")
				return
			}
			must(t, err)
			require.Len(t, c.Change.Objects, tt.objects, "objects")
		})
	}
}

func TestParseErrors(t *testing.T) {
	picker := "---\napiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n"
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "# empty\n", []string{"config: c.yaml: there is no InferencePool; at least one is required"}},
		{"a rule", poolYAML + `---

# The model.
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat}
spec: {modelName: chat, poolRef: {name: llama}, targetModels: [{name: a, weight: 0}]}
`, []string{"config: c.yaml:11:74: InferenceModel default/chat: spec.targetModels[0].weight is 0, want 1 to 1000000"}},
		{"all at once", "kind: Pod\n---\napiVersion: v1\nkind: Pod\n---\n{kind: InferencePool, apiVersion: v2}\n---\n[]\n---\nx\n", []string{
			"c.yaml:1: apiVersion is required",
			`c.yaml:6: InferencePool: apiVersion is "v2", which is unknown; known are inference.networking.k8s.io/v1, llm-d.ai/v1, inference.networking.x-k8s.io/`,
			"c.yaml:8: the document is [], want an object",
			`c.yaml:10: the document is "x", want an object`,
		}},
		{"syntax", poolYAML + "---\na: 1\nb: c: d\n", []string{"config: c.yaml:7: YAML: mapping values are not allowed in this context"}},
		{"syntax of the first line", poolYAML + "---\nb: c: d\n", []string{"config: c.yaml:6: YAML: mapping values"}},
		{"syntax, what is not found", poolYAML + "---\na: 1\n- b\n", []string{"config: c.yaml:7: YAML: did not find expected key"}},
		{"quote that does not end", "a: \"x\n---\nb: 1\n", []string{"YAML: found unexpected end of stream"}},
		{"names twice", poolYAML + "---\nkind: Pod\n\nkind: Pod\nkind: Pod\n", []string{
			`config: c.yaml:8: YAML: key "kind" already set in map`, `config: c.yaml:9: YAML: key "kind" already set in map`,
		}},
		{"names twice in JSON", `{"kind": "Pod", "metadata": {"a": 1, "a": 2}}`, []string{"c.yaml:1:30: metadata.a is there twice, first at line 1, column 30"}},
		{"alias", "a: *b\n", []string{"c.yaml:1: YAML: unknown anchor 'b' referenced"}},
		{"not UTF-8", "a: 1\nb: \xff\n", []string{"c.yaml:2: is not UTF-8"}},
		{"number for a label", strings.Replace(poolYAML, "{app: llama}", "{app: llama, tier: 1}", 1),
			[]string{`InferencePool default/llama: spec.selector.matchLabels["tier"] is 1, want a string; in YAML, write it in quotes`}},
		{"an object twice", poolYAML + "---\n" + poolYAML, []string{"c.yaml:6: InferencePool default/llama: is there twice, first at c.yaml:1"}},
		{"in a list", poolYAML + "---\nkind: List\nitems:\n- {kind: Pod, apiVersion: v1}\n- {kind: List, items: []}\n- 5\n- \n", []string{
			`:9:4: items[1]: kind is "List", want another than a list inside a list`,
			":10:3: items[2]: is 5, want an object", ":11:2: items[3]: is null, want an object",
		}},
		{"list of nothing", poolYAML + "---\nkind: List\nitems: 5\n", []string{":7:1: items is 5, want a list"}},
		{"deep", "a: " + strings.Repeat("[", 600) + strings.Repeat("]", 600), []string{"c.yaml:1: the document is nested deeper than 512 levels"}},

		{"endpoints", poolYAML + "---\n" + endpointsHead + `spec:
  poolRef: {name: llama}
  endpoints:
  - {address: a}
  - {adress: "a:1"}
  - {address: "a:1", labels: {zone: 1}}
  - 5
  - {address: "a:1", state: idle}
  more: 1
`, []string{
			`config: c.yaml:12:6: StaticEndpoints default/rack: spec.endpoints[0].address is "a", want host:port`,
			"spec.endpoints[1].adress is not a field; the nearest is address",
			`spec.endpoints[2].labels["zone"] is 1, want a string; in YAML, write it in quotes`,
			"spec.endpoints[3] is 5, want an object",
			`spec.endpoints[4].state is "idle", want one of ready, draining, unhealthy`,
			"spec.more is not a field",
		}},
		{"endpoints without a pool", poolYAML + "---\n" + endpointsHead + "spec: {endpoints: [{address: a:1, labels: {app: x}}]}\n---\n" +
			strings.Replace(endpointsHead, "rack", "x, namespace: lab", 1) + "spec: {endpoints: [{address: a:1, labels: {app: llama}}]}\n---\n" +
			strings.Replace(endpointsHead, "rack", "z", 1) + "spec: {poolRef: {name: gone}}\n", []string{
			":9:35: StaticEndpoints default/rack: spec.endpoints[0].labels: no InferencePool selects them, and there is no spec.poolRef",
			"StaticEndpoints lab/x: spec.endpoints[0].labels: no InferencePool of namespace lab selects them",
			"StaticEndpoints default/z: spec.poolRef: there is no InferencePool default/gone",
		}},
		{"an endpoint twice", poolYAML + "---\n" + endpointsHead + "spec: {poolRef: {name: llama}, endpoints: [{address: 'a:1'}]}\n---\n" +
			strings.Replace(endpointsHead, "rack", "x", 1) + "spec: {endpoints: [{id: 'a:1', address: 'b:1', labels: {app: llama}}]}\n", []string{
			`:14:21: StaticEndpoints default/x: spec.endpoints[0].id: pool default/llama has an endpoint "a:1" already, at c.yaml:6`,
		}},
		{"a name that is none", strings.Replace(poolYAML, "name: llama", "name: y", 1), []string{
			"metadata.name is true, want a string; in YAML, write it in quotes"}},
		{"name of endpoints", poolYAML + "---\napiVersion: inferpick.io/v1alpha1\nkind: StaticEndpoints\nspec: {poolRef: {name: 5, kind: Service, group: x}}\n", []string{
			"StaticEndpoints: metadata.name is required", "spec.poolRef.name is 5, want a string; in YAML", `spec.poolRef.kind is "Service", want InferencePool`, `c.yaml:8:42: StaticEndpoints: spec.poolRef.group is "x", want one of inference.networking.x-k8s.io`,
		}},
		{"names of endpoints twice", poolYAML + "---\n" + endpointsHead + "---\n" + endpointsHead, []string{
			":10: StaticEndpoints default/rack: is there twice, first at c.yaml:6"}},

		{"two for all pools", poolYAML + picker + picker, []string{
			":9: EndpointPickerConfig: holds for every pool that has none of its own, as does that at c.yaml:6"}},
		{"two for one pool", poolYAML + picker + "poolRef: {name: llama}\n" + picker + "poolRef: {name: llama}\n", []string{
			":12:1: EndpointPickerConfig: poolRef: pool default/llama has one already, at c.yaml:6"}},
		{"for no pool", poolYAML + picker + "metadata: {name: x, namespace: lab}\npoolRef: {name: llama}\n", []string{
			"EndpointPickerConfig lab/x: poolRef: there is no InferencePool lab/llama"}},
		{"gates", poolYAML + picker + "featureGates: [flowControl, turbo, 5]\n", []string{
			`featureGates[1] is "turbo", which is unknown; known are dataLayer, enableLegacyMetrics, flowControl, prepareDataPlugins`,
			"featureGates[2] is 5, want the name of a gate",
		}},
		{"flow control", poolYAML + picker + `featureGates: [flowControl]
plugins:
- {type: edf-ordering-policy, name: edf}
- {type: static-usage-limit-policy, parameters: {threshold: 0, more: 1}}
- {type: concurrency-detector, parameters: {concurrencyMode: hybrid, maxConcurrency: many}}
- {type: queue-scorer}
flowControl:
  maxBytes: lots
  maxRequests: "-1"
  defaultRequestTTL: soon
  defaultPriorityBand: {maxBytes: 1Zi, orderingPolicyRef: fcfs-ordering-policy}
  priorityBands:
  - {priority: 1, fairnessPolicyRef: global-strict-fairness-policy, orderingPolicyRef: edf}
  - {priority: 1, fairnessPolicyRef: round-robin-fairness-policy}
  - {maxRequests: 5, fairnessPolicyRef: gone, orderingPolicyRef: round-robin-fairness-policy}
  - {priority: 1.5, fairnessPolicyRef: queue-scorer, colour: red}
  usageLimitPolicyPluginRef: edf
  weather: fine
`, []string{
			"plugins[1].parameters.threshold is 0, want above 0", "plugins[1].parameters.more is not a field",
			`plugins[2].parameters.concurrencyMode is "hybrid", want requests or tokens`, `plugins[2].parameters.maxConcurrency is "many", want an integer of at least 0`,
			`flowControl.maxBytes is "lots", want a quantity of at least 0 such as 1000, "1k" or "512Mi"`,
			`flowControl.maxRequests is "-1", want a quantity of at least 0 such as 1000, "1k" or "512Mi"`,
			`flowControl.defaultRequestTTL is "soon", want a duration such as "30s"`,
			`flowControl.defaultPriorityBand.maxBytes is "1Zi", want a quantity`,
			"flowControl.priorityBands[0].orderingPolicyRef is another than that of flowControl.defaultPriorityBand.orderingPolicyRef, fcfs-ordering-policy: here all bands have the same",
			"flowControl.priorityBands[1].fairnessPolicyRef is another than that of flowControl.priorityBands[0].fairnessPolicyRef, global-strict-fairness-policy: here all bands have the same",
			"flowControl.priorityBands[1].priority is 1, as that of another band",
			"flowControl.priorityBands[2].priority is required",
			`flowControl.priorityBands[2].fairnessPolicyRef is "gone", which no plugin is named; in plugins there are edf, static-usage-limit-policy, concurrency-detector, queue-scorer`,
			`flowControl.priorityBands[2].orderingPolicyRef is "round-robin-fairness-policy", want one of fcfs-ordering-policy, edf-ordering-policy, slo-deadline-ordering-policy`,
			"flowControl.priorityBands[3].priority is 1.5, want an integer", "flowControl.priorityBands[3].colour is not a field",
			`flowControl.priorityBands[3].fairnessPolicyRef is "queue-scorer" of type queue-scorer, want global-strict-fairness-policy, round-robin-fairness-policy`,
			`flowControl.usageLimitPolicyPluginRef is "edf" of type edf-ordering-policy, want static-usage-limit-policy`,
			"flowControl.weather is not a field",
		}},
		{"flow control of another form", poolYAML + picker + "flowControl: 5\n", []string{"flowControl is 5, want an object"}},
		{"two of admission", poolYAML + picker + "featureGates: [flowControl]\nadmission: {}\n", []string{
			"EndpointPickerConfig: admission is beside the section flowControl, want that, with flowControl in featureGates: they are about the same"}},
		{"admission", poolYAML + picker + "admission: {bands: [{name: a, priority: 5, ceiling: 2000}, {name: a}], detectors: [{type: warp-detector}]}\n", []string{
			"c.yaml:8:44: EndpointPickerConfig: admission.bands[0].ceiling is 2000, want above 0 and at most 1000",
			`EndpointPickerConfig: admission.detectors[0].type is "warp-detector", which is unknown; known are backlog-detector, concurrency-detector`,
		}},
		{"admission of no known fairness", poolYAML + picker + "admission: {fairness: none, flowIdle: 5}\n", []string{
			`c.yaml:8:13: EndpointPickerConfig: admission.fairness: "none", want one of virtual-tokens, prefix-locality, first-come`,
			"c.yaml:8:29: EndpointPickerConfig: admission.flowIdle is 5, want a duration above 0"}},
		{"admission with a field that is none", poolYAML + picker + "admission: {colour: red}\n", []string{"c.yaml:8:13: EndpointPickerConfig: admission.colour is not a field; known are detectors, bands"}},
		{"admission of another form", poolYAML + picker + "admission: []\n", []string{"admission is [], want an object"}},
		{"a filter of places that nobody counts", poolYAML + picker + "featureGates: [flowControl]\nplugins: [{type: concurrency-detector}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: concurrency-detector}]}]\n", []string{
			`schedulingProfiles[0].plugins[0].pluginRef is "concurrency-detector", which leaves out endpoints that are full only where saturationDetector names it too`}},
		{"plugins", poolYAML + picker + `plugins:
- {type: warp-scorer}
- {type: queue-scorer, parameters: {speed: 1}}
- {type: queue-scorer, name: q}
- {type: openai-parser, name: q}
- {type: shed-filter, parameters: {maxQueue: many}}
- {type: max-score-picker, parameters: {maxNumOfEndpoints: 20}}
- {name: x}
- {type: prefix-cache-scorer, parameters: {blockSizeTokens: 1.5, autoTune: perhaps, maxPromptBlocks: 1, maxPrefixBlocksToMatch: 2}}
- {type: utilization-detector, parameters: {queueDepthThreshold: -1, kvCacheUtilThreshold: 2, metricsStalenessThreshold: soon, mood: 1}}
- {type: low-queue-filter, parameters: {threshold: 1, below: 2}}
- {type: prefix-cache-scorer, name: wide, parameters: {blockSizeTokens: 20000}}
- {type: random-picker, parameters: 5, extra: 1}
`, []string{
			`plugins[0].type is "warp-scorer", which is unknown; known are active-request-scorer, adapter-filter, `, "of the Inference Extension's and llm-d's active-request-filter, by-label, ",
			"plugins[1].parameters.speed is not a field, want none",
			`plugins[3].name is "q", which is used twice`,
			`plugins[4].parameters.maxQueue is "many", want a number`,
			"plugins[5].parameters.maxNumOfEndpoints is 20, want an integer from 1 to 9",
			"plugins[6].type is required",
			"plugins[7].parameters.blockSizeTokens is 1.5, want an integer of at least 0",
			`plugins[7].parameters.autoTune is "perhaps", want true or false`,
			"plugins[7].parameters has both, want one of maxPrefixBlocksToMatch and maxPromptBlocks, which mean the same",
			"plugins[8].parameters.queueDepthThreshold is -1, want a number of at least 0",
			"plugins[8].parameters.kvCacheUtilThreshold is 2, want a number from 0 to 1",
			`plugins[8].parameters.metricsStalenessThreshold is "soon", want a duration such as "200ms"`,
			"plugins[8].parameters.mood is not a field",
			"plugins[9].parameters has both, want one of threshold and below, which mean the same",
			"plugins[10].parameters.blockSizeTokens is 80000 bytes of prompt, at 4 a token, want at most 65536",
			"plugins[11].parameters is 5, want an object", "plugins[11].extra is not a field",
		}},
		{"profiles", poolYAML + picker + `plugins: [{type: queue-scorer}, {type: openai-parser}, {type: max-score-picker, parameters: {maxNumOfEndpoints: 2}}, {type: random-picker}]
schedulingProfiles:
- plugins: [{pluginRef: gone}, {pluginRef: openai-parser}, {pluginRef: queue-scorer}, {pluginRef: queue-scorer}, {pluginRef: max-score-picker, weight: 1}, {pluginRef: random-picker}, {}]
  fallbacks: 9
`, []string{
			"schedulingProfiles[0].name is required",
			`schedulingProfiles[0].plugins[0].pluginRef is "gone", which no plugin is named; in plugins there are queue-scorer, openai-parser, max-score-picker, random-picker`,
			`schedulingProfiles[0].plugins[3].pluginRef is "queue-scorer", which is used twice in this profile`,
			`schedulingProfiles[0].plugins[4].weight is for scorers, which "max-score-picker" is not`,
			"schedulingProfiles[0].plugins[6].pluginRef is required",
			"schedulingProfiles[0].fallbacks is 9, want an integer from 0 to 8",
		}},
		{"second picker", poolYAML + picker + "plugins: [{type: max-score-picker}, {type: random-picker}]\n", []string{
			`plugins[1].pluginRef is "random-picker", a second picker beside "max-score-picker"`}},
		{"fallbacks and endpoints", poolYAML + picker + `plugins: [{type: max-score-picker, parameters: {maxNumOfEndpoints: 2}}]
schedulingProfiles: [{name: a, fallbacks: 2, plugins: [{pluginRef: max-score-picker}]}]
`, []string{`schedulingProfiles[0].fallbacks is 2, but maxNumOfEndpoints of the picker "max-score-picker" is 2, which makes 1; give one of them`}},
		{"two profiles", poolYAML + picker + "schedulingProfiles: [{name: prefill}, {name: decode}]\n", []string{
			"schedulingProfiles has 2 profiles, want at most one, as no profile handler is declared; of several request-profile-handler, header-profile-handler or disagg-profile-handler choose"}},
		{"durations", poolYAML + picker + "schedulingProfiles: [{name: a, metricsTTL: soon, seed: -1}]\n", []string{
			"schedulingProfiles[0].seed is -1, want an integer of at least 0"}},
		{"durations alone", poolYAML + picker + "schedulingProfiles: [{name: a, metricsTTL: soon}]\n", []string{
			`EndpointPickerConfig: schedulingProfiles[0].metricsTTL is "soon", want a duration above 0 such as "5s"`}},
		{"references", poolYAML + picker + `plugins: [{type: queue-scorer}]
saturationDetector: {pluginRef: queue-scorer}
dataLayer: {sources: [{pluginRef: queue-scorer, extractors: [{pluginRef: x}]}]}
parser: {pluginRef: queue-parser}
colour: red
`, []string{
			`saturationDetector.pluginRef is "queue-scorer" of type queue-scorer, want utilization-detector or concurrency-detector`,
			`dataLayer.sources[0].pluginRef is "queue-scorer" of type queue-scorer, want metrics-data-source, models-data-source, k8s-notification-source, endpoint-notification-source`,
			`dataLayer.sources[0].extractors[0].pluginRef is "x", which no plugin is named; in plugins there are queue-scorer`,
			`parser.pluginRef is "queue-parser", which no plugin is named; in plugins there are queue-scorer`,
			"colour is not a field",
		}},
		{"detector twice", poolYAML + picker + "saturationDetector: {pluginRef: x, queueDepthThreshold: 5}\n", []string{
			"saturationDetector has pluginRef and thresholds, want one of them"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := wrong(config.Loader{Strict: true}.Parse("c.yaml", []byte(tt.text)))
			require.Error(t, err, "Parse: nothing is wrong")
			var e *config.Error
			if !errors.As(err, &e) || e.File != "c.yaml" {
				t.Errorf("error %T, want a *config.Error", err)
			}
			for _, want := range tt.want {
				require.Contains(t, err.Error(), want)
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "config: c.yaml:") {
					t.Errorf("line %q does not say where", line)
				}
			}
		})
	}
}

// What may have been a pool must not make more errors of what refers to it.
func TestErrorsDoNotFollow(t *testing.T) {
	_, err := config.Loader{}.Parse("c.yaml", []byte(strings.Replace(poolYAML, "8000", "0", 1)+"---\n"+endpointsHead+"spec: {poolRef: {name: llama}}\n"))
	if err == nil || strings.Count(err.Error(), "config:") != 1 {
		t.Errorf("errors:\n%v\nwant that of the pool only", err)
	}
	var field *types.FieldError
	if !errors.As(err, &field) || field.Field != "spec.targetPorts[0].number" {
		t.Errorf("FieldError = %+v", field)
	}
}

func TestErrorsAreBounded(t *testing.T) {
	_, err := config.Loader{}.Parse("c.yaml", []byte(strings.Repeat("---\nkind: x\n", 1000)))
	if n := strings.Count(err.Error(), "\n"); n != 100 || !strings.HasSuffix(err.Error(), "config: and 900 errors more") {
		t.Errorf("%d lines of errors:\n%v", n, err)
	}
}

func TestErrorsOfJSON(t *testing.T) {
	for text, want := range map[string]string{
		"{}\n\n{\"kind\": }":      "config: c.json:3: JSON: invalid character",
		"\n{\"kind\":":            "config: c.json:2: JSON: unexpected end of JSON input",
		"\n\n{\"kind\": \"Pod\"}": "config: c.json:3: apiVersion is required",
		"{} {\"a\": 1, \"a\": 2}": "config: c.json:1:5: a is there twice, first at line 1, column 5",
	} {
		if _, err := (config.Loader{}).Parse("c.json", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want %s", text, err, want)
		}
	}
}

// Two pools in namespaces of their own are told apart.
func TestEndpointsOfNamespace(t *testing.T) {
	c := parse(t, poolYAML+"---\n"+strings.Replace(poolYAML, "{name: llama}", "{name: llama, namespace: lab}", 1)+
		"---\n"+strings.Replace(endpointsHead, "rack", "rack, namespace: lab", 1)+"spec: {endpoints: [{address: 'a:1', labels: {app: llama}}]}\n"+
		"---\n"+endpointsHead+"spec: {endpoints: [{address: 'b:1', labels: {app: llama}}]}\n"+
		"---\n"+strings.Replace(endpointsHead, "rack", "x", 1)+"spec: {poolRef: {name: llama, namespace: lab}, endpoints: [{address: 'c:1'}]}\n")
	lab := types.NamespacedName{Namespace: "lab", Name: "llama"}
	addresses := func(pool types.NamespacedName) (out []string) {
		for _, e := range c.Change.Endpoints[pool] {
			out = append(out, e.Address)
		}
		return out
	}
	if got := addresses(llama); !slices.Equal(got, []string{"b:1"}) {
		t.Errorf("endpoints of %s: %v", llama, got)
	}
	if got := addresses(lab); !slices.Equal(got, []string{"a:1", "b:1", "c:1"}) {
		t.Errorf("endpoints of %s: %v", lab, got)
	}
}

// wiring says what a profile does, in one line.
func wiring(p scheduling.Profile) string {
	var b strings.Builder
	for _, f := range p.Filters {
		b.WriteString(f.Name)
		if s, ok := f.Filter.(plugins.Shed); ok {
			fmt.Fprintf(&b, "%v", s.Room)
		}
		b.WriteByte(' ')
	}
	b.WriteByte('|')
	for _, s := range p.Scorers {
		fmt.Fprintf(&b, " %s*%g", s.Name, s.Weight)
	}
	for _, c := range p.Costs {
		fmt.Fprintf(&b, " -%s", c.Name)
	}
	fmt.Fprintf(&b, " | %s | %d", strings.TrimPrefix(fmt.Sprintf("%T", p.Picker), "plugins."), p.Fallbacks)
	return b.String()
}

func wiringOf(t testing.TB, c *config.Config, pool types.NamespacedName) string {
	t.Helper()
	p, err := policy(c, pool).Profile()
	must(t, err)
	if _, err := scheduling.New(p); err != nil {
		t.Error(err)
	}
	return wiring(p)
}
