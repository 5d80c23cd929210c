package status

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	kubetesting "k8s.io/client-go/testing"

	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/types"
)

// TestWriter: a status is written once, again after another's write, and not over and over
// where it is refused.
func TestWriter(t *testing.T) {
	pool := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
		"metadata": map[string]any{"name": "llama", "namespace": "app", "resourceVersion": "1"},
	}}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{Pools: "InferencePoolList"}, pool)
	var answer error
	writes := 0
	client.PrependReactor("update", "inferencepools", func(action kubetesting.Action) (bool, runtime.Object, error) {
		writes++
		require.Equal(t, "status", action.GetSubresource())
		return true, pool, answer
	})
	cached := pool.DeepCopy()
	w := Writer{
		Client: client, Logger: slog.New(slog.DiscardHandler),
		Cached: func(r schema.GroupVersionResource, name types.NamespacedName) *unstructured.Unstructured {
			if r == Pools && name.Name == "llama" {
				return cached
			}
			return nil
		},
	}
	s := &routing.Status{Controller: ours, Pools: map[routing.PoolKey][]routing.PoolParent{
		{Group: routing.PoolGroup, Name: types.NamespacedName{Namespace: "app", Name: "llama"}}: {{Gateway: types.NamespacedName{Namespace: "infra", Name: "gw"}, Conditions: accepted("Accepted")}},
		{Group: routing.PoolGroup, Name: types.NamespacedName{Namespace: "app", Name: "gone"}}:  {},
	}}
	ctx := context.Background()

	answer = apierrors.NewConflict(Pools.GroupResource(), "llama", errors.New("newer"))
	require.False(t, w.Write(ctx, s), "a conflict is to be tried again")
	require.Equal(t, 1, writes)

	answer = nil
	require.True(t, w.Write(ctx, s))
	require.True(t, w.Write(ctx, s), "what was written is on its way back")
	require.Equal(t, 2, writes)

	cached = pool.DeepCopy() // somebody has taken it away
	cached.SetResourceVersion("3")
	require.True(t, w.Write(ctx, s))
	require.Equal(t, 3, writes)

	cached = pool.DeepCopy()
	cached.SetResourceVersion("4")
	answer = apierrors.NewForbidden(Pools.GroupResource(), "llama", errors.New("no"))
	require.False(t, w.Write(ctx, s))
	require.False(t, w.Write(ctx, s))
	require.Equal(t, 4, writes, "a refusal is left alone for a while")

	cached.SetResourceVersion("5")
	w.refused = map[object]time.Time{}
	answer = errors.New("connection refused")
	require.False(t, w.Write(ctx, s))
	answer = nil
	require.True(t, w.Write(ctx, s), "a server that was away is asked again at once")
	require.Equal(t, 6, writes)

	done, cancel := context.WithCancel(ctx)
	cancel()
	cached.SetResourceVersion("6")
	require.False(t, w.Write(done, s))
	require.Equal(t, 6, writes)
}
