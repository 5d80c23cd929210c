package kubernetes_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
)

// both has a pool with two pods.
func both(w *world) {
	w.api.Apply(poolV1("llama", "llama", 8000), pod("a", "llama", "10.0.0.1"), pod("b", "llama", "10.0.0.2"))
}

const (
	endpointA = "default/a-rank-0 10.0.0.1:8000"
	endpointB = "default/b-rank-0 10.0.0.2:8000"
	endpointC = "default/c-rank-0 10.0.0.3:8000"
)

// only returns a failure for requests with one of the verbs for a resource.
func only(plural string, f func(fakeapi.Request) *fakeapi.Failure, verbs ...string) func(fakeapi.Request) *fakeapi.Failure {
	return func(r fakeapi.Request) *fakeapi.Failure {
		for _, verb := range verbs {
			if r.Verb == verb && (plural == "" || r.Resource == plural) {
				return f(r)
			}
		}
		return nil
	}
}

// A cluster that lacks CRDs works without; when they come they are noticed.
func TestCRDsComeLater(t *testing.T) {
	inCluster(t, []fakeapi.Resource{fakeapi.Pods, fakeapi.PoolV1}, func(t *testing.T, w *world) {
		both(w)
		w.start(kubernetes.Options{})
		require.True(t, w.synced())
		missing := w.kind(fakeapi.Model)
		require.False(t, missing.Up)
		require.ErrorIs(t, missing.Err, kubernetes.ErrNotServed)
		require.True(t, w.kind(fakeapi.PoolV1).Up)

		w.api.Install(fakeapi.Model)
		w.api.Apply(model("chat", "llama"))
		w.after(31 * time.Second)
		require.Len(t, w.source.Objects(), 2)
		require.True(t, w.kind(fakeapi.Model).Up)
	})
}

// Without any CRD the source waits for them; it is ready, as there is nothing to read.
func TestNoCRDs(t *testing.T) {
	inCluster(t, []fakeapi.Resource{fakeapi.Pods}, func(t *testing.T, w *world) {
		w.start(kubernetes.Options{})
		require.True(t, w.synced())
		w.after(10 * time.Minute)
		require.Equal(t, 1, w.log.lines("CRDs are not installed"))
		require.Equal(t, 1, w.log.lines("level=WARN"))
		w.api.Install(fakeapi.PoolAlpha)
		w.api.Apply(poolAlpha("llama", "llama", 8000), pod("a", "llama", "10.0.0.1"))
		w.after(31 * time.Second)
		require.Equal(t, map[string][]string{"default/llama": {endpointA}}, w.pools())
		require.Equal(t, 1, w.log.lines("level=WARN"))
		require.Equal(t, 1, w.log.lines(`kinds="[InferenceModel InferenceObjective InferenceModelRewrite]"`))
	})
}

// A CRD that is deleted takes its objects with it. If the server only says that it does not
// serve the kind, that is believed the second time.
func TestCRDsGo(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Apply(poolAlpha("old", "llama", 8000), model("chat", "llama"))
		w.start(kubernetes.Options{})
		require.Len(t, w.pools(), 2)
		w.api.Remove(fakeapi.PoolAlpha)
		w.settle()
		require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools())

		// The events are missed: the watch is away when the CRD goes.
		w.api.Fail(only("inferencepools", fakeapi.Away, "list", "watch"))
		w.api.CutWatches()
		w.settle()
		w.api.Remove(fakeapi.PoolV1)
		w.api.Expire()
		w.api.Fail(nil)
		w.after(30 * time.Second)
		require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools(), "one answer without it")
		w.after(30 * time.Second)
		require.Empty(t, w.pools())
		require.ErrorIs(t, w.kind(fakeapi.PoolV1).Err, kubernetes.ErrNotServed)

		w.api.Install(fakeapi.PoolV1)
		w.api.Apply(poolV1("llama", "llama", 8000))
		w.after(31 * time.Second)
		require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools())
	})
}

// A server that says once, as one does that starts, that it does not have a kind changes nothing.
func TestDiscoveryHiccup(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.start(kubernetes.Options{})
		w.api.Fail(only("", func(fakeapi.Request) *fakeapi.Failure {
			return &fakeapi.Failure{Code: 200, Body: []byte(`{"kind": "APIGroupList", "groups": []}`)}
		}, "discover"))
		w.after(30 * time.Second)
		w.api.Fail(only("", fakeapi.Away, "discover"))
		w.after(10 * time.Minute)
		require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools())
		w.api.Fail(nil)
		w.after(time.Minute)
		require.Equal(t, 1, w.api.Count("list", "pods"))
		require.Equal(t, 1, w.log.lines("cannot ask the API server"))
	})
}

// That a server answers something else when it is asked for a group's version is no word that the
// kind is gone, however often it says so.
func TestDiscoveryNonsense(t *testing.T) {
	for _, version := range []string{`{}`, `{"kind": "Status", "status": "Success"}`, `<html>`} {
		t.Run(version, func(t *testing.T) {
			inCluster(t, all, func(t *testing.T, w *world) {
				both(w)
				w.start(kubernetes.Options{})
				w.api.Fail(only("", func(r fakeapi.Request) *fakeapi.Failure {
					if r.Path == "/apis" {
						return &fakeapi.Failure{Code: http.StatusOK, Body: []byte(`{"kind": "APIGroupList", "groups": []}`)}
					}
					return &fakeapi.Failure{Code: http.StatusOK, Body: []byte(version)}
				}, "discover"))
				w.after(10 * time.Minute)
				require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools())
			})
		})
	}
}

// A server that starts lists its groups without those of CRDs, one earlier than another, and says
// 503 for these: nothing is taken for removed, however long that lasts.
func TestStartingServer(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Apply(poolAlpha("old", "llama", 8000))
		w.start(kubernetes.Options{})
		w.api.Fail(func(r fakeapi.Request) *fakeapi.Failure {
			switch {
			case r.Path == "/apis":
				return &fakeapi.Failure{Code: 200, Body: []byte(`{"kind": "APIGroupList", "groups": [
					{"name": "inference.networking.k8s.io", "versions": [{"groupVersion": "inference.networking.k8s.io/v1", "version": "v1"}]}]}`)}
			case r.Verb == "discover" && r.Path != "/apis/inference.networking.k8s.io/v1":
				return &fakeapi.Failure{Code: 503, Reason: "ServiceUnavailable"}
			}
			return nil
		})
		w.after(10 * time.Minute)
		require.Len(t, w.pools(), 2)
	})
}

// A right that is missing for an optional kind is one line in the log, names the rule, and is
// tried again after 30 s to 5 min.
func TestForbidden(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Fail(only("inferencemodels", fakeapi.Forbidden, "list"))
		w.start(kubernetes.Options{Namespaces: []string{"default"}})
		require.True(t, w.synced())
		require.Equal(t, []string{endpointA, endpointB}, w.pools()["default/llama"])
		k := w.kind(fakeapi.Model)
		require.False(t, k.Up)
		require.ErrorContains(t, k.Err, "needs list and watch on inferencemodels.inference.networking.x-k8s.io in namespace default: ")
		w.after(time.Hour)
		require.Equal(t, 1, w.log.lines("level=WARN"))
		tries := w.api.Count("list", "inferencemodels")
		require.GreaterOrEqual(t, tries, 12)
		require.LessOrEqual(t, tries, 24)

		w.api.Fail(nil)
		w.api.Apply(model("chat", "llama"))
		w.after(5 * time.Minute)
		require.True(t, w.kind(fakeapi.Model).Up)
		require.Equal(t, 1, w.log.lines("reading from the cluster again"))
	})
}

// Without the right to read pods the source is not ready, says which rule is missing, and goes on
// when it is there.
func TestForbiddenPods(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Fail(only("pods", fakeapi.Forbidden, "list", "watch"))
		w.start(kubernetes.Options{})
		require.False(t, w.synced())
		require.ErrorContains(t, w.kind(fakeapi.Pods).Err, "needs list and watch on pods in namespace default: ")
		w.api.Fail(nil)
		w.after(30 * time.Second)
		require.True(t, w.synced())

		// Taken away again, what is known stays.
		w.api.Fail(only("pods", fakeapi.Forbidden, "list", "watch"))
		w.api.CutWatches()
		w.after(time.Hour)
		require.False(t, w.kind(fakeapi.Pods).Up)
		require.Equal(t, []string{endpointA, endpointB}, w.pools()["default/llama"])
	})
}

// Rights in one namespace only: a list of all is refused with advice, one of the namespace works.
func TestForbiddenCluster(t *testing.T) {
	clusterWide := func(r fakeapi.Request) *fakeapi.Failure {
		if r.Verb == "list" && r.Namespace == "" {
			return fakeapi.Forbidden(r)
		}
		return nil
	}
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Fail(clusterWide)
		w.start(kubernetes.Options{})
		require.False(t, w.synced())
		require.ErrorContains(t, w.kind(fakeapi.PoolV1).Err, "set Options.Namespaces")
	})
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Fail(clusterWide)
		w.start(kubernetes.Options{Namespaces: []string{"default", "empty"}})
		require.True(t, w.synced())
		require.Equal(t, []string{endpointA, endpointB}, w.pools()["default/llama"])
	})
}

// Where discovery is forbidden the usual kinds are tried.
func TestForbiddenDiscovery(t *testing.T) {
	inCluster(t, []fakeapi.Resource{fakeapi.Pods, fakeapi.PoolV1, fakeapi.Model}, func(t *testing.T, w *world) {
		both(w)
		w.api.Fail(only("", fakeapi.Forbidden, "discover"))
		w.start(kubernetes.Options{})
		require.True(t, w.synced())
		require.Equal(t, []string{endpointA, endpointB}, w.pools()["default/llama"])
		require.ErrorIs(t, w.kind(fakeapi.Rewrite).Err, kubernetes.ErrNotServed)
	})
}

// A server that is away at the start is waited for, and one that goes away later changes nothing
// in the store. What has happened meanwhile is caught up without another list.
func TestServerAway(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Fail(fakeapi.Away)
		w.start(kubernetes.Options{})
		require.False(t, w.synced())
		w.after(10 * time.Minute)
		w.api.Fail(nil)
		w.after(31 * time.Second)
		require.True(t, w.synced())

		w.api.Fail(fakeapi.Away)
		w.api.CutWatches()
		w.after(10 * time.Minute)
		require.Equal(t, []string{endpointA, endpointB}, w.pools()["default/llama"])
		require.False(t, w.kind(fakeapi.Pods).Up)
		w.api.Delete(fakeapi.Pods, "default", "a")
		w.api.Apply(pod("c", "llama", "10.0.0.3"))
		w.api.Fail(nil)
		w.after(31 * time.Second)
		require.Equal(t, []string{endpointB, endpointC}, w.pools()["default/llama"])
		require.True(t, w.kind(fakeapi.Pods).Up)
		require.Equal(t, 1, w.api.Count("list", "pods"))
		require.Zero(t, w.kind(fakeapi.Pods).Relists)
	})
}

// The first watch that reaches a server that was away brings the others back with it.
func TestServerBack(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		for i := range 30 {
			name := fmt.Sprintf("p%02d", i)
			w.api.Apply(poolV1(name, name, 8000), pod(name, name, fmt.Sprintf("10.0.0.%d", i+1)))
		}
		w.start(kubernetes.Options{})
		w.api.Fail(fakeapi.Away)
		w.api.CutWatches()
		w.after(10 * time.Minute)
		down := func() (n int) {
			for _, k := range w.source.Kinds() {
				if k.Kind == "Pod" && !k.Up {
					n++
				}
			}
			return n
		}
		require.Equal(t, 30, down())
		w.api.Fail(nil)
		for begun := time.Now(); down() > 0; w.after(100 * time.Millisecond) {
			require.Less(t, time.Since(begun), 5*time.Second)
		}
	})
}

// A cut connection and a watch whose time is up are followed by another from where it ended.
func TestCutWatches(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.start(kubernetes.Options{})
		for range 3 {
			w.api.CutWatches()
			w.api.Apply(pod("c", "llama", "10.0.0.3"))
			w.settle()
			require.Len(t, w.pools()["default/llama"], 3)
			w.after(6 * time.Minute) // the time of a watch
			w.api.Delete(fakeapi.Pods, "default", "c")
			w.settle()
			require.Len(t, w.pools()["default/llama"], 2)
		}
		require.Equal(t, 1, w.api.Count("list", "pods"))
		require.GreaterOrEqual(t, w.kind(fakeapi.Pods).Watches, uint64(7))
		require.Zero(t, w.log.lines("level=WARN"))
	})
}

// A server that has forgotten the past, as an HTTP status or an event says, is asked for a list.
// That list can fail as it likes: the pool keeps its endpoints until one was read to its end.
func TestExpired(t *testing.T) {
	for name, f := range map[string]*fakeapi.Failure{
		"status": fakeapi.Expired(),
		"event":  {Code: http.StatusGone, Reason: "Expired", InStream: true},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, all, func(t *testing.T, w *world) {
				both(w)
				w.start(kubernetes.Options{})
				failed := false
				w.api.Fail(func(r fakeapi.Request) *fakeapi.Failure {
					switch {
					case r.Resource == "pods" && r.Verb == "watch" && !failed:
						failed = true
						return f
					case r.Resource == "pods" && r.Verb == "list":
						return &fakeapi.Failure{Truncate: 300}
					}
					return nil
				})
				w.api.Delete(fakeapi.Pods, "default", "a")
				w.settle()
				w.api.Apply(pod("a", "llama", "10.0.0.1"))
				w.settle()
				w.api.CutWatches()
				w.after(10 * time.Minute)
				require.Equal(t, []string{endpointA, endpointB}, w.pools()["default/llama"])
				require.False(t, w.kind(fakeapi.Pods).Up)
				w.api.Delete(fakeapi.Pods, "default", "b")
				w.api.Fail(nil)
				w.after(31 * time.Second)
				require.Equal(t, []string{endpointA}, w.pools()["default/llama"])
				require.True(t, w.kind(fakeapi.Pods).Up)
				require.NotZero(t, w.kind(fakeapi.Pods).Relists)
			})
		})
	}
}

// Expired pages of a list are begun again.
func TestExpiredPages(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		w.api.Apply(poolV1("llama", "llama", 8000))
		for i := range 1200 {
			w.api.Apply(pod(fmt.Sprintf("p-%04d", i), "llama", fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)))
		}
		n := 0
		w.api.Fail(only("pods", func(r fakeapi.Request) *fakeapi.Failure {
			if n++; n == 2 {
				return fakeapi.Expired()
			}
			return nil
		}, "list"))
		w.start(kubernetes.Options{})
		require.Len(t, w.pools()["default/llama"], 1200)
		require.Equal(t, 1+1+3, w.api.Count("list", "pods"), "a page, one that is expired, and all three")
	})
}

// A busy server says when to come back.
func TestRetryAfter(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Fail(only("pods", func(fakeapi.Request) *fakeapi.Failure { return fakeapi.TooBusy(40) }, "list"))
		w.start(kubernetes.Options{})
		w.after(79 * time.Second)
		require.Equal(t, 2, w.api.Count("list", "pods"))
		require.ErrorContains(t, w.kind(fakeapi.Pods).Err, "too many requests")
		w.api.Fail(nil)
		w.settle()
		require.True(t, w.synced())
	})
}

// But nobody stays away for a day because a proxy says so.
func TestRetryAfterIsBounded(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Fail(only("pods", func(fakeapi.Request) *fakeapi.Failure { return fakeapi.TooBusy(86400) }, "list"))
		w.start(kubernetes.Options{})
		w.api.Fail(nil)
		w.after(5 * time.Minute)
		require.True(t, w.synced())
	})
}

// A watch that ends at once, again and again, is not begun again at once.
func TestShortWatches(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		w.api.Fail(only("pods", func(fakeapi.Request) *fakeapi.Failure {
			return &fakeapi.Failure{Code: 500, Reason: "InternalError", Message: "no", InStream: true}
		}, "watch"))
		w.start(kubernetes.Options{})
		w.after(10 * time.Minute)
		require.Less(t, w.api.Count("watch", "pods"), 40)
		require.Equal(t, 1, w.api.Count("list", "pods"))
		require.Equal(t, []string{endpointA, endpointB}, w.pools()["default/llama"])
		require.Less(t, w.log.lines("pods"), 50)
	})
}

// Nor is one that brings something before it ends, breaks, or has lost its place.
func TestWatchesThatBreakAtOnce(t *testing.T) {
	const news = `{"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "1500"}}}`
	for name, end := range map[string]string{
		"ends": "", "breaks": "<html>",
		"is expired": `{"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, all, func(t *testing.T, w *world) {
				both(w)
				watches := 0
				w.api.Fail(only("pods", func(fakeapi.Request) *fakeapi.Failure {
					if watches++; watches > 100 { // in virtual time what does not wait goes on forever
						return &fakeapi.Failure{Wait: time.Hour}
					}
					return &fakeapi.Failure{Code: http.StatusOK, Body: []byte(news + end)}
				}, "watch"))
				w.start(kubernetes.Options{})
				w.after(10 * time.Minute)
				require.Less(t, watches, 40)
				require.LessOrEqual(t, w.api.Count("list", "pods"), watches+1)
				require.Less(t, w.log.lines("pods"), 80)
				w.api.Fail(nil)
				w.after(31 * time.Second)
				require.Equal(t, []string{endpointA, endpointB}, w.pools()["default/llama"])
				require.True(t, w.kind(fakeapi.Pods).Up)
			})
		})
	}
}

// A list that is not complete, or never will be, is not one: it is tried again, not too often, and
// takes nothing away.
func TestBrokenLists(t *testing.T) {
	for name, body := range map[string]string{
		"without items": `{"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1500"}}`,
		"ends early":    `{"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1500"}, "items": [`,
		"page is its own next one": `{"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1500", "continue": "x"},
			"items": []}`,
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, all, func(t *testing.T, w *world) {
				both(w)
				w.start(kubernetes.Options{})
				lists := 0
				w.api.Fail(func(r fakeapi.Request) *fakeapi.Failure {
					switch {
					case r.Resource == "pods" && r.Verb == "watch":
						return fakeapi.Expired()
					case r.Resource == "pods" && r.Verb == "list":
						if lists++; lists > 200 {
							return &fakeapi.Failure{Wait: time.Hour}
						}
						return &fakeapi.Failure{Code: http.StatusOK, Body: []byte(body)}
					}
					return nil
				})
				w.api.CutWatches()
				w.after(10 * time.Minute)
				require.Equal(t, []string{endpointA, endpointB}, w.pools()["default/llama"])
				require.Greater(t, lists, 5)
				require.Less(t, lists, 100)
				require.False(t, w.kind(fakeapi.Pods).Up)
				w.api.Fail(nil)
				w.after(31 * time.Second)
				require.True(t, w.kind(fakeapi.Pods).Up)
			})
		})
	}
}

// A slow list is waited for, as long as something of it comes within two minutes.
func TestSlowLists(t *testing.T) {
	inCluster(t, all, func(t *testing.T, w *world) {
		both(w)
		slow := &fakeapi.Failure{Wait: 100 * time.Second}
		w.api.Fail(only("pods", func(fakeapi.Request) *fakeapi.Failure { return slow }, "list"))
		w.start(kubernetes.Options{})
		w.after(100 * time.Second)
		require.True(t, w.synced())

		slow = &fakeapi.Failure{Pace: 110 * time.Second}
		w.api.CutWatches()
		w.api.Apply(pod("c", "llama", "10.0.0.3"))
		w.api.Expire()
		w.after(20 * time.Minute)
		require.Len(t, w.pools()["default/llama"], 3)
		require.Equal(t, 2, w.api.Count("list", "pods"))

		slow = &fakeapi.Failure{Wait: time.Hour}
		w.api.CutWatches()
		w.api.Delete(fakeapi.Pods, "default", "b")
		w.api.Expire()
		w.after(110 * time.Second)
		w.api.Fail(nil)
		w.after(20 * time.Second)
		require.Equal(t, []string{endpointA, endpointC}, w.pools()["default/llama"])
		require.Equal(t, 4, w.api.Count("list", "pods"))
	})
}

// Answers that are not those of an API server, as of a proxy, change nothing.
func TestNonsense(t *testing.T) {
	for _, body := range []string{"", "<html>", "[]", "null", "{}", `{"items": null}`, `{"items": [], "metadata": {}}`, `{"items": 3, "metadata": {"resourceVersion": "1"}}`} {
		t.Run(body, func(t *testing.T) {
			inCluster(t, all, func(t *testing.T, w *world) {
				both(w)
				w.start(kubernetes.Options{})
				w.api.Fail(func(fakeapi.Request) *fakeapi.Failure { return &fakeapi.Failure{Code: 200, Body: []byte(body)} })
				w.api.Expire()
				w.api.CutWatches()
				w.after(5 * time.Minute)
				require.Equal(t, map[string][]string{"default/llama": {endpointA, endpointB}}, w.pools())
			})
		})
	}
}
