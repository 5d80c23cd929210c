package picker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

// rights are all that a picker needs.
var rights = []cluster.Rule{
	{Groups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}},
	{Groups: []string{types.GroupGA, types.GroupX, types.GroupLLMD}, Resources: []string{"inferencepools", "inferencemodels", "inferenceobjectives", "inferencemodelrewrites"}, Verbs: []string{"get", "list", "watch"}},
	{Groups: []string{types.GroupX, types.GroupLLMD}, Resources: []string{"inferencemodels/status", "inferenceobjectives/status", "inferencemodelrewrites/status"}, Verbs: []string{"patch"}},
	{Groups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "create", "update"}},
}

// world is a namespace of a cluster, with a user that has the rights of a picker.
type world struct {
	*cluster.Server
	t          *testing.T
	ns         string
	kubeconfig string
}

func newWorld(t *testing.T, c *cluster.Server) *world {
	c.InstallCRDs(t, crds.CRDs)
	ns := c.Namespace(t)
	c.Grant(t, ns, "picker", rights...)
	return &world{c, t, ns, c.Kubeconfig(t, c.ConfigFor("picker"))}
}

func poolYAML(name string) string {
	return fmt.Sprintf(`
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: %[1]s}
spec: {selector: {matchLabels: {app: %[1]s}}, targetPorts: [{number: 8000}]}
`, name)
}

func modelYAML(name, model, pool string) string {
	return fmt.Sprintf(`
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: %s}
spec: {modelName: %s, poolRef: {name: %s}, targetModels: [{name: llama-8b}]}
`, name, model, pool)
}

// pod makes a pod of an app that is ready, and returns it with its address.
func (w *world) pod(app string) (*cluster.Pod, string) {
	w.t.Helper()
	p := w.Pod(w.t, cluster.PodOptions{
		Namespace: w.ns, Labels: map[string]string{"app": app}, Model: modelserver.Options{Models: []string{"llama-8b"}, TimeScale: 50},
	})
	return p, p.IP + ":8000"
}

// reaches waits until requests for a model go to an address.
func (p *picker) reaches(model, address string) {
	p.t.Helper()
	cluster.Eventually(p.t, patience, func() error {
		got, err := p.ask(context.Background(), model)
		if err == nil && got != address {
			err = fmt.Errorf("a request for %s went to %s, want %s", model, got, address)
		}
		return err
	})
}

// condition is Accepted of an object in its status, with how many conditions there are.
func (w *world) condition(resource, name string) (types.Condition, int) {
	w.t.Helper()
	gvr := schema.GroupVersionResource{Group: types.GroupX, Version: "v1alpha2", Resource: resource}
	o, err := w.Dynamic.Resource(gvr).Namespace(w.ns).Get(w.t.Context(), name, metav1.GetOptions{})
	require.NoError(w.t, err)
	var of struct{ Status types.ObjectStatus }
	data, err := json.Marshal(o.Object)
	require.NoError(w.t, err)
	require.NoError(w.t, json.Unmarshal(data, &of))
	i := slices.IndexFunc(of.Status.Conditions, func(c types.Condition) bool { return c.Type == "Accepted" })
	if i < 0 {
		return types.Condition{}, len(of.Status.Conditions)
	}
	return of.Status.Conditions[i], len(of.Status.Conditions)
}

// says waits until the status of an object says something.
func (w *world) says(resource, name, want string) {
	w.t.Helper()
	cluster.Eventually(w.t, patience, func() error {
		c, n := w.condition(resource, name)
		if got := fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message); got != want || n != 1 {
			return fmt.Errorf("%s %s says %q in %d conditions, want %q", resource, name, got, n, want)
		}
		return nil
	})
}

// TestLife: pools, models and pods come and go, under load, and no request is lost. The picker
// has the rights of a picker and no others.
func TestLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Shared(t))
	w.Apply(t, w.ns, poolYAML("llama")+modelYAML("chat", "chat", "llama"))
	_, first := w.pod("llama")
	p := start(t, "epp", w.kubeconfig, w.ns)
	p.ready()
	p.reaches("chat", first)
	l := p.load(t.Context(), "chat", 3)

	second, at := w.pod("llama")
	cluster.Eventually(t, patience, func() error { return l.has(at) })
	require.NoError(t, second.Terminate(t.Context(), 500*time.Millisecond))

	for i := range 3 { // a pool beside
		name := fmt.Sprint("other-", i)
		w.Apply(t, w.ns, poolYAML(name)+modelYAML(name, name, name))
		_, at := w.pod(name)
		p.reaches(name, at)
		w.Delete(t, w.ns, poolYAML(name))
		cluster.Eventually(t, patience, func() error {
			_, err := p.ask(t.Context(), name)
			if r := (*refusal)(nil); !errors.As(err, &r) || r.status != 503 {
				return fmt.Errorf("with the pool deleted: %v", err)
			}
			return nil
		})
		w.says("inferencemodels", name, "Unknown Pending pool "+w.ns+"/"+name+" does not exist")
	}
	require.NoError(t, l.end())
	require.Greater(t, l.sent.Load(), int64(50))
	t.Logf("%d requests", l.sent.Load())
	require.NotContains(t, p.log.String(), "forbidden")
	require.NoError(t, p.metric(fmt.Sprintf(`inferpick_kubernetes_source_up{kind="Pod",namespace=%q} 1`, w.ns)))
}

// TestStatus: models, objectives and rewrites say whether they are in force, beside what others
// have written and without the default of the CRDs; one of two pickers writes it, and the other
// when that one is killed, while both serve.
func TestStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Shared(t))
	w.Apply(t, w.ns, poolYAML("llama")+modelYAML("a", "chat", "llama"))
	_, at := w.pod("llama")
	both := []*picker{start(t, "epp-0", w.kubeconfig, w.ns), start(t, "epp-1", w.kubeconfig, w.ns)}
	for _, p := range both {
		p.ready()
		p.reaches("chat", at)
	}
	w.says("inferencemodels", "a", "True Accepted ")
	time.Sleep(time.Second) // the age of objects is in whole seconds
	w.Apply(t, w.ns, modelYAML("b", "chat", "llama")+modelYAML("c", "other", "gone")+`
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: fast}
spec: {priority: 5, poolRef: {name: llama}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModelRewrite
metadata: {name: all}
spec: {poolRef: {name: gone}, rules: [{targets: [{modelRewrite: llama-8b}]}]}
`)
	w.says("inferencemodels", "b", `False ModelNameInUse model name "chat" is that of `+w.ns+"/a, which is older")
	w.says("inferencemodels", "c", "Unknown Pending pool "+w.ns+"/gone does not exist")
	w.says("inferenceobjectives", "fast", "True Accepted ")
	w.says("inferencemodelrewrites", "all", "Unknown Pending pool "+w.ns+"/gone does not exist")

	leads := func(p *picker) bool { return p.metric("inferpick_kubernetes_status_leader 1") == nil }
	leader, other := both[0], both[1]
	if leads(other) {
		leader, other = other, leader
	}
	require.True(t, leads(leader))
	require.False(t, leads(other))
	require.NoError(t, other.metric(`inferpick_kubernetes_status_writes_total{result="written"} 0`))

	leader.kill()
	killed := time.Now()
	l := other.load(t.Context(), "chat", 2)
	w.Apply(t, w.ns, poolYAML("gone"))
	w.says("inferencemodels", "c", "True Accepted ")
	took := time.Since(killed)
	t.Logf("another one wrote %v after the leader was killed", took.Round(time.Millisecond))
	require.Greater(t, took, 5*time.Second, "the lease of 15s has not run out")
	require.Less(t, took, 30*time.Second)
	require.NoError(t, l.end())
	before, _ := w.condition("inferencemodels", "c")
	time.Sleep(2 * time.Second)
	after, _ := w.condition("inferencemodels", "c")
	require.Equal(t, before, after)
	require.EqualValues(t, 1, after.ObservedGeneration)
	require.NotContains(t, other.log.String(), "cannot be written")
}

// TestOutage: the API server is killed, and all goes on being served; a picker that starts then is
// not ready, and says why, until the server is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Start(t))
	w.Apply(t, w.ns, poolYAML("llama")+modelYAML("chat", "chat", "llama"))
	_, first := w.pod("llama")
	p := start(t, "epp", w.kubeconfig, w.ns)
	p.ready()
	p.reaches("chat", first)
	l := p.load(t.Context(), "chat", 3)
	w.Kill(t)
	down := fmt.Sprintf(`inferpick_kubernetes_source_up{kind="Pod",namespace=%q} 0`, w.ns)
	cluster.Eventually(t, patience, func() error { return p.metric(down) })
	late := start(t, "late", w.kubeconfig, w.ns, "-sync-timeout", "1s")
	cluster.Eventually(t, patience, func() error {
		if !strings.Contains(late.log.String(), "the cluster could not be read as a whole") {
			return errors.New("the late one does not say why it is not ready")
		}
		return nil
	})
	require.ErrorContains(t, late.serving(t.Context()), "NOT_SERVING")
	time.Sleep(15 * time.Second) // longer than the lease
	require.NoError(t, p.serving(t.Context()))

	w.Restart(t)
	late.ready()
	_, second := w.pod("llama")
	cluster.Eventually(t, patience, func() error { return l.has(second) })
	late.reaches("chat", second)
	require.NoError(t, l.end())
	t.Logf("%d requests", l.sent.Load())
	w.Apply(t, w.ns, modelYAML("more", "more", "llama"))
	w.says("inferencemodels", "more", "True Accepted ")
}
