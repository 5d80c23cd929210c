package epp_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	fake "github.com/inferpick/inferpick/datastore/kubernetes/kubernetestest"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/director"
)

// inProcess is for an App whose requests come in its process.
func inProcess(o *epp.Options) { o.GRPCAddr = "-" }

// route asks the director of an App.
func (r *running) route(ctx context.Context) (*director.Route, error) {
	return r.Exchanges().Director.Route(ctx, director.Incoming{
		Path: "/v1/chat/completions", Header: http.Header{}, Body: []byte(`{"model": "chat", "messages": [{"role": "user", "content": "hello"}]}`),
	})
}

// TestInProcess: without a port for Envoy the rest is there: health, metrics, reloads.
func TestInProcess(t *testing.T) {
	t.Parallel()
	r := start(t, base+roundRobin, func(o *epp.Options) {
		inProcess(o)
		o.ReloadInterval, o.Explain = 10*time.Millisecond, true
	})
	require.Empty(t, r.Address())
	require.True(t, r.Ready())
	require.Equal(t, serving, checkHealth(t, r.HealthAddress(), "readiness"))
	route, err := r.route(t.Context())
	must(t, err)
	r.wantMetric(r.metrics(), 1, "inferpick_pool_in_flight_requests", `name="llama"`)
	require.Equal(t, 1, r.Open())
	status, _, _ := fetch(t, "POST", "http://"+r.MetricsAddress()+"/explain", `{"model": "chat", "messages": []}`)
	require.Equal(t, http.StatusOK, status)
	route.Done(nil)
	require.Zero(t, r.Open())

	put(t, r.path, poolYAML("llama")+modelYAML("chat", "llama", "another")+endpointsYAML("llama", addressA))
	eventually(t, "the new configuration is in force", func() bool {
		route, err := r.route(t.Context())
		must(t, err)
		defer route.Done(nil)
		return route.Request.TargetModel == "another"
	})
	r.stop()
	must(t, r.ends())
	require.False(t, r.Ready())
}

// TestDrainInProcess: what waits is refused, and what is under way may end.
func TestDrainInProcess(t *testing.T) {
	t.Parallel()
	r := start(t, base+flowControl(1, ""), inProcess)
	var open []*director.Route
	for range 3 {
		route, err := r.route(t.Context())
		must(t, err)
		open = append(open, route)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := r.route(context.Background())
		waiting <- err
	}()
	r.queued(1)
	r.stop()
	select {
	case err := <-waiting:
		require.Equal(t, http.StatusServiceUnavailable, director.AsError(err).Status)
	case <-time.After(patience):
		t.Fatal("what waits is not refused")
	}
	require.False(t, r.Ready())
	require.Equal(t, notServing, checkHealth(t, r.HealthAddress(), "readiness"))
	for _, route := range open {
		select {
		case <-r.done:
			t.Fatal("Run has returned while requests are under way")
		default:
		}
		route.Done(nil)
	}
	must(t, r.ends())
	require.Contains(t, r.log.String(), "msg=draining requests=3")
	require.NotContains(t, r.log.String(), "under way")
}

// TestDrainTimeoutInProcess: what does not end is not waited for, and may still end.
func TestDrainTimeoutInProcess(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) {
		inProcess(o)
		o.DrainTimeout = 50 * time.Millisecond
	})
	route, err := r.route(t.Context())
	must(t, err)
	r.stop()
	must(t, r.ends())
	require.Contains(t, r.log.String(), `msg="requests are still under way" requests=1`)
	route.Done(nil)
	require.Zero(t, r.Open())
}

// TestReadyOfCluster: an App is ready once its cluster is known.
func TestReadyOfCluster(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	api.Apply(clusterPool("llama", ""), clusterModel("chat", "llama", "llama-8b"), clusterPod("a", "llama", "127.7.0.1"))
	api.Fail(func(fake.Request) *fake.Failure { return &fake.Failure{Code: http.StatusServiceUnavailable} })
	r := startCluster(t, api, "", inProcess)
	eventually(t, "the cluster is waited for", func() bool { return strings.Contains(r.log.String(), "waiting for the cluster") })
	require.False(t, r.Ready())
	api.Fail(nil)
	eventually(t, "ready", r.Ready)
	route, err := r.route(t.Context())
	must(t, err)
	route.Done(nil)
}
