package telemetry_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/telemetry"
)

// oneRollout is one that runs, and one whose plan is refused.
func oneRollout() []rollout.Status {
	return []rollout.Status{
		{
			Kind: "InferenceModelRewrite", Namespace: "default", Name: "chat", Rule: 2, Phase: rollout.Stepping, Paused: "by hand",
			Plan:    rollout.Plan{Stable: "v1", Canary: "v2"},
			Targets: []rollout.TargetStatus{{Target: "v1", Weight: 75}, {Target: "v2\n", Weight: 25}},
			Servers: map[string]int{"loaded": 7, "failed": 1},
			Looks:   []rollout.LookStatus{{Metric: "errors", Result: rollout.Pass, Count: 12}},
		},
		{Kind: "InferenceModel", Namespace: "default", Name: "wrong", Refused: "no"},
	}
}

func TestRollouts(t *testing.T) {
	page := exposition(t, everything(t).Metrics)
	for _, want := range []string{
		`inferpick_rollout_phase{kind="InferenceModelRewrite",name="chat/2",phase="Stepping"} 1`,
		`inferpick_rollout_phase{kind="InferenceModelRewrite",name="chat/2",phase="Done"} 0`,
		`inferpick_rollout_paused{kind="InferenceModelRewrite",name="chat/2"} 1`,
		`inferpick_rollout_weight{kind="InferenceModelRewrite",name="chat/2",target="v1"} 0.75`,
		`inferpick_rollout_weight{kind="InferenceModelRewrite",name="chat/2",target="v2\n"} 0.25`,
		`inferpick_rollout_servers{kind="InferenceModelRewrite",name="chat/2",state="loaded"} 7`,
		`inferpick_rollout_servers{kind="InferenceModelRewrite",name="chat/2",state="missing"} 0`,
		`inferpick_rollout_verdicts_total{kind="InferenceModelRewrite",metric="errors",name="chat/2",result="passed"} 12`,
	} {
		require.Contains(t, page, want+"\n")
	}
	require.Equal(t, 6, strings.Count(page, "\ninferpick_rollout_phase{"))
	require.NotContains(t, page, `"wrong"`)
	require.NotContains(t, exposition(t, newFixture(t, telemetry.Options{}, scheduling.Profile{}).Metrics), "rollout")
}
