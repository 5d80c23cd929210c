package kubernetes_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/types"
)

// realPod is a pod of 8 KB, most of it what no gateway needs.
func realPod(namespace, app string, i int) map[string]any {
	o := fakeapi.Object(fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod",
		"metadata": {"name": "%[2]s-7d9f8b6c5d-%05[3]d", "namespace": %[1]q, "labels": {
			"app": %[2]q, "pod-template-hash": "7d9f8b6c5d", "app.kubernetes.io/name": "vllm", "app.kubernetes.io/version": "0.32",
			"inference.networking.k8s.io/engine-type": "vllm", "topology.kubernetes.io/zone": "z1"}},
		"spec": {"nodeName": "n"},
		"status": {"phase": "Running", "podIP": "10.%[4]d.%[5]d.%[6]d", "podIPs": [{"ip": "10.%[4]d.%[5]d.%[6]d"}], "conditions": [
			{"type": "PodScheduled", "status": "True"}, {"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]}}`,
		namespace, app, i, i/62500, i/250%250, i%250+1))
	var env, managed []any
	for n := range 20 {
		env = append(env, map[string]any{"name": fmt.Sprintf("VARIABLE_%02d", n), "value": strings.Repeat("v", 150)})
		managed = append(managed, map[string]any{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsV1": map[string]any{
			"f:status": map[string]any{fmt.Sprintf("f:conditions-%d", n): map[string]any{`k:{"type":"Ready"}`: map[string]any{".": map[string]any{}, "f:lastProbeTime": map[string]any{}, "f:status": map[string]any{}, "f:type": map[string]any{}}}},
		}})
	}
	o["spec"].(map[string]any)["containers"] = []any{map[string]any{"name": "vllm", "image": "vllm/vllm-openai:v0.32", "env": env}}
	o["metadata"].(map[string]any)["managedFields"] = managed
	return o
}

// fill puts pods and pools into a cluster, evenly over namespaces, and returns the size of a pod
// on the wire.
func fill(api *fakeapi.Server, pods, pools, namespaces int) {
	for i := range pools {
		p := poolV1(fmt.Sprintf("pool-%03d", i), fmt.Sprintf("app-%03d", i), 8000)
		p["metadata"].(map[string]any)["namespace"] = fmt.Sprintf("ns-%d", i%namespaces)
		api.Apply(p)
	}
	for i := range pods {
		api.Apply(realPod(fmt.Sprintf("ns-%d", i%pools%namespaces), fmt.Sprintf("app-%03d", i%pools), i))
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkStart reads 5,000 pods of 8 KB of 200 pools, which takes a single watch in one
// namespace and 200 in four. The time includes that of the fake server, which renders the pods
// anew for each list.
func BenchmarkStart(b *testing.B) {
	for _, namespaces := range []int{1, 4} {
		b.Run(fmt.Sprintf("namespaces=%d", namespaces), func(b *testing.B) {
			const pods = 5000
			api := fakeapi.New(all...)
			defer api.Close()
			fill(api, pods, 200, namespaces)
			for b.Loop() {
				empty := heap()
				store := datastore.New(datastore.Options{})
				source, err := kubernetes.New(api.Config(), kubernetes.Options{})
				require.NoError(b, err)
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan struct{})
				begun := time.Now()
				go func() {
					defer close(done)
					_ = source.Run(ctx, store)
				}()
				<-source.Synced()
				b.ReportMetric(float64(time.Since(begun).Milliseconds()), "ms-to-ready")
				b.ReportMetric(float64(heap()-empty)/pods, "B/pod")
				sent := int64(0)
				for _, r := range api.Requests(func(r fakeapi.Request) bool { return r.Resource == "pods" }) {
					sent += r.Sent
				}
				b.ReportMetric(float64(sent)/pods/float64(b.N+1), "wireB/pod")
				begun = time.Now()
				api.Apply(realPod("ns-0", "app-000", 9999))
				for len(store.Snapshot().Pool(types.NamespacedName{Namespace: "ns-0", Name: "pool-000"}).Endpoints()) != pods/200+1 {
					time.Sleep(time.Millisecond)
				}
				b.ReportMetric(float64(time.Since(begun).Milliseconds()), "ms-new-pod")
				api.Delete(fakeapi.Pods, "ns-0", "app-000-7d9f8b6c5d-09999")
				cancel()
				<-done
				runtime.KeepAlive(source)
			}
		})
	}
}
