package telemetry

import (
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

const llmdPrefix = "llm_d_epp_"

// llmdLabels are what llm-d calls labels that have another name there.
var llmdLabels = map[string]string{"model_server_pod": "model_server_endpoint", "pod_name": "endpoint_name"}

// streaming is a label that says there what a family is of in any case.
var streaming = &dto.LabelPair{Name: new("streaming"), Value: new("true")}

// asLLMD returns a family as llm-d has it.
func (f *family) asLLMD(mf *dto.MetricFamily) *dto.MetricFamily {
	series := mf.Metric
	if f == &ttfts || slices.ContainsFunc(f.labels, func(name string) bool { return llmdLabels[name] != "" }) {
		series = make([]*dto.Metric, 0, len(mf.Metric))
		for _, m := range mf.Metric {
			series = append(series, &dto.Metric{Label: f.relabel(m.Label), Counter: m.Counter, Gauge: m.Gauge, Histogram: m.Histogram})
		}
		slices.SortFunc(series, compareLabels)
	}
	return f.called(llmdPrefix+f.llmd, series)
}

func (f *family) relabel(labels []*dto.LabelPair) []*dto.LabelPair {
	out := make([]*dto.LabelPair, 0, len(labels)+1)
	for _, l := range labels {
		if name, ok := llmdLabels[*l.Name]; ok {
			l = &dto.LabelPair{Name: &name, Value: l.Value}
		}
		out = append(out, l)
	}
	if f == &ttfts {
		out = append(out, streaming)
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
