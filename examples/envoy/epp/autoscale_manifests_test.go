package epp_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/autoscale/keda/externalscaler"
)

// scaledObjectYAML is what of a ScaledObject the scaler has to do with.
type scaledObjectYAML struct {
	APIVersion, Kind string
	Metadata         struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Spec struct {
		ScaleTargetRef                                   struct{ Name string }
		MinReplicaCount, MaxReplicaCount, CooldownPeriod int
		Advanced                                         any
		Triggers                                         []struct {
			Type       string
			MetricType string // has to be AverageValue, the default
			Metadata   map[string]string
		}
	}
}

// documented are the YAML documents that people are shown: files for KEDA, and what documents have between fences.
func documented(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	files, err := filepath.Glob(filepath.Join("..", "deploy", "autoscaling", "keda*.yaml"))
	must(t, err)
	require.NotEmpty(t, files)
	files = append(files, filepath.Join("..", "deploy", "kustomize", "components", "keda", "scaledobject.yaml"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		all[file] = string(text)
	}
	for _, file := range []string{filepath.Join("..", "README.md"), filepath.Join("..", "..", "..", "docs", "autoscaling.md")} {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue
		}
		must(t, err)
		for i, part := range strings.Split(string(text), "```") {
			if yaml, ok := strings.CutPrefix(part, "yaml\n"); ok && i%2 == 1 && strings.Contains(yaml, "kind: ScaledObject") {
				all[file] = yaml
			}
		}
	}
	return all
}

// TestDocumentedTriggers: the picker understands the triggers that people are shown.
func TestDocumentedTriggers(t *testing.T) {
	t.Parallel()
	pools := base
	for _, name := range []struct{ namespace, pool string }{{"serving", "llama"}, {"models", "llama"}} {
		pools += strings.Replace(poolYAML(name.pool), "metadata: {", "metadata: {namespace: "+name.namespace+", ", 1)
		pools += strings.Replace(modelYAML("chat", name.pool, "llama-8b"), "metadata: {", "metadata: {namespace: "+name.namespace+", ", 1)
	}
	r := start(t, pools, func(o *epp.Options) { o.Autoscale = &epp.Autoscale{KEDAAddr: epp.PickerPort} })
	c := r.scaler()
	triggers := 0
	for file, text := range documented(t) {
		var o scaledObjectYAML
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &o), file)
		require.Equal(t, "keda.sh/v1alpha1 ScaledObject", o.APIVersion+" "+o.Kind, file)
		require.NotEmpty(t, o.Spec.ScaleTargetRef.Name, file)
		require.NotEmpty(t, o.Spec.Triggers, file)
		if o.Metadata.Namespace == "" {
			o.Metadata.Namespace = "serving"
		}
		for _, trigger := range o.Spec.Triggers {
			require.Contains(t, []string{"external", "external-push"}, trigger.Type, file)
			require.Contains(t, []string{"", "AverageValue"}, trigger.MetricType, file)
			require.True(t, strings.HasSuffix(trigger.Metadata["scalerAddress"], ":9005"), file)
			ref := &externalscaler.ScaledObjectRef{Name: o.Metadata.Name, Namespace: o.Metadata.Namespace, ScalerMetadata: trigger.Metadata}
			spec, err := c.GetMetricSpec(context.Background(), ref)
			require.NoError(t, err, file)
			require.True(t, slices.ContainsFunc(spec.MetricSpecs, func(s *externalscaler.MetricSpec) bool { return s.TargetSizeFloat > 0 }))
			triggers++
		}
	}
	require.GreaterOrEqual(t, triggers, 5)
}
