// Package rollouts tests rollouts in objects of real API servers: what they accept, refuse and keep, and whole runs of
// them, by a picker's parts, over pods that are simulated model servers.
package rollouts

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/crds"
	"github.com/inferpick/inferpick/datastore/kubernetes/rollouts"
	"github.com/inferpick/inferpick/datastore/kubernetes/status"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/types"
)

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// patience is how long tests wait for what should take milliseconds.
const patience = 30 * time.Second

var (
	models   = schema.GroupVersionResource{Group: types.GroupX, Version: "v1alpha2", Resource: "inferencemodels"}
	rewrites = schema.GroupVersionResource{Group: types.GroupLLMD, Version: "v1alpha2", Resource: "inferencemodelrewrites"}
	events   = schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}
)

const manifests = `
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat}
spec: {modelName: chat, criticality: Standard, poolRef: {name: llama}, targetModels: [{name: v1, weight: 100}]}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: all}
spec:
  poolRef: {name: llama}
  rules:
  - {matches: [{model: {value: a}}], targets: [{modelRewrite: x}]}
  - {matches: [{model: {value: b}}], targets: [{modelRewrite: v1}]}
`

// needed are the rights of rollouts.
var needed = []cluster.Rule{
	{Groups: []string{types.GroupX}, Resources: []string{"inferencemodels"}, Verbs: []string{"get", "patch"}},
	{Groups: []string{types.GroupX, types.GroupLLMD}, Resources: []string{"inferencemodelrewrites"}, Verbs: []string{"get", "patch"}},
	{Groups: []string{types.GroupX, types.GroupLLMD}, Resources: []string{"inferencemodels/status", "inferencemodelrewrites/status"}, Verbs: []string{"patch"}},
	{Groups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create"}},
}

// world is a namespace of a cluster, and a store that follows it, with the rights of an administrator.
type world struct {
	*cluster.Server
	t      *testing.T
	ns     string
	store  *datastore.Store
	source *kubernetes.Source
}

func newWorld(t *testing.T, c *cluster.Server) *world {
	t.Helper()
	c.InstallCRDs(t, crds.CRDs)
	w := &world{Server: c, t: t, ns: c.Namespace(t), store: datastore.New(datastore.Options{})}
	c.Apply(t, w.ns, manifests)
	var err error
	w.source, err = kubernetes.New(c.Config(), kubernetes.Options{Namespaces: []string{w.ns}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	run(t, func(ctx context.Context) { _ = w.source.Run(ctx, w.store) })
	select {
	case <-w.source.Synced():
	case <-time.After(patience):
		require.Fail(t, "not synced", "%+v", w.source.Kinds())
	}
	return w
}

// run runs fn until stop, or the end of the test.
func run(t *testing.T, fn func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { fn(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// home returns one that leads and tells, by the rights of config.
func (w *world) home(config *rest.Config) (*rollouts.Home, *lines) {
	w.t.Helper()
	log := new(lines)
	home, err := rollouts.New(config, w.source, rollouts.Options{Timeout: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(w.t, err)
	run(w.t, home.Lead)
	run(w.t, home.Run)
	cluster.Eventually(w.t, patience, func() error {
		if !home.Leads() {
			return rollouts.ErrNotLeader
		}
		return nil
	})
	return home, log
}

// accept writes the condition Accepted, as a picker does.
func (w *world) accept() {
	w.t.Helper()
	writer, err := status.New(w.Config(), w.source, w.store, status.Options{Rate: 100})
	require.NoError(w.t, err)
	run(w.t, writer.Run)
}

func (w *world) chat() rollout.Object {
	return rollout.Object{Kind: "InferenceModel", Name: types.NamespacedName{Namespace: w.ns, Name: "chat"}}
}

func (w *world) rewrite() rollout.Object {
	return rollout.Object{Kind: "InferenceModelRewrite", Name: types.NamespacedName{Namespace: w.ns, Name: "all"}, Rule: 1}
}

func (w *world) get(gvr schema.GroupVersionResource, name string) *unstructured.Unstructured {
	w.t.Helper()
	o, err := w.Dynamic.Resource(gvr).Namespace(w.ns).Get(w.t.Context(), name, metav1.GetOptions{})
	require.NoError(w.t, err)
	return o
}

// patch changes an object as somebody does by another program.
func (w *world) patch(manager string, gvr schema.GroupVersionResource, name string, patch map[string]any) {
	w.t.Helper()
	data, err := json.Marshal(patch)
	require.NoError(w.t, err)
	_, err = w.Dynamic.Resource(gvr).Namespace(w.ns).Patch(w.t.Context(), name, apitypes.MergePatchType, data, metav1.PatchOptions{FieldManager: manager})
	require.NoError(w.t, err)
}

// says waits until an object has conditions of these types and reasons.
func (w *world) says(gvr schema.GroupVersionResource, name string, want ...string) {
	w.t.Helper()
	cluster.Eventually(w.t, patience, func() error {
		list, _, err := unstructured.NestedSlice(w.get(gvr, name).Object, "status", "conditions")
		if err != nil {
			return err
		}
		got := make(map[string]bool)
		for _, one := range list {
			c := one.(map[string]any)
			got[fmt.Sprintf("%s=%s %s", c["type"], c["status"], c["reason"])] = true
		}
		for _, one := range want {
			if !got[one] {
				return fmt.Errorf("conditions are %v, want %q", list, want)
			}
		}
		return nil
	})
}

func read(t *testing.T, home *rollouts.Home, o rollout.Object) rollout.Record {
	t.Helper()
	r, err := home.Read(t.Context(), o)
	require.NoError(t, err)
	return r
}
