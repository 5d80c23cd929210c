package deploy_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// TestBadValues: what is wrong is said where it is, before anything is installed.
func TestBadValues(t *testing.T) {
	for _, tt := range []struct {
		name, values string
		want         []string
	}{
		{"slip of the pen", `{inferenceExtension: {replica: 2}}`, []string{"/inferenceExtension", "'replica' not allowed"}},
		{"slip at the top", `{inferencepool: {}}`, []string{"'inferencepool' not allowed"}},
		{"llm-d's names", `{router: {epp: {replicas: 2}}}`, []string{"'router' not allowed"}},
		{"type", `{inferenceExtension: {replicas: two}}`, []string{"/inferenceExtension/replicas", "got string, want integer"}},
		{"label that is no string", `{inferencePool: {modelServers: {matchLabels: {size: 8}}}}`, []string{"/inferencePool/modelServers/matchLabels/size", "got number, want string"}},
		{"Secret", `{inferenceExtension: {peers: {keySecret: My_Secret}}}`, []string{"/inferenceExtension/peers/keySecret", "does not match pattern"}},
		{"autoscaling twice", `{inferenceExtension: {autoscaling: {keda: {enabled: true}, externalMetrics: {enabled: true}}}}`, []string{"a cluster has one"}},
		{"ScaledObject alone", `{inferenceExtension: {autoscaling: {keda: {deployment: llama}}}}`, []string{"want keda.enabled: true"}},
		{"ScaledObject of many pools", `{inferenceExtension: {namespaces: [serving], autoscaling: {keda: {enabled: true, deployment: llama}}}}`, []string{"namespaces serves many"}},
		{"target that is a number", `{inferenceExtension: {autoscaling: {keda: {metadata: {target: 2}}}}}`, []string{"/inferenceExtension/autoscaling/keda/metadata/target", "want string"}},
		{"port", `{inferencePool: {targetPorts: [{number: 70000}]}}`, []string{"/inferencePool/targetPorts/0/number", "maximum: got 70,000, want 65,535"}},
		{"ports twice", `{inferencePool: {targetPorts: [{number: 1}, {number: 1}]}}`, []string{"/inferencePool/targetPorts", "items at 0 and 1 are equal"}},
		{"nine ports", `{inferencePool: {targetPorts: [{number: 1}, {number: 2}, {number: 3}, {number: 4}, {number: 5}, {number: 6}, {number: 7}, {number: 8}, {number: 9}]}}`, []string{"/inferencePool/targetPorts", "maxItems: got 9, want 8"}},
		{"failure mode", `{inferenceExtension: {failureMode: FailClosed}}`, []string{"/inferenceExtension/failureMode", "'FailOpen', 'FailClose'"}},
		{"loader of rollouts", `{inferenceExtension: {rollouts: {loader: tgi}}}`, []string{"/inferenceExtension/rollouts/loader", "'auto', 'vllm', 'sglang', 'resolver', 'manual'"}},
		{"provider", `{provider: {name: nginx}}`, []string{"/provider/name", "'none', 'gke', 'istio'"}},
		{"namespace", `{inferenceExtension: {namespaces: [Serving]}}`, []string{"/inferenceExtension/namespaces/0", "does not match pattern"}},
		{"configuration that is no text", `{inferenceExtension: {pluginsCustomConfig: {a.yaml: {kind: EndpointPickerConfig}}}}`, []string{"/inferenceExtension/pluginsCustomConfig/a.yaml", "want string"}},
		{"objective without a priority", `{inferenceObjectives: [{name: a}]}`, []string{"/inferenceObjectives/0", "missing property 'priority'"}},
		{"timeout", `{experimentalHttpRoute: {requestTimeout: 300}}`, []string{"/experimentalHttpRoute/requestTimeout", "want string"}},

		{"no image", `{inferenceExtension: {image: {repository: ""}}}`, []string{"inferenceExtension.image.repository is required", "Dockerfile"}},
		{"no labels", `{inferencePool: {modelServers: null}}`, []string{"inferencePool.modelServers.matchLabels is required", "inferencePool.create: false"}},
		{"no selector", `{inferenceExtension: {endpointsServer: {createInferencePool: false}}}`, []string{"endpointSelector is required"}},
		{"route to no pool", `{inferenceExtension: {endpointsServer: {createInferencePool: false, endpointSelector: a=b}}, experimentalHttpRoute: {enabled: true}}`, []string{"createInferencePool: false"}},
		{"all namespaces and one", `{inferenceExtension: {namespaces: ["*", a]}}`, []string{`"*"`, "want it alone"}},
		{"pool elsewhere", `{inferenceExtension: {namespaces: [a]}}`, []string{"namespaces does not have serving"}},
		{"configuration missing", `{inferenceExtension: {pluginsConfigFile: mine.yaml, pluginsCustomConfig: {my.yaml: ""}}}`, []string{`"mine.yaml"`, "my.yaml"}},
		{"parser and configuration", `{inferenceExtension: {parser: openai-parser, pluginsConfigFile: a.yaml, pluginsCustomConfig: {a.yaml: "kind: EndpointPickerConfig"}}}`, []string{"inferenceExtension.parser"}},
		{"latency predictor", `{inferenceExtension: {latencyPredictor: {enabled: true}}}`, []string{"latencyPredictor is not needed"}},
		{"sidecar", `{inferenceExtension: {sidecar: {enabled: true, name: envoy}}}`, []string{"proxy.enabled"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := renderText(t, namespace, values(t, needed, tt.values))
			require.Error(t, err)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

// TestValuesAreDescribed: every value is in the schema and in the chart's README, and neither
// has others.
func TestValuesAreDescribed(t *testing.T) {
	text, err := os.ReadFile(deployed("chart", "values.yaml"))
	require.NoError(t, err)
	var defaults map[string]any
	require.NoError(t, yaml.UnmarshalStrict(text, &defaults))
	names := leaves("", defaults)

	text, err = os.ReadFile(deployed("chart", "values.schema.json"))
	require.NoError(t, err)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(text, &schema))
	for _, name := range names {
		require.True(t, inSchema(schema, strings.Split(name, ".")), "%s is not in the schema", name)
	}

	readme, err := os.ReadFile(deployed("chart", "README.md"))
	require.NoError(t, err)
	var said []string
	for line := range strings.Lines(string(readme)) {
		if rest, ok := strings.CutPrefix(line, "| `"); ok && strings.Count(line, "|") == 4 {
			name, _, _ := strings.Cut(rest, "`")
			said = append(said, name)
		}
	}
	slices.Sort(said)
	require.Equal(t, names, said, "values and those that README.md has")
}

// leaves returns the names of values, down to those that are no maps or empty.
func leaves(prefix string, v map[string]any) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if m, ok := v[name].(map[string]any); ok && len(m) > 0 && !freeForm[prefix+name] {
			names = append(names, leaves(prefix+name+".", m)...)
			continue
		}
		names = append(names, prefix+name)
	}
	slices.Sort(names)
	return names
}

// freeForm are values whose default is an object of Kubernetes, described as a whole.
var freeForm = map[string]bool{
	"inferenceExtension.resources": true, "inferenceExtension.strategy": true, "inferenceExtension.podSecurityContext": true,
	"inferenceExtension.securityContext": true, "proxy.resources": true,
}

func inSchema(schema map[string]any, path []string) bool {
	for _, name := range path {
		properties, _ := schema["properties"].(map[string]any)
		if schema, _ = properties[name].(map[string]any); schema == nil {
			return false
		}
	}
	return true
}
