package telemetry

import (
	"bufio"
	"io"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// formats are those that Handler knows, the first that a scraper likes best being taken.
var formats = []expfmt.Format{
	expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1,
	expfmt.FmtProtoDelim, expfmt.FmtProtoText, expfmt.FmtProtoCompact, expfmt.FmtText,
}

// Handler returns a handler for GET /metrics, in the text format, OpenMetrics or protocol
// buffers, as the scraper asks for. A program that has a registry of its own adds Metrics to
// its prometheus.Gatherers instead, and serves those. The handler checks nobody's identity;
// serve it where only scrapers reach it.
func (m *Metrics) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "telemetry: only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		families, _ := m.Gather() // which never fails
		format := expfmt.NegotiateAccept(r.Header, formats...)
		w.Header().Set("Content-Type", string(format))
		_ = encode(w, format, families) // an error is that the scraper has gone
	})
}

func encode(w io.Writer, format expfmt.Format, families []*dto.MetricFamily) error {
	b := bufio.NewWriterSize(w, 32<<10)
	e := expfmt.NewEncoder(b, format)
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return err
		}
	}
	if err := e.(expfmt.Closer).Close(); err != nil {
		return err
	}
	return b.Flush()
}
