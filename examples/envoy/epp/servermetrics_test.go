package epp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestMetricsSource: metrics are read where the policy's metrics-data-source says, by the
// names that its core-metrics-extractor has, and after a reload where the new one says.
func TestMetricsSource(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/custom/metrics":
			io.WriteString(w, "my_queue{state=\"waiting\"} 5\nmy_queue{state=\"done\"} 900\n")
		case "/other":
			io.WriteString(w, "my_other 7\n")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	text := poolYAML("llama") + strings.Replace(endpointsYAML("llama", server.Listener.Addr().String()), ", metrics: {disabled: true}", "", 1) + pickerHead + `plugins:
- {type: queue-scorer}
- {type: metrics-data-source, parameters: {scheme: https, path: /custom/metrics, insecureSkipVerify: true}}
- {type: core-metrics-extractor, parameters: {defaultEngine: mine, engineConfigs: [{name: mine, queuedRequestsSpec: 'my_queue{state=waiting}'}]}}
`
	r := start(t, text, nil)
	waiting := func(want float64) func() bool {
		return func() bool {
			got, known := r.Store().Snapshot().Pools()[0].Endpoints()[0].Metrics.Waiting.Value()
			return known && got == want
		}
	}
	eventually(t, "the metrics are read", waiting(5))
	put(t, r.path, strings.NewReplacer("/custom/metrics", "/other", "my_queue{state=waiting}", "my_other").Replace(text))
	must(t, r.Reload())
	eventually(t, "the metrics are read elsewhere", waiting(7))
}
