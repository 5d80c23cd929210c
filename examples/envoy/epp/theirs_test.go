package epp_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// TestMoreConfig: an EndpointPickerConfig may be in a file of its own, as it is for other
// pickers; a change of it counts, and what is wrong in it is told with its place.
func TestMoreConfig(t *testing.T) {
	t.Parallel()
	more := filepath.Join(t.TempDir(), "picker.yaml")
	put(t, more, roundRobin)
	r := start(t, base, func(o *epp.Options) { o.MoreConfig = []string{more} })
	c := r.client()
	require.Equal(t, []string{addressA, addressB}, []string{exchanged(t, c, "chat"), exchanged(t, c, "chat")}, "in turn")

	put(t, more, pickerHead+"plugins: [{type: magic-scorer}]\n")
	require.NoError(t, r.Reload(), "what is bad is left out by itself")
	require.Contains(t, r.log.String(), more+`:4:12: EndpointPickerConfig: plugins[0].type is \"magic-scorer\"`)
	require.Equal(t, addressC, exchanged(t, c, "chat"), "what was in force stays")
	put(t, more, roundRobin+"schedulingProfiles: [{name: default, fallbacks: 1, plugins: [{pluginRef: round-robin-picker}]}]\n")
	require.NoError(t, r.Reload())
	require.Equal(t, addressA, exchanged(t, c, "chat"), "of a new scheduler")
}

// TestMoreConfigInTheFolder: a file that is named by itself may be in the folder that is
// named, too. It is read once.
func TestMoreConfigInTheFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "pools.yaml"), base)
	put(t, filepath.Join(dir, "picker.yaml"), roundRobin)
	link := filepath.Join(t.TempDir(), "link.yaml")
	must(t, os.Symlink(filepath.Join(dir, "pools.yaml"), link))
	r := start(t, base, func(o *epp.Options) {
		o.Config, o.MoreConfig = dir, []string{filepath.Join(dir, "picker.yaml"), link}
	})
	require.Equal(t, []string{addressA, addressB}, []string{exchanged(t, r.client(), "chat"), exchanged(t, r.client(), "chat")}, "in turn")
	require.NotContains(t, r.log.String(), "left out")
}

// TestServerMetrics: where servers' metrics are may be said for all of them.
func TestServerMetrics(t *testing.T) {
	t.Parallel()
	page := func(seen *atomic.Int64) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/custom/metrics" {
				http.NotFound(w, r)
				return
			}
			seen.Add(1)
			io.WriteString(w, "vllm:num_requests_waiting 3\nvllm:num_requests_running 2\nvllm:kv_cache_usage_perc 0.5\n")
		}
	}
	var plain, encrypted atomic.Int64
	for _, tt := range []struct {
		name   string
		server *httptest.Server
		seen   *atomic.Int64
		o      epp.ServerMetrics
		read   bool
	}{
		{"path and port", httptest.NewServer(page(&plain)), &plain, epp.ServerMetrics{Path: "/custom/metrics"}, true},
		{"https, not verified", httptest.NewTLSServer(page(&encrypted)), &encrypted, epp.ServerMetrics{Path: "/custom/metrics", Scheme: "https", InsecureSkipVerify: true}, true},
		{"https, verified", httptest.NewTLSServer(page(new(atomic.Int64))), nil, epp.ServerMetrics{Path: "/custom/metrics", Scheme: "https"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Cleanup(tt.server.Close)
			_, port, err := net.SplitHostPort(tt.server.Listener.Addr().String())
			require.NoError(t, err)
			tt.o.Port, err = strconv.Atoi(port)
			require.NoError(t, err)
			// Requests go to another port than metrics are asked for.
			r := start(t, poolYAML("llama")+scrapedYAML("llama", "127.0.0.1:1"), func(o *epp.Options) { o.ServerMetrics = tt.o })
			waiting := func() (float64, bool) { return series(r.metrics(), "inferpick_pool_queued_requests", `name="llama"`) }
			if tt.read {
				eventually(t, "the figure is read", func() bool { n, _ := waiting(); return n == 3 })
				return
			}
			eventually(t, "it is told that they cannot be", func() bool { return strings.Contains(r.log.String(), "certificate") })
			_, known := waiting()
			require.False(t, known)
		})
	}
}

// TestMetricNames: the process's metrics have the names that are asked for.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	for names, want := range map[telemetry.Names][2]bool{telemetry.NamesGIE: {true, false}, telemetry.NamesLLMD: {false, true}, telemetry.NamesBoth: {true, true}} {
		r := start(t, base, func(o *epp.Options) { o.MetricNames = names })
		exchanged(t, r.client(), "chat")
		page := r.metrics()
		for i, of := range [][]string{
			{"inference_objective_request_total", "inference_pool_ready_pods", "inference_extension_scheduler_attempts_total"},
			{"llm_d_epp_request_total", "llm_d_epp_ready_endpoints", "llm_d_epp_scheduler_attempts_total"},
		} {
			for _, name := range of {
				_, there := series(page, name)
				require.Equal(t, want[i], there, "%s with names %d", name, names)
			}
		}
	}
}

// TestMetricsTTL: what a server reported longer ago is left out of its pool's metrics.
func TestMetricsTTL(t *testing.T) {
	t.Parallel()
	for ttl, known := range map[time.Duration]bool{0: false, time.Hour: true} {
		r := start(t, base, func(o *epp.Options) { o.MetricsTTL = ttl })
		for _, ep := range r.Store().Snapshot().Pools()[0].Endpoints() {
			r.Store().UpdateMetrics(ep.Load, types.Metrics{UpdatedAt: time.Now().Add(-time.Minute), Waiting: types.Known(3)})
		}
		_, there := series(r.metrics(), "inference_pool_average_queue_size", `name="llama"`)
		require.Equal(t, known, there, "with %v", ttl)
	}
}

// TestPoolThatIsNotThere: a picker whose pool is not in its configuration could serve
// nobody, and does not start.
func TestPoolThatIsNotThere(t *testing.T) {
	t.Parallel()
	_, err := tryStart(t, base, func(o *epp.Options) { o.Pool = types.NamespacedName{Namespace: "default", Name: "lama"} })
	require.ErrorContains(t, err, "no InferencePool default/lama")
	require.ErrorContains(t, err, "default/llama")
}

const objectiveYAML = `---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: vip}
spec: {priority: 7, poolRef: {name: llama}}
`

// TestHeadersOfLLMD: the headers of llm-d's picker do what those of the Inference Extension
// do, and nothing where headers are not trusted.
func TestHeadersOfLLMD(t *testing.T) {
	t.Parallel()
	for _, ignored := range []bool{false, true} {
		r := start(t, base+objectiveYAML, func(o *epp.Options) { o.IgnoreRequestHeaders = ignored })
		exchanged(t, r.client(), "chat", "x-llm-d-inference-objective", "vip", "x-llm-d-model-name-rewrite", "canary", "x-llm-d-slo-ttft-ms", "100")
		target, priority := "canary", "7"
		if ignored {
			target, priority = "llama-8b", "0"
		}
		r.wantMetric(r.metrics(), 1, "inference_objective_request_total", `model_name="chat"`, `target_model_name="`+target+`"`, `priority="`+priority+`"`)
	}
}

// TestTrapHeadersForProxies: what would tell a proxy in front of a server whom to ask is
// taken from requests.
func TestTrapHeadersForProxies(t *testing.T) {
	t.Parallel()
	r := start(t, base, nil)
	x := open(t, r.client())
	removed := x.ask("chat", "x-prefiller-host-port", "10.9.9.9:1").GetRequestHeaders().GetResponse().GetHeaderMutation().GetRemoveHeaders()
	for _, name := range []string{
		"x-prefiller-host-port", "x-encoder-hosts-ports", "x-data-parallel-host-port", "x-kv-cache-source-host-port", "x-llm-d-prefiller-host-port",
		"x-llm-d-encoder-hosts-ports", "x-llm-d-kv-cache-source-host-port", "x-gateway-destination-endpoint-subset", "x-gateway-destination-endpoint-served",
	} {
		require.Contains(t, removed, name)
	}
	require.NotContains(t, removed, "x-gateway-destination-endpoint")
}
