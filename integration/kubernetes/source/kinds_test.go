package source

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/types"
)

// TestKinds: an object of each kind, group and version is in force. Where a group took over
// from another, what it has hides what the other has.
func TestKinds(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	c.InstallCRDs(t, crds.CRDs)
	ns := c.Namespace(t)
	c.Apply(t, ns, manifests+`
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: old}
spec: {selector: {app: llama}, targetPortNumber: 8000, extensionRef: {name: picker}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: llama}
spec: {selector: {app: hidden}, targetPortNumber: 9000, extensionRef: {name: picker}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: fast}
spec: {priority: 1, poolRef: {name: llama}}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: fast}
spec: {priority: 2, poolSelector: {}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModelRewrite
metadata: {name: a}
spec: {poolRef: {name: llama}, rules: [{matches: [{model: {value: a}}], targets: [{modelRewrite: llama-8b}]}]}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: b}
spec: {poolRef: {name: llama}, rules: [{matches: [{model: {value: b}}], targets: [{modelRewrite: llama-8b}]}]}
`)
	c.Pod(t, podOptions(ns))
	g := newGateway(t)
	source := g.follow(t, c.Config(), kubernetes.Options{Namespaces: []string{ns}})
	synced(t, source)

	name := func(n string) types.NamespacedName { return types.NamespacedName{Namespace: ns, Name: n} }
	for _, model := range []string{"chat", "a", "b"} {
		require.NoError(t, ask(g.url, model, false), model)
	}
	require.Len(t, g.Store.Snapshot().Pool(name("old")).Endpoints(), 1)
	require.Len(t, g.endpoints(ns), 1)
	require.Equal(t, 2, g.Store.Object("InferenceObjective", name("fast")).(*types.InferenceObjective).Priority())

	hidden := make(map[string]bool)
	for _, o := range source.Objects() {
		if o.Err != nil {
			require.ErrorIs(t, o.Err, kubernetes.ErrShadowed)
			hidden[o.Resource.Resource+"."+o.Resource.Group+"/"+o.Name.Name] = true
		}
	}
	require.Equal(t, map[string]bool{
		"inferencepools.inference.networking.x-k8s.io/llama":     true,
		"inferenceobjectives.inference.networking.x-k8s.io/fast": true,
	}, hidden)
}

// TestEndpointSlices: the endpoints of a pool are those of the slices of a service.
func TestEndpointSlices(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	c.InstallCRDs(t, crds.CRDs)
	ns := c.Namespace(t)
	slice := func(conditions string) string {
		return `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: llama-1, labels: {kubernetes.io/service-name: llama}}
addressType: IPv4
ports: [{name: http, port: 8000}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: a, namespace: ` + ns + `}}
- {addresses: [10.0.0.2], conditions: ` + conditions + `, targetRef: {kind: Pod, name: b, namespace: ` + ns + `}}`
	}
	c.Apply(t, ns, manifests+"---"+slice("{ready: true}"))
	g := newGateway(t)
	synced(t, g.follow(t, c.Config(), kubernetes.Options{Namespaces: []string{ns}, EndpointSlices: true}))
	a, b := ns+"/a-rank-0", ns+"/b-rank-0"
	require.Equal(t, map[string]types.State{a: types.Ready, b: types.Ready}, g.endpoints(ns))

	c.Apply(t, ns, slice("{ready: false, serving: true, terminating: true}"))
	cluster.Eventually(t, patience, func() error {
		if found := g.endpoints(ns); found[b] != types.Draining {
			return fmt.Errorf("endpoints are %v", found)
		}
		return nil
	})
	c.Delete(t, ns, slice("{}"))
	g.has(t, ns, 0)
}
