package telemetry_test

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

var update = flag.Bool("update", false, "write the golden file anew")

// everything returns a fixture in which every family has a series.
func everything(t testing.TB) *fixture { return everythingAs(t, telemetry.NamesGIE) }

func everythingAs(t testing.TB, names telemetry.Names) *fixture {
	f := newFixture(t, telemetry.Options{Names: names, LegacyNames: true, Version: "v1.2.3", Commit: "abc", Sharing: twoPeers, Rollouts: oneRollout, Autoscale: oneScaled}, scheduling.Profile{Fallbacks: 1}, endpoint("default/a"), endpoint("default/b"))
	req := request("chat", "llama-lora")
	req.SLO, req.Split = types.SLO{TTFT: 1, TPOT: 1}, true
	d := f.schedule(req)
	d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
	f.pass(time.Second)
	d.FirstToken()
	f.pass(time.Second)
	d.Done(served)
	f.schedule(request("chat", "llama-lora")).Done(types.Outcome{Cancelled: true})
	_, _ = f.Schedule(ctx, request("chat", "llama-lora"), nil)
	f.Refused(request("chat", "llama-lora"), pool, "saturated", 429)
	f.Rewritten("canary", "chat", "llama-lora")
	f.admission(t)
	h := f.Hooks(pool, scheduling.Hooks{})
	h.PluginFailed(nil, &scheduling.PluginError{Stage: "scorer", Plugin: "weather"})
	req = request("chat", "llama-lora")
	req.Split = true
	h.Prefilled(scheduling.Event{Request: req, Outcome: types.Outcome{Status: 500}})
	h.Prefilled(scheduling.Event{Request: req, Outcome: types.Outcome{Status: 200, Duration: time.Second}})
	return f
}

// admission makes a series of each family of admission control.
func (f *fixture) admission(t testing.TB) {
	full := 0.0
	o := admission.Options{
		Detector: admission.DetectorFunc(func(admission.Query, *types.Endpoint) float64 { return full }),
		Tuning:   admission.Tuning{Clock: &gateClock{now: f.now}},
	}
	o.Hooks = f.AdmissionHooks(pool, o)
	c, err := admission.New(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	f.admissions[pool] = c
	c.SetEndpoints(f.eps)
	ticket, _, err := c.Offer(admission.Arrival{Request: request("chat", "llama-lora")}, func(error) {})
	require.NoError(t, err)
	ticket.Done(served)
	o.Hooks.Revoked(ticket)
	full = 1
	c.SetEndpoints(f.eps)
	ticket, _, err = c.Offer(admission.Arrival{Request: request("chat", "llama-lora")}, func(error) {})
	require.NoError(t, err)
	ticket.Done(types.Outcome{Cancelled: true})
	batch := request("chat", "llama-lora")
	batch.Priority = types.PrioritySheddable
	if _, _, err = c.Offer(admission.Arrival{Request: batch}, func(error) {}); err == nil {
		t.Fatal("a sheddable request is not refused")
	}
}

// What is exported, with its type and labels: a name that changes breaks somebody's
// dashboard.
func TestNames(t *testing.T) {
	for file, names := range map[string]telemetry.Names{"names.txt": telemetry.NamesGIE, "names-llm-d.txt": telemetry.NamesLLMD, "names-both.txt": telemetry.NamesBoth} {
		t.Run(file, func(t *testing.T) { checkNames(t, everythingAs(t, names), file) })
	}
}

// TestNamesOfLLMD: its names have the figures that the others have, and all that it has
// are listed here once more, so that a slip in the package cannot hide.
func TestNamesOfLLMD(t *testing.T) {
	theirs := map[string]string{
		"request_total": "inference_objective_request_total", "request_error_total": "inference_objective_request_error_total",
		"request_duration_seconds": "inference_objective_request_duration_seconds",
		"request_size_bytes":       "inference_objective_request_sizes", "response_size_bytes": "inference_objective_response_sizes",
		"request_input_tokens": "inference_objective_input_tokens", "request_output_tokens": "inference_objective_output_tokens",
		"request_cached_tokens": "inference_objective_prompt_cached_tokens", "request_running": "inference_objective_running_requests",
		"request_ntpot_seconds":          "inference_objective_normalized_time_per_output_token_seconds",
		"request_ttft_seconds":           "inference_objective_request_ttft_seconds",
		"request_streaming_tpot_seconds": "inference_objective_request_tpot_seconds",
		"average_kv_cache_utilization":   "inference_pool_average_kv_cache_utilization", "average_queue_size": "inference_pool_average_queue_size",
		"average_running_requests": "inference_pool_average_running_requests", "ready_endpoints": "inference_pool_ready_pods",
		"per_endpoint_queue_size":        "inference_pool_per_pod_queue_size",
		"scheduler_e2e_duration_seconds": "inference_extension_scheduler_e2e_duration_seconds", "scheduler_attempts_total": "inference_extension_scheduler_attempts_total",
		"model_rewrite_decisions_total": "inference_extension_model_rewrite_decisions_total", "info": "inference_extension_info",
		"flow_control_pool_saturation":                "inference_extension_flow_control_pool_saturation",
		"flow_control_queue_size":                     "inference_extension_flow_control_queue_size",
		"flow_control_queue_bytes":                    "inference_extension_flow_control_queue_bytes",
		"flow_control_request_queue_duration_seconds": "inference_extension_flow_control_request_queue_duration_seconds",
	}
	figures := func(f *family) (all []string) {
		for _, s := range f.series {
			all = append(all, fmt.Sprint(strings.TrimPrefix(s.of, f.name), " ", s.value))
		}
		slices.Sort(all)
		return all
	}
	by := map[string]*family{}
	both := parse(t, exposition(t, everythingAs(t, telemetry.NamesBoth).Metrics))
	seen := 0
	for i := range both {
		by[both[i].name] = &both[i]
		if strings.HasPrefix(both[i].name, "llm_d_epp_") {
			seen++
		}
	}
	if seen != len(theirs) {
		t.Errorf("%d families have llm-d's names, want %d", seen, len(theirs))
	}
	for name, other := range theirs {
		f, g := by["llm_d_epp_"+name], by[other]
		if f == nil || g == nil {
			t.Errorf("%s or %s is missing", name, other)
			continue
		}
		if f.kind != g.kind || !slices.Equal(figures(f), figures(g)) {
			t.Errorf("%s and %s differ:\n%q\n%q", name, other, figures(f), figures(g))
		}
	}
	for _, f := range parse(t, exposition(t, everythingAs(t, telemetry.NamesLLMD).Metrics)) {
		if slices.Contains(slices.Collect(maps.Values(theirs)), f.name) {
			t.Errorf("%s is there with llm-d's names alone", f.name)
		}
	}
}

func checkNames(t *testing.T, fx *fixture, file string) {
	var b strings.Builder
	last := ""
	for _, f := range parse(t, exposition(t, fx.Metrics)) {
		if f.name <= last {
			t.Errorf("%s comes after %s", f.name, last)
		}
		last = f.name
		fmt.Fprintf(&b, "%s %s", f.kind, f.name)
		labels := f.series[0].labels
		for i, l := range labels {
			if i > 0 && l[0] <= labels[i-1][0] {
				t.Errorf("labels of %s are not in order", f.name)
			}
			fmt.Fprintf(&b, " %s", l[0])
		}
		b.WriteString("\n")
		if f.kind == "histogram" {
			for _, s := range f.series[2:] {
				if s.of != f.name+"_bucket" {
					break
				}
				if le := s.labels[len(labels)][1]; le != "+Inf" {
					fmt.Fprintf(&b, " %s", le)
				} else {
					break // of the first series
				}
			}
			b.WriteString("\n")
		}
		if f.help == "" {
			t.Errorf("%s has no help", f.name)
		}
	}
	golden := filepath.Join("testdata", file)
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	if b.String() != string(want) {
		t.Errorf("names changed; if that is meant, run: go test ./scheduling/telemetry -update\n%s", b.String())
	}
}

// What is exported is, byte by byte, what testdata/page.txt holds, which was written by
// another program than the library that writes it now.
func TestPage(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "page.txt"))
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(string(want), exposition(t, everythingAs(t, telemetry.NamesBoth).Metrics)))
}

// Each scraper is answered in the format that it asks for, with the same families.
func TestHandler(t *testing.T) {
	f := everything(t)
	want, err := f.Gather()
	require.NoError(t, err)
	for _, tt := range []struct{ accept, kind string }{
		{"", "text/plain; version=0.0.4"},
		{"*/*", "text/plain; version=0.0.4"},
		{"text/plain;version=0.0.4", "text/plain; version=0.0.4"},
		{"application/openmetrics-text;version=0.0.1", "application/openmetrics-text; version=0.0.1"},
		{"application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5", "application/openmetrics-text; version=1.0.0"},
		{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "application/vnd.google.protobuf"},
		{"image/png", "text/plain; version=0.0.4"},
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", tt.accept)
		w := httptest.NewRecorder()
		f.Handler().ServeHTTP(w, r)
		require.Equal(t, 200, w.Code)
		require.Contains(t, w.Header().Get("Content-Type"), tt.kind, "for %q", tt.accept)
		kind, _, _ := strings.Cut(tt.kind, ";")
		switch body := w.Body.String(); kind {
		case "application/openmetrics-text":
			require.True(t, strings.HasSuffix(body, "\n# EOF\n"))
			require.Contains(t, body, "# TYPE inference_objective_request counter\n")
			require.NotContains(t, body, " unknown\n", "each counter ends with _total")
			require.Equal(t, len(want), strings.Count(body, "# TYPE "))
		case "application/vnd.google.protobuf":
			decoder := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Header()))
			for _, f := range want {
				var got dto.MetricFamily
				require.NoError(t, decoder.Decode(&got))
				require.Equal(t, f.String(), got.String())
			}
		default:
			require.Equal(t, exposition(t, f.Metrics), body)
		}
	}
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/metrics", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
}

// What two calls return does not change when one of them adds up series that have become
// one, or renames them.
func TestGatherAgain(t *testing.T) {
	f := everythingAs(t, telemetry.NamesBoth)
	before, err := f.Gather()
	require.NoError(t, err)
	was := fmt.Sprint(before)
	after, err := f.Gather()
	require.NoError(t, err)
	require.Equal(t, was, fmt.Sprint(after))
	require.Equal(t, was, fmt.Sprint(before))
}

// A scrape allocates for the series that it returns, and little else.
func TestGatherAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := newMetrics(t, telemetry.Options{MaxBytes: 64 << 20})
	h := m.Hooks(pool, scheduling.Hooks{})
	const models = 100
	for i := range models {
		life(h, decision(request(fmt.Sprint("model-", i), "")))
	}
	per := testing.AllocsPerRun(10, func() { _, _ = m.Gather() }) / models
	if most := 60.0; per > most {
		t.Errorf("%v allocations a model of 16 series, want at most %v", per, most)
	}
}

func TestNewRefuses(t *testing.T) {
	for field, o := range map[string]telemetry.Options{
		"Names":          {Names: telemetry.NamesBoth + 1},
		"MetricsTTL":     {MetricsTTL: -1},
		"MaxModels":      {MaxModels: -1},
		"MaxEndpoints":   {MaxEndpoints: -1},
		"MaxQueueSeries": {MaxQueueSeries: -1},
		"MaxBytes":       {MaxBytes: 1000},
		"QueueThreshold": {QueueThreshold: math.NaN()},
		"KVThreshold":    {KVThreshold: 1.5},
	} {
		if _, err := telemetry.New(o); err == nil || !strings.HasPrefix(err.Error(), "telemetry: Options."+field) {
			t.Errorf("New = %v, want an error of %s", err, field)
		}
	}
}

// Many goroutines count while others read; nothing is lost.
func TestConcurrency(t *testing.T) {
	f := newFixture(t, telemetry.Options{MaxModels: 8, MaxEndpoints: 8}, scheduling.Profile{Fallbacks: 1}, endpoint("a"), endpoint("b"))
	const workers, each = 8, 100
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				req := request(fmt.Sprint("model-", (w+i)%12), "")
				req.Priority = i
				d := f.schedule(req)
				d.FirstToken()
				if i%7 == 0 {
					d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
				}
				d.Done(served)
				f.Refused(request("no such", ""), types.NamespacedName{}, "model_not_found", 404)
				f.Rewritten("canary", "chat", fmt.Sprint(i))
			}
		})
		wg.Go(func() {
			for range 5 {
				if _, err := f.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var requests, seconds, tokens, running, rewritten float64
	for name, v := range scrape(t, f.Metrics) {
		var n float64
		fmt.Sscan(v, &n)
		switch family, _, _ := strings.Cut(name, "{"); family {
		case "inference_objective_request_total":
			requests += n
		case "inference_objective_request_duration_seconds_count":
			seconds += n
		case "inferpick_model_output_tokens_total":
			tokens += n
		case "inference_objective_running_requests":
			running += n
		case "inference_extension_model_rewrite_decisions_total":
			rewritten += n
		}
	}
	if all := float64(workers * each); requests != 2*all || seconds != all || tokens != 21*all || running != 0 || rewritten != all {
		t.Errorf("%v requests, %v ended, %v tokens, %v running, %v rewritten; want %v, %v, %v, 0, %v",
			requests, seconds, tokens, running, rewritten, 2*all, all, 21*all, all)
	}
}

// FuzzLabels gives the names that a client and the wiring can choose; expfmt's
// parser must read them back.
func FuzzLabels(f *testing.F) {
	f.Add("chat", "llama-lora", "ns/pod-0")
	f.Add("", "", "")
	f.Add("a\"b\\c\nd", "}{=,\r\t\x00 # EOF", "/")
	f.Add("\xff\xfe", "\xed\xa0\x80", "\u2028/\xc3")
	f.Add(strings.Repeat("é", 200), "x"+strings.Repeat("é", 200), strings.Repeat("/", 300))
	f.Fuzz(func(t *testing.T, name, target, id string) {
		fx := newFixture(t, telemetry.Options{LegacyNames: true, Version: name, Commit: id}, scheduling.Profile{}, endpoint(id))
		fx.schedule(request(name, target)).Done(served)
		fx.Rewritten(id, name, target)
		fx.Refused(request(target, id), types.NamespacedName{Namespace: id, Name: name}, name, 400)
		if target == "" {
			target = name
		}
		var labels [][2]string
		for _, family := range parse(t, exposition(t, fx.Metrics)) {
			if family.name == "inference_objective_request_duration_seconds" {
				labels = family.series[0].labels
			}
		}
		for i, want := range []string{name, target} {
			got := labels[i][1]
			if !utf8.ValidString(want) {
				if !utf8.ValidString(got) || len(want) <= 256 && got != strings.ToValidUTF8(want, "\uFFFD") {
					t.Errorf("%s = %q, want %q repaired", labels[i][0], got, want)
				}
				continue
			}
			if got != want && (len(want) <= 256 || len(got) < 253 || !strings.HasPrefix(want, got)) {
				t.Errorf("%s = %q, want %q or 256 bytes of it", labels[i][0], got, want)
			}
		}
	})
}
