package promtext_test

import (
	"bytes"
	"flag"
	"fmt"
	"github.com/stretchr/testify/require"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vllm.prom anew")

// TestVLLMPage checks that the page in testdata is the generator's, so that what
// the benchmarks scan can be changed in one place.
func TestVLLMPage(t *testing.T) {
	page := vllmPage()
	if *update {
		require.NoError(t, os.WriteFile("testdata/vllm.prom", page, 0o644))
	}
	if n := len(page); n < 58_000 || n > 60_000 {
		t.Errorf("the page has %d bytes, want about 59 kB", n)
	}
	require.True(t, bytes.Equal(readPage(t, "vllm"), page), "testdata/vllm.prom is not what the generator writes: run with -update")
}

func readPage(t testing.TB, engine string) []byte {
	t.Helper()
	page, err := os.ReadFile("testdata/" + engine + ".prom")
	require.NoError(t, err)
	return page
}

// pageWriter writes families the way Python's client library prints them.
type pageWriter struct {
	bytes.Buffer
	seed uint64
}

func (w *pageWriter) random() float64 {
	w.seed = w.seed*6364136223846793005 + 1442695040888963407
	return float64(w.seed>>11) / (1 << 53)
}

func (w *pageWriter) head(name, kind, help string) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (w *pageWriter) sample(name, labels string, v float64) {
	w.WriteString(name)
	if labels != "" {
		w.WriteString("{" + labels + "}")
	}
	w.WriteString(" " + number(v) + "\n")
}

func (w *pageWriter) histogram(name, help, labels string, bounds []float64, count float64) {
	w.head(name, "histogram", help)
	w.buckets(name, labels, bounds, count)
	w.head(name+"_created", "gauge", help)
	w.sample(name+"_created", labels, 1763719042.118374+w.random())
}

func (w *pageWriter) buckets(name, labels string, bounds []float64, count float64) {
	mid := len(bounds) / 2
	at, sum := 0.0, 0.0
	for i, b := range bounds {
		share := 1 / (1 + math.Exp(float64(mid-i)/1.5))
		next := math.Floor(count * share)
		sum += (next - at) * b * (0.5 + w.random()/2)
		at = next
		w.sample(name+"_bucket", withLE(labels, number(b)), at)
	}
	w.sample(name+"_bucket", withLE(labels, "+Inf"), count)
	w.sample(name+"_count", labels, count)
	w.sample(name+"_sum", labels, sum)
}

// withLE puts the le label where the client library does: in the order of names.
func withLE(labels, le string) string {
	if i := strings.Index(labels, "model_name="); i >= 0 {
		return labels[:i] + `le="` + le + `",` + labels[i:]
	}
	if labels == "" {
		return `le="` + le + `"`
	}
	return labels + `,le="` + le + `"`
}

func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e6 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	if v == math.Trunc(v) {
		s := strconv.FormatFloat(v, 'e', -1, 64)
		return s
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// vllmPage returns a page as a busy vLLM V1 server prints it: the names are
// vLLM's, the figures are made up.
func vllmPage() []byte {
	w := &pageWriter{seed: 20}
	const model = `engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"`

	w.head("python_gc_objects_collected_total", "counter", "Objects collected during gc")
	for g := range 3 {
		w.sample("python_gc_objects_collected_total", fmt.Sprintf(`generation="%d"`, g), math.Floor(w.random()*90000))
	}
	w.head("python_gc_collections_total", "counter", "Number of times this generation was collected")
	for g := range 3 {
		w.sample("python_gc_collections_total", fmt.Sprintf(`generation="%d"`, g), math.Floor(w.random()*900))
	}
	w.head("python_info", "gauge", "Python platform information")
	w.sample("python_info", `implementation="CPython",major="3",minor="12",patchlevel="11",version="3.12.11"`, 1)
	w.head("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.")
	w.sample("process_virtual_memory_bytes", "", 14728830976)
	w.head("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.")
	w.sample("process_resident_memory_bytes", "", 1294712832)
	w.head("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.")
	w.sample("process_start_time_seconds", "", 1763718985.47)
	w.head("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.")
	w.sample("process_cpu_seconds_total", "", 5187.13)
	w.head("process_open_fds", "gauge", "Number of open file descriptors.")
	w.sample("process_open_fds", "", 118)

	w.head("vllm:num_requests_running", "gauge", "Number of requests in model execution batches.")
	w.sample("vllm:num_requests_running", model, 37)
	w.head("vllm:num_requests_waiting", "gauge", "Number of requests waiting to be processed.")
	w.sample("vllm:num_requests_waiting", model, 5)
	w.head("vllm:num_requests_waiting_by_reason", "gauge", "Number of requests waiting to be processed, by reason.")
	w.sample("vllm:num_requests_waiting_by_reason", model+`,reason="capacity"`, 4)
	w.sample("vllm:num_requests_waiting_by_reason", model+`,reason="deferred"`, 1)
	w.head("vllm:engine_sleep_state", "gauge", "Engine sleep state; awake = 0 means engine is sleeping.")
	for _, state := range []string{"awake", "weights_offloaded", "discard_all"} {
		w.sample("vllm:engine_sleep_state", model+`,sleep_state="`+state+`"`, 0)
	}
	w.head("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.")
	w.sample("vllm:kv_cache_usage_perc", model, 0.6274310752789987)
	for _, c := range []struct {
		name, help string
		v          float64
	}{
		{"prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", 48213377},
		{"prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", 31902544},
		{"external_prefix_cache_queries", "External prefix cache queries, in tokens.", 0},
		{"external_prefix_cache_hits", "External prefix cache hits, in tokens.", 0},
		{"mm_cache_queries", "Multi-modal cache queries, in items.", 0},
		{"mm_cache_hits", "Multi-modal cache hits, in items.", 0},
		{"num_preemptions", "Cumulative number of preemption from the engine.", 41},
		{"prompt_tokens", "Number of prefill tokens processed.", 48213377},
		{"generation_tokens", "Number of generation tokens processed.", 9038112},
	} {
		w.head("vllm:"+c.name+"_total", "counter", c.help)
		w.sample("vllm:"+c.name+"_total", model, c.v)
		w.head("vllm:"+c.name+"_created", "gauge", c.help)
		w.sample("vllm:"+c.name+"_created", model, 1763719042.118374+w.random())
	}
	w.head("vllm:request_success_total", "counter", "Count of successfully processed requests.")
	for _, reason := range []string{"stop", "length", "abort", "error"} {
		w.sample("vllm:request_success_total", `engine="0",finished_reason="`+reason+`",model_name="meta-llama/Llama-3.1-8B-Instruct"`, math.Floor(w.random()*30000))
	}
	w.head("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig")
	w.sample("vllm:cache_config_info", `block_size="16",cache_dtype="auto",calculate_kv_scales="False",cpu_kvcache_space_bytes="None",cpu_offload_gb="0",enable_prefix_caching="True",engine="0",gpu_memory_utilization="0.9",is_attention_free="False",kv_cache_memory_bytes="None",mamba_cache_dtype="auto",mamba_page_size_padded="None",num_cpu_blocks="None",num_gpu_blocks="27803",num_gpu_blocks_override="None",prefix_caching_hash_algo="sha256",sliding_window="None",swap_space="4",swap_space_bytes="4294967296.0"`, 1)
	w.head("vllm:lora_requests_info", "gauge", "Running stats on lora requests.")
	w.sample("vllm:lora_requests_info", `max_lora="4",running_lora_adapters="",waiting_lora_adapters=""`, 1763719101.2213597)
	w.sample("vllm:lora_requests_info", `max_lora="4",running_lora_adapters="sql-assist",waiting_lora_adapters=""`, 1763722417.9018493)
	w.sample("vllm:lora_requests_info", `max_lora="4",running_lora_adapters="sql-assist,tweet-summary",waiting_lora_adapters="legal-draft"`, 1763722588.0417268)

	seconds := []float64{0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
	tokens := []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}
	step := []float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	first := []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	for _, h := range []struct {
		name, help string
		bounds     []float64
		count      float64
	}{
		{"iteration_tokens_total", "Histogram of number of tokens per engine_step.", []float64{1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}, 311847},
		{"time_to_first_token_seconds", "Histogram of time to first token in seconds.", first, 41822},
		{"inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", step, 8996290},
		{"time_per_output_token_seconds", "Histogram of time per output token in seconds, the old name.", step, 8996290},
		{"request_time_per_output_token_seconds", "Histogram of time per output token in seconds, mean of a request.", step, 41785},
		{"e2e_request_latency_seconds", "Histogram of end to end request latency in seconds.", seconds, 41785},
		{"request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", seconds, 41785},
		{"request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", seconds, 41785},
		{"request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", seconds, 41785},
		{"request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", seconds, 41785},
		{"request_prompt_tokens", "Number of prefill tokens processed.", tokens, 41785},
		{"request_generation_tokens", "Number of generation tokens processed.", tokens, 41785},
		{"request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens.", tokens, 41785},
		{"request_params_max_tokens", "Histogram of the max_tokens request parameter.", tokens, 41785},
		{"request_prefill_kv_computed_tokens", "Histogram of new KV tokens computed during prefill.", tokens, 41785},
		{"request_params_n", "Histogram of the n request parameter.", []float64{1, 2, 5, 10, 20}, 41785},
	} {
		w.histogram("vllm:"+h.name, h.help, model, h.bounds, h.count)
	}

	highres := []float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60}
	w.histogram("http_request_duration_highr_seconds", "Latency with many buckets but no API specific labels.", "", highres, 60338)
	handlers := []string{"/v1/chat/completions", "/v1/completions", "/v1/models", "/health"}
	w.head("http_requests_total", "counter", "Total number of requests by method, status and handler.")
	for _, handler := range handlers {
		for _, status := range []string{"2xx", "4xx"} {
			w.sample("http_requests_total", `handler="`+handler+`",method="POST",status="`+status+`"`, math.Floor(w.random()*40000))
		}
	}
	w.head("http_request_duration_seconds", "histogram", "Latency with only few buckets by handler.")
	for _, handler := range handlers {
		w.buckets("http_request_duration_seconds", `handler="`+handler+`",method="POST"`, []float64{0.1, 0.5, 1}, math.Floor(w.random()*40000))
	}
	return w.Bytes()
}
