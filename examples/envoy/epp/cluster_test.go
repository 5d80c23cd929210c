package epp_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	kube "github.com/inferpick/inferpick/datastore/kubernetes"
	fake "github.com/inferpick/inferpick/datastore/kubernetes/kubernetestest"
	"github.com/inferpick/inferpick/datastore/kubernetes/lease"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/types"
)

// Addresses of pods, at which nobody listens.
const podA, podB, podC = "127.7.0.1:8000", "127.7.0.2:8000", "127.7.0.3:8000"

var clusterKinds = []fake.Resource{fake.Pods, fake.Leases, fake.PoolV1, fake.Model, fake.Objective, fake.Rewrite}

// newAPI is an API server that ends with the test.
func newAPI(t testing.TB, kinds ...fake.Resource) *fake.Server {
	if kinds == nil {
		kinds = clusterKinds
	}
	s := fake.New(kinds...)
	t.Cleanup(s.Close)
	return s
}

func clusterPool(name, annotations string) map[string]any {
	return fake.Object(fmt.Sprintf(`{"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": %q, "annotations": {%s}},
		"spec": {"selector": {"matchLabels": {"app": %[1]q}}, "targetPorts": [{"number": 8000}], "endpointPickerRef": {"name": "epp", "port": {"number": 9002}}}}`, name, annotations))
}

func clusterModel(name, pool, target string) map[string]any {
	return fake.Object(fmt.Sprintf(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": %q},
		"spec": {"modelName": %[1]q, "poolRef": {"name": %q}, "targetModels": [{"name": %q}]}}`, name, pool, target))
}

func clusterPod(name, app, ip string) map[string]any {
	return fake.Object(fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %q, "labels": {"app": %q}}, "spec": {},
		"status": {"phase": "Running", "podIP": %q, "podIPs": [{"ip": %[3]q}], "conditions": [{"type": "Ready", "status": "True"}]}}`, name, app, ip))
}

// startCluster runs an App with a cluster, and a configuration if text is not empty. It does not
// wait for it to be ready.
func startCluster(t testing.TB, api *fake.Server, text string, change func(*epp.Options)) *running {
	t.Helper()
	r, err := launch(t, text, func(o *epp.Options) {
		if text == "" {
			o.Config = ""
		}
		o.Kubernetes = &epp.Kubernetes{API: api.Config(), Source: kube.Options{MinRetry: 50 * time.Millisecond, Refresh: 50 * time.Millisecond}}
		if change != nil {
			change(o)
		}
	})
	must(t, err)
	return r
}

func (r *running) serves() bool {
	return checkHealth(r.t, r.HealthAddress(), "readiness") == healthpb.HealthCheckResponse_SERVING
}

// ready waits until it says so.
func (r *running) ready() {
	r.t.Helper()
	eventually(r.t, "ready", r.serves)
}

// has waits until a pool has so many endpoints; -1: it is not there.
func (r *running) has(pool string, endpoints int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%s has %d endpoints", pool, endpoints), func() bool {
		p := r.Store().Snapshot().Pool(types.NamespacedName{Name: pool})
		return p == nil && endpoints < 0 || p != nil && len(p.Endpoints()) == endpoints
	})
}

func (r *running) config() string { return r.pageAt("/config") }

// TestCluster: pools, models and pods come and go, without a configuration.
func TestCluster(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	api.Apply(clusterPool("llama", ""), clusterModel("chat", "llama", "llama-8b"), clusterPod("a", "llama", "127.7.0.1"))
	r := startCluster(t, api, "", nil)
	r.ready()
	c := r.client()
	require.Equal(t, podA, exchanged(t, c, "chat"))

	api.Apply(clusterPod("b", "llama", "127.7.0.2"))
	r.has("llama", 2)
	api.Delete(fake.Pods, "default", "a")
	r.has("llama", 1)
	require.Equal(t, podB, exchanged(t, c, "chat"))

	api.Apply(clusterPool("qwen", ""), clusterPod("c", "qwen", "127.7.0.3"), clusterModel("code", "qwen", "qwen-32b"))
	r.has("qwen", 1)
	require.Equal(t, podC, exchanged(t, c, "code"))
	require.Equal(t, podB, exchanged(t, c, "chat"))
	page := r.config()
	require.Contains(t, page, "default/llama: 1 endpoints, 1 ready\ndefault/qwen: 1 endpoints, 1 ready\n")
	require.Contains(t, page, "InferencePool (all namespaces): 2 objects\n")

	api.Delete(fake.PoolV1, "default", "qwen")
	r.has("qwen", -1)
	status, _ := refused(t, c, "code")
	require.Equal(t, http.StatusServiceUnavailable, status)
	api.Apply(clusterPool("qwen", ""))
	r.has("qwen", 1)
	require.Equal(t, podC, exchanged(t, c, "code"))
	eventually(t, "nothing is booked", func() bool { return r.Open() == 0 })
	require.Equal(t, 2, len(r.Schedulers()))
	must(t, r.Reload())

	// What is wrong with one object is its own trouble.
	bad := clusterPool("bad", "")
	bad["spec"].(map[string]any)["targetPorts"] = []any{map[string]any{"number": 0}}
	api.Apply(bad)
	eventually(t, "the object that is bad is told", func() bool {
		return strings.Contains(r.metrics(), `inferpick_kubernetes_refused_objects{kind="InferencePool"} 1`)
	})
	require.Contains(t, r.config(), "not in force: InferencePool default/bad of inference.networking.k8s.io/v1:\n")
	page = r.metrics()
	r.wantMetric(page, 1, "inferpick_kubernetes_source_up", `kind="InferencePool",namespace=""`)
	r.wantMetric(page, 2, "inferpick_kubernetes_source_objects", `kind="Pod",namespace="default"`)
	_, ok := series(page, "inferpick_kubernetes_status_leader")
	require.False(t, ok, "it writes none")
}

// TestClusterPolicies: pools go by the configuration, and choose by annotation.
func TestClusterPolicies(t *testing.T) {
	t.Parallel()
	turns := pickerHead + "metadata: {name: turns}\nplugins: [{type: round-robin-picker}]\n"
	first := pickerHead + "metadata: {name: default}\nplugins: [{type: queue-scorer}, {type: random-picker}]\n"
	api := newAPI(t)
	api.Apply(clusterPool("llama", `"inferpick.io/scheduling-profile": "turns"`))
	for i := range 8 {
		api.Apply(clusterPod(fmt.Sprint("p", i), "llama", fmt.Sprintf("127.7.0.%d", i+1)))
	}
	r := startCluster(t, api, first+turns, nil)
	r.ready()
	r.has("llama", 8)
	c := r.client()
	// distinct is how many of 8 requests went to a server of their own.
	distinct := func() int {
		seen := make(map[string]bool)
		for range 8 {
			seen[exchanged(t, c, "any")] = true
		}
		return len(seen)
	}
	require.Equal(t, 8, distinct())
	before := r.Schedulers()[0].Value()

	api.Apply(clusterPool("llama", `"inferpick.io/scheduling-profile": "turns", "other": "x"`))
	eventually(t, "the annotation is read", func() bool {
		return r.Store().Snapshot().Pool(types.NamespacedName{Name: "llama"}).Manifest().Annotations["other"] == "x"
	})
	require.Equal(t, 8, distinct())
	require.Same(t, before, r.Schedulers()[0].Value(), "the same policy keeps what was learned")

	api.Apply(clusterPool("llama", ""))
	eventually(t, "another policy is in force", func() bool { return r.Schedulers()[0].Value() != before })
	total := 0
	for range 5 {
		total += distinct()
	}
	require.Less(t, total, 40, "at random, not in turn")

	api.Apply(clusterPool("llama", `"inferpick.io/scheduling-profile": "turn"`))
	eventually(t, "the name that is none is told", func() bool {
		return strings.Contains(r.config(), `there is no EndpointPickerConfig "turn"; the nearest is turns`)
	})
	require.Contains(t, r.log.String(), "pool has another policy than it asks for")
	put(t, r.path, first+turns+strings.ReplaceAll(turns, "name: turns", "name: turn"))
	must(t, r.Reload())
	require.Equal(t, 8, distinct())
	require.NotContains(t, r.config(), "there is no EndpointPickerConfig")
}

// TestClusterAdmission: admission control comes and goes with the policy of a pool.
func TestClusterAdmission(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	api.Apply(clusterPool("llama", ""), clusterPod("a", "llama", "127.7.0.1"))
	r := startCluster(t, api, pickerHead+"metadata: {name: gated}\nplugins: [{type: queue-scorer}]\nadmission: {bands: [{name: all}]}\n---\n"+strings.TrimPrefix(pickerHead, "---\n")+"plugins: [{type: queue-scorer}]\n", nil)
	r.ready()
	c := r.client()
	exchanged(t, c, "any")
	require.Empty(t, r.Admissions())
	for range 3 {
		api.Apply(clusterPool("llama", `"inferpick.io/scheduling-profile": "gated"`))
		eventually(t, "admission control", func() bool { exchanged(t, c, "any"); return len(r.Admissions()) == 1 })
		api.Delete(fake.PoolV1, "default", "llama")
		r.has("llama", -1)
		api.Apply(clusterPool("llama", ""))
		r.has("llama", 1)
		eventually(t, "no admission control", func() bool { exchanged(t, c, "any"); return len(r.Admissions()) == 0 })
	}
}

// TestClusterAway: what is known goes on being served, and its age is told.
func TestClusterAway(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	api.Apply(clusterPool("llama", ""), clusterPod("a", "llama", "127.7.0.1"))
	r := startCluster(t, api, "", nil)
	r.ready()
	api.Fail(func(fake.Request) *fake.Failure { return &fake.Failure{Code: http.StatusServiceUnavailable} })
	api.CutWatches()
	up := func(want float64) func() bool {
		return func() bool {
			v, ok := series(r.metrics(), "inferpick_kubernetes_source_up", `kind="Pod"`)
			return ok && v == want
		}
	}
	eventually(t, "down", up(0))
	require.Equal(t, podA, exchanged(t, r.client(), "any"))
	require.True(t, r.serves())
	require.Contains(t, r.config(), "not up to date: ")
	api.Apply(clusterPod("b", "llama", "127.7.0.2"))
	api.Fail(nil)
	eventually(t, "up", up(1))
	r.has("llama", 2)
}

// TestClusterNotReady: without a right it is not ready, says which, and never ends.
func TestClusterNotReady(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	api.Apply(clusterPool("llama", ""), clusterPod("a", "llama", "127.7.0.1"), clusterPool("qwen", ""), clusterPod("c", "qwen", "127.7.0.3"))
	api.Fail(func(q fake.Request) *fake.Failure {
		if q.Resource == "pods" {
			return fake.Forbidden(q)
		}
		return nil
	})
	r := startCluster(t, api, "", func(o *epp.Options) { o.Kubernetes.SyncTimeout = 300 * time.Millisecond })
	for _, text := range []string{"the cluster could not be read as a whole", "needs list and watch on pods in namespace default"} {
		eventually(t, "the missing right is told", func() bool { return strings.Contains(r.log.String(), text) })
	}
	require.False(t, r.serves())
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, checkHealth(t, r.HealthAddress(), "liveness"))

	// One of the pools has servers: that is something to serve with.
	api.Fail(func(q fake.Request) *fake.Failure {
		if q.Resource == "pods" && !strings.Contains(q.Selector, "qwen") {
			return fake.Forbidden(q)
		}
		return nil
	})
	r.ready()
	r.has("qwen", 1)
	api.Fail(nil)
	r.has("llama", 1)
}

// TestClusterDeclared: pods without any CRD.
func TestClusterDeclared(t *testing.T) {
	t.Parallel()
	api := newAPI(t, fake.Pods)
	api.Apply(clusterPod("a", "llama", "127.7.0.1"), clusterPod("x", "other", "127.7.0.9"))
	pool := &types.InferencePool{ObjectMeta: types.ObjectMeta{Name: "pods"}, Spec: types.InferencePoolSpec{
		Selector: types.LabelSelector{MatchLabels: map[string]string{"app": "llama"}}, TargetPorts: []types.Port{{Number: 8000}, {Number: 8001}},
	}}
	r := startCluster(t, api, "", func(o *epp.Options) { o.Kubernetes.Source.Declared = []*types.InferencePool{pool} })
	r.ready()
	r.has("pods", 2)
	require.Contains(t, []string{podA, "127.7.0.1:8001"}, exchanged(t, r.client(), "any"))
}

// TestClusterStatus: of two pickers one says what is accepted, both serve, and the other one
// goes on when it has ended.
func TestClusterStatus(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	api.Apply(clusterPool("llama", ""), clusterPod("a", "llama", "127.7.0.1"), clusterModel("chat", "llama", "llama-8b"), clusterModel("lost", "gone", "x"))
	both := make([]*running, 2)
	for i := range both {
		both[i] = startCluster(t, api, "", func(o *epp.Options) {
			o.Kubernetes.WriteStatus = true
			o.Kubernetes.Lease = lease.Options{Namespace: "default", Name: "epp", Identity: fmt.Sprint("epp-", i), Duration: time.Second}
		})
	}
	for _, r := range both {
		r.ready()
		require.Equal(t, podA, exchanged(t, r.client(), "chat"))
	}
	accepted := func(name string) string {
		st, _ := api.Get(fake.Model, "default", name)["status"].(map[string]any)
		list, _ := st["conditions"].([]any)
		if len(list) != 1 {
			return ""
		}
		c := list[0].(map[string]any)
		return fmt.Sprint(c["type"], " ", c["status"], " ", c["reason"], " ", c["message"])
	}
	eventually(t, "statuses", func() bool {
		return accepted("chat") == "Accepted True Accepted " && accepted("lost") == "Accepted Unknown Pending pool default/gone does not exist"
	})
	leads := func(r *running) bool { return strings.Contains(r.metrics(), "inferpick_kubernetes_status_leader 1") }
	require.NotEqual(t, leads(both[0]), leads(both[1]))
	first, second := both[0], both[1]
	if leads(second) {
		first, second = second, first
	}
	first.wantMetric(first.metrics(), 2, "inferpick_kubernetes_status_writes_total", `result="written"`)
	second.wantMetric(second.metrics(), 0, "inferpick_kubernetes_status_writes_total", `result="written"`)
	first.stop()
	require.NoError(t, first.ends())
	api.Apply(clusterPool("gone", ""))
	eventually(t, "the other one writes", func() bool { return accepted("lost") == "Accepted True Accepted " })
	require.True(t, leads(second))
}

// TestClusterLeaseLost: without the Lease nothing is written, and all is served.
func TestClusterLeaseLost(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	api.Apply(clusterPool("llama", ""), clusterPod("a", "llama", "127.7.0.1"), clusterModel("chat", "llama", "llama-8b"))
	r := startCluster(t, api, "", func(o *epp.Options) {
		o.Kubernetes.WriteStatus = true
		o.Kubernetes.Lease = lease.Options{Namespace: "default", Name: "epp", Duration: time.Second}
	})
	r.ready()
	written := func() int { return api.Count("patch", "inferencemodels") }
	eventually(t, "a status", func() bool { return written() == 1 })
	api.Fail(func(q fake.Request) *fake.Failure {
		if q.Resource == "leases" {
			return fake.Forbidden(q)
		}
		return nil
	})
	eventually(t, "the lease is lost", func() bool { return strings.Contains(r.metrics(), "inferpick_kubernetes_status_leader 0") })
	require.Contains(t, r.log.String(), "lease cannot be claimed")
	api.Apply(clusterModel("more", "llama", "llama-8b"))
	require.Equal(t, podA, exchanged(t, r.client(), "more"))
	require.True(t, r.serves())
	require.Equal(t, 1, written(), "nothing is written")
	api.Fail(nil)
	eventually(t, "the other status", func() bool { return written() == 2 })
}

func TestClusterOptions(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	for want, o := range map[string]epp.Options{
		"epp: Options.Config is required: a file or folder; or Options.Kubernetes": {},
		"epp: Options.Kubernetes.API is required":                                  {Kubernetes: &epp.Kubernetes{}},
		"epp: Options.Kubernetes.SyncTimeout is -1s":                               {Kubernetes: &epp.Kubernetes{API: api.Config(), SyncTimeout: -time.Second}},
		"PoolSelector": {Kubernetes: &epp.Kubernetes{API: api.Config(), Source: kube.Options{PoolSelector: "a in ("}}},
	} {
		o.GRPCAddr, o.HealthAddr, o.MetricsAddr = "127.0.0.1:0", "-", "-"
		_, err := epp.New(o)
		require.ErrorContains(t, err, want)
	}
}
