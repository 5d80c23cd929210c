package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// sourceUp has the name that it has in the endpoint picker of examples/envoy.
var sourceUp = prometheus.NewDesc("inferpick_kubernetes_source_up",
	"Whether all that is known of a kind is complete and kept up to date; it is used in any case. An empty namespace is all.", []string{"kind", "namespace"}, nil)

// kindMetrics are those of what the gateway reads. It is a prometheus.Collector.
type kindMetrics struct{ *Gateway }

// Describe implements prometheus.Collector.
func (kindMetrics) Describe(c chan<- *prometheus.Desc) { c <- sourceUp }

// Collect implements prometheus.Collector.
func (m kindMetrics) Collect(c chan<- prometheus.Metric) {
	type key struct{ kind, namespace string }
	up := make(map[key]float64)
	for _, k := range m.source.Kinds() { // of pods there are several
		if at := (key{k.Kind, k.Namespace}); !k.Up {
			up[at] = 0
		} else if _, ok := up[at]; !ok {
			up[at] = 1
		}
	}
	failures := m.watcher.Failures()
	for _, k := range kinds() {
		if k.Name == "InferencePool" {
			continue // of which the source knows which groups there are
		}
		if at := (key{k.Name, ""}); failures[k.GroupVersionResource] != nil {
			up[at] = 0
		} else if _, ok := up[at]; !ok {
			up[at] = 1
		}
	}
	for at, value := range up {
		c <- prometheus.MustNewConstMetric(sourceUp, prometheus.GaugeValue, value, at.kind, at.namespace)
	}
}

// metricsPage serves all metrics.
func (g *Gateway) metricsPage() http.Handler {
	own := prometheus.NewRegistry()
	own.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), kindMetrics{g})
	return promhttp.HandlerFor(prometheus.Gatherers{g.metrics, own}, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
