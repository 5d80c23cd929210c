package telemetry

import (
	"fmt"
	"io"
	"net/http"

	"github.com/prometheus/common/expfmt"
)

// Write writes what Gather returns in a format of the Prometheus exposition, for
// example expfmt.NewFormat(expfmt.TypeTextPlain). Errors: a format that is none,
// and those of w.
func (m *Metrics) Write(w io.Writer, format expfmt.Format) error {
	if format.FormatType() == expfmt.TypeUnknown {
		return fmt.Errorf("telemetry: format %q is none of the exposition, make it with expfmt.NewFormat", format)
	}
	families, err := m.Gather()
	if err != nil {
		return err
	}
	enc := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return fmt.Errorf("telemetry: write %s: %w", f.GetName(), err)
		}
	}
	if c, ok := enc.(expfmt.Closer); ok {
		if err := c.Close(); err != nil {
			return fmt.Errorf("telemetry: write the end: %w", err)
		}
	}
	return nil
}

// Handler returns a handler for GET /metrics, which answers in the format that
// the scraper prefers: OpenMetrics, protocol buffers, or the text format. It
// checks nobody's identity; serve it where only scrapers reach it.
func (m *Metrics) Handler() http.Handler {
	offers := []expfmt.Format{
		expfmt.NewFormat(expfmt.TypeOpenMetrics), expfmt.NewFormat(expfmt.TypeProtoDelim), expfmt.NewFormat(expfmt.TypeTextPlain),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "telemetry: only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		format := expfmt.NegotiateAccept(r.Header, offers...)
		w.Header().Set("Content-Type", string(format))
		// An error here is that the scraper has gone.
		_ = m.Write(w, format)
	})
}
