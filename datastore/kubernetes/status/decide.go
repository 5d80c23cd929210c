package status

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/types"
)

// Reasons of Accepted beside those of package types.
const (
	ReasonInvalid      = "Invalid"      // False: the object breaks a rule
	ReasonShadowed     = "Shadowed"     // False: another API group has an object of the name
	ReasonLimitReached = "LimitReached" // False: the store has no room for it
)

// Bounds of the API.
const (
	maxMessage    = 32768
	maxConditions = 8
)

// verdict is what the condition Accepted of an object is to say.
type verdict struct {
	status     types.ConditionStatus
	reason     string
	message    string
	generation int64
}

// judge returns the verdict on an object of which the store says inStore, if it has it; false if
// there is nothing to be said.
func judge(o *kubernetes.Object, inStore []types.Condition) (verdict, bool) {
	switch o.Kind {
	case "InferenceModel", "InferenceObjective", "InferenceModelRewrite":
	default:
		return verdict{}, false
	}
	v := verdict{status: types.ConditionFalse, generation: o.Generation}
	switch {
	case o.Err != nil:
		v.reason, v.message = reasonOf(o.Err), o.Err.Error()
		if len(inStore) > 0 && v.reason != ReasonShadowed {
			v.message += "\nAn earlier version stays in force."
		}
	default:
		i := slices.IndexFunc(inStore, func(c types.Condition) bool { return c.Type == types.ConditionAccepted })
		if i < 0 {
			return verdict{}, false // it is on its way
		}
		v.status, v.reason, v.message = inStore[i].Status, inStore[i].Reason, inStore[i].Message
	}
	v.message = bounded(v.message)
	return v, true
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, kubernetes.ErrShadowed):
		return ReasonShadowed
	case errors.Is(err, datastore.ErrLimit):
		return ReasonLimitReached
	}
	return ReasonInvalid
}

// bounded cuts a message to what the API takes.
func bounded(message string) string {
	message = strings.ToValidUTF8(message, "\uFFFD")
	if len(message) <= maxMessage {
		return message
	}
	const more = "…"
	end := maxMessage - len(more)
	for !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + more
}

// conditions returns the conditions that an object is to have, and whether they differ from those
// that it has in more than times.
func (v verdict) conditions(have []types.Condition, now time.Time) ([]types.Condition, bool) {
	next := types.Condition{
		Type: types.ConditionAccepted, Status: v.status, Reason: v.reason, Message: v.message,
		ObservedGeneration: v.generation, LastTransitionTime: now.UTC().Truncate(time.Second),
	}
	out, differ, found := make([]types.Condition, 0, len(have)+1), false, false
	for _, c := range have {
		switch {
		case c.Type == types.ConditionAccepted:
			found = true
			if c.Status == next.Status && c.LastTransitionTime.Unix() > 0 {
				next.LastTransitionTime = c.LastTransitionTime
			}
			differ = differ || c.Status != next.Status || c.Reason != next.Reason || c.Message != next.Message || c.ObservedGeneration != next.ObservedGeneration
			c = next
		case isDefault(c):
			differ = true
			continue
		}
		out = append(out, c)
	}
	if !found {
		out = append(out, next)
	}
	return out, differ || !found
}

// isDefault reports whether it is the condition that CRDs put into a status that has none: nobody
// has written it, and nobody else would ever answer it.
func isDefault(c types.Condition) bool {
	return c.Type == "Ready" && c.Status == types.ConditionUnknown && c.Reason == types.ReasonPending && c.LastTransitionTime.Unix() == 0
}
