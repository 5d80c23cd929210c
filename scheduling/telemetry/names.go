package telemetry

import (
	"fmt"
	"slices"
	"strings"
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
var llmd = map[string]renamed{
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

// rename gives a page the names that it is to have.
func (n Names) rename(p *page) {
	if n == NamesGIE {
		return
	}
	for name, r := range llmd {
		e := p.families[name]
		if e == nil {
			continue
		}
		if n == NamesLLMD {
			delete(p.families, name)
		}
		p.families[llmdPrefix+r.name] = r.of(e)
	}
}

// of returns a family by its other name.
func (r *renamed) of(e *exported) *exported {
	type column struct {
		label string
		from  int // -1: more
	}
	var columns []column
	for i, label := range e.labels {
		if other, ok := r.labels[label]; ok {
			label = other
		}
		columns = append(columns, column{label, i})
	}
	if r.more[0] != "" {
		columns = append(columns, column{r.more[0], -1})
	}
	slices.SortFunc(columns, func(a, b column) int { return strings.Compare(a.label, b.label) })
	f := &family{name: llmdPrefix + r.name, help: e.help, kind: e.kind}
	for _, c := range columns {
		f.labels = append(f.labels, c.label)
	}
	other := &exported{family: f, series: make([]*series, 0, len(e.series))}
	for _, s := range e.series {
		values := make([]string, 0, len(columns))
		for _, c := range columns {
			if c.from < 0 {
				values = append(values, r.more[1])
			} else {
				values = append(values, s.values[c.from])
			}
		}
		other.series = append(other.series, &series{values: values, value: s.value, hist: s.hist})
	}
	return other
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
