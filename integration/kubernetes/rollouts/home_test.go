package rollouts

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/inferpick/inferpick/datastore/kubernetes/rollouts"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// stateOf is a state as machines write it.
func stateOf(seq uint64, phase rollout.Phase) []byte {
	return rollout.State{
		Plan: "p", Seq: seq, Phase: phase, Since: time.Now(), Reason: fmt.Sprint("number ", seq),
		Weights: []rollout.Weight{{Target: "v1", Weight: 9900}, {Target: "v2", Weight: 100}},
	}.Encode()
}

// TestWrites: weights and state in both kinds, as the API takes them, each in one version of the object; conditions of
// others and all other fields survive; events are what the API wants.
func TestWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Shared(t))
	w.accept()
	home, log := w.home(w.Config())
	w.patch("them", models, "chat", map[string]any{"metadata": map[string]any{"annotations": map[string]any{"theirs": "stays"}}})

	for _, c := range []struct {
		o    rollout.Object
		name string
	}{{w.chat(), "chat"}, {w.rewrite(), "all"}} {
		gvr := models
		if c.name == "all" {
			gvr = rewrites
		}
		w.says(gvr, c.name, "Accepted=True Accepted")
		r := read(t, home, c.o)
		require.Len(t, r.Weights, 1)
		require.Equal(t, "v1", r.Weights[0].Target)
		r.Weights, r.State = []rollout.Weight{{Target: "v1", Weight: 9900}, {Target: "v2", Weight: 100}}, stateOf(1, rollout.Stepping)
		var err error
		r.Revision, err = home.Write(t.Context(), c.o, r)
		require.NoError(t, err)
		home.Event(rollout.Event{At: time.Now(), Object: c.o, Kind: rollout.Stepped, Text: "1 % go to v2"})
		w.says(gvr, c.name, "Accepted=True Accepted", "Rollout=True Stepping")
		require.Equal(t, r, read(t, home, c.o))

		r.Weights, r.State = []rollout.Weight{{Target: "v2", Weight: 10000}}, stateOf(2, rollout.Done)
		_, err = home.Write(t.Context(), c.o, r)
		require.NoError(t, err)
		w.says(gvr, c.name, "Accepted=True Accepted", "Rollout=False Done")
		require.Equal(t, r.Weights, read(t, home, c.o).Weights)
	}
	chat := w.get(models, "chat")
	require.Equal(t, "stays", chat.GetAnnotations()["theirs"])
	criticality, _, _ := unstructured.NestedString(chat.Object, "spec", "criticality")
	require.Equal(t, "Standard", criticality)
	rules, _, _ := unstructured.NestedSlice(w.get(rewrites, "all").Object, "spec", "rules")
	require.Equal(t, []any{map[string]any{"modelRewrite": "x"}}, rules[0].(map[string]any)["targets"])

	cluster.Eventually(t, patience, func() error {
		list, err := w.Dynamic.Resource(events).Namespace(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 2 {
			return fmt.Errorf("%d events (%v); log: %s", len(list.Items), err, log)
		}
		for _, e := range list.Items {
			regarding := e.Object["regarding"].(map[string]any)
			if e.Object["reason"] != "RolloutStepped" || regarding["uid"] == "" || e.Object["type"] != "Normal" {
				return fmt.Errorf("event %v", e.Object)
			}
		}
		return nil
	})
	require.Empty(t, log.String())
}

// TestEdits: what somebody else has written is a conflict if it is the rollout's, and is seen as theirs; and is neither
// lost nor in the way if it is not.
func TestEdits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Shared(t))
	home, _ := w.home(w.Config())
	step := func(seq uint64) (string, error) {
		r := read(t, home, w.chat())
		r.Weights, r.State = []rollout.Weight{{Target: "v1", Weight: 10000 - int32(seq)}, {Target: "v2", Weight: int32(seq)}}, stateOf(seq, rollout.Stepping)
		return home.Write(t.Context(), w.chat(), r)
	}
	_, err := step(1)
	require.NoError(t, err)
	require.Empty(t, home.Editor(w.chat()))

	r := read(t, home, w.chat())
	w.patch("kubectl-edit", models, "chat", map[string]any{"spec": map[string]any{"criticality": "Critical"}})
	r.State = stateOf(2, rollout.Stepping)
	r.Revision, err = home.Write(t.Context(), w.chat(), r)
	require.NoError(t, err)
	criticality, _, _ := unstructured.NestedString(w.get(models, "chat").Object, "spec", "criticality")
	require.Equal(t, "Critical", criticality)

	w.patch("kubectl-edit", models, "chat", map[string]any{"spec": map[string]any{"targetModels": []any{map[string]any{"name": "v1", "weight": 1}}}})
	r.State = stateOf(3, rollout.Stepping)
	_, err = home.Write(t.Context(), w.chat(), r)
	require.ErrorIs(t, err, rollout.ErrConflict)
	require.Equal(t, "kubectl-edit", home.Editor(w.chat()))
	require.Equal(t, []rollout.Weight{{Target: "v1", Weight: 1}}, read(t, home, w.chat()).Weights)

	_, err = step(4) // somebody has said that it goes on
	require.NoError(t, err)
	require.Empty(t, home.Editor(w.chat()))

	// A controller that applies what is in a repository: it takes the weights back, and the annotations stay.
	w.Apply(t, w.ns, manifests)
	cluster.Eventually(t, patience, func() error {
		now := read(t, home, w.chat())
		if len(now.Weights) != 1 || now.Weights[0].Weight != 100 || len(now.State) == 0 {
			return fmt.Errorf("it has %v with the state %s", now.Weights, now.State)
		}
		return nil
	})
	require.Equal(t, "inferpick-test", home.Editor(w.chat()))

	// And one that does so without force is told whose they are.
	_, err = step(5)
	require.NoError(t, err)
	objects, err := cluster.Decode(manifests)
	require.NoError(t, err)
	_, err = w.Dynamic.Resource(models).Namespace(w.ns).Apply(t.Context(), "chat", objects[1], metav1.ApplyOptions{FieldManager: "kubectl"})
	require.True(t, apierrors.IsConflict(err), err)
	require.ErrorContains(t, err, "inferpick-rollouts")
}

// TestMadeAnew: an object that is deleted is gone; made anew from a copy with all annotations it has no state.
func TestMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Shared(t))
	home, _ := w.home(w.Config())
	r := read(t, home, w.chat())
	r.State = stateOf(1, rollout.Stepping)
	var err error
	r.Revision, err = home.Write(t.Context(), w.chat(), r)
	require.NoError(t, err)
	copied := w.get(models, "chat")

	objects := w.Dynamic.Resource(models).Namespace(w.ns)
	require.NoError(t, objects.Delete(t.Context(), "chat", metav1.DeleteOptions{}))
	_, err = home.Write(t.Context(), w.chat(), r)
	require.ErrorIs(t, err, rollouts.ErrGone)

	copied.SetResourceVersion("")
	copied.SetUID("")
	_, err = objects.Create(t.Context(), copied, metav1.CreateOptions{})
	require.NoError(t, err)
	cluster.Eventually(t, patience, func() error {
		now, err := home.Read(t.Context(), w.chat())
		if err == nil && len(now.State) > 0 {
			err = fmt.Errorf("it has the state %s", now.State)
		}
		return err
	})
	require.NotEmpty(t, w.get(models, "chat").GetAnnotations()[rollout.StateAnnotation])
	require.Empty(t, read(t, home, w.chat()).State)
	_, err = home.Write(t.Context(), w.chat(), r)
	require.ErrorIs(t, err, rollout.ErrConflict)
}

// TestRights: these rights and no others are needed. Without one the error, or for events and conditions the log, names
// verb and resource, and once it is given all works.
func TestRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Shared(t))
	for i, missing := range []string{
		"", "get inferencemodels", "patch inferencemodels", "get inferencemodelrewrites", "patch inferencemodelrewrites",
		"patch inferencemodels/status", "patch inferencemodelrewrites/status", "create events",
	} {
		verb, resource, _ := strings.Cut(missing, " ")
		user := fmt.Sprintf("%s-%d", w.ns, i)
		var granted []cluster.Rule
		for _, rule := range needed {
			for _, one := range rule.Resources {
				for _, v := range rule.Verbs {
					if one != resource || v != verb {
						granted = append(granted, cluster.Rule{Groups: rule.Groups, Resources: []string{one}, Verbs: []string{v}})
					}
				}
			}
		}
		w.Grant(t, w.ns, user, granted...)
		home, log := w.home(w.ConfigFor(user))
		step := func() (err error) {
			for _, o := range []rollout.Object{w.chat(), w.rewrite()} {
				r, readErr := home.Read(t.Context(), o)
				if readErr != nil {
					err = readErr
					continue
				}
				r.State = stateOf(uint64(time.Now().UnixNano()), rollout.Stepping)
				if _, writeErr := home.Write(t.Context(), o, r); writeErr != nil {
					err = writeErr
				}
				home.Event(rollout.Event{At: time.Now(), Object: o, Kind: rollout.Stepped, Text: fmt.Sprint(time.Now())})
			}
			return err
		}
		group := map[string]string{"events": "events.k8s.io", "inferencemodelrewrites": "llm-d.ai", "inferencemodelrewrites/status": "llm-d.ai"}[resource]
		if group == "" {
			group = "inference.networking.x-k8s.io"
		}
		want := fmt.Sprintf("needs %s on %s.%s in namespace %s", verb, resource, group, w.ns)
		cluster.Eventually(t, patience, func() error {
			err := step()
			switch {
			case missing == "":
				return err
			case err != nil && strings.Contains(err.Error(), want), strings.Contains(log.String(), want):
				return nil
			}
			return fmt.Errorf("it says %v, and in the log %q, want %q", err, log, want)
		})
		w.Grant(t, w.ns, user, needed...)
		cluster.Eventually(t, patience, step)
	}
}

// TestServerIsKilled: while the API server is away every call fails in time, and nothing is made of that; when it is
// back the write that was tried is made, once.
func TestServerIsKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs an API server of its own")
	}
	c := cluster.Start(t)
	w := newWorld(t, c)
	home, _ := w.home(c.Config())
	r := read(t, home, w.chat())
	r.Weights, r.State = []rollout.Weight{{Target: "v2", Weight: 1}}, stateOf(1, rollout.Stepping)
	c.Kill(t)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := home.Write(ctx, w.chat(), r)
		cancel()
		require.Error(t, err)
		require.NotErrorIs(t, err, rollout.ErrConflict)
		require.NotErrorIs(t, err, rollouts.ErrGone)
	}
	c.Restart(t)
	cluster.Eventually(t, patience, func() error { _, err := home.Write(t.Context(), w.chat(), r); return err })
	require.Equal(t, r.State, read(t, home, w.chat()).State)
}
