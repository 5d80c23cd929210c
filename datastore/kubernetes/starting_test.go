package kubernetes_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/types"
)

func TestStarting(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		llama := types.NamespacedName{Namespace: "default", Name: "llama"}
		starting := func(label, value string) any {
			n, ok := w.source.Starting(llama, label, value)
			if !ok {
				return "unknown"
			}
			return n
		}
		w.api.Apply(poolV1("llama", "llama", 8000, 8001), pod("a", "llama", "10.0.0.1"))
		w.start(kubernetes.Options{})
		require.True(t, w.synced())
		require.Equal(t, 0, starting("", ""))

		late := pod("b", "llama", "") // has no address yet
		late["metadata"].(map[string]any)["labels"].(map[string]any)["gpu"] = "h200"
		setReady(late, "False")
		w.api.Apply(late, pod("other", "other", ""))
		w.settle()
		require.Equal(t, 2, starting("", ""), "two ports of one pod")
		require.Equal(t, 2, starting("gpu", "h200"))
		require.Equal(t, 0, starting("gpu", "l4"))
		_, ok := w.source.Starting(types.NamespacedName{Namespace: "default", Name: "gemma"}, "", "")
		require.False(t, ok)

		w.api.Change(fakeapi.Pods, "default", "b", func(o map[string]any) { setReady(o, "True") })
		w.settle()
		require.Equal(t, 0, starting("", ""))
		w.api.Change(fakeapi.Pods, "default", "b", func(o map[string]any) { setReady(o, "False") })
		w.api.Terminate(fakeapi.Pods, "default", "b")
		w.settle()
		require.Equal(t, 0, starting("", ""), "it goes")
	})
}
