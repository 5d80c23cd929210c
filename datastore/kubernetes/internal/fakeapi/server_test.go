package fakeapi_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	k8stypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
)

func pod(name, app string) map[string]any {
	return fakeapi.Object(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "` + name + `", "labels": {"app": "` + app + `"}}, "spec": {"nodeName": "n"}}`)
}

// client returns a dynamic client, what users of a real server have.
func client(t *testing.T, s *fakeapi.Server, r fakeapi.Resource) dynamic.ResourceInterface {
	t.Helper()
	c, err := dynamic.NewForConfig(s.Config())
	require.NoError(t, err)
	return c.Resource(schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Plural}).Namespace("default")
}

func TestListInPages(t *testing.T) {
	s := fakeapi.New(fakeapi.Pods)
	defer s.Close()
	s.Apply(pod("a", "x"), pod("b", "x"), pod("c", "y"), pod("d", "x"))
	pods := client(t, s, fakeapi.Pods)
	opts := metav1.ListOptions{LabelSelector: "app=x", Limit: 2}
	first, err := pods.List(t.Context(), opts)
	require.NoError(t, err)
	require.Len(t, first.Items, 2)
	require.Equal(t, "a", first.Items[0].GetName())
	opts.Continue = first.GetContinue()
	second, err := pods.List(t.Context(), opts)
	require.NoError(t, err)
	require.Len(t, second.Items, 1)
	require.Equal(t, "d", second.Items[0].GetName())
	require.Empty(t, second.GetContinue())
	require.Equal(t, first.GetResourceVersion(), second.GetResourceVersion())
	require.Equal(t, 2, s.Count("list", "pods"))

	s.Apply(pod("e", "x"))
	s.Expire()
	_, err = pods.List(t.Context(), opts)
	require.True(t, apierrors.IsResourceExpired(err), "%v", err)
}

func TestWatch(t *testing.T) {
	s := fakeapi.New(fakeapi.Pods)
	defer s.Close()
	s.Apply(pod("a", "x"))
	pods := client(t, s, fakeapi.Pods)
	list, err := pods.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	opts := metav1.ListOptions{ResourceVersion: list.GetResourceVersion(), LabelSelector: "app=x", AllowWatchBookmarks: true}
	w, err := pods.Watch(t.Context(), opts)
	require.NoError(t, err)
	defer w.Stop()

	s.Apply(pod("b", "x"), pod("c", "y"), pod("b", "y"))
	s.Terminate(fakeapi.Pods, "default", "a")
	s.Delete(fakeapi.Pods, "default", "a")
	s.Bookmark()
	for _, want := range []struct {
		kind watch.EventType
		name string
	}{{watch.Added, "b"}, {watch.Deleted, "b"}, {watch.Modified, "a"}, {watch.Deleted, "a"}, {watch.Bookmark, ""}} {
		ev := <-w.ResultChan()
		require.Equal(t, want.kind, ev.Type)
		o := ev.Object.(*unstructured.Unstructured)
		require.Equal(t, want.name, o.GetName())
		opts.ResourceVersion = o.GetResourceVersion()
	}
	s.CutWatches()
	for range w.ResultChan() {
		t.Fatal("an event after the end")
	}
	s.Apply(pod("d", "x"))
	again, err := pods.Watch(t.Context(), opts)
	require.NoError(t, err)
	defer again.Stop()
	require.Equal(t, "d", (<-again.ResultChan()).Object.(*unstructured.Unstructured).GetName())

	s.Expire()
	_, err = pods.Watch(t.Context(), opts)
	require.True(t, apierrors.IsResourceExpired(err), "%v", err)
}

func TestFailures(t *testing.T) {
	s := fakeapi.New(fakeapi.Pods)
	defer s.Close()
	pods := client(t, s, fakeapi.Pods)
	list := func(f *fakeapi.Failure) error {
		s.Fail(func(r fakeapi.Request) *fakeapi.Failure { return f })
		_, err := pods.List(t.Context(), metav1.ListOptions{})
		return err
	}
	require.True(t, apierrors.IsForbidden(list(fakeapi.Forbidden(fakeapi.Request{Resource: "pods"}))))
	seconds, ok := apierrors.SuggestsClientDelay(list(&fakeapi.Failure{Code: 429, Reason: "TooManyRequests"}))
	require.Zero(t, seconds)
	require.False(t, ok)
	require.Error(t, list(&fakeapi.Failure{Truncate: 10}))
	require.True(t, apierrors.IsNotFound(list(&fakeapi.Failure{Code: 404, Body: []byte("404 page not found\n")})))
	require.NoError(t, list(nil))

	s.Fail(func(fakeapi.Request) *fakeapi.Failure {
		f := fakeapi.Expired()
		f.InStream = true
		return f
	})
	w, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
	require.NoError(t, err)
	ev := <-w.ResultChan()
	require.Equal(t, watch.Error, ev.Type)
	require.True(t, apierrors.IsResourceExpired(apierrors.FromObject(ev.Object)))
	w.Stop()
}

func TestStatusAndPatches(t *testing.T) {
	s := fakeapi.New(fakeapi.Model, fakeapi.Leases)
	defer s.Close()
	models, ctx := client(t, s, fakeapi.Model), t.Context()
	s.Apply(fakeapi.Object(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "m"}, "spec": {"modelName": "m"}}`))
	m, err := models.Get(ctx, "m", metav1.GetOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 1, m.GetGeneration())

	m.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "Unknown"}}}
	m.Object["spec"] = map[string]any{"modelName": "other"}
	after, err := models.UpdateStatus(ctx, m, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 1, after.GetGeneration())
	name, _, _ := unstructured.NestedString(after.Object, "spec", "modelName")
	require.Equal(t, "m", name)
	_, err = models.UpdateStatus(ctx, m, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)

	patch := `{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "m"}, "status": {"conditions": [{"type": "Accepted", "status": "True"}]}}`
	after, err = models.Patch(ctx, "m", k8stypes.ApplyPatchType, []byte(patch), metav1.PatchOptions{FieldManager: "test"}, "status")
	require.NoError(t, err)
	conditions, _, _ := unstructured.NestedSlice(after.Object, "status", "conditions")
	require.Len(t, conditions, 2)
	after, err = models.Patch(ctx, "m", k8stypes.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	require.NoError(t, err)
	conditions, _, _ = unstructured.NestedSlice(after.Object, "status", "conditions")
	require.Len(t, conditions, 1)
	_, err = models.Patch(ctx, "n", k8stypes.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	require.True(t, apierrors.IsNotFound(err), "%v", err)

	leases := client(t, s, fakeapi.Leases)
	lease := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": map[string]any{"name": "l"}, "spec": map[string]any{"holderIdentity": "a"},
	}}
	made, err := leases.Create(ctx, lease, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	require.True(t, apierrors.IsAlreadyExists(err), "%v", err)
	_, err = leases.Update(ctx, made, metav1.UpdateOptions{})
	require.NoError(t, err)
	_, err = leases.Update(ctx, made, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.NoError(t, leases.Delete(ctx, "l", metav1.DeleteOptions{}))
	require.Nil(t, s.Get(fakeapi.Leases, "default", "l"))
}

// Resources come and go; the watches of one that goes see its objects deleted, and end.
func TestInstallAndRemove(t *testing.T) {
	s := fakeapi.New()
	defer s.Close()
	pools := client(t, s, fakeapi.PoolV1)
	_, err := pools.List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	s.Install(fakeapi.PoolV1)
	s.Apply(fakeapi.Object(`{"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": "p"}}`))
	list, err := pools.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	w, err := pools.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	require.NoError(t, err)
	s.Remove(fakeapi.PoolV1)
	require.Equal(t, watch.Deleted, (<-w.ResultChan()).Type)
	_, open := <-w.ResultChan()
	require.False(t, open)
}

// With a server in memory time is virtual: slow answers take none.
func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fakeapi.NewPipe(fakeapi.Pods)
		defer s.Close()
		s.Fail(func(fakeapi.Request) *fakeapi.Failure { return &fakeapi.Failure{Wait: time.Hour} })
		start := time.Now()
		_, err := client(t, s, fakeapi.Pods).List(context.Background(), metav1.ListOptions{})
		require.NoError(t, err)
		require.Equal(t, time.Hour, time.Since(start))
		require.Equal(t, http.StatusTooManyRequests, fakeapi.TooBusy(1).Code)
	})
}
