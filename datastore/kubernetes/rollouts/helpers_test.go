package rollouts_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/datastore/kubernetes/rollouts"
	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/types"
)

var (
	chat    = rollout.Object{Kind: "InferenceModel", Name: types.NamespacedName{Namespace: "default", Name: "chat"}}
	rewrite = rollout.Object{Kind: "InferenceModelRewrite", Name: types.NamespacedName{Namespace: "default", Name: "all"}, Rule: 1}
)

const chatYAML = `{
	"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel",
	"metadata": {"name": "chat", "annotations": {"inferpick.dev/rollout": "{}", "theirs": "stays"}},
	"spec": {"modelName": "chat", "criticality": "Critical", "poolRef": {"name": "llama"},
		"targetModels": [{"name": "v1", "weight": 10000, "future": {"field": 1}}, {"name": "other", "weight": 5}]}
}`

const rewriteYAML = `{
	"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite",
	"metadata": {"name": "all"},
	"spec": {"poolRef": {"name": "llama"}, "rules": [
		{"matches": [{"model": {"value": "a"}}], "targets": [{"modelRewrite": "x"}]},
		{"matches": [{"model": {"value": "b"}}], "targets": [{"modelRewrite": "v1", "weight": 3}, {"modelRewrite": "idle"}]}
	]}
}`

// source knows of each object of the server what it has.
type source struct{ server *fakeapi.Server }

func (s source) Objects() (all []kubernetes.Object) {
	for _, r := range []fakeapi.Resource{fakeapi.Model, fakeapi.Rewrite, fakeapi.RewriteLLMD} {
		for _, o := range s.server.List(r) {
			var of struct {
				Metadata struct{ Namespace, Name, UID string }
			}
			data, _ := json.Marshal(o)
			if err := json.Unmarshal(data, &of); err != nil {
				panic(err)
			}
			one := kubernetes.Object{
				Resource: schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Plural}, Kind: r.Kind,
				Name: types.NamespacedName{Namespace: of.Metadata.Namespace, Name: of.Metadata.Name}, UID: of.Metadata.UID,
			}
			if r == fakeapi.Rewrite {
				one.Err = fmt.Errorf("%w: there is llm-d.ai", kubernetes.ErrShadowed)
			}
			all = append(all, one)
		}
	}
	return all
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

// newServer has both objects; the rewrite is in two API groups, of which one shadows the other.
func newServer(t *testing.T) *fakeapi.Server {
	server := fakeapi.NewPipe(fakeapi.Model, fakeapi.Rewrite, fakeapi.RewriteLLMD, fakeapi.Leases, fakeapi.Events)
	t.Cleanup(server.Close)
	server.Apply(fakeapi.Object(chatYAML), fakeapi.Object(rewriteYAML))
	server.Apply(fakeapi.Object(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModelRewrite",
		"metadata": {"name": "all"}, "spec": {"rules": []}}`))
	return server
}

// newHome returns a home that leads until the test ends.
func newHome(t *testing.T, server *fakeapi.Server, o rollouts.Options) (*rollouts.Home, *lines) {
	t.Helper()
	home, log := homeAt(t, server, server.Config(), o)
	lead(t, home)
	return home, log
}

func homeAt(t *testing.T, server *fakeapi.Server, config *rest.Config, o rollouts.Options) (*rollouts.Home, *lines) {
	t.Helper()
	log := new(lines)
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	home, err := rollouts.New(config, source{server}, o)
	require.NoError(t, err)
	return home, log
}

// lead makes a home lead until stop, or the end of the test.
func lead(t *testing.T, home *rollouts.Home) (stop func()) {
	return start(t, home.Lead, home.Leads)
}

// start runs fn until stop, or the end of the test, and returns once it is under way.
func start(t *testing.T, fn func(context.Context), running func() bool) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	for running != nil && !running() {
		time.Sleep(time.Millisecond)
	}
	return stop
}

func read(t *testing.T, home *rollouts.Home, o rollout.Object) rollout.Record {
	t.Helper()
	r, err := home.Read(t.Context(), o)
	require.NoError(t, err)
	return r
}

// eventually waits until fn returns nothing.
func eventually(t *testing.T, fn func() string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		wrong := fn()
		if wrong == "" {
			return
		}
		require.True(t, time.Now().Before(deadline), wrong)
	}
}
