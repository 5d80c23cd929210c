package source

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/types"
)

// TestClusters: the pools of two clusters are one. One cluster goes away, and one deletes the
// pool; the other's part goes on.
func TestClusters(t *testing.T) {
	t.Parallel()
	west, east := cluster.Shared(t), own(t)
	g := newGateway(t)
	ns := west.Namespace(t)
	east.Apply(t, "", "{apiVersion: v1, kind: Namespace, metadata: {name: "+ns+"}}")
	var pods []*cluster.Pod
	for name, c := range map[string]*cluster.Server{"west": west, "east": east} {
		c.InstallCRDs(t, crds.CRDs)
		c.Apply(t, ns, manifests)
		o := podOptions(ns)
		o.Name = "server" // the same in both
		pods = append(pods, c.Pod(t, o))
		synced(t, g.follow(t, c.Config(), quick(kubernetes.Options{Namespaces: []string{ns}, Cluster: name})))
	}
	g.has(t, ns, 2)
	l := g.load(t, "llama-8b", 2)
	serves(t, pods[0].Models[0])
	serves(t, pods[1].Models[0])
	clusters := make(map[string]bool)
	for _, e := range g.Store.Snapshot().Pool(types.NamespacedName{Namespace: ns, Name: "llama"}).Endpoints() {
		clusters[e.Labels[kubernetes.ClusterLabel]] = true
	}
	require.Equal(t, map[string]bool{"west": true, "east": true}, clusters)

	// What one cluster does not have any more the other puts back.
	west.Delete(t, ns, manifests)
	g.has(t, ns, 1)
	cluster.Eventually(t, patience, func() error { return ask(g.url, "chat", false) })
	west.Apply(t, ns, manifests)
	g.has(t, ns, 2)

	east.Kill(t)
	time.Sleep(time.Second) // long enough for the source to notice
	require.Len(t, g.endpoints(ns), 2)
	require.NoError(t, l.end())
}

// TestNamespaces: two sources for two namespaces of a cluster feed one store, each with its own
// rights.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	c.InstallCRDs(t, crds.CRDs)
	g := newGateway(t)
	var namespaces []string
	for i := range 2 {
		ns := c.Namespace(t)
		namespaces = append(namespaces, ns)
		c.Apply(t, ns, manifests)
		o := podOptions(ns)
		o.Silent = true
		for range i + 1 {
			c.Pod(t, o)
		}
		user := fmt.Sprintf("%s-user", ns)
		c.Grant(t, ns, user, needed...)
		synced(t, g.follow(t, c.ConfigFor(user), quick(kubernetes.Options{Namespaces: []string{ns}})))
	}
	g.has(t, namespaces[0], 1)
	g.has(t, namespaces[1], 2)
	c.Delete(t, namespaces[0], manifests)
	cluster.Eventually(t, patience, func() error {
		if g.endpoints(namespaces[0]) != nil {
			return fmt.Errorf("the pool of %s is still there", namespaces[0])
		}
		return nil
	})
	g.has(t, namespaces[1], 2)
}
