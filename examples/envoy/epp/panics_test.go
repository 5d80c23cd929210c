package epp_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	fake "github.com/inferpick/inferpick/datastore/kubernetes/kubernetestest"
	"github.com/inferpick/inferpick/datastore/kubernetes/lease"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/autoscale"
)

// fault panics as long as it is on.
type fault struct {
	on    atomic.Bool
	calls atomic.Int64
}

func (f *fault) call(what string) {
	if f.on.Load() {
		f.calls.Add(1)
		panic("oops: " + what)
	}
}

// again waits until it has panicked so often more.
func (f *fault) again(t *testing.T, n int64) {
	t.Helper()
	before := f.calls.Load()
	eventually(t, fmt.Sprintf("%d panics more than %d", n, before), func() bool { return f.calls.Load() >= before+n })
}

// badHandler panics.
type badHandler struct {
	slog.Handler
	*fault
}

func (h badHandler) Handle(ctx context.Context, r slog.Record) error {
	h.call(r.Message)
	return h.Handler.Handle(ctx, r)
}

// TestPanicOfLogger: a logger that panics, whatever is told, ends nothing.
func TestPanicOfLogger(t *testing.T) {
	t.Parallel()
	f := new(fault)
	r := start(t, base, func(o *epp.Options) {
		o.Logger = slog.New(badHandler{o.Logger.Handler(), f})
		o.ReloadInterval = 10 * time.Millisecond
	})
	f.on.Store(true)
	c := r.client()
	for _, address := range []string{addressA, addressB} {
		put(t, r.path, poolYAML("llama")+modelYAML("chat", "llama", "llama-8b")+endpointsYAML("llama", address))
		f.again(t, 1)
		eventually(t, "the next version is in force", func() bool { return exchanged(t, c, "chat") == address })
	}
	r.stop()
	must(t, r.ends())
}

// badTransport panics, or only for what is written.
type badTransport struct {
	next http.RoundTripper
	*fault
	writes bool
}

func (b badTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !b.writes || r.Method != http.MethodGet {
		b.call(r.URL.Path)
	}
	return b.next.RoundTrip(r)
}

// TestPanicOfCluster: a transport to the API server that panics is one that does not answer.
func TestPanicOfCluster(t *testing.T) {
	t.Parallel()
	f := new(fault)
	f.on.Store(true)
	api := newAPI(t)
	api.Apply(clusterPool("llama", ""), clusterPod("a", "llama", "127.7.0.1"))
	r := startCluster(t, api, "", func(o *epp.Options) {
		o.Kubernetes.API.Wrap(func(next http.RoundTripper) http.RoundTripper { return badTransport{next, f, false} })
	})
	f.again(t, 2)
	require.False(t, r.Ready())
	f.on.Store(false)
	r.ready()
	f.on.Store(true)
	api.CutWatches()
	f.again(t, 1)
	require.Equal(t, podA, exchanged(t, r.client(), "any"), "what is known stays")
	f.on.Store(false)
	api.Apply(clusterPod("b", "llama", "127.7.0.2"))
	r.has("llama", 2)
}

// TestPanicOfStatus: so it is where it is only written: by who has the lease, and who gets it.
func TestPanicOfStatus(t *testing.T) {
	t.Parallel()
	f := new(fault)
	f.on.Store(true)
	api := newAPI(t)
	api.Apply(clusterPool("llama", ""), clusterPod("a", "llama", "127.7.0.1"), clusterModel("chat", "llama", "llama-8b"))
	r := startCluster(t, api, "", func(o *epp.Options) {
		o.Kubernetes.API.Wrap(func(next http.RoundTripper) http.RoundTripper { return badTransport{next, f, true} })
		o.Kubernetes.WriteStatus = true
		o.Kubernetes.Lease = lease.Options{Namespace: "default", Name: "epp", Renew: 5 * time.Second, Retry: 50 * time.Millisecond}
	})
	r.ready()
	f.again(t, 2) // nobody gets the lease
	require.Equal(t, podA, exchanged(t, r.client(), "chat"))
	written := func(model string) bool {
		return strings.Contains(fmt.Sprint(api.Get(fake.Model, "default", model)["status"]), "Accepted")
	}
	require.False(t, written("chat"))
	f.on.Store(false)
	eventually(t, "the status is written", func() bool { return written("chat") })
	f.on.Store(true)
	api.Apply(clusterModel("other", "llama", "llama-8b"))
	f.again(t, 2)
	f.on.Store(false)
	eventually(t, "the other status is written", func() bool { return written("other") })
}

// badPeers are other pickers.
type badPeers struct{ *fault }

func (p badPeers) Ask(context.Context) ([]autoscale.Own, int, error) {
	p.call("peers")
	return nil, 0, nil
}

// TestPanicOfAutoscaling: recommendations are made without the others.
func TestPanicOfAutoscaling(t *testing.T) {
	t.Parallel()
	f := new(fault)
	f.on.Store(true)
	r := start(t, scaled, func(o *epp.Options) {
		withAutoscale(o)
		o.Autoscale.Peers = badPeers{f}
	})
	f.again(t, 2)
	eventually(t, "a recommendation is made", func() bool {
		_, ok := series(r.metrics(), "inferpick_pool_desired_replicas", `pool="llama"`)
		return ok
	})
	f.again(t, 1)
}
