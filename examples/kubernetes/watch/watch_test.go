package watch_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/inferpick/inferpick/datastore/kubernetes/kubernetestest"
	"github.com/inferpick/inferpick/examples/kubernetes/watch"
	"github.com/inferpick/inferpick/types"
)

var services = schema.GroupVersionResource{Version: "v1", Resource: "services"}

// value is what the tests make of an object.
func value(o *unstructured.Unstructured) (any, error) {
	v, _, _ := unstructured.NestedString(o.Object, "spec", "value")
	if v == "bad" {
		return nil, errors.New("it is bad")
	}
	return o.GetName() + "=" + v, nil
}

func service(name, value string) map[string]any {
	return kubernetestest.Object(`{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "` + name + `", "namespace": "app"}, "spec": {"value": "` + value + `"}}`)
}

// rig is a Watcher of Services of a server, in virtual time.
type rig struct {
	*testing.T
	*watch.Watcher
	api *kubernetestest.Server
	log bytes.Buffer
	end func()
}

func newRig(t *testing.T, resources ...kubernetestest.Resource) *rig {
	r := &rig{T: t, api: kubernetestest.NewPipe(resources...)}
	client, err := dynamic.NewForConfig(r.api.Config())
	require.NoError(t, err)
	r.Watcher = watch.New(client, slog.New(slog.NewTextHandler(&r.log, nil)), watch.Kind{GroupVersionResource: services, Name: "Service", Decode: value, Raw: true})
	return r
}

// run runs it, until end.
func (r *rig) run() {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Watcher.Run(ctx) })
	r.end = func() {
		stop()
		running.Wait()
		r.api.Close()
	}
	<-r.Synced()
}

// has waits for a while and compares what is known.
func (r *rig) has(after time.Duration, want ...string) {
	r.Helper()
	time.Sleep(after)
	synctest.Wait()
	require.ElementsMatch(r, want, watch.Objects[string](r.Watcher, services))
}

// TestWatch: objects come, change and go; one that is not understood stays as it was.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kubernetestest.Services)
		r.api.Apply(service("a", "1"), service("never", "bad"))
		r.run()
		defer r.end()
		r.has(time.Second, "a=1")
		<-r.Changed()
		r.api.Apply(service("b", "1"), service("a", "2"))
		r.has(time.Second, "a=2", "b=1")
		<-r.Changed()
		r.api.Apply(service("a", "bad"))
		r.has(time.Second, "a=2", "b=1")
		r.api.Fail(func(kubernetestest.Request) *kubernetestest.Failure { return &kubernetestest.Failure{Drop: true} })
		r.api.CutWatches()
		r.has(time.Second, "a=2", "b=1")
		r.api.Apply(service("b", "2"))
		r.api.Expire() // so that all is listed again
		r.api.Fail(nil)
		r.has(time.Minute, "a=2", "b=2")
		r.api.Delete(kubernetestest.Services, "app", "b")
		r.has(time.Second, "a=2")
		require.NotNil(t, r.Raw(services, types.NamespacedName{Namespace: "app", Name: "a"}))
		require.Nil(t, r.Raw(services, types.NamespacedName{Namespace: "app", Name: "b"}))
		require.Empty(t, r.Failures())
	})
}

// TestWatchLater: a kind that is not there, or may not be read, is tried again, and its log is
// no longer for that.
func TestWatchLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		defer r.end()
		r.has(10 * time.Minute)
		require.Len(t, r.Failures(), 1)
		require.Equal(t, 1, strings.Count(r.log.String(), "tried again"), r.log.String())
		require.Less(t, len(r.api.Requests(func(q kubernetestest.Request) bool { return q.Resource == "services" })), 100, "it is tried seldom")

		r.api.Install(kubernetestest.Services)
		r.api.Apply(service("a", "1"))
		r.api.Fail(kubernetestest.Forbidden)
		r.has(time.Minute)
		require.Equal(t, 2, strings.Count(r.log.String(), "tried again"), r.log.String())
		r.api.Fail(nil)
		r.has(time.Minute, "a=1")
		require.Empty(t, r.Failures())
		require.Contains(t, r.log.String(), "a kind is read again")

		r.api.Fail(kubernetestest.Forbidden) // what is known stays known
		r.api.CutWatches()
		r.has(10*time.Minute, "a=1")
		require.Len(t, r.Failures(), 1)
	})
}
