package kubernetes_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/types"
)

// The life of a pool and its pods.
func TestLife(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		w.api.Apply(poolV1("llama", "llama", 8000), pod("a", "llama", "10.0.0.1"), pod("other", "other", "10.0.0.9"))
		w.start(kubernetes.Options{})
		require.True(t, w.synced())
		require.Equal(t, map[string][]string{"default/llama": {"default/a-rank-0 10.0.0.1:8000"}}, w.pools())
		before := w.store.Snapshot().Pools()[0].Endpoints()[0].Load

		w.api.Apply(pod("b", "llama", "10.0.0.2"))
		w.api.Change(fakeapi.Pods, "default", "b", func(o map[string]any) { setReady(o, "False") })
		w.settle()
		require.Equal(t, []string{"default/a-rank-0 10.0.0.1:8000", "default/b-rank-0 10.0.0.2:8000 draining"}, w.pools()["default/llama"])

		w.api.Change(fakeapi.Pods, "default", "b", func(o map[string]any) { setReady(o, "True") })
		w.after(25 * time.Millisecond) // within the time that a burst is waited for
		require.Equal(t, []string{"default/a-rank-0 10.0.0.1:8000", "default/b-rank-0 10.0.0.2:8000"}, w.pools()["default/llama"])

		w.api.Terminate(fakeapi.Pods, "default", "a")
		w.settle()
		require.Equal(t, []string{"default/a-rank-0 10.0.0.1:8000 draining", "default/b-rank-0 10.0.0.2:8000"}, w.pools()["default/llama"])
		require.Same(t, before, w.store.Snapshot().Pools()[0].Endpoints()[0].Load, "the ledger of what it has to finish")

		w.api.Delete(fakeapi.Pods, "default", "a")
		w.settle()
		require.Equal(t, []string{"default/b-rank-0 10.0.0.2:8000"}, w.pools()["default/llama"])

		w.api.Change(fakeapi.Pods, "default", "b", func(o map[string]any) {
			o["metadata"].(map[string]any)["labels"] = map[string]any{"app": "debug"}
		})
		w.settle()
		require.Empty(t, w.pools()["default/llama"])

		w.api.Delete(fakeapi.PoolV1, "default", "llama")
		w.settle()
		require.Empty(t, w.pools())
		for _, r := range all[2:] {
			require.Equal(t, 1, w.api.Count("list", r.Plural)/countOf(all, r.Plural), "lists of %s", r.Plural)
		}
		require.Equal(t, 1, w.api.Count("list", "pods"))
	})
}

// countOf returns how many of the resources have a name.
func countOf(resources []fakeapi.Resource, plural string) int {
	n := 0
	for _, r := range resources {
		if r.Plural == plural {
			n++
		}
	}
	return n
}

// Both versions of a pool side by side: v1 wins, and what is left when one goes stays.
func TestTwoVersions(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		w.api.Apply(poolAlpha("llama", "old", 8000), pod("old", "old", "10.0.0.1"), pod("new", "new", "10.0.0.2"))
		w.start(kubernetes.Options{})
		require.Equal(t, map[string][]string{"default/llama": {"default/old-rank-0 10.0.0.1:8000"}}, w.pools())

		w.api.Apply(poolV1("llama", "new", 9000))
		w.settle()
		require.Equal(t, map[string][]string{"default/llama": {"default/new-rank-0 10.0.0.2:9000"}}, w.pools())
		require.ErrorIs(t, w.object(fakeapi.PoolAlpha, "default/llama").Err, kubernetes.ErrShadowed)
		require.NoError(t, w.object(fakeapi.PoolV1, "default/llama").Err)

		w.api.Delete(fakeapi.PoolV1, "default", "llama")
		w.settle()
		require.Equal(t, map[string][]string{"default/llama": {"default/old-rank-0 10.0.0.1:8000"}}, w.pools())
		require.NoError(t, w.object(fakeapi.PoolAlpha, "default/llama").Err)
	})
}

// Models, objectives and rewrites of all groups.
func TestManifests(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		w.api.Apply(poolV1("llama", "llama", 8000), model("chat", "llama"), model("lost", "nowhere"),
			fakeapi.Object(`{"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceObjective", "metadata": {"name": "o"},
				"spec": {"priority": 7, "poolSelector": {}}}`),
			fakeapi.Object(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceObjective", "metadata": {"name": "o"},
				"spec": {"priority": 3, "poolRef": {"name": "llama"}}}`),
			fakeapi.Object(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": "r"},
				"spec": {"poolRef": {"name": "llama"}, "rules": [{"matches": [{"model": {"value": "fast"}}], "targets": [{"modelRewrite": "llama-8b"}]}], "newer": 1},
				"status": {"conditions": [{"type": "Accepted", "status": "Unknown", "reason": "Pending"}]}}`))
		w.start(kubernetes.Options{})
		name := func(s string) types.NamespacedName { return types.NamespacedName{Namespace: "default", Name: s} }
		require.NotNil(t, w.store.Object("InferenceModel", name("chat")))
		require.Equal(t, 7, w.store.Object("InferenceObjective", name("o")).(*types.InferenceObjective).Priority())
		require.NotNil(t, w.store.Object("InferenceModelRewrite", name("r")))
		status, ok := w.store.Status("InferenceModel", name("lost"))
		require.True(t, ok)
		require.Equal(t, types.ReasonPending, status[0].Reason)
		require.Equal(t, "Pending", w.object(fakeapi.Rewrite, "default/r").Conditions[0].Reason)
		require.Equal(t, []string{"spec.newer is unknown and has no effect"}, w.object(fakeapi.Rewrite, "default/r").Warnings)
		require.ErrorIs(t, w.object(fakeapi.Objective, "default/o").Err, kubernetes.ErrShadowed)

		select {
		case <-w.source.Changed():
		default:
			require.Fail(t, "no signal")
		}
		version := w.object(fakeapi.Rewrite, "default/r").ResourceVersion
		snapshot := w.store.Snapshot()
		w.api.Change(fakeapi.Rewrite, "default", "r", func(o map[string]any) {
			o["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Accepted", "status": "True", "reason": "Accepted"}}}
		})
		w.settle()
		require.NotEmpty(t, w.source.Changed())
		require.NotEqual(t, version, w.object(fakeapi.Rewrite, "default/r").ResourceVersion)
		require.Equal(t, "Accepted", w.object(fakeapi.Rewrite, "default/r").Conditions[0].Reason)
		require.Same(t, snapshot, w.store.Snapshot(), "a new status is no change of the store")

		w.api.Delete(fakeapi.Model, "default", "chat")
		w.settle()
		require.Nil(t, w.store.Object("InferenceModel", name("chat")))
	})
}
