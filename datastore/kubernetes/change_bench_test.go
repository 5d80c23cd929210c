package kubernetes

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// BenchmarkChange is what it takes to bring the change of one pod into a store with one pool of
// so many pods.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{25, 5000} {
		b.Run(fmt.Sprintf("pods=%d", n), func(b *testing.B) {
			pool := poolOf("x", 8000)
			want := map[objectKey]*manifest{{kindPool, pool.Key()}: of(v1Pools, pool, nil)}
			pods := make(map[string]*pod)
			for i := range n {
				pods[fmt.Sprintf("x-7d9f8b6c5d-%05d", i)] = &pod{
					ip: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), ready: true,
					labels: map[string]string{"app": "x", "pod-template-hash": "7d9f8b6c5d", "app.kubernetes.io/name": "vllm", "zone": "z1"},
				}
			}
			store := datastore.New(datastore.Options{})
			c := newCommitter(store, "")
			b.ReportAllocs()
			for b.Loop() {
				one := *pods["x-7d9f8b6c5d-00000"]
				one.ready = !one.ready
				pods["x-7d9f8b6c5d-00000"] = &one
				c.commit(want, map[types.NamespacedName][]datastore.EndpointSpec{pool.Key(): shape{}.endpoints(pool, pods)})
			}
			require.Len(b, store.Snapshot().Pools()[0].Endpoints(), n)
		})
	}
}
