package config

import (
	"slices"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/plugins"
)

// attributeNames are our names of the figures that llm-d has as attributes of endpoints,
// by its names and by those that engines give to the metrics.
var attributeNames = map[string]string{
	"WaitingQueueSize":    "waiting",
	"RunningRequestsSize": "running",
	"KVCacheUsagePercent": "kvUsage",
	"MaxActiveModels":     "maxAdapters",
	"CacheBlockSize":      "blockSize",
	"CacheNumBlocks":      "numBlocks",

	"num_requests_waiting":        "waiting",
	"num_requests_running":        "running",
	"kv_cache_usage_perc":         "kvUsage",
	"gpu_cache_usage_perc":        "kvUsage",
	"num_queue_reqs":              "waiting",
	"num_running_reqs":            "running",
	"token_usage":                 "kvUsage",
	"trtllm_num_requests_waiting": "waiting",
	"trtllm_num_requests_running": "running",
	"trtllm_kv_cache_utilization": "kvUsage",
}

// attribute returns our name of an attribute that a parameter names: of one of ours, of a
// figure of every engine, or of a metric of the document's own that is such a figure.
func (t *translation) attribute(p fields, field string) string {
	name := p.need(field)
	if name == "" {
		return ""
	}
	metric := name
	if spec, ok := t.customMetrics()[name]; ok {
		metric, _, _ = strings.Cut(spec, "{")
	}
	if _, bare, ok := strings.Cut(metric, ":"); ok { // vllm:num_requests_waiting
		metric = bare
	}
	ours, ok := attributeNames[strings.TrimSpace(metric)]
	switch {
	case slices.Contains(plugins.AttributeNames(), name):
		return name
	case ok:
		return ours
	}
	p.Failf(p.at(field), "is %s, want one of the figures that are read of servers: %s", check.Show(name), listed(plugins.AttributeNames()))
	return ""
}

// customMetrics are what the document's extractors read of its own, by attribute.
func (t *translation) customMetrics() map[string]string {
	specs := make(map[string]string)
	for _, d := range t.declared {
		if d.typeName != typeExtractor {
			continue
		}
		quiet := (&reader{}).fields(d.raw.m, d.raw.path) // the extractor itself is told of elsewhere
		quiet.each("engineConfigs", func(engine fields) {
			engine.each("customMetrics", func(f fields) { specs[f.str("attributeKey")] = f.str("metricSpec") })
		})
	}
	return specs
}

func (t *translation) attributeFilter(_ *declared, p fields) map[string]any {
	ours := without(p.m, "producer")
	t.producer(p)
	ours["attribute"] = t.attribute(p, "attribute")
	return ours
}

func (t *translation) attributeScorer(_ *declared, p fields) map[string]any {
	if source := p.str("source"); source != "" && source != "endpoint" {
		p.Failf(p.at("source"), "is %s, but only attributes of endpoints are read here", check.Show(source))
	}
	t.producer(p)
	ours := without(without(p.m, "producer"), "source")
	ours["attributeKey"] = t.attribute(p, "attributeKey")
	return ours
}

// producer refuses attributes that are not those of the servers' metrics.
func (t *translation) producer(p fields) {
	if name := p.str("producer"); name != "" && name != typeExtractor && (t.byName[name] == nil || t.byName[name].typeName != typeExtractor) {
		p.Failf(p.at("producer"), "is %s, but only what %s reads is known here", check.Show(name), typeExtractor)
	}
}
