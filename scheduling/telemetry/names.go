package telemetry

import (
	"fmt"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Names say which names the metrics have that the Inference Extension has, too. Those of
// our own, inferpick_, have one name in any case.
type Names uint8

const (
	// NamesGIE are those of the Inference Extension, see the package comment.
	NamesGIE Names = iota
	// NamesLLMD are those of llm-d's picker in version 0.10, which begin with llm_d_epp_. A
	// metric that it has not keeps the name of the Inference Extension.
	NamesLLMD
	// NamesBoth exports both. A page then has twice as many series.
	NamesBoth
)

// renamed is what llm-d calls a family, and its labels where they differ.
type renamed struct {
	name   string
	labels map[string]string
	// more is a label, and its value, that says what the family is of in any case.
	more [2]string
}

// llmd are the names of llm-d by those of the Inference Extension.
var llmd = map[string]*renamed{
	prefix + requests.name:      {name: "request_total"},
	prefix + requestErrors.name: {name: "request_error_total"},
	prefix + running.name:       {name: "request_running"},
	prefix + durations.name:     {name: "request_duration_seconds"},
	prefix + requestSizes.name:  {name: "request_size_bytes"},
	prefix + responseSizes.name: {name: "response_size_bytes"},
	prefix + inputTokens.name:   {name: "request_input_tokens"},
	prefix + outputTokens.name:  {name: "request_output_tokens"},
	prefix + cachedTokens.name:  {name: "request_cached_tokens"},
	prefix + ntpots.name:        {name: "request_ntpot_seconds"},
	prefix + ttfts.name:         {name: "request_ttft_seconds", more: [2]string{"streaming", "true"}},
	prefix + tpots.name:         {name: "request_streaming_tpot_seconds"},

	averageKV.name:      {name: "average_kv_cache_utilization"},
	averageQueue.name:   {name: "average_queue_size"},
	averageRunning.name: {name: "average_running_requests"},
	readyPods.name:      {name: "ready_endpoints"},
	podQueue.name:       {name: "per_endpoint_queue_size", labels: map[string]string{"model_server_pod": "model_server_endpoint"}},

	decisionTimes.name: {name: "scheduler_e2e_duration_seconds"},
	decisions.name:     {name: "scheduler_attempts_total", labels: map[string]string{"pod_name": "endpoint_name"}},
	rewritten.name:     {name: "model_rewrite_decisions_total"},
	info.name:          {name: "info"},

	flowSaturation.name: {name: "flow_control_pool_saturation"},
	queueDurations.name: {name: "flow_control_request_queue_duration_seconds"},
	queueSize.name:      {name: "flow_control_queue_size"},
	queueBytes.name:     {name: "flow_control_queue_bytes"},
}

const llmdPrefix = "llm_d_epp_"

// of returns families under the names that they are to have.
func (n Names) of(families []*dto.MetricFamily) []*dto.MetricFamily {
	if n == NamesGIE {
		return families
	}
	var out []*dto.MetricFamily
	for _, f := range families {
		r, ok := llmd[*f.Name]
		if ok {
			out = append(out, r.of(f))
		}
		if !ok || n == NamesBoth {
			out = append(out, f)
		}
	}
	return out
}

// of returns a family by its other name. The figures of both are the same.
func (r *renamed) of(f *dto.MetricFamily) *dto.MetricFamily {
	other := &dto.MetricFamily{Name: new(llmdPrefix + r.name), Help: f.Help, Type: f.Type, Metric: f.Metric}
	if len(r.labels) == 0 && r.more[0] == "" {
		return other
	}
	other.Metric = make([]*dto.Metric, 0, len(f.Metric))
	for _, m := range f.Metric {
		other.Metric = append(other.Metric, &dto.Metric{Label: r.relabel(m.Label), Counter: m.Counter, Gauge: m.Gauge, Histogram: m.Histogram})
	}
	slices.SortFunc(other.Metric, compareLabels)
	return other
}

func (r *renamed) relabel(labels []*dto.LabelPair) []*dto.LabelPair {
	out := make([]*dto.LabelPair, 0, len(labels)+1)
	for _, l := range labels {
		if name, ok := r.labels[*l.Name]; ok {
			l = &dto.LabelPair{Name: &name, Value: l.Value}
		}
		out = append(out, l)
	}
	if r.more[0] != "" {
		out = append(out, &dto.LabelPair{Name: &r.more[0], Value: &r.more[1]})
	}
	slices.SortFunc(out, func(a, b *dto.LabelPair) int { return strings.Compare(*a.Name, *b.Name) })
	return out
}

// within returns how many of the bytes of a page may be spent by the sizes of the names of
// the Inference Extension: some of the others take more, by a label.
func (n Names) within(bytes int64) int64 {
	switch n {
	case NamesLLMD:
		return bytes / 8 * 7
	case NamesBoth:
		return bytes / 16 * 7
	}
	return bytes
}

func (n Names) check() error {
	if n > NamesBoth {
		return fmt.Errorf("telemetry: Options.Names is %d, want NamesGIE, NamesLLMD or NamesBoth", n)
	}
	return nil
}
