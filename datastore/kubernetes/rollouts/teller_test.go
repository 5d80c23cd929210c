package rollouts_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/datastore/kubernetes/rollouts"
	"github.com/inferpick/inferpick/datastore/rollout"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 678000000, time.UTC)

func stateOf(change func(*rollout.State)) []byte {
	s := rollout.State{
		Plan: "p", Seq: 1, Phase: rollout.Stepping, Since: at, Reason: "all servers have it",
		Weights: []rollout.Weight{{Target: "v1", Weight: 9900}, {Target: "v2", Weight: 100}},
	}
	change(&s)
	return s.Encode()
}

func write(t *testing.T, home *rollouts.Home, o rollout.Object, state []byte) {
	t.Helper()
	r := read(t, home, o)
	r.State = state
	_, err := home.Write(t.Context(), o, r)
	require.NoError(t, err)
}

func conditions(server *fakeapi.Server, r fakeapi.Resource, name string) (all []map[string]any) {
	status, _ := server.Get(r, "default", name)["status"].(map[string]any)
	list, _ := status["conditions"].([]any)
	for _, one := range list {
		all = append(all, one.(map[string]any))
	}
	return all
}

// says is the condition Rollout of an object as one text, empty if it has none.
func says(server *fakeapi.Server, r fakeapi.Resource, name string) string {
	for _, c := range conditions(server, r, name) {
		if c["type"] == rollouts.ConditionRollout {
			return fmt.Sprintf("%s %s: %s", c["status"], c["reason"], c["message"])
		}
	}
	return ""
}

func TestConditionFollows(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	accepted := map[string]any{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
	server.Change(fakeapi.RewriteLLMD, "default", "all", func(o map[string]any) {
		o["status"] = map[string]any{"conditions": []any{accepted}, "more": "stays"}
	})
	home, _ := newHome(t, server, rollouts.Options{})
	start(t, home.Run, nil)
	for _, step := range []struct {
		state []byte
		want  string
	}{
		{stateOf(func(*rollout.State) {}), "True Stepping: all servers have it; step 1; v1 9900, v2 100"},
		{stateOf(func(s *rollout.State) { s.Seq, s.Holding = 2, "no traffic" }), "Unknown Holding: holds: no traffic; step 1; v1 9900, v2 100"},
		{stateOf(func(s *rollout.State) { s.Seq, s.Phase, s.Reason = 3, rollout.Done, "as good" }), "False Done: as good; v1 9900, v2 100"},
		{nil, ""},
	} {
		write(t, home, rewrite, step.state)
		eventually(t, func() string {
			if got := says(server, fakeapi.RewriteLLMD, "all"); got != step.want {
				return fmt.Sprintf("condition %q, want %q", got, step.want)
			}
			return ""
		})
		require.Equal(t, accepted, conditions(server, fakeapi.RewriteLLMD, "all")[0])
	}
	require.Equal(t, "stays", server.Get(fakeapi.RewriteLLMD, "default", "all")["status"].(map[string]any)["more"])
	require.Positive(t, home.Stats().Conditions)
}

// Who has written a state and ended leaves its condition to the next one.
func TestConditionIsCaughtUp(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	first, _ := homeAt(t, server, server.Config(), rollouts.Options{})
	stop := lead(t, first)
	write(t, first, chat, stateOf(func(*rollout.State) {}))
	stop()
	require.Empty(t, says(server, fakeapi.Model, "chat"))

	second, _ := homeAt(t, server, server.Config(), rollouts.Options{})
	start(t, second.Run, nil)
	read(t, second, chat) // of who does not lead
	lead(t, second)
	read(t, second, chat)
	eventually(t, func() string {
		if says(server, fakeapi.Model, "chat") == "" {
			return "there is no condition"
		}
		return ""
	})
	writes := server.Count("patch", "inferencemodels")
	for range 5 {
		read(t, second, chat)
	}
	require.Equal(t, writes, server.Count("patch", "inferencemodels"), "what is there is not written again")
}

// Without the rights for conditions and events, rollouts go on; it is logged once, and made up for.
func TestTellingForbidden(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	server.Fail(func(q fakeapi.Request) *fakeapi.Failure {
		if q.Subresource == "status" || q.Resource == "events" {
			return fakeapi.Forbidden(q)
		}
		return nil
	})
	home, log := newHome(t, server, rollouts.Options{})
	start(t, home.Run, nil)
	write(t, home, chat, stateOf(func(*rollout.State) {}))
	home.Event(rollout.Event{At: at, Object: chat, Kind: rollout.Started, Text: "v2 is to replace v1"})
	eventually(t, func() string {
		for _, want := range []string{
			"needs patch on inferencemodels/status.inference.networking.x-k8s.io in namespace default",
			"needs create on events.events.k8s.io in namespace default",
		} {
			if n := strings.Count(log.String(), want); n != 1 {
				return fmt.Sprintf("%d times %q in %s", n, want, log)
			}
		}
		return ""
	})
	server.Fail(nil)
	eventually(t, func() string {
		if says(server, fakeapi.Model, "chat") == "" {
			return "there is no condition"
		}
		return ""
	})
	require.Positive(t, home.Stats().Failed)
}

func TestEvents(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	home, _ := newHome(t, server, rollouts.Options{Instance: "pod-0"})
	home.Event(rollout.Event{At: at, Object: rewrite, Kind: rollout.Stepped, Text: "5 % go to v2"})
	home.Event(rollout.Event{At: at, Object: rewrite, Kind: rollout.Judged, Text: "errors passed"})
	home.Event(rollout.Event{At: at, Object: rewrite, Kind: rollout.Stepped, Text: "5 % go to v2"})
	home.Event(rollout.Event{At: at, Object: rewrite, Kind: rollout.Aborted, Text: strings.Repeat("ä", 600)})
	start(t, home.Run, nil)
	eventually(t, func() string {
		if n := home.Stats().Events; n != 2 {
			return fmt.Sprintf("%d events", n)
		}
		return ""
	})
	require.EqualValues(t, 1, home.Stats().Dropped)
	events := server.List(fakeapi.Events)
	require.Len(t, events, 2)
	first := events[0]
	delete(first, "metadata")
	uid := server.Get(fakeapi.RewriteLLMD, "default", "all")["metadata"].(map[string]any)["uid"]
	require.Equal(t, map[string]any{
		"apiVersion": "events.k8s.io/v1", "kind": "Event", "type": "Normal", "reason": "RolloutStepped", "action": "Rollout",
		"eventTime": "2026-01-02T03:04:05.678000Z", "note": "rule 1: 5 % go to v2",
		"reportingController": "inferpick.dev/rollouts", "reportingInstance": "pod-0",
		"regarding": map[string]any{"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", "uid": uid, "namespace": "default", "name": "all"},
	}, first)
	require.Equal(t, "Warning", events[1]["type"])
	require.LessOrEqual(t, len(events[1]["note"].(string)), 1024)
}

// However much happens, of one object few events are told at once, and nobody waits for that.
func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	home, _ := newHome(t, server, rollouts.Options{})
	for i := range 1000 {
		home.Event(rollout.Event{At: at, Object: chat, Kind: rollout.Held, Text: fmt.Sprint(i)})
	}
	require.EqualValues(t, 980, home.Stats().Dropped)
	start(t, home.Run, nil)
	eventually(t, func() string {
		if n := len(server.List(fakeapi.Events)); n != 20 {
			return fmt.Sprintf("%d events", n)
		}
		return ""
	})
	none, _ := newHome(t, server, rollouts.Options{NoEvents: true})
	none.Event(rollout.Event{At: at, Object: chat, Kind: rollout.Held, Text: "x"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	none.Run(ctx)
	require.Zero(t, none.Stats())
}
