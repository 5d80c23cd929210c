package source

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// TestOutage: definitions are installed late, removed and installed again, and the API server is
// killed and comes back. What is known goes on being served throughout.
func TestOutage(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t)
	ns := c.Namespace(t)
	g := newGateway(t)
	source := g.follow(t, c.Config(), quick(kubernetes.Options{Namespaces: []string{ns}}))
	cluster.Eventually(t, patience, func() error { return notServed(source, "InferencePool") })

	c.InstallCRDs(t, crds.CRDs)
	c.Apply(t, ns, manifests)
	pods := []*cluster.Pod{c.Pod(t, podOptions(ns)), c.Pod(t, podOptions(ns))}
	synced(t, source)
	g.has(t, ns, 2)
	l := g.load(t, "llama-8b", 4)
	serves(t, pods[0].Models[0])

	removed(t, c, g, source, ns)
	killed(t, c, g, ns, pods)
	require.NoError(t, l.end())
	t.Logf("%d requests", l.sent.Load())
}

// removed: a definition goes, and with it the models, but no pool; it comes back.
func removed(t *testing.T, c *cluster.Server, g *gatewayOf, source *kubernetes.Source, ns string) {
	t.Helper()
	require.NoError(t, ask(g.url, "chat", false))
	c.RemoveCRD(t, "inferencemodels.inference.networking.x-k8s.io")
	cluster.Eventually(t, patience, func() error {
		if ask(g.url, "chat", false) == nil {
			return errors.New("a model whose definition was removed is still served")
		}
		return notServed(source, "InferenceModel")
	})
	require.Len(t, g.endpoints(ns), 2)
	c.InstallCRDs(t, crds.CRDs)
	c.Apply(t, ns, manifests)
	cluster.Eventually(t, patience, func() error { return ask(g.url, "chat", false) })
}

// killed: the API server is away for a while, in which a pod crashes; afterwards others come.
func killed(t *testing.T, c *cluster.Server, g *gatewayOf, ns string, pods []*cluster.Pod) {
	t.Helper()
	c.Kill(t)
	serves(t, pods[0].Models[0])
	require.NoError(t, ask(g.url, "chat", true))
	time.Sleep(time.Second) // long enough for it to notice, and to fail again
	require.Len(t, g.endpoints(ns), 2)
	serves(t, pods[1].Models[0])
	c.Restart(t)
	back := time.Now()
	serves(t, c.Pod(t, podOptions(ns)).Models[0])
	t.Logf("caught up %v after the API server was ready again", time.Since(back))
	require.NoError(t, pods[0].Terminate(t.Context(), 300*time.Millisecond))
	g.has(t, ns, 2)
}

// notServed returns nil if a source says that the cluster does not have a kind.
func notServed(source *kubernetes.Source, kind string) error {
	for _, k := range source.Kinds() {
		if k.Kind == kind && !k.Up && errors.Is(k.Err, kubernetes.ErrNotServed) {
			return nil
		}
	}
	return fmt.Errorf("kinds are %+v, want %s not served", source.Kinds(), kind)
}
