package telemetry

import (
	"fmt"
	"io"
	"net/http"
)

// ContentType is that of the format that WriteText writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// WriteText writes what was counted so far, and what pools are like now, in the text
// format of the Prometheus exposition, version 0.0.4: families in the order of their
// names, labels in that of theirs. A family without series is left out. Other families
// may be written before and after. An error is that of w.
func (m *Metrics) WriteText(w io.Writer) error {
	if err := m.gather().write(w); err != nil {
		return fmt.Errorf("telemetry: write the metrics: %w", err)
	}
	return nil
}

// Handler returns a handler for GET /metrics. It checks nobody's identity; serve it
// where only scrapers reach it.
func (m *Metrics) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "telemetry: only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", ContentType)
		_ = m.WriteText(w) // an error is that the scraper has gone
	})
}
