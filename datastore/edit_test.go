package datastore_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// chatModel is an InferenceModel with one target of a weight.
func chatModel(weight int32) *types.InferenceModel {
	m := &types.InferenceModel{ObjectMeta: types.ObjectMeta{Name: "chat"}}
	m.Spec.ModelName = "chat"
	m.Spec.PoolRef.Name = "llama"
	m.Spec.TargetModels = []types.TargetModel{{Name: "v1", Weight: &weight}}
	return m
}

func TestEdit(t *testing.T) {
	store := datastore.New(datastore.Options{})
	name := types.NamespacedName{Name: "chat"}
	weightOf := func() int32 {
		return *store.Object("InferenceModel", name).(*types.InferenceModel).Spec.TargetModels[0].Weight
	}
	set := func(weight int32) func(types.Object) error {
		return func(o types.Object) error {
			*o.(*types.InferenceModel).Spec.TargetModels[0].Weight = weight
			return nil
		}
	}
	err := store.Edit("InferenceModel", name, set(1))
	require.ErrorIs(t, err, datastore.ErrNoObject)
	require.EqualError(t, err, "datastore: no such manifest: InferenceModel default/chat")

	require.NoError(t, store.Apply(chatModel(1)))
	manifests := store.Snapshot().Manifests()
	require.Len(t, manifests, 1)
	require.NoError(t, store.SetEndpoints(types.NamespacedName{Name: "llama"}, []datastore.EndpointSpec{{Address: "a:1"}}))
	require.Same(t, &manifests[0], &store.Snapshot().Manifests()[0], "no manifest has changed")

	changes := 0
	stop := store.WatchManifests(func() { changes++ })
	require.NoError(t, store.Edit("InferenceModel", name, set(7)))
	require.EqualValues(t, 7, weightOf())
	require.Equal(t, 1, changes)
	require.NotSame(t, &manifests[0], &store.Snapshot().Manifests()[0])

	require.ErrorContains(t, store.Edit("InferenceModel", name, set(-1)), "spec.targetModels[0].weight")
	refused := errors.New("no")
	require.ErrorIs(t, store.Edit("InferenceModel", name, func(types.Object) error { return refused }), refused)
	require.ErrorContains(t, store.Edit("InferenceModel", name, func(o types.Object) error {
		o.Meta().Name = "other"
		return nil
	}), "made InferenceModel default/other of")
	require.ErrorContains(t, store.Edit("InferenceModel", name, func(o types.Object) error {
		o.(*types.InferenceModel).Spec.ModelName = "other"
		return nil
	}), "immutable")
	require.EqualValues(t, 7, weightOf())
	require.Equal(t, 1, changes)

	require.True(t, store.Delete("InferenceModel", name))
	require.Equal(t, 2, changes)
	stop()
	require.NoError(t, store.Apply(chatModel(1)))
	require.Equal(t, 2, changes)
}

// Who edits a manifest that changes meanwhile edits what it has become.
func TestEditMeetsChange(t *testing.T) {
	store := datastore.New(datastore.Options{})
	require.NoError(t, store.Apply(chatModel(1)))
	name := types.NamespacedName{Name: "chat"}
	var saw []int32
	require.NoError(t, store.Edit("InferenceModel", name, func(o types.Object) error {
		w := o.(*types.InferenceModel).Spec.TargetModels[0].Weight
		if saw = append(saw, *w); len(saw) == 1 {
			require.NoError(t, store.Apply(chatModel(50)))
		}
		*w++
		return nil
	}))
	require.Equal(t, []int32{1, 50}, saw)

	const editors, times = 8, 50
	var wg sync.WaitGroup
	for i := range editors {
		wg.Go(func() {
			for range times {
				err := store.Edit("InferenceModel", name, func(o types.Object) error {
					*o.(*types.InferenceModel).Spec.TargetModels[0].Weight++
					return nil
				})
				if err != nil {
					t.Error(fmt.Errorf("editor %d: %w", i, err))
				}
			}
		})
	}
	wg.Wait()
	got := store.Object("InferenceModel", name).(*types.InferenceModel).Spec.TargetModels[0].Weight
	require.EqualValues(t, 51+editors*times, *got)
}
