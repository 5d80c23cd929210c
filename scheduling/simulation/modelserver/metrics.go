package modelserver

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// page is what a server publishes about itself.
type page struct {
	metrics                          engine.Metrics
	runningAdapters, waitingAdapters []string      // replaced, never written to
	adapterHistory                   []adapterInfo // replaced, never written to; the last is the present
	adaptersAt                       time.Time     // when the present was last seen

	requests   uint64
	stopped    uint64 // replies that ended by themselves
	truncated  uint64 // replies that ended at the limit of their length
	aborted    uint64
	firstToken histogram
	interToken histogram
	whole      histogram
}

// adapterInfo is one series of vllm:lora_requests_info.
type adapterInfo struct {
	running, waiting string
	at               time.Time
}

// maxAdapterHistory bounds the series of vllm:lora_requests_info. The real
// server keeps every combination it ever saw; readers must take the newest.
const maxAdapterHistory = 16

// newPage is that of a server that has just started. The bounds are those of vLLM's
// histograms, in seconds.
func newPage(m engine.Metrics, now time.Time) page {
	return page{
		metrics: m, adapterHistory: []adapterInfo{{at: now}}, adaptersAt: now,
		firstToken: histogram{bounds: []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}},
		interToken: histogram{bounds: []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}},
		whole:      histogram{bounds: []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}},
	}
}

// ended counts a request that has all of its output.
func (p *page) ended(s *stream, at time.Time) {
	p.whole.observe(at.Sub(s.arrived).Seconds(), 1)
	if s.truncated {
		p.truncated++
	} else {
		p.stopped++
	}
}

// remember adds the adapters of the moment to the history: what was seen
// before moves to the end with a new time.
func (p *page) remember(at time.Time) {
	// The array is shared with pages handed out: copied before it is written to.
	history := slices.Clone(p.adapterHistory)
	history[len(history)-1].at = p.adaptersAt
	info := adapterInfo{strings.Join(p.runningAdapters, ","), strings.Join(p.waitingAdapters, ","), at}
	history = slices.DeleteFunc(history, func(old adapterInfo) bool { return old.running == info.running && old.waiting == info.waiting })
	history = append(history, info)
	p.adapterHistory = history[max(0, len(history)-maxAdapterHistory):]
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

// exposition writes the Prometheus text format as the Python client does.
type exposition struct {
	buf    []byte
	labels string // of every series that has the engine's labels
}

func (x *exposition) family(name, kind, help string) {
	x.buf = fmt.Appendf(x.buf, "# HELP %s %s\n# TYPE %[1]s %[3]s\n", name, help, kind)
}

// sample writes one line. The labels are written as they are.
func (x *exposition) sample(name, labels string, value float64) {
	x.buf = append(x.buf, name...)
	if labels != "" {
		x.buf = append(append(append(x.buf, '{'), labels...), '}')
	}
	x.buf = append(strconv.AppendFloat(append(x.buf, ' '), value, 'g', -1, 64), '\n')
}

// single writes a family of one series with the engine's labels.
func (x *exposition) single(name, kind, help string, value float64) {
	x.family(name, kind, help)
	x.sample(name, x.labels, value)
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

// escape makes a label value of a text.
var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func (p *process) serveMetrics(w http.ResponseWriter, r *http.Request) {
	p.hangMetrics(r.Context())
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if p.server.garbage.Load() {
		io.WriteString(w, "<!doctype html><title>simulated garbage</title>\nvllm:num_requests_running{engine=\"0\" NaNaN\n\x00\xff{[\n")
		return
	}
	page := p.published()
	w.Write(p.appendMetrics(nil, &page))
}

// published returns what the engine publishes, and the diffusion model's requests with it.
func (p *process) published() page {
	page := p.loop.published()
	page.metrics.Running += int(p.slot.running.Load())
	page.metrics.Waiting += int(p.slot.waiting.Load())
	return page
}

func (p *process) appendMetrics(buf []byte, page *page) []byte {
	m, config := &page.metrics, &p.loop.config
	x := exposition{buf: slices.Grow(buf, 16<<10), labels: `engine="0",model_name="` + escape(p.opts.Models[0]) + `"`}
	x.family("process_start_time_seconds", "gauge", "Start time of the simulated server, in seconds since the epoch.")
	x.sample("process_start_time_seconds", "", unixSeconds(p.started))

	x.single("vllm:num_requests_running", "gauge", "Requests in the batch.", float64(m.Running))
	x.single("vllm:num_requests_waiting", "gauge", "Requests in the queue.", float64(m.Waiting))
	x.family("vllm:num_requests_waiting_by_reason", "gauge", "Requests in the queue, by what they wait for.")
	x.sample("vllm:num_requests_waiting_by_reason", x.labels+`,reason="capacity"`, float64(m.Waiting))
	x.sample("vllm:num_requests_waiting_by_reason", x.labels+`,reason="deferred"`, 0)
	x.single("vllm:kv_cache_usage_perc", "gauge", "Share of the KV cache in use, 0 to 1.", m.KVUsage())

	x.single("vllm:prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache.", float64(m.QueriedTokens))
	x.single("vllm:prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache.", float64(m.HitTokens))
	x.single("vllm:num_preemptions_total", "counter", "Requests thrown out of the batch.", float64(m.Preemptions))
	x.single("vllm:prompt_tokens_total", "counter", "Prompt tokens processed.", float64(m.PromptTokens))
	x.single("vllm:generation_tokens_total", "counter", "Tokens generated.", float64(m.GeneratedTokens))

	x.family("vllm:request_success_total", "counter", "Requests ended, by reason.")
	x.sample("vllm:request_success_total", x.labels+`,finished_reason="stop"`, float64(page.stopped))
	x.sample("vllm:request_success_total", x.labels+`,finished_reason="length"`, float64(page.truncated))
	x.sample("vllm:request_success_total", x.labels+`,finished_reason="abort"`, float64(page.aborted))

	x.histogram("vllm:time_to_first_token_seconds", "Time to the first token, in real seconds.", &page.firstToken)
	x.histogram("vllm:inter_token_latency_seconds", "Time between tokens, in real seconds.", &page.interToken)
	x.histogram("vllm:e2e_request_latency_seconds", "Time from arrival to the last token, in real seconds.", &page.whole)

	x.family("vllm:lora_requests_info", "gauge", "Adapters in the batch and in the queue; the newest series counts.")
	for i, info := range page.adapterHistory {
		if i == len(page.adapterHistory)-1 {
			info.at = page.adaptersAt
		}
		x.sample("vllm:lora_requests_info", fmt.Sprintf(`max_lora="%d",running_lora_adapters="%s",waiting_lora_adapters="%s"`,
			config.MaxLoRAs, escape(info.running), escape(info.waiting)), unixSeconds(info.at))
	}
	x.family("vllm:cache_config_info", "gauge", "Geometry of the KV cache.")
	x.sample("vllm:cache_config_info", fmt.Sprintf(`block_size="%d",cache_dtype="auto",enable_prefix_caching="True",engine="0",num_gpu_blocks="%d"`,
		engine.BlockTokens, config.Blocks), 1)
	return x.buf
}
