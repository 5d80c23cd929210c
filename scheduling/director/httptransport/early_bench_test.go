package httptransport_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
)

// BenchmarkEarly is a chat of 220 KiB that a client sends at 100 MB/s, or as fast as it can, through a gateway, with and without
// Transport.Early. After the time at which the client begins come: decided-µs, when the server is chosen; first-µs,
// when the server has the first byte of the body; whole-µs, when it has the last.
func BenchmarkEarly(b *testing.B) {
	const size, piece = 220 << 10, 16 << 10
	body := conversation(size)
	for _, rate := range []float64{100e6, 0} {
		for _, early := range []int64{0, 32 << 10} {
			b.Run(fmt.Sprintf("MB/s=%.0f/early=%dKiB", rate/1e6, early>>10), func(b *testing.B) {
				var first, whole, decided time.Time
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.ReadFull(r.Body, make([]byte, 1))
					first = time.Now()
					_, _ = io.Copy(io.Discard, r.Body)
					whole = time.Now()
					answer(streamed)(w, r)
				}))
				defer server.Close()
				store := datastore.New(datastore.Options{})
				_ = store.UpsertEndpoint(pool, datastore.EndpointSpec{Address: server.Listener.Addr().String()})
				s, err := scheduling.New(plugins.Default())
				if err != nil {
					b.Fatal(err)
				}
				d, err := director.New(director.Options{Store: store, Scheduler: s})
				if err != nil {
					b.Fatal(err)
				}
				defer d.Close()
				transport := httptransport.New(d)
				transport.Early = early
				transport.OnRoute = func(*http.Request, *director.Route) { decided = time.Now() }
				front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: transport, FlushInterval: -1})
				defer front.Close()

				var sums [3]time.Duration
				b.ReportAllocs()
				before := cpuTime(b)
				for b.Loop() {
					begin := time.Now()
					pace := &paced{rest: body, piece: piece, rate: rate, began: begin}
					req, _ := http.NewRequest("POST", front.URL+"/v1/chat/completions", pace)
					req.ContentLength = int64(len(body))
					resp, err := client.Do(req)
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					for i, at := range []time.Time{decided, first, whole} {
						sums[i] += at.Sub(begin)
					}
				}
				b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
				for i, name := range []string{"decided-µs", "first-µs", "whole-µs"} {
					b.ReportMetric(float64(sums[i].Microseconds())/float64(b.N), name)
				}
			})
		}
	}
}

// paced is a body that comes in pieces, at a rate in bytes per second. 0: at once.
type paced struct {
	rest  []byte
	piece int
	rate  float64
	began time.Time
	sent  int
}

func (p *paced) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.piece)], p.rest)
	p.rest, p.sent = p.rest[n:], p.sent+n
	if p.rate > 0 {
		for due := time.Duration(float64(p.sent) / p.rate * 1e9); time.Since(p.began) < due; {
			time.Sleep(20 * time.Microsecond)
		}
	}
	return n, nil
}
