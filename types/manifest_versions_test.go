package types_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// TestAPIVersions: each kind is read in every version that it is known by, and written in
// one of them.
func TestAPIVersions(t *testing.T) {
	usual := map[string]string{"InferencePool": poolV1, "InferenceModel": model, "InferenceObjective": objective, "InferenceModelRewrite": rewrite}
	for kind, text := range usual {
		versions := types.APIVersions(kind)
		if len(versions) == 0 {
			t.Fatalf("%s has no versions", kind)
		}
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
			if obj, err := types.DecodeManifest(data); err != nil || obj.Kind() != kind {
				t.Errorf("%s %s: %v", kind, version, err)
			}
		}
	}
	for _, version := range []string{"llm-d.ai/v1alpha1", "llm-d.ai/v1alpha2", "llm-d.ai/v1", "inference.networking.x-k8s.io/v1alpha2"} {
		if !slices.Contains(types.APIVersions("InferenceObjective"), version) {
			t.Errorf("InferenceObjective is not known as %s", version)
		}
	}
	if got := types.APIVersions("Pod"); len(got) > 0 {
		t.Errorf("versions of a Pod: %q", got)
	}
	_, err := types.DecodeManifest([]byte(strings.Replace(objective, "x-k8s.io/v1alpha2", "x-k8s.io/v7", 1)))
	wantError(t, err, `apiVersion is "inference.networking.x-k8s.io/v7", want one of those of InferenceObjective: inference.networking.x-k8s.io/v1alpha2, `)
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	require.ErrorContains(t, err, want)
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	require.Equal(t, want, got, "%s", what)
}

// TestLenient: a field that is not known is told in place of an error, and all else that
// is wrong is wrong still.
func TestLenient(t *testing.T) {
	text := strings.Replace(objective, `"priority": 2`, `"priority": 2, "targetModels": [{"name": "a"}], "poolrefs": []`, 1)
	_, err := types.DecodeManifest([]byte(text))
	wantError(t, err, "spec.targetModels is not a field; known are priority, poolRef, poolRefs, poolSelector")
	obj, unknown, err := types.DecodeManifestLenient([]byte(text))
	must(t, err)
	wantEqual(t, "the priority", obj.(*types.InferenceObjective).Priority(), 2)
	if len(unknown) != 2 {
		t.Fatalf("unknown fields: %v", unknown)
	}
	wantEqual(t, "the first field", unknown[1].Field, "spec.poolrefs")
	wantEqual(t, "what is known", unknown[0].Known, "priority, poolRef, poolRefs, poolSelector")
	wantEqual(t, "the object", unknown[0].Object, "InferenceObjective default/interactive")

	_, unknown, err = types.DecodeManifestLenient([]byte(strings.Replace(text, `"priority": 2`, `"priority": "2"`, 1)))
	wantError(t, err, `spec.priority is "2", want an integer`)
	wantEqual(t, "unknown fields", len(unknown), 2)

	p, unknown, err := types.DecodeManifestLenient([]byte(strings.Replace(poolV1, `{"name": "epp", `, `{"name": "epp", "namespace": "x", `, 1)))
	must(t, err)
	wantEqual(t, "the field", unknown[0].Field, "spec.endpointPickerRef.namespace")
	wantEqual(t, "the picker's name", p.(*types.InferencePool).Spec.EndpointPickerRef.Name, "epp")
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
	must(t, err)
	wantEqual(t, "Pools", o.Pools(), []types.NamespacedName{{Namespace: "lab", Name: "a"}, {Namespace: "lab", Name: "b"}})
	wantEqual(t, "the group", o.Spec.PoolRefs[0].Group, types.GroupLLMD)

	labelled := func(namespace string, labels map[string]string) *types.InferencePool {
		return &types.InferencePool{ObjectMeta: types.ObjectMeta{Name: "p", Namespace: namespace, Labels: labels}}
	}
	wantEqual(t, "what no selector selects", o.Selects(labelled("lab", nil)), false)

	o, err = read(`{"poolSelector": {"matchLabels": {"tier": "gold"}, "matchExpressions": [
		{"key": "zone", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"},
		{"key": "gpu", "operator": "Exists"}, {"key": "gpu", "operator": "NotIn", "values": ["t4"]}]}}`)
	must(t, err)
	wantEqual(t, "named pools", len(o.Pools()), 0)
	good := map[string]string{"tier": "gold", "zone": "b", "gpu": "h100"}
	wantEqual(t, "a pool with the labels", o.Selects(labelled("lab", good)), true)
	wantEqual(t, "one of another namespace", o.Selects(labelled("default", good)), false)
	for key, value := range map[string]string{"tier": "tin", "zone": "c", "old": "", "gpu": "t4"} {
		bad := map[string]string{"tier": "gold", "zone": "b", "gpu": "h100"}
		bad[key] = value
		wantEqual(t, key+" "+value, o.Selects(labelled("lab", bad)), false)
	}

	o, err = read(`{"poolSelector": {}}`)
	must(t, err)
	wantEqual(t, "what an empty selector selects", o.Selects(labelled("lab", nil)), true)

	for spec, want := range map[string]string{
		`{}`:                           `spec.poolRef.name is "", want 1 to 253 characters`,
		`{"poolRefs": []}`:             `spec.poolRef.name is "", want 1 to 253 characters`,
		`{"poolRefs": [{"name": ""}]}`: `spec.poolRefs[0].name is "", want 1 to 253`,
		`{"poolRefs": [{"name": "a", "group": "x"}]}`:                                                   `spec.poolRefs[0].group is "x", want one of`,
		`{"poolRefs": [` + strings.TrimSuffix(strings.Repeat(`{"name":"a"},`, 65), ",") + `]}`:          "spec.poolRefs has 65, want at most 64",
		`{"poolSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}`:                      `spec.poolSelector.matchExpressions[0].operator is "Gt", want one of In, NotIn, Exists, DoesNotExist`,
		`{"poolSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}`:                      "matchExpressions[0].values must have at least one",
		`{"poolSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}}`: `matchExpressions[0].values has ["x"], want none`,
		`{"poolSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": [5]}]}}`:       "matchExpressions[0].values[0] is 5, want a string",
		`{"poolSelector": {"matchExpressions": [{"key": "-", "operator": "Exists"}]}}`:                  `matchExpressions[0].key is "-", want [prefix/]name`,
		`{"poolSelector": {"matchLabels": {"a": "-"}}}`:                                                 "spec.poolSelector.matchLabels",
	} {
		_, err := read(spec)
		wantError(t, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	require.NoError(t, err)
}
