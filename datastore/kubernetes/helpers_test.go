package kubernetes_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/types"
)

// all are the kinds that a cluster with every CRD serves.
var all = []fakeapi.Resource{
	fakeapi.Pods, fakeapi.EndpointSlices, fakeapi.PoolV1, fakeapi.PoolAlpha, fakeapi.Model,
	fakeapi.Objective, fakeapi.Rewrite, fakeapi.ObjectiveLLMD, fakeapi.RewriteLLMD,
}

// world is a cluster and a store that a source keeps in sync, in virtual time.
type world struct {
	*testing.T
	api    *fakeapi.Server
	store  *datastore.Store
	source *kubernetes.Source
	log    *logBuffer
	cancel context.CancelFunc
	done   chan struct{}
	// fault, if set, is called with each message that is logged and with the path of each request; it may panic.
	fault func(what string)
}

// inCluster runs a test in a bubble of virtual time. The source is not started yet.
func inCluster(t *testing.T, resources []fakeapi.Resource, fn func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, api: fakeapi.NewPipe(resources...), store: datastore.New(datastore.Options{}), log: new(logBuffer)}
		defer w.api.Close()
		fn(t, w)
		w.stop()
	})
}

// start starts a source, and gives it time to settle.
func (w *world) start(o kubernetes.Options) {
	w.Helper()
	o.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	config := w.api.Config()
	if w.fault != nil {
		o.Logger = slog.New(faultyHandler{o.Logger.Handler(), w.fault})
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return faultyTransport{next, w.fault} })
	}
	source, err := kubernetes.New(config, o)
	require.NoError(w, err)
	w.source = source
	ctx, cancel := context.WithCancel(w.Context())
	w.cancel, w.done = cancel, make(chan struct{})
	go func() {
		defer close(w.done)
		if err := source.Run(ctx, w.store); err != nil {
			w.Errorf("Run: %v", err)
		}
	}()
	w.settle()
}

// stop ends the source, at once.
func (w *world) stop() {
	if w.cancel == nil {
		return
	}
	begun := time.Now()
	w.cancel()
	<-w.done
	require.Zero(w, time.Since(begun), "Run returns late")
	w.cancel = nil
}

// settle waits until what was changed is in the store.
func (w *world) settle() { w.after(time.Second) }

func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) synced() bool {
	select {
	case <-w.source.Synced():
		return true
	default:
		return false
	}
}

// pools returns what is in the store: each pool with its endpoints.
func (w *world) pools() map[string][]string {
	out := make(map[string][]string)
	for _, p := range w.store.Snapshot().Pools() {
		list := []string{}
		for _, e := range p.Endpoints() {
			one := e.ID + " " + e.Address
			if e.State != types.Ready {
				one += " " + e.State.String()
			}
			list = append(list, one)
		}
		slices.Sort(list)
		out[p.Name().String()] = list
	}
	return out
}

// kind returns the state of the watch of a resource, which must be one.
func (w *world) kind(r fakeapi.Resource) kubernetes.KindStatus {
	w.Helper()
	for _, k := range w.source.Kinds() {
		if k.Group == r.Group && k.Version == r.Version && k.Resource == r.Plural {
			return k
		}
	}
	require.Fail(w, "no watch", "of %s", r.Plural)
	return kubernetes.KindStatus{}
}

// object returns an object that the source has read.
func (w *world) object(r fakeapi.Resource, name string) kubernetes.Object {
	w.Helper()
	for _, o := range w.source.Objects() {
		if o.Resource.Group == r.Group && o.Kind == r.Kind && o.Name.String() == name {
			return o
		}
	}
	require.Fail(w, "no object", "%s %s", r.Kind, name)
	return kubernetes.Object{}
}

// logBuffer collects a log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines returns how many lines of the log have a text.
func (l *logBuffer) lines(text string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func poolV1(name, app string, ports ...int) map[string]any {
	var list []string
	for _, p := range ports {
		list = append(list, fmt.Sprintf(`{"number": %d}`, p))
	}
	return fakeapi.Object(fmt.Sprintf(`{"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
		"metadata": {"name": %q, "namespace": "default"},
		"spec": {"selector": {"matchLabels": {"app": %q}}, "targetPorts": [%s]}}`, name, app, strings.Join(list, ",")))
}

func poolAlpha(name, app string, port int) map[string]any {
	return fakeapi.Object(fmt.Sprintf(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferencePool",
		"metadata": {"name": %q, "namespace": "default"},
		"spec": {"selector": {"app": %q}, "targetPortNumber": %d, "extensionRef": {"name": "epp"}}}`, name, app, port))
}

func model(name, pool string) map[string]any {
	return fakeapi.Object(fmt.Sprintf(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel",
		"metadata": {"name": %q, "namespace": "default"}, "spec": {"modelName": %[1]q, "poolRef": {"name": %[2]q}}}`, name, pool))
}

// pod is one that is ready.
func pod(name, app, ip string) map[string]any {
	return fakeapi.Object(fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod",
		"metadata": {"name": %q, "namespace": "default", "labels": {"app": %q}, "annotations": {}}, "spec": {"containers": []},
		"status": {"phase": "Running", "podIP": %[3]q, "podIPs": [{"ip": %[3]q}], "conditions": [{"type": "Ready", "status": "True"}]}}`, name, app, ip))
}

func setReady(o map[string]any, status string) {
	o["status"].(map[string]any)["conditions"] = []any{map[string]any{"type": "Ready", "status": status}}
}
