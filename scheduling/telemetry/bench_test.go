package telemetry_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// life is the hooks' part of one request.
func life(h scheduling.Hooks, d *scheduling.Decision) {
	e := event(d, served)
	h.Scheduled(e)
	if h.FirstToken != nil {
		h.FirstToken(e)
	}
	e.Outcome.Duration, e.Outcome.TTFT = 2*time.Second, 200*time.Millisecond
	h.Finished(e)
}

// event is what hooks hear of a decision.
func event(d *scheduling.Decision, out types.Outcome) scheduling.Event {
	return scheduling.Event{Request: d.Request, At: d.At, Chosen: d.Endpoint, Endpoint: d.Endpoint, Outcome: out}
}

func newMetrics(t testing.TB, o telemetry.Options) *telemetry.Metrics {
	t.Helper()
	m, err := telemetry.New(o)
	require.NoError(t, err)
	return m
}

func decision(req *types.Request) *scheduling.Decision {
	req.SLO = types.SLO{TTFT: time.Second, TPOT: time.Second}
	return &scheduling.Decision{Request: req, Endpoint: endpoint("default/pod-0"), At: req.Now}
}

func TestHooksDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := newMetrics(t, telemetry.Options{MaxModels: 1, MaxEndpoints: 1})
	h := m.Hooks(pool, scheduling.Hooks{})
	unknown := request("no such", "")
	rejection := error(&scheduling.PluginError{Stage: "filter", Plugin: "gate", Err: io.ErrUnexpectedEOF})
	odd := decision(request("chat", ""))
	odd.Request.Priority = -3
	for name, event := range map[string]func(){
		"a life":           func(d *scheduling.Decision) func() { return func() { life(h, d) } }(decision(request("chat", "llama-lora"))),
		"beyond MaxModels": func(d *scheduling.Decision) func() { return func() { life(h, d) } }(decision(request("chat-2", ""))),
		"a priority":       func() { life(h, odd) },
		"rejected":         func() { h.Rejected(unknown, rejection) },
		"retried":          func() { h.Retried(event(odd, types.Outcome{})) },
		"refused":          func() { m.Refused(unknown, types.NamespacedName{}, "model_not_found", 404) },
		"refused by pool":  func() { m.Refused(unknown, pool, "saturated", 429) },
		"rewritten":        func() { m.Rewritten("canary", "chat", "llama-lora") },
		"refused by its server": func() {
			h.Scheduled(event(odd, types.Outcome{}))
			h.Finished(event(odd, types.Outcome{Status: 503}))
		},
		"failed": func() {
			h.Scheduled(event(odd, types.Outcome{}))
			h.Finished(event(odd, types.Outcome{Err: io.ErrUnexpectedEOF, Status: 200}))
		},
	} {
		if n := testing.AllocsPerRun(100, event); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// BenchmarkHooks is what the hooks add to a request's life, for one model, and
// with the names of 500 models in turn; on all processors at once, where they
// count in the same series; and Schedule, FirstToken and Done without the hooks
// and with them.
func BenchmarkHooks(b *testing.B) {
	for _, models := range []int{1, 500} {
		b.Run(fmt.Sprintf("models=%d", models), func(b *testing.B) {
			h := newMetrics(b, telemetry.Options{}).Hooks(pool, scheduling.Hooks{})
			var ds []*scheduling.Decision
			for i := range models {
				ds = append(ds, decision(request(fmt.Sprint("a-model-with-a-name-", i), "")))
				life(h, ds[i])
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				life(h, ds[i])
				if i++; i == models {
					i = 0
				}
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		h := newMetrics(b, telemetry.Options{}).Hooks(pool, scheduling.Hooks{})
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			d := decision(request("a-model-with-a-name", ""))
			for pb.Next() {
				life(h, d)
			}
		})
	})
	for _, hooks := range []bool{false, true} {
		b.Run(fmt.Sprintf("schedule/hooks=%v", hooks), func(b *testing.B) {
			p := scheduling.Profile{Picker: first}
			if hooks {
				p.Hooks = newMetrics(b, telemetry.Options{}).Hooks(pool, scheduling.Hooks{})
			}
			s, err := scheduling.New(p)
			if err != nil {
				b.Fatal(err)
			}
			eps := []*types.Endpoint{endpoint("default/pod-0")}
			req := *request("a-model-with-a-name", "")
			r := new(types.Request)
			b.ReportAllocs()
			for b.Loop() {
				*r = req
				d, err := s.Schedule(ctx, r, eps)
				if err != nil {
					b.Fatal(err)
				}
				d.FirstToken()
				d.Done(served)
			}
		})
	}
}

// BenchmarkScrape is a scrape in each format, of pools with 100 endpoints and as many models
// as there may be; gather is its part without the format.
func BenchmarkScrape(b *testing.B) {
	var eps []*types.Endpoint
	for i := range 100 {
		eps = append(eps, endpoint(fmt.Sprint("default/pod-", i)))
	}
	for _, models := range []int{10, telemetry.DefaultMaxModels} {
		m := newMetrics(b, telemetry.Options{MaxBytes: 64 << 20, Pools: func(yield func(types.NamespacedName, []*types.Endpoint) bool) { yield(pool, eps) }})
		h := m.Hooks(pool, scheduling.Hooks{})
		for i := range models {
			life(h, decision(request(fmt.Sprint("a-model-with-a-name-", i), "")))
		}
		b.Run(fmt.Sprintf("models=%d/gather", models), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Gather(); err != nil {
					b.Fatal(err)
				}
			}
		})
		for name, format := range map[string]expfmt.FormatType{"text": expfmt.TypeTextPlain, "openmetrics": expfmt.TypeOpenMetrics, "protobuf": expfmt.TypeProtoDelim} {
			b.Run(fmt.Sprintf("models=%d/format=%s", models, name), func(b *testing.B) {
				r := httptest.NewRequest("GET", "/metrics", nil)
				r.Header.Set("Accept", string(expfmt.NewFormat(format)))
				handler := m.Handler()
				b.ReportAllocs()
				for b.Loop() {
					handler.ServeHTTP(discard{http.Header{}}, r)
				}
			})
		}
	}
}

// discard is a response that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
