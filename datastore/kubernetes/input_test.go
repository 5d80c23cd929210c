package kubernetes_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/types"
)

// Objects that an old CRD lets in and today's rules refuse: each is reported, and logged once;
// the rest goes on.
func TestBadObjects(t *testing.T) {
	for name, c := range map[string]struct {
		change func(spec map[string]any)
		want   string
	}{
		"ports twice": {func(s map[string]any) {
			s["targetPorts"] = []any{map[string]any{"number": 1}, map[string]any{"number": 1}}
		}, "InferencePool default/bad: spec.targetPorts[1].number"},
		"no ports":            {func(s map[string]any) { s["targetPorts"] = []any{} }, "spec.targetPorts has 0, want 1 to 8 ports"},
		"selects everything":  {func(s map[string]any) { s["selector"] = map[string]any{"matchLabels": map[string]any{}} }, "spec.selector.matchLabels has 0"},
		"a picker, no port":   {func(s map[string]any) { s["endpointPickerRef"] = map[string]any{"name": "epp"} }, "spec.endpointPickerRef.port is required"},
		"a port that is text": {func(s map[string]any) { s["targetPorts"] = []any{map[string]any{"number": "http"}} }, "spec.targetPorts[0].number"},
		"huge": {func(s map[string]any) {
			many := map[string]any{}
			for i := range 5000 {
				many[fmt.Sprintf("label-%04d", i)] = strings.Repeat("v", 63)
			}
			s["selector"] = map[string]any{"matchLabels": many}
		}, "spec.selector.matchLabels has 5000"},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, all, func(t *testing.T, w *world) {
				both(w)
				w.api.Apply(poolV1("bad", "bad", 8000))
				w.api.Change(fakeapi.PoolV1, "default", "bad", func(o map[string]any) { c.change(o["spec"].(map[string]any)) })
				w.start(kubernetes.Options{})
				require.True(t, w.synced())
				require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools())
				require.ErrorContains(t, w.object(fakeapi.PoolV1, "default/bad").Err, c.want)
				w.after(time.Hour)
				require.Equal(t, 1, w.log.lines("is not in force"))

				w.api.Apply(poolV1("bad", "llama", 8000))
				w.settle()
				require.Equal(t, []string{"has pods in common with pool default/llama"}, w.object(fakeapi.PoolV1, "default/bad").Warnings)
				require.NoError(t, w.object(fakeapi.PoolV1, "default/bad").Err)
				require.Len(t, w.pools()["default/bad"], 2, "a pool with the pods of another")
				require.Len(t, w.pools()["default/llama"], 2)
			})
		})
	}
}

// An update that is not valid leaves the version before in force; after a change that is, it goes.
func TestBadUpdate(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.start(kubernetes.Options{})
		w.api.Apply(poolV1("llama", "llama", 8000, 8000))
		w.api.Apply(pod("c", "llama", "10.0.0.3"))
		w.settle()
		require.Equal(t, []string{endpointA, endpointB, endpointC}, w.pools()["default/llama"])
		require.Error(t, w.object(fakeapi.PoolV1, "default/llama").Err)
		w.api.Apply(poolV1("llama", "llama", 9000))
		w.settle()
		require.Equal(t, "default/a-rank-0 10.0.0.1:9000", w.pools()["default/llama"][0])
	})
}

// A model's name is immutable; an old CRD without that rule does not stop other changes. Deleted
// and created anew it is another.
func TestImmutable(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Apply(model("chat", "llama"))
		w.start(kubernetes.Options{})
		rename := func(o map[string]any) { o["spec"].(map[string]any)["modelName"] = "other" }
		w.api.Change(fakeapi.Model, "default", "chat", rename)
		w.api.Apply(model("new", "llama"), pod("c", "llama", "10.0.0.3"))
		w.settle()
		name := types.NamespacedName{Name: "chat"}
		require.Equal(t, "chat", w.store.Object("InferenceModel", name).(*types.InferenceModel).Spec.ModelName)
		require.NotNil(t, w.store.Object("InferenceModel", types.NamespacedName{Name: "new"}))
		require.Len(t, w.pools()["default/llama"], 3)
		require.ErrorContains(t, w.object(fakeapi.Model, "default/chat").Err, "immutable")
		w.after(time.Hour)
		require.Equal(t, 1, w.log.lines("is not in force"))

		w.api.Delete(fakeapi.Model, "default", "chat")
		again := model("chat", "llama")
		rename(again)
		w.api.Apply(again)
		w.settle()
		require.Equal(t, "other", w.store.Object("InferenceModel", name).(*types.InferenceModel).Spec.ModelName)
		require.NoError(t, w.object(fakeapi.Model, "default/chat").Err)
	})
}

// What the limits of the store refuse goes in when there is room.
func TestLimits(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		w.store = datastore.New(datastore.Options{MaxEndpoints: 3, MaxObjects: 3, DeclaredPoolsOnly: true})
		both(w)
		w.api.Apply(poolV1("big", "big", 8000), model("a", "llama"), model("b", "llama"))
		for i := range 3 {
			w.api.Apply(pod(fmt.Sprintf("big-%d", i), "big", fmt.Sprintf("10.1.0.%d", i)))
		}
		w.start(kubernetes.Options{})
		total := func() (n int) {
			for _, endpoints := range w.pools() {
				n += len(endpoints)
			}
			return n
		}
		require.LessOrEqual(t, total(), 3)
		require.NotZero(t, total())
		refused := 0
		for _, o := range w.source.Objects() {
			if o.Err != nil {
				require.ErrorIs(t, o.Err, datastore.ErrLimit)
				refused++
			}
		}
		require.Equal(t, 2, refused)

		w.api.Delete(fakeapi.PoolV1, "default", "big")
		w.after(31 * time.Second)
		require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools())
		for _, o := range w.source.Objects() {
			require.NoError(t, o.Err)
		}
	})
}

// In a large pool few changes are made one by one, many at once; both ways lead to the same.
func TestLargePool(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		const n = 300
		w.store = datastore.New(datastore.Options{MaxEndpoints: n})
		name := func(i int) string { return fmt.Sprintf("p-%03d", i) }
		ip := func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/200, i%200+1) }
		w.api.Apply(poolV1("llama", "llama", 8000))
		for i := range n {
			w.api.Apply(pod(name(i), "llama", ip(i)))
		}
		w.start(kubernetes.Options{})
		require.Len(t, w.pools()["default/llama"], n)
		check := func(want int, except ...int) {
			t.Helper()
			w.settle()
			endpoints := w.store.Snapshot().Pools()[0].Endpoints()
			require.Len(t, endpoints, want)
			for _, e := range endpoints {
				i := -1
				fmt.Sscanf(e.ID, "default/p-%d-rank-0", &i)
				require.Equal(t, slices.Contains(except, i), e.State != types.Ready, e.ID)
			}
		}
		for _, i := range []int{7, 250} {
			w.api.Change(fakeapi.Pods, "default", name(i), func(o map[string]any) { setReady(o, "False") })
		}
		check(n, 7, 250)
		w.api.Delete(fakeapi.Pods, "default", name(7))
		check(n-1, 250)
		w.api.Apply(pod(name(n), "llama", ip(n)), pod(name(n+1), "llama", ip(n+1)))
		check(n, 250)
		require.ErrorIs(t, w.object(fakeapi.PoolV1, "default/llama").Err, datastore.ErrLimit, "one is too many")
		for i := range 50 {
			w.api.Delete(fakeapi.Pods, "default", name(i))
		}
		check(n+1-49, 250)
		require.NoError(t, w.object(fakeapi.PoolV1, "default/llama").Err)
	})
}

// A pool that the store does not take is not made by its endpoints either.
func TestRefusedPool(t *testing.T) {
	for _, cluster := range []string{"", "east"} {
		inCluster(t, all, func(t *testing.T, w *world) {
			w.store = datastore.New(datastore.Options{MaxObjects: 1})
			both(w)
			w.api.Apply(poolV1("more", "llama", 8000))
			w.start(kubernetes.Options{Cluster: cluster})
			require.Len(t, w.pools(), 1)
			require.Len(t, w.pools()["default/llama"], 2)
			require.ErrorIs(t, w.object(fakeapi.PoolV1, "default/more").Err, datastore.ErrLimit)
			w.api.Delete(fakeapi.PoolV1, "default", "llama")
			w.after(31 * time.Second)
			require.Len(t, w.pools(), 1)
			require.Len(t, w.pools()["default/more"], 2)
		})
	}
}

// What others take out of the store is put back: pools at once, the rest after a while.
func TestRestored(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Apply(model("chat", "llama"))
		w.start(kubernetes.Options{})
		require.NoError(t, w.store.Replace(nil))
		require.Empty(t, w.pools())
		w.settle()
		require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools())
		w.after(31 * time.Second)
		require.NotNil(t, w.store.Object("InferenceModel", types.NamespacedName{Name: "chat"}))
	})
}

// A burst of changes is one change of the store.
func TestDebounce(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.start(kubernetes.Options{})
		snapshots := make(map[*datastore.Snapshot]bool)
		stop := w.store.Watch(func(datastore.Event) { snapshots[w.store.Snapshot()] = true })
		clear(snapshots)
		for i := range 200 {
			w.api.Apply(pod(fmt.Sprintf("burst-%d", i), "llama", fmt.Sprintf("10.2.0.%d", i)))
		}
		w.settle()
		stop()
		require.Len(t, w.pools()["default/llama"], 202)
		require.LessOrEqual(t, len(snapshots), 2)
	})
}

// Pods as they may come: without IP, dual stack, ended, with ports by annotation, with values of
// other types than the API has.
func TestOddPods(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		w.api.Apply(poolV1("llama", "llama", 8000, 8001))
		change := func(name string, fn func(o, meta, status map[string]any)) {
			o := pod(name, "llama", "10.0.0.1")
			fn(o, o["metadata"].(map[string]any), o["status"].(map[string]any))
			w.api.Apply(o)
		}
		change("pending", func(_, _, st map[string]any) { delete(st, "podIP"); delete(st, "podIPs") })
		change("evicted", func(_, _, st map[string]any) { st["phase"] = "Failed" })
		change("six", func(_, _, st map[string]any) {
			st["podIPs"] = []any{map[string]any{"ip": "fd00::1"}, map[string]any{"ip": "10.0.0.1"}}
		})
		change("one", func(_, m, _ map[string]any) {
			m["annotations"] = map[string]any{"inference.networking.k8s.io/active-ports": "8000", "llm-d.ai/active-ports": "8001"}
		})
		change("old", func(_, m, _ map[string]any) {
			m["annotations"] = map[string]any{"inference.networking.k8s.io/active-ports": "8000"}
		})
		change("wrong", func(_, _, st map[string]any) { st["podIPs"] = "10.0.0.1" })
		change("no-conditions", func(_, _, st map[string]any) { delete(st, "conditions") })
		w.start(kubernetes.Options{})
		require.True(t, w.synced())
		require.Equal(t, []string{
			"default/no-conditions-rank-0 10.0.0.1:8000 draining", "default/no-conditions-rank-1 10.0.0.1:8001 draining",
			"default/old-rank-0 10.0.0.1:8000", "default/one-rank-1 10.0.0.1:8001",
			"default/six-rank-0 [fd00::1]:8000", "default/six-rank-1 [fd00::1]:8001",
		}, w.pools()["default/llama"])
		require.Equal(t, 1, w.log.lines("cannot be read"))
		change("wrong", func(_, _, st map[string]any) { st["phase"] = 3 })
		w.settle()
		require.Equal(t, 2, w.log.lines("cannot be read"))
		require.Equal(t, 1, w.api.Count("list", "pods"), "the watch goes on")

		// What was good and can no longer be read stays as it was, whether it comes by a watch or
		// by a list; deleted it is gone.
		six := []string{"default/six-rank-0 [fd00::1]:8000", "default/six-rank-1 [fd00::1]:8001"}
		change("six", func(_, _, st map[string]any) { st["podIPs"] = "fd00::2" })
		w.settle()
		require.Subset(t, w.pools()["default/llama"], six)
		w.api.Fail(only("pods", fakeapi.Away, "list", "watch"))
		w.api.CutWatches()
		w.settle()
		change("six", func(_, _, st map[string]any) { st["podIPs"] = "fd00::3" })
		w.api.Expire()
		w.api.Fail(nil)
		w.after(30 * time.Second)
		require.Positive(t, w.kind(fakeapi.Pods).Relists)
		require.Subset(t, w.pools()["default/llama"], six)
		w.api.Delete(fakeapi.Pods, "default", "six")
		w.settle()
		require.NotContains(t, w.pools()["default/llama"], six[0])
	})
}

// A log that fails or a nil Logger is nobody's problem, and Run is called once.
func TestRunOnce(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		w.start(kubernetes.Options{Logger: slog.New(slog.DiscardHandler)})
		require.ErrorContains(t, w.source.Run(t.Context(), w.store), "Run was called before")
	})
}
