package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// servers are the model servers of a test, in place of the network: they have metrics, and
// hold answers back until held is closed.
type servers struct{ held chan struct{} }

func (s servers) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(contentType string, body io.Reader) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(body), Request: r}, nil
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/metrics"):
		return answer("text/plain", strings.NewReader("vllm:num_requests_waiting 7\nvllm:num_requests_running 3\nvllm:kv_cache_usage_perc 0.5\n"))
	case r.Method == http.MethodGet:
		return answer("application/json", strings.NewReader(`{"data":[]}`))
	}
	if s.held != nil {
		select {
		case <-s.held:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return answer("application/json", strings.NewReader(`{"model":"tiny","choices":[{"message":{"content":"from `+r.URL.Host+`"}}]}`))
}

// newGateway returns a gateway in front of servers.
func newGateway(t *testing.T, s servers, o gateway.Options) *gateway.Gateway {
	t.Helper()
	if o.Profile.Picker == nil {
		o.Profile = plugins.Default()
	}
	o.Scrape.Transport = s
	o.Metrics = count(telemetry.Options{Now: o.Profile.Now, MetricsTTL: max(o.Profile.MetricsTTL, 0)})
	g, err := gateway.New(o)
	require.NoError(t, err)
	g.Transport.Base = s
	return g
}

func ask(g *gateway.Gateway, model string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hi"}]}`, model)
	r := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	g.Proxy().ServeHTTP(w, r)
	return w
}

// counted has the metrics of the gateways that have some.
var counted = map[*gateway.Gateway]*telemetry.Metrics{}

func count(o telemetry.Options) func(g *gateway.Gateway) (gateway.Metrics, error) {
	return func(g *gateway.Gateway) (gateway.Metrics, error) {
		o.Pools, o.Admissions, o.Sharing = g.Pools, g.Admissions, g.Sharing.Stats
		if g.Autoscaler != nil {
			o.Autoscale = g.Autoscaler.Recommended
		}
		m, err := telemetry.New(o)
		counted[g] = m
		return m, err
	}
}

func page(t *testing.T, g *gateway.Gateway) string {
	t.Helper()
	w := httptest.NewRecorder()
	counted[g].Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, w.Code)
	return w.Body.String()
}

func readings(g *gateway.Gateway) (read int) {
	for _, pool := range g.Store.Snapshot().Pools() {
		for _, ep := range pool.Endpoints() {
			if v, ok := ep.Metrics.Waiting.Value(); ok && v == 7 {
				read++
			}
		}
	}
	return read
}

// Requests are served, and whoever listens hears of them; the embedder's hooks, too.
func TestServes(t *testing.T) {
	var finished, queued, refused int
	o := gateway.Options{
		Profile: plugins.Default(), Servers: gateway.Addresses("a:1", "b:1"), Pool: types.NamespacedName{Name: "llama"},
		Admission: func() *admission.Options {
			return &admission.Options{Hooks: admission.Hooks{Dispatched: func(*admission.Ticket, time.Duration) { queued++ }}}
		},
		Store: datastore.Options{UnknownModels: datastore.Refuse},
		Director: director.Options{
			RestoreModel: true, OnRefused: func(*types.Request, types.NamespacedName, *director.Error) { refused++ },
		},
	}
	o.Profile.Hooks.Finished = func(scheduling.Event) { finished++ }
	g := newGateway(t, servers{}, o)
	defer g.Close()
	objects, err := types.DecodeManifests([]byte(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel",
		"metadata": {"name": "m"}, "spec": {"modelName": "public", "poolRef": {"name": "llama"}, "targetModels": [{"name": "tiny"}]}}`))
	require.NoError(t, err)
	require.NoError(t, g.Store.Apply(objects...))

	w := ask(g, "public")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), `"model":"public"`)
	require.Equal(t, 404, ask(g, "nonesuch").Code)
	require.Equal(t, []int{1, 1, 1}, []int{finished, queued, refused})
	text := page(t, g)
	for _, want := range []string{
		`inference_objective_request_total{model_name="public",priority="0",target_model_name="tiny"} 1`,
		`error_code="model_not_found"`, `inference_pool_ready_pods{name="llama"} 2`,
		`inferpick_admission_dispatched_total{pool="llama",priority="0"} 1`,
	} {
		require.Contains(t, text, want)
	}
	require.Zero(t, g.Scheduler.Open())
}

// Run reads metrics until the gateway is closed, and nothing is left then: a bubble of
// synctest ends only when all its goroutines have.
func TestRun(t *testing.T) {
	for name, end := range map[string]func(g *gateway.Gateway, cancel func()){
		"closed":    func(g *gateway.Gateway, _ func()) { g.Close() },
		"cancelled": func(_ *gateway.Gateway, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGateway(t, servers{}, gateway.Options{Servers: gateway.Addresses("a:1", "b:1")})
				defer g.Close()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ran := make(chan error)
				go func() { ran <- g.Run(ctx) }()
				time.Sleep(time.Second)
				require.Equal(t, 2, readings(g))
				require.ErrorIs(t, g.Run(ctx), scrape.ErrRunning)
				require.NoError(t, g.SetServers(gateway.Addresses("a:1", "b:1", "c:1")))
				time.Sleep(time.Second)
				require.Equal(t, 3, readings(g), "the first Run goes on")
				go end(g, cancel) // Close waits for Run
				require.NoError(t, <-ran)
			})
		})
	}
}

// A reading is as long known to metrics as to decisions.
func TestMetricsTTL(t *testing.T) {
	for ttl, known := range map[time.Duration]bool{10 * time.Second: true, 0: false} {
		synctest.Test(t, func(t *testing.T) {
			o := gateway.Options{Profile: plugins.Default(), Servers: gateway.Addresses("a:1")}
			o.Profile.MetricsTTL = ttl
			g := newGateway(t, servers{}, o)
			go g.Run(t.Context())
			time.Sleep(time.Second)
			require.Contains(t, page(t, g), "inference_pool_average_queue_size{")
			g.Close()
			time.Sleep(7 * time.Second)
			require.Equal(t, known, strings.Contains(page(t, g), "inference_pool_average_queue_size{"))
		})
	}
}

// Close and Run may come in any order, and Close any number of times.
func TestCloseBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, servers{}, gateway.Options{Servers: gateway.Addresses("a:1")})
		g.Close()
		g.Close()
		require.NoError(t, g.Run(t.Context()))
		require.NoError(t, g.Run(t.Context()))
	})
}

// What is at a server when the gateway is closed is answered; what waits to be let in is
// refused.
func TestCloseWhileRequestsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servers{held: make(chan struct{})}
		g := newGateway(t, s, gateway.Options{
			Servers:   gateway.Addresses("a:1"),
			Admission: func() *admission.Options { return &admission.Options{Detector: admission.Concurrency{Requests: 1}} },
		})
		go g.Run(t.Context())
		first, second := make(chan *httptest.ResponseRecorder), make(chan *httptest.ResponseRecorder)
		go func() { first <- ask(g, "tiny") }()
		synctest.Wait()
		go func() { second <- ask(g, "tiny") }()
		synctest.Wait()
		g.Close()
		require.Equal(t, 503, (<-second).Code)
		select {
		case <-first:
			t.Fatal("a request that runs was ended")
		default:
		}
		close(s.held)
		w := <-first
		require.Equal(t, 200, w.Code)
		require.Contains(t, w.Body.String(), "from a:1")
		require.Zero(t, g.Scheduler.Open())
	})
}

// A new version of the file is taken over while Run runs, and a broken one is told of.
func TestConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "models.json")
	write := func(addresses ...string) {
		var endpoints []string
		for _, address := range addresses {
			endpoints = append(endpoints, fmt.Sprintf(`{"pool": "llama", "address": %q}`, address))
		}
		require.NoError(t, os.WriteFile(path, []byte(`{"endpoints": [`+strings.Join(endpoints, ", ")+`]}`), 0o600))
		past := time.Date(1999, 1, 1, 0, 0, len(addresses), 0, time.UTC) // it is 2000 in the bubble
		require.NoError(t, os.Chtimes(path, past, past))
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		write("a:1")
		g := newGateway(t, servers{}, gateway.Options{Config: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		endpoints := func() int {
			return len(g.Store.Snapshot().Pool(types.NamespacedName{Namespace: types.DefaultNamespace, Name: "llama"}).Endpoints())
		}
		require.Equal(t, 1, endpoints(), "it is read by New")
		go g.Run(t.Context())
		synctest.Wait()
		require.ErrorIs(t, g.Run(t.Context()), scrape.ErrRunning)
		write("a:1", "b:1")
		time.Sleep(3 * time.Second)
		require.Equal(t, 2, endpoints())
		require.Equal(t, 2, readings(g))
		write("a:1", "b:1", "nowhere")
		time.Sleep(3 * time.Second)
		require.Equal(t, 2, endpoints())
		g.Close()
		require.Contains(t, log.String(), "nowhere")
	})
}

// What is wrong with options New says, in the words of the part that they are of.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "models.json")
	require.NoError(t, os.WriteFile(broken, []byte(`{"endpoints": [{"pool": "a", "addres": "a:1"}]}`), 0o600))
	for name, tt := range map[string]struct {
		change func(*gateway.Options)
		want   []string
	}{
		"no profile": {func(o *gateway.Options) { o.Profile = scheduling.Profile{} }, []string{"scheduling: ", "Picker"}},
		"address":    {func(o *gateway.Options) { o.Servers = gateway.Addresses("a:1", "nowhere") }, []string{`"nowhere"`, "host:port"}},
		"twice":      {func(o *gateway.Options) { o.Servers = gateway.Addresses("a:1", "a:1") }, []string{"a:1"}},
		"no file":    {func(o *gateway.Options) { o.Config = filepath.Join(dir, "none.json") }, []string{"datastore: ", "none.json"}},
		"field":      {func(o *gateway.Options) { o.Config = broken }, []string{broken, "addres", "address"}},
		"scrape":     {func(o *gateway.Options) { o.Scrape.Interval = -1 }, []string{"scrape: ", "Interval"}},
		"telemetry":  {func(o *gateway.Options) { o.Metrics = count(telemetry.Options{MaxModels: -1}) }, []string{"telemetry: ", "MaxModels"}},
		"director":   {func(o *gateway.Options) { o.Director.RetryAfter = -1 }, []string{"director: ", "RetryAfter"}},
		"admission": {func(o *gateway.Options) {
			o.Admission = func() *admission.Options {
				return &admission.Options{Bands: []admission.Band{{Name: "all", MaxWait: -1}}}
			}
		}, []string{"director: ", "default/default", "maxWait"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := gateway.Options{Profile: plugins.Default(), Servers: gateway.Addresses("a:1")}
			tt.change(&o)
			g, err := gateway.New(o)
			require.Nil(t, g)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}
