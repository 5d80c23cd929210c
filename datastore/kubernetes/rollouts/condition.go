package rollouts

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

// ConditionRollout is the type of the condition that says how the rollout of an object is going.
const ConditionRollout = "Rollout"

// Reasons of ConditionRollout beside the phases of package rollout.
const (
	ReasonPaused  = "Paused"  // Unknown: until somebody resumes it
	ReasonHolding = "Holding" // Unknown: it does not go on just now, and does so by itself
)

// Bounds of the API.
const (
	maxMessage    = 4096 // 32768 there
	maxConditions = 8
)

// verdict is what the condition of an object is to say; the zero value: there is to be none.
type verdict struct{ status, reason, message string }

// judge returns what to say of a state, nil if there is none.
func judge(state []byte, advice string) verdict {
	if len(state) == 0 {
		return verdict{}
	}
	s, err := rollout.DecodeState(state)
	if err != nil {
		return verdict{string(types.ConditionUnknown), "Invalid", bounded(rollout.StateAnnotation + ": " + err.Error())}
	}
	v := verdict{status: string(types.ConditionTrue), reason: string(s.Phase)}
	var words []string
	say := func(text string) {
		if text != "" {
			words = append(words, text)
		}
	}
	switch {
	case s.Phase == rollout.Done || s.Phase == rollout.Failed:
		v.status = string(types.ConditionFalse)
		say(s.Reason)
	case s.Paused != "":
		v.status, v.reason = string(types.ConditionUnknown), ReasonPaused
		say("paused: " + s.Paused)
		if s.Changed {
			say(advice)
		}
	case s.Holding != "":
		v.status, v.reason = string(types.ConditionUnknown), ReasonHolding
		say("holds: " + s.Holding)
	default:
		say(s.Reason)
	}
	if v.reason == "" {
		v.reason = "Unknown" // the API wants one
	}
	var weights []string
	for _, w := range s.Weights {
		weights = append(weights, fmt.Sprintf("%s %d", w.Target, w.Weight))
	}
	if s.Phase == rollout.Stepping {
		say(fmt.Sprintf("step %d", s.Step+1))
	}
	say(strings.Join(weights, ", "))
	v.message = bounded(strings.Join(words, "; "))
	return v
}

// bounded cuts a text to what is still of use to somebody.
func bounded(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "") + "…"
}

// conditionsWith returns the conditions that an object is to have, and whether they differ from those that it has in
// more than times. Those of others stay as they are, to the last field.
func conditionsWith(object *unstructured.Unstructured, v verdict, now time.Time) ([]any, bool, error) {
	have, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
	if err != nil {
		return nil, false, err
	}
	out, was := make([]any, 0, len(have)+1), map[string]any(nil)
	for _, one := range have {
		if c, ok := one.(map[string]any); ok && c["type"] == ConditionRollout {
			was = c
			if v == (verdict{}) {
				continue
			}
		}
		out = append(out, one)
	}
	if v == (verdict{}) {
		return out, was != nil, nil
	}
	next := map[string]any{
		"type": ConditionRollout, "status": v.status, "reason": v.reason, "message": v.message,
		"observedGeneration": object.GetGeneration(), "lastTransitionTime": now.UTC().Format(time.RFC3339),
	}
	if was == nil {
		if len(out) >= maxConditions {
			return nil, false, fmt.Errorf("it has %d conditions of others, and with %s more than %d", len(out), ConditionRollout, maxConditions)
		}
		return append(out, next), true, nil
	}
	differ := was["status"] != next["status"] || was["reason"] != next["reason"] || was["message"] != next["message"]
	if was["status"] == next["status"] && was["lastTransitionTime"] != nil {
		next["lastTransitionTime"] = was["lastTransitionTime"]
	}
	for i, one := range out {
		if c, ok := one.(map[string]any); ok && c["type"] == ConditionRollout {
			out[i] = next
		}
	}
	return out, differ, nil
}
