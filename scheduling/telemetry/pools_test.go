package telemetry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestPools(t *testing.T) {
	waiting, running, kv := schedulingtest.Waiting, schedulingtest.Running, schedulingtest.KVUsage
	stale := func(ep *types.Endpoint) { ep.Metrics.UpdatedAt = time.Unix(1_700_000_000-6, 0) }
	onlyKV := func(ep *types.Endpoint) { ep.Metrics.Waiting, ep.Metrics.Running = types.Gauge{}, types.Gauge{} }
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{},
		endpoint("default/a", waiting(10), running(8), kv(.4), schedulingtest.InFlight(3)),
		endpoint("default/b", waiting(0), running(2), kv(.8)),
		endpoint("default/c", onlyKV, kv(.2)),
		endpoint("default/d", schedulingtest.Unread(), schedulingtest.InFlight(2)),
		endpoint("default/e", waiting(1), running(30), kv(.9), schedulingtest.InState(types.Draining)),
		endpoint("default/f", waiting(50), schedulingtest.InState(types.Unhealthy)),
	)
	old := schedulingtest.Endpoint("default/g", waiting(1000), kv(1))
	stale(old)
	f.eps = append(f.eps, old)
	f.want(`
		5 inference_pool_average_queue_size{name="llama"}
		5 inference_pool_average_running_requests{name="llama"}
		0.466666666667 inference_pool_average_kv_cache_utilization{name="llama"}
		5 inference_pool_ready_pods{name="llama"}
		10 inference_pool_per_pod_queue_size{model_server_pod="a",name="llama"}
		0 inference_pool_per_pod_queue_size{model_server_pod="b",name="llama"}
		- inference_pool_per_pod_queue_size{model_server_pod="c",name="llama"}
		- inference_pool_per_pod_queue_size{model_server_pod="d",name="llama"}
		1 inference_pool_per_pod_queue_size{model_server_pod="e",name="llama"}
		- inference_pool_per_pod_queue_size{model_server_pod="g",name="llama"}
		61 inferpick_pool_queued_requests{name="llama"}
		40 inferpick_pool_running_requests{name="llama"}
		5 inferpick_pool_in_flight_requests{name="llama"}
		500 inferpick_pool_prefill_tokens_owed{name="llama"}
		5 inferpick_pool_endpoints{name="llama",state="ready"}
		1 inferpick_pool_endpoints{name="llama",state="draining"}
		1 inferpick_pool_endpoints{name="llama",state="unhealthy"}
		1.05 inference_extension_flow_control_pool_saturation{inference_pool="llama"}
		1.08333333333 inferpick_pool_saturation{name="llama"}
	`) // saturations: 2, 1, 0.25, unknown, unknown
}

// An average of nothing is not 0: an autoscaler would take the pool for idle.
func TestTrapUnknownIsNotZero(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{}, endpoint("a", schedulingtest.Unread()), endpoint("b"))
	f.pass(6 * time.Second)
	f.want(`
		- inference_pool_average_queue_size{name="llama"}
		- inference_pool_average_running_requests{name="llama"}
		- inference_pool_average_kv_cache_utilization{name="llama"}
		- inferpick_pool_saturation{name="llama"}
		- inferpick_pool_queued_requests{name="llama"}
		- inferpick_pool_running_requests{name="llama"}
		1 inference_extension_flow_control_pool_saturation{inference_pool="llama"}
		2 inference_pool_ready_pods{name="llama"}
		0 inferpick_pool_in_flight_requests{name="llama"}
	`)
}

// Of a pool without endpoints everything is known.
func TestEmptyPool(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{})
	f.want(`
		0 inference_pool_ready_pods{name="llama"}
		0 inferpick_pool_queued_requests{name="llama"}
		0 inferpick_pool_running_requests{name="llama"}
		0 inferpick_pool_endpoints{name="llama",state="ready"}
		- inference_pool_average_queue_size{name="llama"}
		1 inference_extension_flow_control_pool_saturation{inference_pool="llama"}
	`)
}

func TestThresholds(t *testing.T) {
	f := newFixture(t, telemetry.Options{QueueThreshold: 10, KVThreshold: .5, MetricsTTL: time.Minute}, scheduling.Profile{},
		endpoint("a", schedulingtest.Waiting(4), schedulingtest.KVUsage(.1)))
	f.pass(time.Minute)
	f.want(`0.4 inferpick_pool_saturation{name="llama"}`)
}

func TestPoolNames(t *testing.T) {
	m, err := telemetry.New(telemetry.Options{Pools: func(yield func(types.NamespacedName, []*types.Endpoint) bool) {
		for _, name := range []types.NamespacedName{{Namespace: "default", Name: "a"}, {Namespace: "prod", Name: "a"}, {Name: "b"}} {
			if !yield(name, nil) {
				return
			}
		}
	}})
	require.NoError(t, err)
	check(t, scrape(t, m), `
		0 inference_pool_ready_pods{name="a"}
		0 inference_pool_ready_pods{name="prod/a"}
		0 inference_pool_ready_pods{name="b"}
	`)
}

func TestBounds(t *testing.T) {
	var eps []*types.Endpoint
	for i := range 30 {
		eps = append(eps, endpoint(fmt.Sprint("ep-", i), schedulingtest.Waiting(1)))
	}
	f := newFixture(t, telemetry.Options{MaxModels: 10, MaxEndpoints: 20}, scheduling.Profile{}, eps...)
	for i := range 50 {
		req := request(fmt.Sprint("model-", i), "")
		req.Priority = i
		f.eps = eps[i%30:]
		f.schedule(req).Done(served)
	}
	for i := range 50 { // priorities of one model
		req := request("model-0", "")
		req.Priority = i
		f.schedule(req).Done(served)
	}
	f.eps = eps
	f.want(`
		40 inference_objective_request_duration_seconds_count{model_name="other",target_model_name="other"}
		0 inference_objective_running_requests{model_name="other"}
		18 inference_objective_request_total{model_name="model-0",priority="other",target_model_name="model-0"}
		10 inference_pool_per_pod_queue_size{model_server_pod="other",name="llama"}
	`)
	count := map[string]int{}
	for name := range scrape(t, f.Metrics) {
		family, _, _ := strings.Cut(name, "{")
		count[family]++
	}
	for family, most := range map[string]int{
		"inference_objective_request_duration_seconds_count": 11,
		"inference_objective_running_requests":               11,
		"inferpick_model_output_tokens_total":                11,
		"inference_extension_scheduler_attempts_total":       20 + 11,
		"inference_pool_per_pod_queue_size":                  21,
	} {
		if count[family] > most {
			t.Errorf("%d series of %s, want at most %d", count[family], family, most)
		}
	}
}

// A client may call its model "other".
func TestTrapModelCalledOther(t *testing.T) {
	f := newFixture(t, telemetry.Options{MaxModels: 1, MaxEndpoints: 1}, scheduling.Profile{}, endpoint("other"))
	for _, name := range []string{"other", "chat", "chat-2"} {
		f.schedule(request(name, "")).Done(served)
	}
	f.want(`
		2 inference_objective_request_duration_seconds_count{model_name="other",target_model_name="other"}
		1 inference_objective_request_duration_seconds_count{model_name="chat",target_model_name="chat"}
		2 inference_extension_scheduler_attempts_total{namespace="",pod_name="other",port="8000",status="success",target_model_name="other"}
	`)
}

// Servers come and go for weeks: those that have gone make room.
func TestEndpointsThatHaveGone(t *testing.T) {
	series := `inference_extension_scheduler_attempts_total{namespace="",pod_name="%s",port="8000",status="success",target_model_name="chat"}`
	a, again, b := endpoint("a"), endpoint("a"), endpoint("b")
	f := newFixture(t, telemetry.Options{MaxEndpoints: 2}, scheduling.Profile{}, a)
	f.schedule(request("chat", "")).Done(served)
	a.Load.Retire()
	f.eps = []*types.Endpoint{again}
	f.schedule(request("chat", "")).Done(served)
	f.want("2 " + fmt.Sprintf(series, "a"))
	f.want("2 " + fmt.Sprintf(series, "a")) // the counter of one that came back does not go back
	again.Load.Retire()
	f.want("2 " + fmt.Sprintf(series, "a")) // a last time
	f.want("- " + fmt.Sprintf(series, "a"))
	f.eps = []*types.Endpoint{b}
	f.schedule(request("chat", "")).Done(served)
	f.want("1 " + fmt.Sprintf(series, "b"))
}
