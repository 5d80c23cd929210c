package rollouts

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

// TestWeightsAgree: what is read from an object of the API, and what a patch makes of it, is what package rollout says
// of the same manifest.
func TestWeightsAgree(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	name := func() string { return fmt.Sprint("t", rng.IntN(4)) }
	weight := func(given bool) *int32 {
		if w := 1 + rng.Int32N(9); given {
			return &w
		}
		return nil
	}
	for i := range 2000 {
		var manifest types.Object
		o := rollout.Object{Name: types.NamespacedName{Namespace: "default", Name: "o"}}
		meta := types.ObjectMeta{Namespace: "default", Name: "o"}
		if i%2 == 0 {
			m := &types.InferenceModel{ObjectMeta: meta}
			m.Spec.ModelName, m.Spec.PoolRef.Name = "public", "p"
			given := rng.IntN(2) == 0
			for range rng.IntN(4) {
				m.Spec.TargetModels = append(m.Spec.TargetModels, types.TargetModel{Name: name(), Weight: weight(given)})
			}
			manifest, o.Kind = m, kindModel
		} else {
			w := &types.InferenceModelRewrite{ObjectMeta: meta}
			w.Spec.PoolRef.Name = "p"
			for range 1 + rng.IntN(3) {
				var rule types.RewriteRule
				for range 1 + rng.IntN(3) {
					rule.Targets = append(rule.Targets, types.RewriteTarget{ModelRewrite: name(), Weight: weight(rng.IntN(2) == 0)})
				}
				w.Spec.Rules = append(w.Spec.Rules, rule)
			}
			manifest, o.Kind, o.Rule = w, kindRewrite, rng.IntN(len(w.Spec.Rules))
		}
		manifest.SetDefaults()
		object := objectOf(t, manifest)
		want, err := rollout.WeightsOf(manifest, o.Rule)
		require.NoError(t, err)
		got, err := recordOf(object, o)
		require.NoError(t, err)
		require.Equal(t, want, got.Weights, "%s", object)

		var next []rollout.Weight
		for j := range 4 {
			if w := rng.Int32N(3); w > 0 || j == 0 {
				next = append(next, rollout.Weight{Target: fmt.Sprint("t", j), Weight: max(w, int32(1-j))})
			}
		}
		rng.Shuffle(len(next), func(a, b int) { next[a], next[b] = next[b], next[a] })
		patch, err := patchOf(object, o, rollout.Record{Weights: next})
		require.NoError(t, err)
		require.NoError(t, rollout.SetWeights(manifest, o.Rule, next))
		if rollout.SameShares(want, next) {
			require.NotContains(t, string(patch), "spec")
			continue
		}
		patched := merge(object.Object, decoded(t, patch))
		require.Equal(t, objectOf(t, manifest).Object["spec"], patched["spec"])
	}
}

// merge applies what a patch has for the spec: lists as a whole.
func merge(to, patch map[string]any) map[string]any {
	spec := to["spec"].(map[string]any)
	for field, v := range patch["spec"].(map[string]any) {
		spec[field] = v
	}
	return to
}

func decoded(t *testing.T, data []byte) map[string]any {
	t.Helper()
	u := new(unstructured.Unstructured)
	u.Object = map[string]any{}
	require.NoError(t, json.Unmarshal(data, &u.Object))
	normalize(u.Object)
	return u.Object
}

func objectOf(t *testing.T, manifest types.Object) *unstructured.Unstructured {
	t.Helper()
	data, err := json.Marshal(manifest)
	require.NoError(t, err)
	return &unstructured.Unstructured{Object: decoded(t, data)}
}

// normalize makes whole numbers int64, as the API's own decoder does.
func normalize(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, one := range v {
			v[k] = normalize(one)
		}
	case []any:
		for i, one := range v {
			v[i] = normalize(one)
		}
	case float64:
		return int64(v)
	}
	return v
}

// Whatever an object of the API looks like, reading it ends with weights or an error, and a patch of it with JSON.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"spec":{"modelName":"m","targetModels":[{"name":"a","weight":1},{"name":"a"},7]}}`), 0)
	f.Add([]byte(`{"spec":{"rules":[{"targets":[{"modelRewrite":"a","weight":1e99}]},3]},"metadata":{"annotations":{"inferpick.dev/rollout-state":"x"}}}`), 1)
	f.Add([]byte(`{"spec":[]}`), 0)
	f.Fuzz(func(t *testing.T, data []byte, rule int) {
		var o map[string]any
		if json.Unmarshal(data, &o) != nil || o == nil {
			return
		}
		object := &unstructured.Unstructured{Object: o}
		for _, kind := range []string{kindModel, kindRewrite} {
			at := rollout.Object{Kind: kind, Rule: rule}
			r, err := recordOf(object, at)
			if err != nil {
				continue
			}
			r.Weights, r.State = append(r.Weights, rollout.Weight{Target: "\x00new", Weight: 1}), []byte("{}")
			patch, err := patchOf(object, at, r)
			if err == nil && !json.Valid(patch) {
				t.Fatalf("patch %q", patch)
			}
			editorOf(object, kind)
			_, _, _ = conditionsWith(object, verdict{status: "True"}, at0)
		}
	})
}
