package modelserver

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// The bounds of vLLM's histograms, in seconds.

func firstTokenBounds() []float64 {
	return []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
}

func interTokenBounds() []float64 {
	return []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
}

func wholeBounds() []float64 {
	return []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
}

// histogram counts observations. It is copied by assignment.
type histogram struct {
	bounds []float64
	counts [32]uint64 // by bucket, not cumulative; the one after the last bound is +Inf
	sum    float64
}

// observe counts n observations of the same value.
func (h *histogram) observe(value float64, n uint64) {
	if n == 0 {
		return
	}
	i, _ := slices.BinarySearch(h.bounds, value)
	h.counts[i] += n
	h.sum += value * float64(n)
}

// remember adds the adapters of the moment to the history: what was seen
// before moves to the end with a new time.
func (p *page) remember(at time.Time) {
	if n := len(p.adapterHistory); n > 0 {
		// The array is shared with pages handed out: copied before it is written to.
		p.adapterHistory = slices.Clone(p.adapterHistory)
		p.adapterHistory[n-1].at = p.adaptersAt
	}
	info := adapterInfo{strings.Join(p.runningAdapters, ","), strings.Join(p.waitingAdapters, ","), at}
	history := make([]adapterInfo, 0, len(p.adapterHistory)+1)
	for _, old := range p.adapterHistory {
		if old.running != info.running || old.waiting != info.waiting {
			history = append(history, old)
		}
	}
	history = append(history, info)
	p.adapterHistory = history[max(0, len(history)-maxAdapterHistory):]
}

// exposition writes the Prometheus text format.
type exposition struct {
	buf    []byte
	labels string // of every series that has the engine's labels
}

func (x *exposition) family(name, kind, help string) {
	x.buf = append(x.buf, "# HELP "...)
	x.buf = append(x.buf, name...)
	x.buf = append(x.buf, ' ')
	x.buf = append(x.buf, help...)
	x.buf = append(x.buf, "\n# TYPE "...)
	x.buf = append(x.buf, name...)
	x.buf = append(x.buf, ' ')
	x.buf = append(x.buf, kind...)
	x.buf = append(x.buf, '\n')
}

// sample writes one line. The labels are written as they are.
func (x *exposition) sample(name, labels string, value float64) {
	x.buf = append(x.buf, name...)
	if labels != "" {
		x.buf = append(x.buf, '{')
		x.buf = append(x.buf, labels...)
		x.buf = append(x.buf, '}')
	}
	x.buf = append(x.buf, ' ')
	x.buf = strconv.AppendFloat(x.buf, value, 'g', -1, 64)
	x.buf = append(x.buf, '\n')
}

func (x *exposition) gauge(name, help string, value float64) {
	x.family(name, "gauge", help)
	x.sample(name, x.labels, value)
}

// counter writes a counter as the Python client does: the family without
// _total in OpenMetrics, with it here.
func (x *exposition) counter(name, help string, value uint64) {
	x.family(name, "counter", help)
	x.sample(name, x.labels, float64(value))
}

func (x *exposition) histogram(name, help string, h *histogram) {
	x.family(name, "histogram", help)
	total := uint64(0)
	for i := range len(h.bounds) + 1 {
		total += h.counts[i]
		le := "+Inf"
		if i < len(h.bounds) {
			le = strconv.FormatFloat(h.bounds[i], 'f', -1, 64)
			if !strings.Contains(le, ".") {
				le += ".0"
			}
		}
		x.sample(name+"_bucket", x.labels+`,le="`+le+`"`, float64(total))
	}
	x.sample(name+"_count", x.labels, float64(total))
	x.sample(name+"_sum", x.labels, h.sum)
}

// label escapes a label value.
func label(value string) string {
	if !strings.ContainsAny(value, "\\\n\"") {
		return value
	}
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(value)
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func (p *process) serveMetrics(w http.ResponseWriter, r *http.Request) {
	p.faults.waitMetrics(r.Context(), p.ending)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if p.faults.garbage.Load() {
		io.WriteString(w, "<!doctype html><title>simulated garbage</title>\nvllm:num_requests_running{engine=\"0\" NaNaN\n\x00\xff{[\n")
		return
	}
	page := p.loop.published()
	w.Write(p.appendMetrics(nil, &page))
}

func (p *process) appendMetrics(buf []byte, page *page) []byte {
	m := &page.metrics
	x := exposition{
		buf:    slices.Grow(buf, 16<<10),
		labels: `engine="0",model_name="` + label(p.opts.Models[0]) + `"`,
	}
	x.family("process_start_time_seconds", "gauge", "Start time of the simulated server, in seconds since the epoch.")
	x.sample("process_start_time_seconds", "", unixSeconds(p.started))

	x.gauge("vllm:num_requests_running", "Requests in the batch.", float64(m.Running))
	x.gauge("vllm:num_requests_waiting", "Requests in the queue.", float64(m.Waiting))
	x.family("vllm:num_requests_waiting_by_reason", "gauge", "Requests in the queue, by what they wait for.")
	x.sample("vllm:num_requests_waiting_by_reason", x.labels+`,reason="capacity"`, float64(m.Waiting))
	x.sample("vllm:num_requests_waiting_by_reason", x.labels+`,reason="deferred"`, 0)
	x.gauge("vllm:kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", m.KVUsage())

	x.counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", m.QueriedTokens)
	x.counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", m.HitTokens)
	x.counter("vllm:num_preemptions_total", "Requests thrown out of the batch.", m.Preemptions)
	x.counter("vllm:prompt_tokens_total", "Prompt tokens processed.", m.PromptTokens)
	x.counter("vllm:generation_tokens_total", "Tokens generated.", m.GeneratedTokens)

	x.family("vllm:request_success_total", "counter", "Requests ended, by reason.")
	x.sample("vllm:request_success_total", x.labels+`,finished_reason="stop"`, float64(page.stopped))
	x.sample("vllm:request_success_total", x.labels+`,finished_reason="length"`, float64(page.cut))
	x.sample("vllm:request_success_total", x.labels+`,finished_reason="abort"`, float64(page.aborted))

	x.histogram("vllm:time_to_first_token_seconds", "Time to the first token, in real seconds.", &page.firstToken)
	x.histogram("vllm:inter_token_latency_seconds", "Time between tokens, in real seconds.", &page.interToken)
	x.histogram("vllm:e2e_request_latency_seconds", "Time from arrival to the last token, in real seconds.", &page.whole)

	x.family("vllm:lora_requests_info", "gauge", "Adapters in the batch and in the queue; the newest series counts.")
	for i, info := range page.adapterHistory {
		if i == len(page.adapterHistory)-1 {
			info.at = page.adaptersAt
		}
		x.sample("vllm:lora_requests_info",
			`max_lora="`+strconv.Itoa(p.loop.config.MaxLoRAs)+
				`",running_lora_adapters="`+label(info.running)+
				`",waiting_lora_adapters="`+label(info.waiting)+`"`,
			unixSeconds(info.at))
	}

	x.family("vllm:cache_config_info", "gauge", "Geometry of the KV cache.")
	x.sample("vllm:cache_config_info",
		`block_size="`+strconv.Itoa(engine.BlockTokens)+`",cache_dtype="auto",enable_prefix_caching="True",engine="0",num_gpu_blocks="`+
			strconv.Itoa(p.loop.config.Blocks)+`"`, 1)
	return x.buf
}
