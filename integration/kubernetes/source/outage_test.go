package source

import (
	"errors"
	"fmt"
	"strings"
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
	c := own(t)
	ns := c.Namespace(t)
	g := newGateway(t)
	source := g.follow(t, c.Config(), quick(kubernetes.Options{Namespaces: []string{ns}}))
	cluster.Eventually(t, patience, func() error { return notServed(source, "InferencePool") })

	loose(t, c, source, ns)
	c.InstallCRDs(t, crds.CRDs)
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

// loose: definitions without rules come first, with objects that break those of ours. Each is
// reported, and what is good is in force.
func loose(t *testing.T, c *cluster.Server, source *kubernetes.Source, ns string) {
	t.Helper()
	for _, kind := range []string{"InferencePool inference.networking.k8s.io v1", "InferenceModel inference.networking.x-k8s.io v1alpha2"} {
		name, rest, _ := strings.Cut(kind, " ")
		group, version, _ := strings.Cut(rest, " ")
		c.InstallCRD(t, fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]ss.%[3]s, annotations: {api-approved.kubernetes.io: unapproved test}}
spec:
  group: %[3]s
  scope: Namespaced
  names: {kind: %[1]s, listKind: %[1]sList, plural: %[2]ss, singular: %[2]s}
  versions: [{name: %[4]s, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]`,
			name, strings.ToLower(name), group, version))
	}
	c.Apply(t, ns, manifests)
	bad := map[string]string{
		"nothing":     "{}",
		"no-labels":   "{selector: {matchLabels: {}}, targetPorts: [{number: 1}]}",
		"twice":       "{selector: {matchLabels: {app: a}}, targetPorts: [{number: 1}, {number: 1}]}",
		"number":      "{selector: {matchLabels: {app: a}}, targetPorts: [{number: 70000}]}",
		"other-types": `{selector: [], targetPorts: "8000"}`,
		"huge":        "{selector: {matchLabels: {app: " + strings.Repeat("a", 100_000) + "}}, targetPorts: [{number: 1}]}",
	}
	for name, spec := range bad {
		c.Apply(t, ns, "{apiVersion: inference.networking.k8s.io/v1, kind: InferencePool, metadata: {name: "+name+"}, spec: "+spec+"}")
	}
	cluster.Eventually(t, patience, func() error {
		reported := 0
		for _, o := range source.Objects() {
			if _, is := bad[o.Name.Name]; is != (o.Err != nil) {
				return fmt.Errorf("%s: %v", o.Name, o.Err)
			} else if is {
				reported++
			}
		}
		if reported != len(bad) {
			return fmt.Errorf("%d objects are reported, want %d", reported, len(bad))
		}
		return nil
	})
	for name := range bad {
		c.Delete(t, ns, "{apiVersion: inference.networking.k8s.io/v1, kind: InferencePool, metadata: {name: "+name+"}}")
	}
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
