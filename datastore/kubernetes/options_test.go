package kubernetes_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/types"
)

func TestOptionsAreChecked(t *testing.T) {
	_, err := kubernetes.New(&rest.Config{}, kubernetes.Options{
		Namespaces: []string{""}, Pools: []types.NamespacedName{{}}, PoolSelector: "a in", MetricsPort: 70000,
		Declared: []*types.InferencePool{{}}, Debounce: time.Minute, MaxPodWatches: -1, Refresh: 1, MinRetry: time.Hour, MaxRetry: time.Minute,
		Cluster: strings.Repeat("c", 64),
	})
	for _, want := range []string{
		"kubernetes: Options: Namespaces[0] is", "Pools[0]", "PoolSelector", "MetricsPort is 70000", "Declared[0]", "Debounce is 1m0s",
		"MaxPodWatches is -1", "Refresh is 1ns", "MaxRetry is 1m0s", "Cluster is",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = kubernetes.New(&rest.Config{Host: "::"}, kubernetes.Options{})
	require.Error(t, err)
}

// Pools by name: of others nothing is read, neither their pods nor their models.
func TestPoolsByName(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Apply(poolV1("other", "other", 1), model("chat", "llama"), model("not-ours", "other"))
		w.start(kubernetes.Options{Pools: []types.NamespacedName{{Name: "llama"}}})
		require.True(t, w.synced())
		require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools())
		require.Len(t, w.source.Objects(), 2)
		for _, r := range w.api.Requests(nil) {
			if r.Resource == "inferencepools" {
				require.Equal(t, "default", r.Namespace, "the role may be limited to it")
				require.Contains(t, r.Query, "fieldSelector=metadata.name%3Dllama")
			}
		}
	})
}

func TestPoolsBySelector(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Apply(poolV1("other", "other", 1), model("not-ours", "other"))
		w.api.Change(fakeapi.PoolV1, "default", "llama", func(o map[string]any) {
			o["metadata"].(map[string]any)["labels"] = map[string]any{"team": "x"}
		})
		w.start(kubernetes.Options{PoolSelector: "team=x"})
		require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools())
		require.Len(t, w.source.Objects(), 1)
		w.api.Change(fakeapi.PoolV1, "default", "llama", func(o map[string]any) {
			o["metadata"].(map[string]any)["labels"] = map[string]any{}
		})
		w.settle()
		require.Empty(t, w.pools())
	})
}

// Without CRDs a declared pool finds its pods.
func TestDeclaredPools(t *testing.T) {
	inCluster(t, []fakeapi.Resource{fakeapi.Pods}, func(t *testing.T, w *world) {
		pool := &types.InferencePool{ObjectMeta: types.ObjectMeta{Name: "llama"}}
		pool.Spec.Selector.MatchLabels = map[string]string{"app": "llama"}
		pool.Spec.TargetPorts = []types.Port{{Number: 8000}}
		w.api.Apply(pod("a", "llama", "10.0.0.1"))
		w.start(kubernetes.Options{Declared: []*types.InferencePool{pool}, Namespaces: []string{"default"}})
		require.True(t, w.synced())
		require.Equal(t, map[string][]string{"default/llama": {endpointA}}, w.pools())
	})
}

func slice(name, service, endpoints string) map[string]any {
	return fakeapi.Object(fmt.Sprintf(`{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata": {"name": %q, "labels": {"kubernetes.io/service-name": %q}}, "endpoints": [%s]}`, name, service, endpoints))
}

// EndpointSlices in place of pods: of the service with the pool's name, or the one it names.
func TestEndpointSlices(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		named := poolV1("named", "x", 9000)
		named["metadata"].(map[string]any)["annotations"] = map[string]any{kubernetes.ServiceAnnotation: "web"}
		w.api.Apply(poolV1("llama", "llama", 8000, 8001), named,
			slice("s1", "llama", `{"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "a"}, "zone": "z1"}`),
			slice("s2", "web", `{"addresses": ["10.0.0.7"]}`))
		w.start(kubernetes.Options{EndpointSlices: true})
		require.True(t, w.synced())
		require.Equal(t, map[string][]string{
			"default/llama": {"default/a-rank-0 10.0.0.1:8000", "default/a-rank-1 10.0.0.1:8001"},
			"default/named": {"default/10.0.0.7-rank-0 10.0.0.7:9000"},
		}, w.pools())
		require.Zero(t, w.api.Count("list", "pods"))

		w.api.Apply(slice("s1", "llama", `{"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": true, "terminating": true}, "targetRef": {"kind": "Pod", "name": "a"}}`))
		w.settle()
		require.Equal(t, []string{"default/a-rank-0 10.0.0.1:8000 draining", "default/a-rank-1 10.0.0.1:8001 draining"}, w.pools()["default/llama"])
		w.api.Delete(fakeapi.EndpointSlices, "default", "s1")
		w.settle()
		require.Empty(t, w.pools()["default/llama"])
	})
}

// Two clusters in one store, which a third source feeds too: each takes out what it has put in.
func TestTwoClusters(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		east := w
		west := &world{T: t, api: fakeapi.NewPipe(all...), store: east.store, log: new(logBuffer)}
		defer west.api.Close()
		own := types.NamespacedName{Namespace: "default", Name: "mine"}
		require.NoError(t, w.store.SetEndpoints(own, []datastore.EndpointSpec{{Address: "10.9.9.9:1"}}))
		east.api.Apply(poolV1("llama", "llama", 8000), pod("a", "llama", "10.0.0.1"), model("chat", "llama"))
		west.api.Apply(poolV1("llama", "llama", 8000), pod("a", "llama", "10.1.0.1"), model("chat", "llama"))
		east.start(kubernetes.Options{Cluster: "east"})
		west.start(kubernetes.Options{Cluster: "west"})
		require.Equal(t, map[string][]string{
			"default/llama": {"east/default/a-rank-0 10.0.0.1:8000", "west/default/a-rank-0 10.1.0.1:8000"},
			"default/mine":  {"10.9.9.9:1 10.9.9.9:1"},
		}, w.pools())
		for _, e := range w.store.Snapshot().Pool(types.NamespacedName{Name: "llama"}).Endpoints() {
			require.Equal(t, strings.SplitN(e.ID, "/", 2)[0], e.Labels[kubernetes.ClusterLabel])
		}

		east.api.Apply(pod("b", "llama", "10.0.0.2"))
		east.api.Delete(fakeapi.Pods, "default", "a")
		east.settle()
		require.Equal(t, []string{"east/default/b-rank-0 10.0.0.2:8000", "west/default/a-rank-0 10.1.0.1:8000"}, w.pools()["default/llama"])

		// What one of them has still is put back, models after a while.
		east.api.Delete(fakeapi.PoolV1, "default", "llama")
		east.api.Delete(fakeapi.Model, "default", "chat")
		east.settle()
		require.Equal(t, []string{"west/default/a-rank-0 10.1.0.1:8000"}, w.pools()["default/llama"])
		east.after(31 * time.Second)
		require.NotNil(t, w.store.Object("InferenceModel", types.NamespacedName{Name: "chat"}))

		west.api.Delete(fakeapi.PoolV1, "default", "llama")
		west.settle()
		require.Equal(t, map[string][]string{"default/mine": {"10.9.9.9:1 10.9.9.9:1"}}, w.pools())
		west.stop()
	})
}

// More pools than there may be watches: all pods of the namespace are read once, and no pool is
// empty meanwhile.
func TestManyPools(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		add := func(from, to int) {
			for i := from; i < to; i++ {
				name := fmt.Sprintf("p%02d", i)
				w.api.Apply(poolV1(name, name, 8000), pod(name, name, fmt.Sprintf("10.0.0.%d", i+1)))
			}
		}
		whole := func(n int) {
			t.Helper()
			pools := w.pools()
			require.Len(t, pools, n)
			for name, endpoints := range pools {
				require.Len(t, endpoints, 1, name)
			}
		}
		podWatches := func() (n int) {
			for _, k := range w.source.Kinds() {
				if k.Kind == "Pod" {
					n++
				}
			}
			return n
		}
		add(0, 64)
		w.start(kubernetes.Options{})
		whole(64)
		require.Equal(t, 64, podWatches())

		w.api.Fail(only("pods", func(r fakeapi.Request) *fakeapi.Failure {
			if r.Selector == "" {
				return &fakeapi.Failure{Wait: time.Minute}
			}
			return nil
		}, "list"))
		add(64, 70)
		w.settle()
		require.Equal(t, 65, podWatches(), "those of before and the one of all")
		w.api.Delete(fakeapi.Pods, "default", "p00")
		w.api.Apply(pod("p00", "p00", "10.0.1.1"))
		w.settle()
		require.Equal(t, []string{"default/p00-rank-0 10.0.1.1:8000"}, w.pools()["default/p00"], "kept up to date meanwhile")
		w.after(time.Minute)
		whole(70)
		require.Equal(t, 1, podWatches())
		w.api.Apply(pod("p00", "p00", "10.0.1.2"))
		w.settle()
		require.Equal(t, []string{"default/p00-rank-0 10.0.1.2:8000"}, w.pools()["default/p00"])

		for i := 10; i < 70; i++ {
			w.api.Delete(fakeapi.PoolV1, "default", fmt.Sprintf("p%02d", i))
		}
		w.settle()
		whole(10)
		require.Equal(t, 10, podWatches())
	})
}
