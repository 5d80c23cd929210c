package rollouts

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

// UIDAnnotation holds the uid of the object whose rollout rollout.StateAnnotation describes. Where it is that of another
// object, as after one was made anew from a copy, there is no state.
const UIDAnnotation = "inferpick.dev/rollout-uid"

const (
	kindModel   = "InferenceModel"
	kindRewrite = "InferenceModelRewrite"
)

// targets are those of an object, as the API has them.
type targets struct {
	list []any
	key  string // the field of a target with its name
	// implied is the target that has all the traffic if the list is empty, as a model without targets has.
	implied string
}

// targetsOf finds the targets that an object of a rollout is about.
func targetsOf(object *unstructured.Unstructured, o rollout.Object) (targets, error) {
	switch o.Kind {
	case kindModel:
		list, _, err := unstructured.NestedSlice(object.Object, "spec", "targetModels")
		if err != nil {
			return targets{}, err
		}
		implied, _, err := unstructured.NestedString(object.Object, "spec", "modelName")
		return targets{list, "name", implied}, err
	case kindRewrite:
		rules, _, err := unstructured.NestedSlice(object.Object, "spec", "rules")
		if err != nil {
			return targets{}, err
		}
		if o.Rule < 0 || o.Rule >= len(rules) {
			return targets{}, fmt.Errorf("there is no rule %d: it has %d", o.Rule, len(rules))
		}
		rule, _ := rules[o.Rule].(map[string]any)
		list, _, err := unstructured.NestedSlice(rule, "targets")
		return targets{list, "modelRewrite", ""}, err
	}
	return targets{}, fmt.Errorf("a rollout is of an %s or %s, not of %q", kindModel, kindRewrite, o.Kind)
}

// weights are those in force. Targets without a weight are equal if none has one, and else get nothing.
func (t targets) weights() ([]rollout.Weight, error) {
	if len(t.list) == 0 {
		if t.implied == "" {
			return nil, errors.New("it has no targets")
		}
		return []rollout.Weight{{Target: t.implied, Weight: 1}}, nil
	}
	var out []rollout.Weight
	weighted := slices.ContainsFunc(t.list, func(one any) bool { return weightOf(one) > 0 })
	for i, one := range t.list {
		name := t.name(one)
		if name == "" {
			return nil, fmt.Errorf("target %d has no %s", i, t.key)
		}
		w := weightOf(one)
		if !weighted {
			w = 1
		}
		if at := slices.IndexFunc(out, func(have rollout.Weight) bool { return have.Target == name }); at >= 0 {
			out[at].Weight += w
			continue
		}
		out = append(out, rollout.Weight{Target: name, Weight: w})
	}
	return out, nil
}

// with returns the list with other weights, in the order that it has; what else targets have stays. 0 takes a target
// out: the API has no weight of 0.
func (t targets) with(weights []rollout.Weight) ([]any, error) {
	left := make(map[string]int32, len(weights))
	for _, w := range weights {
		if _, twice := left[w.Target]; twice || w.Target == "" || w.Weight < 0 || w.Weight > types.MaxWeight {
			return nil, fmt.Errorf("weight %d of target %q: want each once, with 0 to %d", w.Weight, w.Target, types.MaxWeight)
		}
		left[w.Target] = w.Weight
	}
	var out []any
	put := func(one map[string]any, name string) {
		if w := left[name]; w > 0 {
			one["weight"] = int64(w)
			out = append(out, one)
		}
		delete(left, name) // a second one of the name would get its weight again
	}
	for _, one := range t.list {
		if target, ok := one.(map[string]any); ok {
			put(target, t.name(one))
		}
	}
	for _, w := range weights {
		put(map[string]any{t.key: w.Target}, w.Target)
	}
	if len(out) == 0 {
		return nil, errors.New("no target has a weight above 0, and the API wants one")
	}
	return out, nil
}

func (t targets) name(one any) string {
	target, _ := one.(map[string]any)
	name, _ := target[t.key].(string)
	return name
}

func weightOf(one any) int32 {
	target, _ := one.(map[string]any)
	switch w := target["weight"].(type) {
	case int64:
		return int32(min(max(w, 0), types.MaxWeight))
	case float64:
		return int32(min(max(w, 0), types.MaxWeight))
	}
	return 0
}

// recordOf returns what an object holds of a rollout.
func recordOf(object *unstructured.Unstructured, o rollout.Object) (rollout.Record, error) {
	t, err := targetsOf(object, o)
	if err != nil {
		return rollout.Record{}, err
	}
	r := rollout.Record{}
	if r.Weights, err = t.weights(); err != nil {
		return rollout.Record{}, err
	}
	notes := object.GetAnnotations()
	if state := notes[rollout.StateAnnotation]; state != "" && (notes[UIDAnnotation] == "" || notes[UIDAnnotation] == string(object.GetUID())) {
		r.State = []byte(state)
	}
	r.Revision = revisionOf(object, r)
	return r, nil
}

// revisionOf names all of an object that a rollout depends on: its uid, plan, state and weights. What others write
// into the rest of it, such as its status, makes no other revision. As each state has another sequence number, none
// comes twice.
func revisionOf(object *unstructured.Unstructured, r rollout.Record) string {
	data, err := json.Marshal([]any{object.GetAnnotations()[rollout.Annotation], string(r.State), r.Weights})
	if err != nil {
		panic(err) // of strings and numbers
	}
	sum := sha256.Sum256(data)
	return string(object.GetUID()) + "/" + base64.RawURLEncoding.EncodeToString(sum[:12])
}

// patchOf returns the merge patch that makes r what an object holds, for just this version of it. Weights that split
// traffic as those there do are not in it: these stay, and so does who has written them.
func patchOf(object *unstructured.Unstructured, o rollout.Object, r rollout.Record) ([]byte, error) {
	notes := map[string]any{rollout.StateAnnotation: nil, UIDAnnotation: nil}
	if len(r.State) > 0 {
		notes[rollout.StateAnnotation], notes[UIDAnnotation] = string(r.State), string(object.GetUID())
	}
	patch := map[string]any{"metadata": map[string]any{
		"uid": object.GetUID(), "resourceVersion": object.GetResourceVersion(), "annotations": notes,
	}}
	t, err := targetsOf(object, o)
	if err != nil {
		return nil, err
	}
	have, err := t.weights()
	if err != nil {
		return nil, err
	}
	if r.Weights != nil && !rollout.SameShares(have, r.Weights) {
		list, err := t.with(r.Weights)
		if err != nil {
			return nil, err
		}
		if patch["spec"], err = specWith(object, o, list); err != nil {
			return nil, err
		}
	}
	return json.Marshal(patch)
}

// specWith returns the part of the spec that holds the targets, with a list of them. A merge patch replaces lists as a
// whole, so all rules are in it, as the version of the object has them that the patch is for.
func specWith(object *unstructured.Unstructured, o rollout.Object, list []any) (map[string]any, error) {
	if o.Kind == kindModel {
		return map[string]any{"targetModels": list}, nil
	}
	rules, _, err := unstructured.NestedSlice(object.Object, "spec", "rules")
	if err != nil {
		return nil, err
	}
	rules[o.Rule].(map[string]any)["targets"] = list
	return map[string]any{"rules": rules}, nil
}
