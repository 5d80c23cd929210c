package rollouts

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/inferpick/inferpick/datastore/rollout"
)

var at0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestEditor(t *testing.T) {
	t.Parallel()
	const targets, others = `{"f:spec":{"f:targetModels":{}}}`, `{"f:spec":{"f:criticality":{}},"f:metadata":{}}`
	type entry struct{ manager, at, fields, subresource string }
	for name, c := range map[string]struct {
		entries []entry
		want    string
	}{
		"nobody":          {nil, ""},
		"we":              {[]entry{{"kubectl", "1", others, ""}, {fieldManager, "2", targets, ""}}, ""},
		"another":         {[]entry{{"kubectl-edit", "3", targets, ""}, {fieldManager, "2", others, ""}}, "kubectl-edit"},
		"the same by us":  {[]entry{{"argocd-controller", "3", targets, ""}, {fieldManager, "2", targets, ""}}, ""},
		"the last":        {[]entry{{"a", "1", targets, ""}, {"b", "3", targets, ""}, {"c", "2", targets, ""}}, "b"},
		"of a status":     {[]entry{{"a", "1", targets, "status"}}, ""},
		"without a time":  {[]entry{{"a", "", targets, ""}}, "a"},
		"what is no JSON": {[]entry{{"a", "1", "[]", ""}}, ""},
	} {
		var list []any
		for _, e := range c.entries {
			one := map[string]any{"manager": e.manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": decodeAny(t, e.fields)}
			if e.at != "" {
				one["time"] = "2026-01-02T03:04:0" + e.at + "Z"
			}
			if e.subresource != "" {
				one["subresource"] = e.subresource
			}
			list = append(list, one)
		}
		o := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"managedFields": list}}}
		require.Equal(t, c.want, editorOf(o, kindModel), name)
		require.Empty(t, editorOf(o, kindRewrite), name)
	}
}

func decodeAny(t *testing.T, text string) any {
	t.Helper()
	if strings.HasPrefix(text, "[") {
		return []any{}
	}
	return decoded(t, []byte(text))
}

func TestAdvice(t *testing.T) {
	t.Parallel()
	require.Empty(t, advice("", kindModel))
	require.Equal(t, "the weights were written by kubectl-edit", advice("kubectl-edit", kindModel))
	require.Equal(t, "the weights were written by argocd-controller, which keeps what is in a repository: let it ignore differences of /spec/targetModels",
		advice("argocd-controller", kindModel))
	require.Contains(t, advice("kustomize-controller", kindRewrite), "/spec/rules")
}

func TestBudget(t *testing.T) {
	t.Parallel()
	var b budget
	told := 0
	for i := range 100 {
		if b.allow(string(rune('a'+i)), at0) {
			told++
		}
	}
	require.Equal(t, burst, told, "at once")
	require.False(t, b.allow("x", at0.Add(refill-time.Second)))
	require.True(t, b.allow("x", at0.Add(refill)))
	require.False(t, b.allow("y", at0.Add(refill)))
	later := at0.Add(refill + sameAgain - time.Second)
	require.False(t, b.allow("x", later), "the same again")
	require.True(t, b.allow("x", later.Add(time.Second)))
	require.False(t, b.idle(later))
	require.True(t, b.idle(later.Add(burst*refill+sameAgain)))
	require.False(t, b.allow("x", at0), "a clock that goes back")
}

func TestConditions(t *testing.T) {
	t.Parallel()
	accepted := map[string]any{"type": "Accepted", "status": "True", "theirs": int64(1)}
	object := func(conditions ...any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"generation": int64(7)}, "status": map[string]any{"conditions": conditions},
		}}
	}
	v := verdict{"True", "Stepping", "step 1"}
	ours := map[string]any{
		"type": ConditionRollout, "status": "True", "reason": "Stepping", "message": "step 1",
		"observedGeneration": int64(7), "lastTransitionTime": "2026-01-02T03:04:05Z",
	}
	list, differ, err := conditionsWith(object(accepted), v, at0)
	require.NoError(t, err)
	require.True(t, differ)
	require.Equal(t, []any{accepted, ours}, list)

	_, differ, _ = conditionsWith(object(ours, accepted), v, at0.Add(time.Hour))
	require.False(t, differ)

	v.message = "step 2"
	list, differ, _ = conditionsWith(object(ours, accepted), v, at0.Add(time.Hour))
	require.True(t, differ)
	require.Equal(t, "2026-01-02T03:04:05Z", list[0].(map[string]any)["lastTransitionTime"], "the status is the same")
	v.status = "False"
	list, _, _ = conditionsWith(object(ours, accepted), v, at0.Add(time.Hour))
	require.Equal(t, "2026-01-02T04:04:05Z", list[0].(map[string]any)["lastTransitionTime"])

	list, differ, _ = conditionsWith(object(ours, accepted), verdict{}, at0)
	require.True(t, differ)
	require.Equal(t, []any{accepted}, list)
	_, differ, _ = conditionsWith(object(accepted), verdict{}, at0)
	require.False(t, differ)

	var many []any
	for i := range maxConditions {
		many = append(many, map[string]any{"type": string(rune('a' + i))})
	}
	_, _, err = conditionsWith(object(many...), v, at0)
	require.ErrorContains(t, err, "it has 8 conditions of others")
}

func TestJudge(t *testing.T) {
	t.Parallel()
	weights := []rollout.Weight{{Target: "v1", Weight: 9900}, {Target: "v2", Weight: 100}}
	state := func(change func(*rollout.State)) []byte {
		s := rollout.State{Plan: "p", Seq: 1, Phase: rollout.Stepping, Since: at0, Reason: "loaded", Weights: weights}
		change(&s)
		return s.Encode()
	}
	for want, data := range map[string][]byte{
		"": nil,
		"True Stepping: loaded; step 1; v1 9900, v2 100":              state(func(*rollout.State) {}),
		"Unknown Paused: paused: lunch; step 1; v1 9900, v2 100":      state(func(s *rollout.State) { s.Paused = "lunch" }),
		"Unknown Paused: paused: weights changed; ask them; step 1":   state(func(s *rollout.State) { s.Paused, s.Changed, s.Weights = "weights changed", true, nil }),
		"Unknown Holding: holds: no traffic; step 1; v1 9900, v2 100": state(func(s *rollout.State) { s.Holding = "no traffic" }),
		"False Failed: errors; v1 9900, v2 100":                       state(func(s *rollout.State) { s.Phase, s.Reason = rollout.Failed, "errors" }),
		"True Loading: loaded; v1 9900, v2 100":                       state(func(s *rollout.State) { s.Phase = rollout.Loading }),
	} {
		v := judge(data, "ask them")
		got := ""
		if v != (verdict{}) {
			got = v.status + " " + v.reason + ": " + v.message
		}
		require.Equal(t, want, got)
	}
	v := judge([]byte("{"), "")
	require.Equal(t, "Invalid", v.reason)
	require.Contains(t, v.message, rollout.StateAnnotation)
	require.LessOrEqual(t, len(bounded(strings.Repeat("ä", 9000))), maxMessage+4)
}
