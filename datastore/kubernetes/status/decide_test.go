package status

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/types"
)

var (
	epoch = time.Unix(0, 0).UTC()
	then  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now   = then.Add(time.Hour)
)

func accepted(status types.ConditionStatus, reason, message string, generation int64, at time.Time) types.Condition {
	return types.Condition{Type: "Accepted", Status: status, Reason: reason, Message: message, ObservedGeneration: generation, LastTransitionTime: at}
}

func TestJudge(t *testing.T) {
	yes := []types.Condition{accepted("True", "Accepted", "", 0, then)}
	unknown := []types.Condition{accepted("Unknown", "Pending", "pool default/x does not exist", 0, then)}
	for name, test := range map[string]struct {
		object  kubernetes.Object
		inStore []types.Condition
		want    verdict
	}{
		"in force":               {kubernetes.Object{Generation: 3}, yes, verdict{"True", "Accepted", "", 3}},
		"no pool":                {kubernetes.Object{Generation: 1}, unknown, verdict{"Unknown", "Pending", "pool default/x does not exist", 1}},
		"on its way":             {kubernetes.Object{}, nil, verdict{}},
		"invalid":                {kubernetes.Object{Err: fmt.Errorf("spec.x is bad")}, nil, verdict{"False", "Invalid", "spec.x is bad", 0}},
		"invalid, but it was ok": {kubernetes.Object{Err: fmt.Errorf("spec.x is bad")}, yes, verdict{"False", "Invalid", "spec.x is bad\nAn earlier version stays in force.", 0}},
		"shadowed":               {kubernetes.Object{Err: fmt.Errorf("a: %w", kubernetes.ErrShadowed)}, yes, verdict{"False", "Shadowed", "a: " + kubernetes.ErrShadowed.Error(), 0}},
		"too many":               {kubernetes.Object{Err: fmt.Errorf("a: %w", datastore.ErrLimit)}, nil, verdict{"False", "LimitReached", "a: limit reached", 0}},
	} {
		for _, kind := range []string{"InferenceModel", "InferenceObjective", "InferenceModelRewrite"} {
			test.object.Kind = kind
			got, ok := judge(&test.object, test.inStore)
			require.Equal(t, test.want, got, name)
			require.Equal(t, test.want != verdict{}, ok, name)
			if ok {
				require.Regexp(t, regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`), got.reason)
			}
		}
		test.object.Kind = "InferencePool"
		_, ok := judge(&test.object, test.inStore)
		require.False(t, ok, "pools are for gateways")
	}
}

func TestBounded(t *testing.T) {
	require.Equal(t, strings.Repeat("a", maxMessage), bounded(strings.Repeat("a", maxMessage)))
	for _, long := range []string{strings.Repeat("a", maxMessage+1), strings.Repeat("日本", maxMessage), "x" + strings.Repeat("é", maxMessage)} {
		got := bounded(long)
		require.LessOrEqual(t, len(got), maxMessage)
		require.Greater(t, len(got), maxMessage-8)
		require.True(t, utf8.ValidString(got))
		require.True(t, strings.HasSuffix(got, "…"))
	}
	require.Equal(t, "a\uFFFDb", bounded("a\xffb"))
}

func TestConditions(t *testing.T) {
	v := verdict{"True", "Accepted", "m", 2}
	other := types.Condition{Type: "Healthy", Status: "False", Reason: "Sick", LastTransitionTime: then}
	fallback := types.Condition{Type: "Ready", Status: "Unknown", Reason: "Pending", Message: "Waiting for controller", LastTransitionTime: epoch}
	ready := fallback
	ready.LastTransitionTime = then // somebody's
	for name, test := range map[string]struct {
		have, want []types.Condition
		differ     bool
	}{
		"none":                  {nil, []types.Condition{accepted("True", "Accepted", "m", 2, now)}, true},
		"the same":              {[]types.Condition{other, accepted("True", "Accepted", "m", 2, then)}, []types.Condition{other, accepted("True", "Accepted", "m", 2, then)}, false},
		"another status":        {[]types.Condition{accepted("False", "Accepted", "m", 2, then)}, []types.Condition{accepted("True", "Accepted", "m", 2, now)}, true},
		"another reason":        {[]types.Condition{accepted("True", "Other", "m", 2, then), other}, []types.Condition{accepted("True", "Accepted", "m", 2, then), other}, true},
		"another message":       {[]types.Condition{accepted("True", "Accepted", "n", 2, then)}, []types.Condition{accepted("True", "Accepted", "m", 2, then)}, true},
		"another generation":    {[]types.Condition{accepted("True", "Accepted", "m", 1, then)}, []types.Condition{accepted("True", "Accepted", "m", 2, then)}, true},
		"the default of models": {[]types.Condition{fallback}, []types.Condition{accepted("True", "Accepted", "m", 2, now)}, true},
		"beside the default":    {[]types.Condition{accepted("True", "Accepted", "m", 2, then), fallback}, []types.Condition{accepted("True", "Accepted", "m", 2, then)}, true},
		"somebody's Ready":      {[]types.Condition{ready, accepted("True", "Accepted", "m", 2, then)}, []types.Condition{ready, accepted("True", "Accepted", "m", 2, then)}, false},
		"time that nobody set":  {[]types.Condition{accepted("True", "Accepted", "n", 2, epoch)}, []types.Condition{accepted("True", "Accepted", "m", 2, now)}, true},
	} {
		got, differ := v.conditions(test.have, now.Add(300*time.Millisecond))
		require.Empty(t, cmp.Diff(test.want, got), name)
		require.Equal(t, test.differ, differ, name)
	}
	pending := verdict{"Unknown", "Pending", "no pool", 1}
	got, differ := pending.conditions([]types.Condition{accepted("Unknown", "Pending", "Waiting for controller", 0, epoch)}, now)
	require.True(t, differ)
	require.Equal(t, []types.Condition{accepted("Unknown", "Pending", "no pool", 1, now)}, got, "the default of rewrites")
}
