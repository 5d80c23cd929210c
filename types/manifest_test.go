package types_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

const (
	poolV1 = `{
  "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
  "metadata": {"name": "llama", "namespace": "prod", "uid": "1", "managedFields": [{"fieldsV1": {"f:spec": {}}}],
    "creationTimestamp": "2025-06-01T12:00:00+02:00", "labels": {"a": "b"}},
  "spec": {
    "selector": {"matchLabels": {"app": "llama"}},
    "targetPorts": [{"number": 8000}, {"number": 8001}],
    "endpointPickerRef": {"name": "epp", "port": {"number": 9002}}},
  "status": {"parents": [{"parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw", "future": 1},
    "controllerName": "x.io/y", "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "ok",
    "lastTransitionTime": "2025-06-01T12:00:00Z", "observedGeneration": 3}]}]}}`
	poolAlpha = `{
  "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferencePool",
  "metadata": {"name": "llama"},
  "spec": {"selector": {"app": "llama"}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}},
  "status": {"parent": [{"parentRef": {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "gw"},
    "conditions": [{"type": "Accepted", "status": "Unknown", "reason": "Pending"}]}]}}`
	model = `{
  "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel",
  "metadata": {"name": "food-review"},
  "spec": {"modelName": "food-review", "criticality": "Standard", "poolRef": {"name": "llama"},
    "targetModels": [{"name": "food-review-v1", "weight": 90}, {"name": "food-review-v2", "weight": 10}]},
  "status": {"conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "1970-01-01T00:00:00Z", "reason": "Pending", "message": "Waiting for controller"}]}}`
	objective = `{
  "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceObjective",
  "metadata": {"name": "interactive"}, "spec": {"priority": 2, "poolRef": {"name": "llama"}}}`
	rewrite = `{
  "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModelRewrite",
  "metadata": {"name": "canary"},
  "spec": {"poolRef": {"name": "llama"}, "rules": [
    {"matches": [{"model": {"value": "food-review"}}],
     "targets": [{"modelRewrite": "food-review-v1", "weight": 90}, {"modelRewrite": "food-review-v2", "weight": 10}]},
    {"targets": [{"modelRewrite": "base"}]}]}}`
)

func ptr[T any](v T) *T { return &v }

func decode(t *testing.T, data string) types.Object {
	t.Helper()
	obj, err := types.DecodeManifest([]byte(data))
	require.NoError(t, err, "DecodeManifest")
	return obj
}

func TestDecodeManifest(t *testing.T) {
	utc := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339, s)
		require.NoError(t, err)
		return at
	}
	ref := func(group string) types.PoolRef {
		return types.PoolRef{Group: group, Kind: "InferencePool", Name: "llama"}
	}
	tests := []struct {
		name string
		data string
		want types.Object
	}{
		{"pool v1", poolV1, &types.InferencePool{
			ObjectMeta: types.ObjectMeta{Name: "llama", Namespace: "prod", CreationTimestamp: utc("2025-06-01T10:00:00Z"), Labels: map[string]string{"a": "b"}},
			Spec: types.InferencePoolSpec{
				Selector:    types.LabelSelector{MatchLabels: map[string]string{"app": "llama"}},
				TargetPorts: []types.Port{{Number: 8000}, {Number: 8001}},
				AppProtocol: "http",
				EndpointPickerRef: &types.EndpointPickerRef{
					Kind: "Service", Name: "epp", Port: &types.Port{Number: 9002}, FailureMode: types.FailClose,
				},
			},
			Status: types.InferencePoolStatus{Parents: []types.ParentStatus{{
				ParentRef:      types.ParentRef{Group: "gateway.networking.k8s.io", Kind: "Gateway", Name: "gw"},
				ControllerName: "x.io/y",
				Conditions: []types.Condition{{
					Type: "Accepted", Status: types.ConditionTrue, Reason: "Accepted", Message: "ok",
					LastTransitionTime: utc("2025-06-01T12:00:00Z"), ObservedGeneration: 3,
				}},
			}}},
		}},
		{"pool v1alpha2", poolAlpha, &types.InferencePool{
			ObjectMeta: types.ObjectMeta{Name: "llama", Namespace: "default"},
			Spec: types.InferencePoolSpec{
				Selector:    types.LabelSelector{MatchLabels: map[string]string{"app": "llama"}},
				TargetPorts: []types.Port{{Number: 8000}},
				AppProtocol: "http",
				EndpointPickerRef: &types.EndpointPickerRef{
					Kind: "Service", Name: "epp", Port: &types.Port{Number: 9002}, FailureMode: types.FailClose,
				},
			},
			Status: types.InferencePoolStatus{Parents: []types.ParentStatus{{
				ParentRef:  types.ParentRef{Group: "gateway.networking.k8s.io", Kind: "Gateway", Name: "gw"},
				Conditions: []types.Condition{{Type: "Accepted", Status: types.ConditionUnknown, Reason: "Pending"}},
			}}},
		}},
		{"model", model, &types.InferenceModel{
			ObjectMeta: types.ObjectMeta{Name: "food-review", Namespace: "default"},
			Spec: types.InferenceModelSpec{
				ModelName: "food-review", Criticality: types.Standard, PoolRef: ref(types.GroupX),
				TargetModels: []types.TargetModel{
					{Name: "food-review-v1", Weight: ptr[int32](90)}, {Name: "food-review-v2", Weight: ptr[int32](10)},
				},
			},
			Status: types.ObjectStatus{Conditions: []types.Condition{{
				Type: "Ready", Status: types.ConditionUnknown, Reason: "Pending", Message: "Waiting for controller",
				LastTransitionTime: utc("1970-01-01T00:00:00Z"),
			}}},
		}},
		{"objective", objective, &types.InferenceObjective{
			ObjectMeta: types.ObjectMeta{Name: "interactive", Namespace: "default"},
			Spec:       types.InferenceObjectiveSpec{Priority: ptr(2), PoolRef: ref(types.GroupGA)},
		}},
		{"rewrite", rewrite, &types.InferenceModelRewrite{
			ObjectMeta: types.ObjectMeta{Name: "canary", Namespace: "default"},
			Spec: types.InferenceModelRewriteSpec{PoolRef: ref(types.GroupGA), Rules: []types.RewriteRule{
				{
					Matches: []types.RewriteMatch{{Model: types.ModelMatch{Type: types.MatchExact, Value: "food-review"}}},
					Targets: []types.RewriteTarget{
						{ModelRewrite: "food-review-v1", Weight: ptr[int32](90)}, {ModelRewrite: "food-review-v2", Weight: ptr[int32](10)},
					},
				},
				{Targets: []types.RewriteTarget{{ModelRewrite: "base"}}},
			}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := decode(t, tt.data)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("DecodeManifest:\n got %#v\nwant %#v", got, tt.want)
			}
			roundTrip(t, got)
		})
	}
}

// roundTrip checks that what was decoded survives being written and read, and
// that Clone gives an equal object.
func roundTrip(t *testing.T, obj types.Object) {
	t.Helper()
	text, err := json.Marshal(obj)
	require.NoError(t, err, "Marshal(%v)", obj.Key())
	again, err := types.DecodeManifest(text)
	if err != nil {
		t.Fatalf("DecodeManifest of what Marshal wrote: %v\n%s", err, text)
	}
	if !reflect.DeepEqual(obj, again) {
		t.Fatalf("written and read:\n got %#v\nwant %#v\n%s", again, obj, text)
	}
	require.NoError(t, again.ValidateUpdate(obj), "ValidateUpdate of the same object")
	var copied types.Object
	switch o := obj.(type) {
	case *types.InferencePool:
		copied = o.Clone()
	case *types.InferenceModel:
		copied = o.Clone()
	case *types.InferenceObjective:
		copied = o.Clone()
	case *types.InferenceModelRewrite:
		copied = o.Clone()
	}
	if !reflect.DeepEqual(obj, copied) {
		t.Fatalf("Clone() = %#v, want %#v", copied, obj)
	}
}

func TestDecodeManifestErrors(t *testing.T) {
	pool := func(spec string) string {
		return `{"apiVersion":"inference.networking.k8s.io/v1","kind":"InferencePool","metadata":{"name":"p"},"spec":{` + spec + `}}`
	}
	model := func(spec string) string {
		return `{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModel","metadata":{"name":"m"},"spec":{"poolRef":{"name":"p"},` + spec + `}}`
	}
	rewrite := func(rules string) string {
		return `{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModelRewrite","metadata":{"name":"w"},"spec":{"poolRef":{"name":"p"},"rules":` + rules + `}}`
	}
	const good = `"selector":{"matchLabels":{"a":"b"}},"targetPorts":[{"number":8000}]`
	targets := func(n int) string {
		return `"modelName":"m","targetModels":[` + strings.TrimSuffix(strings.Repeat(`{"name":"t"},`, n), ",") + `]`
	}
	tests := []struct {
		name string
		data string
		want []string // all must be in the error
	}{
		{"no JSON", "{\n  \"a\": }", []string{"line 2, column 8"}},
		{"cut", `{"a"`, []string{"line 1, column 5: the document ends in the middle"}},
		{"second is no JSON", objective + "\n}", []string{"line 4, column 1"}},
		{"inside of the second", objective + "\n{\n \"a\": }", []string{"line 5, column 7"}},
		{"no object", `[1]`, []string{"object 0: is [1], want an object"}},
		{"nothing", ``, []string{"holds 0 objects"}},
		{"two", objective + objective, []string{"holds 2 objects"}},
		{"kind", `{"apiVersion":"v1","kind":"Pod"}`, []string{`kind is "v1 Pod", want one of InferencePool`}},
		{"model in the wrong group", strings.Replace(model(`"modelName":"m"`), "x-k8s.io/v1alpha2", "k8s.io/v1", 1), []string{`apiVersion is "inference.networking.k8s.io/v1", want one of those of InferenceModel: `}},
		{"no metadata", `{"apiVersion":"inference.networking.k8s.io/v1","kind":"InferencePool","spec":{` + good + `}}`, []string{"InferencePool without a name: metadata.name"}},
		{"bad name", strings.Replace(pool(good), `"p"`, `"P_"`, 1), []string{"metadata.name", `"P_"`}},
		{"bad time", strings.Replace(pool(good), `"p"`, `"p","creationTimestamp":"yesterday"`, 1), []string{"metadata.creationTimestamp", `"yesterday"`}},
		{"unknown field", pool(good + `,"selectors":1`), []string{"InferencePool default/p: spec.selectors is not a field"}},
		{"case of a field", model(`"modelname":"m"`), []string{"spec.modelname is not a field"}},
		{"unknown field at the top", strings.Replace(pool(good), `"spec"`, `"extra":1,"spec"`, 1), []string{"extra is not a field"}},
		{"twice", pool(good + `,"selector":{}`), []string{"spec.selector is there twice, first at line 1, column 103"}},
		{"alpha field in v1", pool(good + `,"targetPortNumber":1`), []string{"spec.targetPortNumber is not a field"}},
		{"type", pool(`"selector":{"matchLabels":{"a":1}},"targetPorts":{}`), []string{`spec.selector.matchLabels["a"] is 1, want a string`, "spec.targetPorts is {}, want a list"}},
		{"no selector", pool(`"targetPorts":[{"number":8000}]`), []string{"spec.selector.matchLabels has 0, want 1 to 64 labels"}},
		{"label", pool(`"selector":{"matchLabels":{"-a":"b c"}},"targetPorts":[{"number":1}]`), []string{`matchLabels["-a"] is "-a", want [prefix/]name`, `is "b c", want at most 63`}},
		{"ports", pool(`"selector":{"matchLabels":{"a":"b"}},"targetPorts":[{"number":0},{"number":7},{"number":7},{"number":65536}]`),
			[]string{"line 1, column 156: InferencePool default/p: spec.targetPorts[0].number is 0, want 1 to 65535", "spec.targetPorts[2].number is 7, want a port that is not there before", "spec.targetPorts[3].number"}},
		{"no ports", pool(`"selector":{"matchLabels":{"a":"b"}}`), []string{"spec.targetPorts has 0, want 1 to 8 ports"}},
		{"port too large for int32", pool(`"selector":{"matchLabels":{"a":"b"}},"targetPorts":[{"number":99999999999}]`), []string{"spec.targetPorts[0].number is 99999999999, want an integer from -2147483648 to 2147483647"}},
		{"fraction", pool(`"selector":{"matchLabels":{"a":"b"}},"targetPorts":[{"number":1.5}]`), []string{"is 1.5, want an integer"}},
		{"protocol", pool(good + `,"appProtocol":"grpc"`), []string{`spec.appProtocol is "grpc", want one of http, kubernetes.io/h2c`}},
		{"picker without port", pool(good + `,"endpointPickerRef":{"name":"e"}`), []string{"spec.endpointPickerRef.port is required when kind is Service"}},
		{"picker", pool(good + `,"endpointPickerRef":{"group":"G","kind":"0","failureMode":"Fail"}`), []string{".group", ".kind", ".name", `.failureMode is "Fail", want one of FailOpen, FailClose`}},
		{"model without name", model(`"targetModels":[]`), []string{"spec.modelName is \"\", want 1 to 256 characters"}},
		{"long model name", model(`"modelName":"` + strings.Repeat("é", 257) + `"`), []string{"spec.modelName", "…"}},
		{"criticality", model(`"modelName":"m","criticality":"critical"`), []string{`spec.criticality is "critical", want one of Critical, Standard, Sheddable`}},
		{"11 targets", model(targets(11)), []string{"has 11, want at most 10 targets"}},
		{"weight 0", model(`"modelName":"m","targetModels":[{"name":"a","weight":1},{"name":"b","weight":0}]`), []string{"InferenceModel default/m: spec.targetModels[1].weight is 0, want 1 to 1000000"}},
		{"some weights", model(`"modelName":"m","targetModels":[{"name":"a","weight":1},{"name":"b"}]`), []string{"in all targets or in none", "1 of 2"}},
		{"target without name", model(`"modelName":"m","targetModels":[{}]`), []string{"spec.targetModels[0].name"}},
		{"null target", model(`"modelName":"m","targetModels":[null]`), []string{"spec.targetModels[0] must be an object"}},
		{"pool reference", strings.Replace(model(`"modelName":"m"`), `"poolRef":{"name":"p"}`, `"poolRef":{"group":"g","kind":"Service"}`, 1),
			[]string{"spec.poolRef.group", `spec.poolRef.kind is "Service", want one of InferencePool`, "spec.poolRef.name"}},
		{"priority", strings.Replace(objective, `"priority": 2`, `"priority": "2"`, 1), []string{`InferenceObjective default/interactive: spec.priority is "2", want an integer`}},
		{"rewrite without targets", rewrite(`[{"targets":[]}]`), []string{"spec.rules[0].targets must have at least one"}},
		{"rewrite", rewrite(`[{"matches":[{"model":{"type":"Prefix"}}],"targets":[{"weight":1000001}]}]`),
			[]string{`spec.rules[0].matches[0].model.type is "Prefix", want one of Exact`, "model.value must not be empty", "targets[0].modelRewrite must not be empty", "targets[0].weight is 1000001, want 1 to 1000000"}},
		{"list in a list", `{"kind":"List","items":[{"kind":"List","items":[]}]}`, []string{"want another than a list inside a list"}},
		{"deep", strings.Repeat("[", 600) + strings.Repeat("]", 600), []string{"nested deeper"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj, err := types.DecodeManifest([]byte(tt.data))
			require.Error(t, err, "DecodeManifest = %#v, want an error with %q", obj, tt.want)
			for _, want := range tt.want {
				require.Contains(t, err.Error(), want)
			}
			if !strings.HasPrefix(err.Error(), "types: ") {
				t.Errorf("error %q does not name the package", err)
			}
		})
	}
}

func TestFieldError(t *testing.T) {
	_, err := types.DecodeManifest([]byte(strings.Replace(model, `"weight": 10`, `"weight": -1`, 1)))
	var all types.ValidationErrors
	if !errors.As(err, &all) || len(all) != 1 {
		t.Fatalf("error %v (%T), want ValidationErrors of one", err, err)
	}
	var one *types.FieldError
	if !errors.As(err, &one) {
		t.Fatalf("error %v holds no FieldError", err)
	}
	want := types.FieldError{Object: "InferenceModel default/food-review", Field: "spec.targetModels[1].weight", Rule: one.Rule, Value: int32(-1), Line: 5, Column: 91}
	if *one != want {
		t.Errorf("FieldError = %+v, want %+v", *one, want)
	}
}

func TestDecodeManifests(t *testing.T) {
	objs, err := types.DecodeManifests([]byte(poolAlpha + "\n" + `{"apiVersion":"v1","kind":"List","metadata":{},"items":[` + model + "," + objective + "]}" + rewrite))
	require.NoError(t, err)
	var kinds []string
	for _, o := range objs {
		kinds = append(kinds, o.Kind())
	}
	want := []string{"InferencePool", "InferenceModel", "InferenceObjective", "InferenceModelRewrite"}
	require.Equal(t, want, kinds, "kinds")

	bad := strings.Replace(model, `"weight": 90`, `"weight": 0`, 1)
	objs, err = types.DecodeManifests([]byte(bad + objective + strings.Replace(objective, "interactive", "Bad", 1)))
	if objs != nil || err == nil || !strings.Contains(err.Error(), "weight") || !strings.Contains(err.Error(), "Bad") {
		t.Errorf("DecodeManifests of two bad of three = %v, %v; want no objects and both errors", objs, err)
	}
}

func TestValidateUpdate(t *testing.T) {
	old := decode(t, model)
	next := decode(t, strings.Replace(model, `"modelName": "food-review"`, `"modelName": "other"`, 1))
	err := next.ValidateUpdate(old)
	if err == nil || !strings.Contains(err.Error(), "spec.modelName is immutable") || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("ValidateUpdate with another modelName = %v", err)
	}
	if err := decode(t, objective).ValidateUpdate(old); err == nil {
		t.Error("ValidateUpdate with another kind = nil")
	}
}

func TestUnmarshalJSON(t *testing.T) {
	var m types.InferenceModel
	if err := json.Unmarshal([]byte(model), &m); err != nil || m.Spec.ModelName != "food-review" {
		t.Errorf("Unmarshal = %v, %+v", err, m)
	}
	if err := json.Unmarshal([]byte(objective), &m); err == nil {
		t.Error("Unmarshal of another kind = nil")
	}
}

// A Standard criticality that behaves as Sheddable: the three classes are three
// priorities, and unset is Standard.
func TestTrapStandardBehavesAsSheddable(t *testing.T) {
	critical, standard, sheddable := types.Critical.Priority(), types.Standard.Priority(), types.Sheddable.Priority()
	if !(critical > standard && standard > sheddable) {
		t.Errorf("priorities of Critical, Standard, Sheddable = %d, %d, %d, want them falling", critical, standard, sheddable)
	}
	if standard < 0 || sheddable >= 0 {
		t.Errorf("Standard = %d, Sheddable = %d: only Sheddable may be below 0", standard, sheddable)
	}
	if got := types.Criticality("").Priority(); got != standard {
		t.Errorf("priority of an unset criticality = %d, want that of Standard, %d", got, standard)
	}
}

func TestSelectorMatches(t *testing.T) {
	labels := map[string]string{"app": "llama", "zone": "1", "empty": ""}
	tests := []struct {
		selector map[string]string
		want     bool
	}{
		{nil, false},
		{map[string]string{"app": "llama"}, true},
		{map[string]string{"app": "llama", "zone": "1"}, true},
		{map[string]string{"app": "llama", "zone": "2"}, false},
		{map[string]string{"empty": ""}, true},
		{map[string]string{"missing": ""}, false},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, (types.LabelSelector{MatchLabels: tt.selector}).Matches(labels), "Matches(%v)", tt.selector)
	}
}

func TestCompareAge(t *testing.T) {
	at := time.Unix(1000, 0)
	meta := func(ns, name string, at time.Time) *types.ObjectMeta {
		return &types.ObjectMeta{Namespace: ns, Name: name, CreationTimestamp: at}
	}
	ordered := []*types.ObjectMeta{
		meta("b", "z", at), meta("a", "b", at.Add(1)), meta("b", "a", at.Add(1)), meta("b", "b", at.Add(1)), meta("a", "a", time.Time{}),
	}
	for i := range ordered {
		for j := range ordered {
			got, want := ordered[i].CompareAge(ordered[j]), i-j
			if (got < 0) != (want < 0) || (got == 0) != (want == 0) {
				t.Errorf("CompareAge(%d, %d) = %d", i, j, got)
			}
		}
	}
}

func FuzzManifest(f *testing.F) {
	for _, seed := range []string{poolV1, poolAlpha, model, objective, rewrite, `{"kind":"List","items":[` + model + `]}`, `{}`, ``,
		strings.Replace(poolV1, "2025", "9999", 1), strings.Replace(model, "food-review-v1", `\ud800é\u0000<`, 1)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objs, err := types.DecodeManifests(data)
		if err != nil {
			if objs != nil {
				t.Fatalf("objects %v beside the error %v", objs, err)
			}
			return
		}
		if !allJSON(data) {
			t.Fatalf("took what is no JSON: %q", data)
		}
		for _, obj := range objs {
			require.NoError(t, obj.Validate(), "decoded, yet not valid")
			roundTrip(t, obj)
		}
	})
}

// allJSON is the oracle: encoding/json reads the stream of values too.
func allJSON(data []byte) bool {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	for dec.More() {
		var v any
		if dec.Decode(&v) != nil {
			return false
		}
	}
	return true
}

func ExampleDecodeManifest() {
	obj, err := types.DecodeManifest([]byte(`{
		"apiVersion": "inference.networking.x-k8s.io/v1alpha2",
		"kind": "InferenceModel",
		"metadata": {"name": "chat"},
		"spec": {
			"modelName": "chat", "criticality": "Critical", "poolRef": {"name": "llama"},
			"targetModels": [{"name": "chat-v1", "weight": 90}, {"name": "chat-v2", "weight": 0}]
		}
	}`))
	fmt.Println(obj, err)
	// Output:
	// <nil> types: line 7, column 76: InferenceModel default/chat: spec.targetModels[1].weight is 0, want 1 to 1000000
}
