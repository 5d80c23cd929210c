package source

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/types"
)

// TestLife: pods come and go, in every way in which that happens in good order, and manifests
// change. No request is lost.
func TestLife(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	c.InstallCRDs(t, crds.CRDs)
	ns := c.Namespace(t)
	c.Apply(t, ns, manifests)
	first := []*cluster.Pod{c.Pod(t, podOptions(ns)), c.Pod(t, podOptions(ns))}
	g := newGateway(t)
	synced(t, g.follow(t, c.Config(), kubernetes.Options{Namespaces: []string{ns}}))
	require.Len(t, g.endpoints(ns), 2)
	l := g.load(t, "chat", 4)
	for _, p := range first {
		serves(t, p.Models[0])
	}

	newPods(t, c, g, ns)
	for _, old := range first { // a rolling update
		serves(t, c.Pod(t, podOptions(ns)).Models[0])
		require.NoError(t, old.Terminate(t.Context(), 300*time.Millisecond))
	}
	pause(t, c, g, ns)
	relabel(t, c, g, ns)
	edit(t, c, g, ns)

	require.NoError(t, l.end())
	require.Greater(t, l.sent.Load(), int64(100))
	t.Logf("%d requests", l.sent.Load())
}

// newPods: a pod that is not ready gets no requests; once it is ready it gets them soon.
func newPods(t *testing.T, c *cluster.Server, g *gatewayOf, ns string) {
	var took []time.Duration
	for range 5 {
		o := podOptions(ns)
		o.NotReady = true
		p := c.Pod(t, o)
		g.isIn(t, p, types.Draining)
		require.Zero(t, p.Models[0].Stats().Requests)
		require.NoError(t, p.SetReady(t.Context(), true))
		took = append(took, serves(t, p.Models[0]))
		require.NoError(t, p.Terminate(t.Context(), 300*time.Millisecond))
	}
	t.Logf("first requests came %v after ready", took)
	// The best, since there may be others who want the processors.
	require.LessOrEqual(t, slices.Min(took), 200*time.Millisecond)
}

// pause: a pod that is no longer ready gets no more requests until it is.
func pause(t *testing.T, c *cluster.Server, g *gatewayOf, ns string) {
	p := c.Pod(t, podOptions(ns))
	serves(t, p.Models[0])
	require.NoError(t, p.SetReady(t.Context(), false))
	g.isIn(t, p, types.Draining)
	rests(t, p)
	require.NoError(t, p.SetReady(t.Context(), true))
	serves(t, p.Models[0])
}

// relabel: a pod that has other labels is in the pool no more.
func relabel(t *testing.T, c *cluster.Server, g *gatewayOf, ns string) {
	p := c.Pod(t, podOptions(ns))
	serves(t, p.Models[0])
	before := len(g.endpoints(ns))
	require.NoError(t, p.SetLabels(t.Context(), map[string]any{"app": "debug"}))
	g.has(t, ns, before-1)
	rests(t, p)
	require.NoError(t, p.SetLabels(t.Context(), map[string]any{"app": "llama"}))
	serves(t, p.Models[0])
}

// edit: a pool gets another selector and another port; a model comes and goes.
func edit(t *testing.T, c *cluster.Server, g *gatewayOf, ns string) {
	o := podOptions(ns)
	o.Labels["version"], o.Ports = "2", []int{8000, 8001}
	p := c.Pod(t, o)
	c.Apply(t, ns, `
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec: {selector: {matchLabels: {app: llama, version: "2"}}, targetPorts: [{number: 8000}, {number: 8001}]}`)
	g.has(t, ns, 2)
	serves(t, p.Models[0])
	serves(t, p.Models[1])

	const other = `
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: other}
spec: {modelName: other, poolRef: {name: llama}, targetModels: [{name: llama-8b}]}`
	c.Apply(t, ns, other)
	cluster.Eventually(t, patience, func() error { return ask(g.url, "other", false) })
	c.Delete(t, ns, other)
	cluster.Eventually(t, patience, func() error {
		if ask(g.url, "other", false) == nil {
			return errors.New("a model that was deleted is still served")
		}
		return nil
	})
}

// isIn waits until the pod's endpoint is in a state.
func (g *gatewayOf) isIn(t *testing.T, p *cluster.Pod, want types.State) {
	t.Helper()
	id := p.Namespace + "/" + p.Name + "-rank-0"
	cluster.Eventually(t, patience, func() error {
		if state, ok := g.endpoints(p.Namespace)[id]; !ok || state != want {
			return fmt.Errorf("%s is in state %v (%v), want %v", id, state, ok, want)
		}
		return nil
	})
}

// rests waits until no request has come to a pod for a while.
func rests(t *testing.T, p *cluster.Pod) {
	t.Helper()
	cluster.Eventually(t, patience, func() error {
		before := p.Models[0].Stats().Requests
		time.Sleep(300 * time.Millisecond)
		if more := p.Models[0].Stats().Requests - before; more > 0 {
			return fmt.Errorf("%s got %d requests more", p.Name, more)
		}
		return nil
	})
}
