package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/types"
)

const (
	labYAML = `---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: mistral, namespace: lab}
spec: {selector: {matchLabels: {app: mistral}}, targetPorts: [{number: 8000}]}
`
	modelYAML = `---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat}
spec: {modelName: chat, poolRef: {name: llama}}
`
	rackYAML = "---\n" + endpointsHead + "spec: {poolRef: {name: llama}, endpoints: [{id: a, address: '10.0.0.1:80'}]}\n"
)

// rejected says in one line each what was left out.
func rejected(c *config.Config) []string {
	var out []string
	for _, r := range c.Rejected {
		kept := ""
		if r.Kept {
			kept = " kept"
		}
		out = append(out, fmt.Sprintf("%s %s%s: %v", r.Kind, r.Name, kept, r.Err))
	}
	return out
}

func requireRejected(t *testing.T, c *config.Config, want ...string) {
	t.Helper()
	got := rejected(c)
	require.Len(t, got, len(want), "%q", got)
	for i := range want {
		require.Contains(t, got[i], want[i])
	}
}

// TestOneBadObject: whatever is wrong with one object of one team, the others are there.
func TestOneBadObject(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a pool", strings.Replace(labYAML, "8000", "0", 1), "InferencePool lab/mistral: config: c.yaml:19:64: InferencePool lab/mistral: spec.targetPorts[0].number is 0, want 1 to 65535"},
		{"a model", strings.Replace(modelYAML, "{name: chat}", "{name: Chat}", 1), `InferenceModel default/Chat: config: c.yaml:18:12: InferenceModel default/Chat: metadata.name is "Chat", want 1 to 253 lower case letters, digits, '-' and '.', as in a DNS name`},
		{"an objective", "---\napiVersion: llm-d.ai/v1\nkind: InferenceObjective\nmetadata: {name: x}\nspec: {}\n", "InferenceObjective default/x: "},
		{"a rewrite", "---\napiVersion: llm-d.ai/v1alpha2\nkind: InferenceModelRewrite\nmetadata: {name: x}\nspec: {poolRef: {name: llama}, rules: [{targets: []}]}\n", "spec.rules[0].targets must have at least one target"},
		{"endpoints", "---\n" + strings.Replace(endpointsHead, "rack", "more", 1) + "spec: {poolRef: {name: llama}, endpoints: [{address: nonsense}]}\n", "StaticEndpoints default/more: "},
		{"endpoints of a pool that is not there", "---\n" + strings.Replace(endpointsHead, "rack", "more", 1) + "spec: {poolRef: {name: gone}}\n", "spec.poolRef: there is no InferencePool default/gone"},
		{"a version", strings.Replace(labYAML, "io/v1", "io/v2", 1), `apiVersion is "inference.networking.k8s.io/v2", which is unknown; the nearest is inference.networking.k8s.io/v1; known are`},
		{"a kind", strings.Replace(labYAML, "InferencePool", "InferencePol", 1), `kind is "InferencePol", which is unknown; the nearest is InferencePool`},
		{"no kind", "---\na: 1\n", ": config: c.yaml:16: kind is required"},
		{"no object", "---\n- 5\n", "the document is [5], want an object"},
		{"a name for the second time", strings.Replace(modelYAML, "modelName: chat", "modelName: other", 1), "InferenceModel default/chat: config: c.yaml:16: InferenceModel default/chat: is there twice, first at c.yaml:6"},
		{"no YAML", "---\nkind: InferenceModel\na: [\n", "InferenceModel : config: c.yaml:18: YAML: did not find"},
		{"fields twice", strings.Replace(labYAML, "spec:", "kind: InferencePool\nspec:", 1), "YAML: key \"kind\" already set in map"},
		{"deep", "---\na: " + strings.Repeat("[", 600) + strings.Repeat("]", 600) + "\n", "the document is nested deeper than 512 levels"},
		{"one in a list", "---\nkind: List\nitems:\n- {kind: InferencePool}\n- {apiVersion: v1, kind: Secret}\n", "items[0]: apiVersion is required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := parse(t, poolYAML+modelYAML+rackYAML+tt.text)
			requireRejected(t, c, tt.want)
			require.Equal(t, []types.NamespacedName{llama}, c.Pools())
			require.Len(t, c.Change.Objects, 2)
			require.Len(t, c.Change.Endpoints[llama], 1)
			require.NoError(t, datastore.New(datastore.Options{}).Commit(c.Change))
			var e *config.Error
			require.ErrorAs(t, c.Rejected[0].Err, &e)
			require.Equal(t, "c.yaml", e.File)
			require.NotZero(t, e.Line)
		})
	}
}

// TestPartOfEndpoints: of endpoints that are good in themselves those are left out that no
// pool can have.
func TestPartOfEndpoints(t *testing.T) {
	c := parse(t, poolYAML+"---\n"+endpointsHead+"spec:\n  endpoints:\n  - {id: a, address: 'a:1', labels: {app: llama}}\n  - {id: b, address: 'b:1', labels: {app: other}}\n  - {id: a, address: 'c:1', labels: {app: llama}}\n")
	requireRejected(t, c, ":12:29: StaticEndpoints default/rack: spec.endpoints[1].labels: no InferencePool selects them, and there is no spec.poolRef")
	require.ErrorContains(t, c.Rejected[0].Err, `:13:6: StaticEndpoints default/rack: spec.endpoints[2].id: pool default/llama has an endpoint "a" already, at c.yaml:6`)
	require.Len(t, c.Change.Endpoints[llama], 1)
}

func TestCheckEndpoint(t *testing.T) {
	l := config.Loader{CheckEndpoint: func(e datastore.EndpointSpec) error {
		if e.Address == "b:1" {
			return errors.New("address is none that I like")
		}
		return nil
	}}
	c, err := l.Parse("c.yaml", []byte(poolYAML+rackYAML+"---\n"+strings.Replace(endpointsHead, "rack", "more", 1)+"spec: {poolRef: {name: llama}, endpoints: [{address: 'b:1'}]}\n"))
	require.NoError(t, err)
	requireRejected(t, c, "StaticEndpoints default/more: spec.endpoints[0]: address is none that I like")
}

// TestWhatStops: without a pool, and with a policy that is not the one that was meant,
// nothing starts.
func TestWhatStops(t *testing.T) {
	for name, text := range map[string]string{
		"no pool":                        modelYAML,
		"no good pool":                   strings.Replace(poolYAML, "8000", "0", 1) + modelYAML,
		"a bad policy":                   poolYAML + pickerHead + "plugins: [{type: nonsense}]\n",
		"a policy that cannot be read":   poolYAML + pickerHead + "plugins: [\n",
		"a policy for no pool":           poolYAML + pickerHead + "poolRef: {name: gone}\n",
		"two policies":                   poolYAML + pickerHead + pickerHead,
		"a policy of an unknown version": poolYAML + strings.Replace(pickerHead, "v1alpha1", "v9", 1),
	} {
		_, err := config.Loader{}.Parse("c.yaml", []byte(text))
		require.Error(t, err, name)
		require.Contains(t, err.Error(), "config: c.yaml:", name)
	}
	// A policy of a pool that is left out itself is left out with it.
	c := parse(t, poolYAML+strings.Replace(labYAML, "8000", "0", 1)+pickerHead+"poolRef: {name: mistral, namespace: lab}\n")
	requireRejected(t, c, "InferencePool lab/mistral", "EndpointPickerConfig : config: c.yaml:13:1: EndpointPickerConfig: poolRef: there is no InferencePool lab/mistral")
}

// TestUnknownFields: they are told with place and nearest name; with Strict they are
// errors.
func TestUnknownFields(t *testing.T) {
	text := strings.Replace(poolYAML, "targetPorts", "apProtocol: http, endpointPickerRef: {name: epp, namespace: x, port: {number: 9002}}, targetPorts", 1) +
		"---\n" + `apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: batch}
spec:
  priority: -1
  poolRef: {name: llama}
  targetModels: [{name: a}]
` + "---\n" + endpointsHead + `specs: {}
spec:
  poolRef: {name: llama, weight: 1}
  endpoints:
  - {id: a, address: 'a:1', adress: b, metrics: {port: 5}}
` + pickerHead + `plugin: []
plugins:
- {type: queue-scorer, parameters: {speed: 1}, parameter: {}}
- {type: utilization-detector, parameters: {queueDepth: 5}}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: queue-scorer, wieght: 2}]
featureGates: [turbo]
admission: {bands: [{name: a, colour: red}], tenant: {}}
`
	want := []string{
		"c.yaml:4:96: InferencePool default/llama: spec.endpointPickerRef.namespace is not a field; known are group, kind, name, port, failureMode; it has no effect",
		"c.yaml:4:47: InferencePool default/llama: spec.apProtocol is not a field; the nearest is appProtocol; it has no effect",
		"c.yaml:12:3: InferenceObjective default/batch: spec.targetModels is not a field; known are priority, poolRef, poolRefs, poolSelector; it has no effect",
		"c.yaml:19:26: StaticEndpoints default/rack: spec.poolRef.weight is not",
		"c.yaml:21:29: StaticEndpoints default/rack: spec.endpoints[0].adress is not a field; the nearest is address",
		"c.yaml:21:50: StaticEndpoints default/rack: spec.endpoints[0].metrics.port is not a field; known are address, disabled, path, scheme; it has",
		"c.yaml:17:1: StaticEndpoints default/rack: specs is not a field; the nearest is spec",
		`c.yaml:32:16: EndpointPickerConfig: featureGates[0] is "turbo", which is unknown`,
		"c.yaml:27:48: EndpointPickerConfig: plugins[0].parameter is not a field; the nearest is parameters",
		"c.yaml:27:37: EndpointPickerConfig: plugins[0].parameters.speed is not a field",
		"c.yaml:28:45: EndpointPickerConfig: plugins[1].parameters.queueDepth is not a field; the nearest is queueDepthThreshold; it has no effect",
		"c.yaml:31:39: EndpointPickerConfig: schedulingProfiles[0].plugins[0].wieght is not a field; the nearest is weight",
		"c.yaml:33:46: EndpointPickerConfig: admission.tenant is not a field; the nearest is tenants",
		"c.yaml:33:31: EndpointPickerConfig: admission.bands[0].colour is not a field",
		"c.yaml:25:1: EndpointPickerConfig: plugin is not a field; the nearest is plugins",
	}
	c := parse(t, text)
	require.Empty(t, rejected(c))
	for _, w := range want {
		found := false
		for _, got := range c.Warnings {
			found = found || strings.HasPrefix(got, w)
		}
		require.True(t, found, "%s\nin\n%s", w, strings.Join(c.Warnings, "\n"))
	}
	require.NotNil(t, policy(c, llama).Admission())

	err := wrong(config.Loader{Strict: true}.Parse("c.yaml", []byte(text)))
	for _, w := range []string{"spec.endpointPickerRef.namespace", "spec.apProtocol"} {
		require.ErrorContains(t, err, w+" is not a field")
	}
}

// TestForeignKinds: what a folder of manifests holds beside is counted and read over.
func TestForeignKinds(t *testing.T) {
	foreign := func(kind string) string { return "---\napiVersion: v1\nkind: " + kind + "\nmetadata: {name: x}\n" }
	c := parse(t, poolYAML+foreign("Service")+foreign("ConfigMap")+foreign("Service")+foreign("InferencePoolImport"))
	require.Empty(t, rejected(c))
	require.Equal(t, map[string]int{"Service": 2, "ConfigMap": 1, "InferencePoolImport": 1}, c.Skipped)
}

// TestPolicyInAConfigMap: the picker reads no ConfigMap, and says so of one that holds what it
// would go by.
func TestPolicyInAConfigMap(t *testing.T) {
	const text = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  notes.txt: hello\n  default-plugins.yaml: |\n" +
		"    apiVersion: inference.networking.x-k8s.io/v1alpha1\n    kind: EndpointPickerConfig\n    plugins: [{type: queue-scorer}]\n"
	c := parse(t, poolYAML+text)
	require.Empty(t, rejected(c))
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], `ConfigMap: data["default-plugins.yaml"] holds an EndpointPickerConfig, which is not read from there`)
}

// TestReloadKeeps: what cannot be replaced stays as it was, what is taken away goes, and
// the others change.
func TestReloadKeeps(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) { put(t, filepath.Join(dir, name), text) }
	var r recorder
	w := config.NewWatcher(dir, r.options())
	load := func() *config.Config {
		t.Helper()
		require.NoError(t, w.Load())
		return r.applied[len(r.applied)-1]
	}
	names := func(c *config.Config) []string {
		var out []string
		for _, o := range c.Change.Objects {
			name := o.Kind() + "/" + o.Key().Name
			if m, ok := o.(*types.InferenceModel); ok {
				name += "=" + m.Spec.ModelName
			}
			out = append(out, name)
		}
		return out
	}
	queue := pickerHead + "poolRef: {name: llama}\nplugins: [{type: queue-scorer}]\n"
	file("a.yaml", poolYAML+modelYAML+rackYAML)
	file("b.yaml", labYAML)
	file("c.yaml", queue)
	first := load()
	require.Empty(t, rejected(first))

	file("a.yaml", strings.Replace(poolYAML, "8000", "0", 1)+strings.Replace(modelYAML, "modelName: chat", "modelName: new", 1)+
		strings.Replace(rackYAML, "10.0.0.1:80", "nonsense", 1)+strings.ReplaceAll(modelYAML, "chat", "more"))
	c := load()
	requireRejected(t, c, "InferencePool default/llama kept", "InferenceModel default/chat kept: ", "StaticEndpoints default/rack kept")
	require.ErrorContains(t, c.Rejected[1].Err, "spec.modelName is immutable")
	require.ElementsMatch(t, []string{"InferenceModel/more=more", "InferencePool/mistral", "InferencePool/llama", "InferenceModel/chat=chat"}, names(c))
	require.Equal(t, "10.0.0.1:80", c.Change.Endpoints[llama][0].Address)
	require.Equal(t, policy(first, llama).Key(), policy(c, llama).Key())

	// Once more the same is not told again.
	told := strings.Count(r.log.String(), "level=ERROR")
	require.Equal(t, 3, told)
	file("d.yaml", "# nothing\n")
	requireRejected(t, load(), "InferencePool", "InferenceModel", "StaticEndpoints")
	require.Equal(t, told, strings.Count(r.log.String(), "level=ERROR"))

	// A document that cannot be read: what the file held is there still.
	file("a.yaml", modelYAML+"---\nkind: {\n")
	c = load()
	requireRejected(t, c, " kept: config: ")
	require.ElementsMatch(t, []string{"InferenceModel/chat=chat", "InferencePool/mistral", "InferencePool/llama", "InferenceModel/more=more"}, names(c))
	file("a.yaml", "\xff")
	requireRejected(t, load(), " kept: config: ")
	require.NoError(t, os.Chmod(filepath.Join(dir, "a.yaml"), 0o600))

	// A policy that is bad: the one before, and the others change.
	file("a.yaml", poolYAML+modelYAML)
	file("c.yaml", pickerHead+"poolRef: {name: llama}\nplugins: [{type: queue-scorre}]\n")
	c = load()
	requireRejected(t, c, `EndpointPickerConfig  kept: `)
	require.ErrorContains(t, c.Rejected[0].Err, `plugins[0].type is "queue-scorre", which is unknown; the nearest is queue-scorer`)
	require.Equal(t, policy(first, llama).Key(), policy(c, llama).Key())
	require.ElementsMatch(t, []string{"InferencePool/llama", "InferenceModel/chat=chat", "InferencePool/mistral"}, names(c), "what was taken away is gone")
	require.Empty(t, c.Change.Endpoints[llama])

	// A bad one for a pool that had none: the pool goes on as it was.
	file("b.yaml", labYAML+pickerHead+"poolRef: {name: mistral, namespace: lab}\nplugins: [{type: warp}]\n")
	c = load()
	requireRejected(t, c, "EndpointPickerConfig : ", "EndpointPickerConfig  kept: ")
	had := policy(first, llama)
	goesOn, err := c.Policy(mistral, nil, had)
	require.NoError(t, err)
	require.Same(t, had, goesOn)

	// Everything good again.
	file("a.yaml", poolYAML+rackYAML)
	file("b.yaml", labYAML)
	file("c.yaml", strings.Replace(queue, "queue", "kv-cache-utilization", 1))
	c = load()
	require.Empty(t, rejected(c))
	require.NotEqual(t, policy(first, llama).Key(), policy(c, llama).Key())
	require.NoError(t, w.Err())
}

// TestRejectedAreBounded: the log does not grow with what is wrong.
func TestRejectedAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	put(t, path, poolYAML+strings.Repeat("---\nkind: x\n", 1000)+"---\n"+endpointsHead+"spec: {endpoints: ["+strings.Repeat("{},", 1000)+"]}\n")
	var r recorder
	o := r.options()
	o.Logger = slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelError}))
	require.NoError(t, config.NewWatcher(path, o).Load())
	require.LessOrEqual(t, strings.Count(r.log.String(), "level="), 100)
	last := r.applied[0].Rejected[1000].Err.Error()
	require.Equal(t, 100, strings.Count(last, "\n"))
	require.Contains(t, last, "and 900 errors more")
}
