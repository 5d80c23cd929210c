package epp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
	"github.com/stretchr/testify/require"
)

// flowControl lets each endpoint have so many requests.
func flowControl(perEndpoint int, more string) string {
	return pickerHead + fmt.Sprintf(`featureGates: [flowControl]
plugins:
- {type: round-robin-picker}
- {type: concurrency-detector, parameters: {maxConcurrency: %d}}
saturationDetector: {pluginRef: concurrency-detector}
%s`, perEndpoint, more)
}

// waiting sends a request that is not answered yet, with which n wait.
func (r *running) waiting(n int) *stream {
	r.t.Helper()
	x := open(r.t, r.client())
	x.send(requestHeaders())
	x.send(envoyside.RequestBody(`{"model": "chat", "messages": [{"role": "user", "content": "hello"}]}`, true))
	r.queued(n)
	return x
}

// queued waits until so many requests wait.
func (r *running) queued(n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d wait", n), func() bool {
		got, _ := series(r.metrics(), "inferpick_admission_queued_requests", `pool="llama"`)
		return got == float64(n)
	})
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	r := start(t, base+flowControl(1, ""), func(o *epp.Options) { o.Explain = true })
	c := r.client()
	running, at := make([]*stream, 3), map[string]int{}
	for i := range running {
		running[i] = open(t, c)
		at[running[i].routed("chat")] = i
	}
	if len(at) != 3 {
		t.Fatalf("three requests went to %v, want one to each", at)
	}
	first := r.waiting(1)
	second := r.waiting(2)
	page := r.metrics()
	r.wantMetric(page, 3, "inferpick_admission_running_requests", `pool="llama"`, `priority="0"`)
	r.wantMetric(page, 2, "inference_extension_flow_control_queue_size", `inference_pool="llama"`, `priority="0"`)
	r.wantMetric(page, 1, "inference_extension_flow_control_pool_saturation", `inference_pool="llama"`)
	r.wantMetric(page, 3, "inference_extension_flow_control_request_queue_duration_seconds_count", `outcome="Dispatched"`, `model_name="chat"`)
	status, _, why := fetch(t, "POST", "http://"+r.MetricsAddress()+"/explain", `{"model": "chat", "messages": []}`)
	if status != 200 || !strings.Contains(why, "queued: priority 0 (others)") || !strings.Contains(why, "rank  endpoint") {
		t.Errorf("/explain: %d\n%s", status, why)
	}

	running[at[addressB]].finish()
	if got := destinationOf(t, first.recv()); got != addressB {
		t.Errorf("the first that waited goes to %s, want %s, which has room", got, addressB)
	}
	first.recv() // the body
	r.queued(1)
	second.cancel()
	r.queued(0)
	for _, x := range []*stream{running[at[addressA]], running[at[addressC]], first} {
		x.finish()
	}
	eventually(t, "nothing is open", func() bool { return r.Open() == 0 })
	page = r.metrics()
	r.wantMetric(page, 1, "inferpick_admission_cancelled_total", `pool="llama"`)
	r.wantMetric(page, 0, "inferpick_admission_running_requests", `pool="llama"`)
}

// What waits goes on waiting while the configuration changes around it, and by the new
// one when that is about it.
func TestReloadOfAdmission(t *testing.T) {
	t.Parallel()
	r := start(t, base+flowControl(1, ""), nil)
	c := r.client()
	for range 3 {
		open(t, c).routed("chat")
	}
	x := r.waiting(1)
	reload := func(text string) {
		t.Helper()
		put(t, r.path, text)
		must(t, r.Reload())
	}
	reload(base + modelYAML("other", "llama", "llama-8b") + flowControl(1, ""))
	r.queued(1)
	put(t, r.path, base+flowControl(2, "flowControl: {maxBytes: much}\n"))
	must(t, r.Reload())
	require.Contains(t, r.log.String(), ", want a quantity")
	r.queued(1)
	reload(base + flowControl(2, ""))
	destinationOf(t, x.recv())
	r.queued(0)

	for range 2 {
		open(t, c).routed("chat")
	}
	x = r.waiting(1)
	reload(base + flowControl(2, "flowControl: {priorityBands: [{priority: 0, maxRequests: 1}]}\n"))
	if status, body := refused(t, c, "chat"); status != 429 || !strings.Contains(body, "queue_full") {
		t.Errorf("refused with %d %s, want 429 for queue_full", status, body)
	}
	r.queued(1)
	reload(base + roundRobin) // nobody waits any more
	destinationOf(t, x.recv())
	open(t, c).routed("chat")

	// A new pool has it from its first request on.
	qwen := poolYAML("qwen") + modelYAML("code", "qwen", "qwen-32b") + endpointsYAML("qwen", "10.0.1.1:8000")
	reload(base + qwen + flowControl(1, "poolRef: {name: qwen}\nflowControl: {defaultRequestTTL: 20ms}\n"))
	open(t, c).routed("code")
	if status, body := refused(t, c, "code"); status != 429 || !strings.Contains(body, "queue_timeout") {
		t.Errorf("refused with %d %s, want 429 for queue_timeout", status, body)
	}
	open(t, c).routed("chat")
}

// TestDrainRefusesWhatWaits: there is another picker that may have room, and this one
// would hold the request until it is cut off.
func TestDrainRefusesWhatWaits(t *testing.T) {
	t.Parallel()
	r := start(t, base+flowControl(1, ""), func(o *epp.Options) { o.DrainTimeout = time.Hour })
	c := r.client()
	var running []*stream
	for range 3 {
		x := open(t, c)
		x.routed("chat")
		running = append(running, x)
	}
	x := r.waiting(1)
	r.stop()
	i := x.recv().GetImmediateResponse()
	if i == nil || i.Status.Code != 503 || !strings.Contains(string(i.Body), "shutting_down") {
		t.Errorf("what waits got %v, want 503 for shutting_down", i)
	}
	for _, x := range running {
		x.finish()
	}
	require.NoError(t, r.ends(), "Run")
}
