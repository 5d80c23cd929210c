package telemetry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// Names that clients make up make no page larger than it may be, whatever is in them and
// whatever becomes of their requests; and every request is counted.
func TestTrapNamesMakeAHugePage(t *testing.T) {
	if raceEnabled {
		t.Skip("it is one goroutine, and long")
	}
	const many, some = 150_000, 20_000
	long := func(filler string) func(int) string {
		return func(i int) string {
			n := fmt.Sprint(i)
			return n + strings.Repeat(filler, 256/len(filler))[len(n):]
		}
	}
	short := func(i int) string { return fmt.Sprint("model-", i) }
	for _, tt := range []struct {
		name   string
		made   int
		names  func(int) string
		o      telemetry.Options
		target bool // of another name for each
		most   int
	}{
		{"short names", many, short, telemetry.Options{}, false, telemetry.DefaultMaxBytes},
		{"long names", some, long("x"), telemetry.Options{}, false, telemetry.DefaultMaxBytes},
		{"quotes", many, long(`"`), telemetry.Options{LegacyNames: true}, true, telemetry.DefaultMaxBytes},
		{"backslashes", some, long(`\`), telemetry.Options{}, true, telemetry.DefaultMaxBytes},
		{"line ends", some, long("\n"), telemetry.Options{}, true, telemetry.DefaultMaxBytes},
		{"no UTF-8", some, long("a\xff"), telemetry.Options{}, true, telemetry.DefaultMaxBytes},
		{"many models may be", some, long(`"`), telemetry.Options{MaxModels: 1000, MaxEndpoints: 1000, MaxQueueSeries: 1000, LegacyNames: true}, true, telemetry.DefaultMaxBytes},
		{"a small page", some, long(`"`), telemetry.Options{MaxBytes: 256 << 10, LegacyNames: true}, true, 256 << 10},
		{"both names", some, long(`"`), telemetry.Options{Names: telemetry.NamesBoth, LegacyNames: true}, true, telemetry.DefaultMaxBytes},
		{"both names, short ones", some, short, telemetry.Options{Names: telemetry.NamesBoth, MaxModels: 1000}, false, telemetry.DefaultMaxBytes},
		{"both names, a small page", some, short, telemetry.Options{Names: telemetry.NamesBoth, MaxBytes: 256 << 10}, false, 256 << 10},
		{"a large page", some, short, telemetry.Options{MaxBytes: 16 << 20}, false, 16 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMetrics(t, tt.o)
			pools := []types.NamespacedName{pool, {Namespace: "default", Name: "qwen"}}
			hooks := []scheduling.Hooks{m.Hooks(pools[0], scheduling.Hooks{}), m.Hooks(pools[1], scheduling.Hooks{})}
			eps := []*types.Endpoint{endpoint("default/pod-0"), endpoint("default/pod-1")}
			for i := range tt.made {
				req := request(tt.names(i), "")
				if tt.target {
					req.TargetModel = "to" + req.Model[:200]
				}
				req.Priority = i % 7
				req.SLO = types.SLO{TTFT: 1, TPOT: 1}
				h := hooks[i%2]
				d := &scheduling.Decision{Request: req, Endpoint: eps[i%2], At: req.Now}
				switch i % 8 {
				case 0:
					m.Refused(req, pools[0], "saturated", 429)
				case 1:
					m.Refused(req, pools[1], "", 500+i%9)
				default:
					h.Scheduled(event(d, types.Outcome{}))
					out := served
					out.Duration, out.TTFT = 2*time.Second, time.Second
					if i%5 == 0 {
						out = types.Outcome{Status: 400 + i%120}
					}
					h.Finished(event(d, out))
				}
				m.Rewritten("canary", req.Model, req.TargetModel)
			}
			page := exposition(t, m)
			if len(page) > tt.most || len(page) < tt.most/4 {
				t.Errorf("page of %d bytes, want up to %d, and some of it", len(page), tt.most)
			}
			var requests, done, failed, rewritten, tokens, decided float64
			models := map[string]bool{}
			for _, f := range parse(t, page) {
				for _, s := range f.series {
					switch s.of {
					case "inference_objective_request_total":
						requests += s.value
						models[s.labels[0][1]] = true
					case "inference_objective_request_duration_seconds_count":
						done += s.value
					case "inference_objective_request_error_total":
						failed += s.value
					case "inference_extension_model_rewrite_decisions_total":
						rewritten += s.value
					case "inferpick_model_prompt_tokens_total":
						tokens += s.value
					case "inference_extension_scheduler_attempts_total":
						decided += s.value
					}
				}
			}
			all := float64(tt.made)
			if requests != all || done+failed != all || rewritten != all || tokens != 1000*done || decided != all*6/8 {
				t.Errorf("%v requests, %v ended, %v rewritten, %v tokens, %v decisions of %v", requests, done+failed, rewritten, tokens, decided, all)
			}
			if len(models) < 5 {
				t.Errorf("%d models have series of their own", len(models))
			}
		})
	}
}

// Nor do the times in queues, of which each is a histogram.
func TestTrapQueuesMakeAHugePage(t *testing.T) {
	for _, models := range []int{1, 400} {
		m := newMetrics(t, telemetry.Options{MaxQueueSeries: 10_000, MaxModels: 10_000})
		o := admission.Options{Tenants: map[string]admission.Tenant{}}
		for i := range 200 {
			o.Tenants[strings.Repeat(`"`, 200)+fmt.Sprint(i)] = admission.Tenant{}
		}
		h := m.AdmissionHooks(pool, o)
		c, err := admission.New(admission.Options{Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { return 0 })})
		require.NoError(t, err)
		defer c.Close()
		c.SetEndpoints([]*types.Endpoint{endpoint("a")})
		n := 0
		for id := range o.Tenants {
			for i := range 10 {
				req := request(strings.Repeat("\n", 250)+fmt.Sprint((n+i)%models), "")
				req.FairnessID = id
				ticket, _, err := c.Offer(admission.Arrival{Request: req}, func(error) {})
				require.NoError(t, err)
				h.Dispatched(ticket, time.Second)
				ticket.Done(served)
				n++
			}
		}
		page := exposition(t, m)
		if len(page) > telemetry.DefaultMaxBytes {
			t.Errorf("%d models: page of %d bytes", models, len(page))
		}
		counted := 0.0
		for _, f := range parse(t, page) {
			for _, s := range f.series {
				if s.of == "inference_extension_flow_control_request_queue_duration_seconds_count" {
					counted += s.value
				}
			}
		}
		if counted != float64(n) {
			t.Errorf("%v waits of %d", counted, n)
		}
	}
}

// Endpoints that come and go take no room for ever.
func TestEndpointsThatGoGiveRoomBack(t *testing.T) {
	m := newMetrics(t, telemetry.Options{MaxBytes: 256 << 10})
	h := m.Hooks(pool, scheduling.Hooks{})
	for i := range 20_000 {
		d := decision(request("chat", ""))
		d.Endpoint = endpoint(fmt.Sprint("pod-", i))
		h.Scheduled(event(d, types.Outcome{}))
		d.Endpoint.Load.Retire()
		if i%100 == 0 {
			if _, err := m.Gather(); err != nil {
				t.Fatal(err)
			}
		}
	}
	d := decision(request("chat", ""))
	d.Endpoint = endpoint("the-last")
	h.Scheduled(event(d, types.Outcome{}))
	check(t, scrape(t, m), `1 inference_extension_scheduler_attempts_total{namespace="",pod_name="the-last",port="8000",status="success",target_model_name="chat"}`)
}

// A model that has series keeps them while others come.
func TestSeriesStay(t *testing.T) {
	m := newMetrics(t, telemetry.Options{})
	h := m.Hooks(pool, scheduling.Hooks{})
	life(h, decision(request("chat", "")))
	before := scrape(t, m)
	for i := range 5000 {
		life(h, decision(request(fmt.Sprint("made-up-", i), "")))
	}
	life(h, decision(request("chat", "")))
	after := scrape(t, m)
	for name := range before {
		if _, ok := after[name]; !ok {
			t.Errorf("%s has gone", name)
		}
	}
	check(t, after, `
		2 inference_objective_request_total{model_name="chat",priority="0",target_model_name="chat"}
		2 inference_objective_request_duration_seconds_count{model_name="chat",target_model_name="chat"}
		0 inferpick_model_in_flight_requests{model_name="chat",pool="llama",target_model_name="chat"}
	`)
}
