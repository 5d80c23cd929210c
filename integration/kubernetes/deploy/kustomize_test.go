package deploy_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// theSame are the values by which the chart renders what a folder of testdata/kustomize does.
var theSame = map[string]string{
	"base":              ``,
	"high-availability": `{inferenceExtension: {replicas: 2}}`,
	"peers":             `{inferenceExtension: {replicas: 2, peers: {keySecret: llama-epp-peers}}}`,
	"rollouts":          `{inferenceExtension: {rollouts: {enabled: true}}}`,
	"monitoring":        `{inferenceExtension: {monitoring: {prometheus: {enabled: true}}}}`,
	"network-policy":    `{inferenceExtension: {networkPolicy: {enabled: true}}}`,
	"keda":              `{inferenceExtension: {autoscaling: {keda: {enabled: true, deployment: llama}}}}`,
	"standalone":        `{proxy: {enabled: true}}`,
	"all-namespaces":    `{inferenceExtension: {namespaces: ["*"]}, inferencePool: {create: false}}`,
}

// TestKustomize: the manifests of kustomize and the chart are the same in substance.
func TestKustomize(t *testing.T) {
	for name, text := range theSame {
		t.Run(name, func(t *testing.T) {
			want := substance(render(t, needed, `{inferenceExtension: {image: {registry: "", repository: inferpick-epp}}}`, text))
			got := substance(build(t, filepath.Join("testdata", "kustomize", name)))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-chart +kustomize)\n%s", diff)
			}
		})
	}
}

// TestComponentsTogether: components can be combined, in any number.
func TestComponentsTogether(t *testing.T) {
	objects := substance(build(t, filepath.Join("testdata", "kustomize", "all-of-them")))
	require.ElementsMatch(t, []string{
		"ClusterRole serving-llama-epp", "ClusterRoleBinding serving-llama-epp", "ConfigMap llama-epp", "ConfigMap llama-epp-proxy",
		"Deployment llama-epp", "NetworkPolicy llama-epp", "PodDisruptionBudget llama-epp", "Role llama-epp-leader",
		"RoleBinding llama-epp-leader", "ScaledObject llama", "Secret llama-epp-metrics-token", "Service llama-epp", "Service llama-epp-peers",
		"Service llama-epp-pickers", "Service llama-proxy",
		"ServiceAccount llama-epp", "ServiceAccount llama-epp-metrics-reader", "ServiceMonitor llama-epp",
	}, slices.Collect(maps.Keys(objects)))
	pod := objects["Deployment llama-epp"].at("spec", "template", "spec").(map[string]any)
	container := pod["containers"].([]any)[0].(map[string]any)
	require.Equal(t, []any{
		"-kubernetes", "-write-status=true", "-lease=llama-epp", "-config=/config/default-plugins.yaml", "-log-format=json", "-drain-delay=5s", "-drain-timeout=120s",
		"-keda-addr=:9005", "-autoscale-peers=llama-epp-pickers:9090", "-peers=llama-epp-peers:9004", "-peers-key-file=/var/run/secrets/inferpick/peers/key", "-peers-name=$(POD_NAME)",
		"-metrics-token-file=/var/run/secrets/inferpick/metrics/token", "-rollouts", "-rollout-loader=auto",
	}, container["args"])
	require.Len(t, objects["ClusterRole serving-llama-epp"]["rules"], 9)
	require.Len(t, pod["initContainers"], 1)
	require.Len(t, pod["volumes"], 4)
}

// TestKustomizeExample: the kustomization that users copy says what it seems to.
func TestKustomizeExample(t *testing.T) {
	objects := build(t, deployed("kustomize", "example"))
	require.Equal(t, map[string]any{"app": "vllm-qwen3-32b"}, find(t, objects, "InferencePool").at("spec", "selector", "matchLabels"))
	container := find(t, objects, "Deployment").at("spec", "template", "spec", "containers").([]any)[0].(map[string]any)
	require.Equal(t, "registry.example.com/ai/inferpick-epp:0.1.0", container["image"])
	subject := find(t, objects, "RoleBinding")["subjects"].([]any)[0].(map[string]any)
	require.Equal(t, "serving", subject["namespace"])
}

var hashed = regexp.MustCompile(`-[0-9a-z]{10}$`)

// substance returns objects by what they are called, without what names the tool that made
// them: labels of Helm, the version of the chart, hashes that stand for contents.
func substance(objects []object) map[string]object {
	byID := map[string]object{}
	for _, o := range objects {
		o = without(map[string]any(o)).(map[string]any)
		byID[o.id()] = o
	}
	return byID
}

func without(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = without(v[i])
		}
	case map[string]any:
		for _, name := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "inferpick.io/proxy-config"} {
			delete(v, name)
		}
		for name := range v {
			v[name] = without(v[name])
			if volumes, ok := v[name].([]any); name == "volumes" && ok { // in no order
				slices.SortFunc(volumes, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
			if m, ok := v[name].(map[string]any); name == "annotations" && ok && len(m) == 0 {
				delete(v, name)
			}
		}
	case string:
		if strings.HasPrefix(v, "llama-epp-proxy-") {
			return hashed.ReplaceAllString(v, "")
		}
		return strings.TrimSuffix(v, ":0.1.0")
	}
	return v
}
