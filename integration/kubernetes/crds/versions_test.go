package crds

import (
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// version is a definition that clusters may have: ours with changes to it.
type version struct {
	name   string
	kind   kind
	change func(t *testing.T, definition map[string]any)
	// has is an object that both accept, and status its status; only ours accepts refused.
	has, status     string
	refused, answer string
}

var versions = []version{
	{
		name: "v1 of 1.0", kind: pool,
		change: func(t *testing.T, definition map[string]any) {
			spec := at(t, definition, "spec")
			spec["required"] = []any{"selector", "targetPorts", "endpointPickerRef"}
			delete(at(t, spec, "properties"), "appProtocol")
			at(t, spec, "properties", "targetPorts")["maxItems"] = int64(1)
			labels := at(t, spec, "properties", "selector", "properties", "matchLabels")
			delete(labels, "minProperties")
			delete(labels, "maxProperties")
		},
		refused: "spec: {targetPorts: [{number: 1}, {number: 2}]}", answer: "spec.targetPorts: Too many: 2: must have at most 1 item",
	},
	{
		name: "v1 of 1.3", kind: pool,
		change: func(t *testing.T, definition map[string]any) {
			spec := at(t, definition, "spec")
			spec["required"] = []any{"selector", "targetPorts", "endpointPickerRef"}
			delete(at(t, spec, "properties"), "appProtocol")
		},
		has:     "spec: {targetPorts: [{number: 1}, {number: 2}]}",
		refused: "spec: {appProtocol: http}", answer: `unknown field "spec.appProtocol"`,
	},
	{
		name: "v1 of 1.5", kind: pool,
		change: func(t *testing.T, definition map[string]any) {
			at(t, definition, "spec")["required"] = []any{"selector", "targetPorts", "endpointPickerRef"}
		},
		has:     "spec: {appProtocol: kubernetes.io/h2c}",
		refused: "spec: {endpointPickerRef: null}", answer: "spec.endpointPickerRef: Required value",
	},
	{
		name: "v1alpha2 of 0.3", kind: poolAlpha,
		change: func(t *testing.T, definition map[string]any) {
			status := at(t, definition, "status")
			delete(status, "default")
			parent := at(t, status, "properties", "parent", "items", "properties")
			reference := map[string]any{}
			for _, name := range []string{"apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"} {
				reference[name] = map[string]any{"type": "string"}
			}
			parent["parentRef"] = map[string]any{"type": "object", "properties": reference, "x-kubernetes-map-type": "atomic"}
		},
		status: "{parent: [{parentRef: {apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, name: a, uid: b}}]}",
	},
	{
		name: "objectives of one pool", kind: objectiveLLMD,
		change: func(t *testing.T, definition map[string]any) {
			spec := at(t, definition, "spec")
			spec["required"] = []any{"poolRef"}
			at(t, spec, "properties", "poolRef", "properties", "group")["default"] = "llm-d.ai"
			delete(at(t, spec, "properties"), "poolRefs")
			delete(at(t, spec, "properties"), "poolSelector")
		},
		has:     "spec: {priority: 3}",
		refused: "spec: {poolSelector: {}}", answer: `unknown field "spec.poolSelector"`,
	},
}

// TestOtherVersions: our definition can be installed over each that clusters may have. Objects
// survive that, and are read as before.
func TestOtherVersions(t *testing.T) {
	c := install(t)
	t.Cleanup(func() { c.InstallCRDs(t, crds.CRDs) })
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			ours, err := fs.ReadFile(crds.CRDs, v.kind.Group+"_"+v.kind.Resource+".yaml")
			require.NoError(t, err)
			objects := v.kind.client(c, c.Namespace(t))
			refused := v.kind.object(t, v.refused)
			refused.SetName("refused")

			c.InstallCRD(t, changed(t, ours, v.change))
			eventually(t, v.answer, func() error { // that is when it is in force
				_, err := objects.Create(t.Context(), refused, strict)
				return err
			})
			o, err := objects.Create(t.Context(), v.kind.object(t, v.has), metav1.CreateOptions{FieldValidation: "Strict"})
			require.NoError(t, err)
			if v.status != "" {
				eventually(t, "", func() error {
					o.Object["status"] = parse(t, v.status)
					_, err := objects.UpdateStatus(t.Context(), o, metav1.UpdateOptions{FieldValidation: "Strict"})
					return err
				})
			}
			before, err := decode(t, o)
			require.NoError(t, err)

			c.InstallCRD(t, string(ours))
			eventually(t, "", func() error {
				_, err := objects.Create(t.Context(), refused, strict)
				return err
			})
			o, err = objects.Get(t.Context(), o.GetName(), metav1.GetOptions{})
			require.NoError(t, err)
			o.SetAnnotations(map[string]string{"touched": "yes"})
			o, err = objects.Update(t.Context(), o, metav1.UpdateOptions{})
			require.NoError(t, err)
			after, err := decode(t, o)
			require.NoError(t, err)
			require.Equal(t, spec(t, before), spec(t, after))
		})
	}
}

// eventually returns once the server says this.
func eventually(t *testing.T, want string, fn func() error) {
	t.Helper()
	cluster.Eventually(t, 30*time.Second, func() error {
		if got := refusal(fn()); got != want {
			return fmt.Errorf("server says %q, want %q", got, want)
		}
		return nil
	})
}

// changed returns a definition with a change to the schemas of spec and status.
func changed(t *testing.T, definition []byte, change func(*testing.T, map[string]any)) string {
	t.Helper()
	crd := parse(t, string(definition))
	versions, _, err := unstructured.NestedSlice(crd, "spec", "versions")
	require.NoError(t, err)
	change(t, at(t, versions[0].(map[string]any), "schema", "openAPIV3Schema", "properties"))
	require.NoError(t, unstructured.SetNestedSlice(crd, versions, "spec", "versions"))
	text, err := yaml.Marshal(crd)
	require.NoError(t, err)
	return string(text)
}

// at returns the map at a path in m.
func at(t *testing.T, m map[string]any, path ...string) map[string]any {
	t.Helper()
	for _, name := range path {
		inner, ok := m[name].(map[string]any)
		require.True(t, ok, "%s of %v", name, path)
		m = inner
	}
	return m
}
