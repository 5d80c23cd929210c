package types_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

// TestAPIVersions: each kind is read in every version that it is known by, and written in
// one of them.
func TestAPIVersions(t *testing.T) {
	usual := map[string]string{"InferencePool": poolV1, "InferenceModel": model, "InferenceObjective": objective, "InferenceModelRewrite": rewrite}
	for kind, text := range usual {
		versions := types.APIVersions(kind)
		require.NotEmpty(t, versions)
		for _, version := range versions {
			form := text
			if kind == "InferencePool" && strings.Contains(version, "alpha") {
				form = poolAlpha
			}
			var m map[string]any
			require.NoError(t, json.Unmarshal([]byte(form), &m))
			m["apiVersion"] = version
			data, err := json.Marshal(m)
			require.NoError(t, err)
			obj, err := types.DecodeManifest(data)
			require.NoError(t, err, "%s %s", kind, version)
			require.Equal(t, kind, obj.Kind())
		}
	}
	for _, version := range []string{"llm-d.ai/v1alpha1", "llm-d.ai/v1alpha2", "llm-d.ai/v1", "inference.networking.x-k8s.io/v1alpha2"} {
		require.Contains(t, types.APIVersions("InferenceObjective"), version)
	}
	require.Empty(t, types.APIVersions("Pod"))
	_, err := types.DecodeManifest([]byte(strings.Replace(objective, "x-k8s.io/v1alpha2", "x-k8s.io/v7", 1)))
	require.ErrorContains(t, err, "apiVersion of InferenceObjective must be one of inference.networking.x-k8s.io/v1alpha2, ")
}

// TestLenient: a field that is not known is told in place of an error, and all else that
// is wrong is wrong still.
func TestLenient(t *testing.T) {
	text := strings.Replace(objective, `"priority": 2`, `"priority": 2, "targetModels": [{"name": "a"}], "poolrefs": []`, 1)
	_, err := types.DecodeManifest([]byte(text))
	require.ErrorContains(t, err, "spec.targetModels is not a field of this object")
	obj, unknown, err := types.DecodeManifestLenient([]byte(text))
	require.NoError(t, err)
	require.Equal(t, 2, obj.(*types.InferenceObjective).Priority())
	require.Len(t, unknown, 2)
	require.Equal(t, "spec.poolrefs", unknown[0].Field)
	require.Equal(t, "poolRef, poolRefs, poolSelector, priority", unknown[0].Known)
	require.Equal(t, "InferenceObjective default/interactive", unknown[0].Object)

	_, unknown, err = types.DecodeManifestLenient([]byte(strings.Replace(text, `"priority": 2`, `"priority": "2"`, 1)))
	require.ErrorContains(t, err, "spec.priority must be an integer")
	require.Len(t, unknown, 2)

	p, unknown, err := types.DecodeManifestLenient([]byte(strings.Replace(poolV1, `{"name": "epp", `, `{"name": "epp", "namespace": "x", `, 1)))
	require.NoError(t, err)
	require.Equal(t, "spec.endpointPickerRef.namespace", unknown[0].Field)
	require.NotNil(t, p.(*types.InferencePool).Spec.EndpointPickerRef)
}

func TestObjectivePools(t *testing.T) {
	read := func(spec string) (*types.InferenceObjective, error) {
		o, err := types.DecodeManifest([]byte(`{"apiVersion": "llm-d.ai/v1", "kind": "InferenceObjective", "metadata": {"name": "o", "namespace": "lab"}, "spec": ` + spec + `}`))
		if err != nil {
			return nil, err
		}
		roundTrip(t, o)
		return o.(*types.InferenceObjective), nil
	}
	o, err := read(`{"poolRef": {"name": "a"}, "poolRefs": [{"name": "b", "group": "llm-d.ai"}, {"name": "a"}]}`)
	require.NoError(t, err)
	require.Equal(t, []types.NamespacedName{{Namespace: "lab", Name: "a"}, {Namespace: "lab", Name: "b"}}, o.Pools())
	require.Equal(t, types.GroupLLMD, o.Spec.PoolRefs[0].Group)

	labelled := func(namespace string, labels map[string]string) *types.InferencePool {
		return &types.InferencePool{ObjectMeta: types.ObjectMeta{Name: "p", Namespace: namespace, Labels: labels}}
	}
	require.False(t, o.Selects(labelled("lab", nil)), "there is no selector")

	o, err = read(`{"poolSelector": {"matchLabels": {"tier": "gold"}, "matchExpressions": [
		{"key": "zone", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"},
		{"key": "gpu", "operator": "Exists"}, {"key": "gpu", "operator": "NotIn", "values": ["t4"]}]}}`)
	require.NoError(t, err)
	require.Empty(t, o.Pools())
	good := map[string]string{"tier": "gold", "zone": "b", "gpu": "h100"}
	require.True(t, o.Selects(labelled("lab", good)))
	require.False(t, o.Selects(labelled("default", good)), "another namespace")
	for key, value := range map[string]string{"tier": "tin", "zone": "c", "old": "", "gpu": "t4"} {
		bad := map[string]string{"tier": "gold", "zone": "b", "gpu": "h100"}
		bad[key] = value
		require.False(t, o.Selects(labelled("lab", bad)), "%s %s", key, value)
	}

	o, err = read(`{"poolSelector": {}}`)
	require.NoError(t, err)
	require.True(t, o.Selects(labelled("lab", nil)))

	for spec, want := range map[string]string{
		`{}`:                           "spec.poolRef.name must have 1 to 253 characters",
		`{"poolRefs": []}`:             "spec.poolRef.name must have 1 to 253 characters",
		`{"poolRefs": [{"name": ""}]}`: "spec.poolRefs[0].name must have 1 to 253",
		`{"poolRefs": [{"name": "a", "group": "x"}]}`:                                                   "spec.poolRefs[0].group must be one of",
		`{"poolRefs": [` + strings.TrimSuffix(strings.Repeat(`{"name":"a"},`, 65), ",") + `]}`:          "spec.poolRefs must have at most 64",
		`{"poolSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}`:                      "spec.poolSelector.matchExpressions[0].operator must be one of In, NotIn, Exists, DoesNotExist",
		`{"poolSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}`:                      "matchExpressions[0].values must have at least one",
		`{"poolSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}}`: "matchExpressions[0].values must have none",
		`{"poolSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": [5]}]}}`:       "matchExpressions[0].values[0] must be a string",
		`{"poolSelector": {"matchExpressions": [{"key": "-", "operator": "Exists"}]}}`:                  "matchExpressions[0].key must be",
		`{"poolSelector": {"matchLabels": {"a": "-"}}}`:                                                 "spec.poolSelector.matchLabels",
	} {
		_, err := read(spec)
		require.ErrorContains(t, err, want, spec)
	}
}
