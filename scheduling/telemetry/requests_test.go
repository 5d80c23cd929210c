package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// served is how a request ends that took 2 s and gave 21 tokens.
var served = types.Outcome{Status: 200, ResponseBytes: 5000, Finish: types.FinishLength, Usage: types.Usage{
	PromptTokens: types.Known(1000), CompletionTokens: types.Known(21), CachedTokens: types.Known(640)}}

func TestLifeOfARequest(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{}, endpoint("ns/pod-0"), endpoint("ns/pod-1"))
	req := request("chat", "llama-lora")
	req.Priority, req.SLO = types.PriorityCritical, types.SLO{TTFT: 300 * time.Millisecond, TPOT: 50 * time.Millisecond}
	d := f.schedule(req)
	f.want(`
		1 inference_objective_running_requests{model_name="chat"}
		1 inferpick_model_in_flight_requests{model_name="chat",pool="llama",target_model_name="llama-lora"}
		1 inferpick_pool_in_flight_requests{name="llama"}
		4 inferpick_pool_prefill_tokens_owed{name="llama"}
		1 inference_objective_request_total{model_name="chat",priority="100",target_model_name="llama-lora"}
		16 inference_objective_request_sizes_sum{model_name="chat",target_model_name="llama-lora"}
		- inference_objective_request_duration_seconds_count{model_name="chat",target_model_name="llama-lora"}
		1 inference_extension_scheduler_attempts_total{namespace="ns",pod_name="pod-0",port="8000",status="success",target_model_name="llama-lora"}
		1 inference_extension_scheduler_e2e_duration_seconds_count
	`)
	f.pass(400 * time.Millisecond)
	d.FirstToken()
	f.pass(1600 * time.Millisecond)
	d.Done(served)
	d.Done(served)
	f.want(`
		0 inference_objective_running_requests{model_name="chat"}
		0 inferpick_model_in_flight_requests{model_name="chat",pool="llama",target_model_name="llama-lora"}
		0 inferpick_pool_in_flight_requests{name="llama"}
		0 inferpick_pool_prefill_tokens_owed{name="llama"}
		1 inference_objective_request_duration_seconds_count{model_name="chat",target_model_name="llama-lora"}
		2 inference_objective_request_duration_seconds_sum{model_name="chat",target_model_name="llama-lora"}
		0 inference_objective_request_duration_seconds_bucket{model_name="chat",target_model_name="llama-lora",le="1.5"}
		1 inference_objective_request_duration_seconds_bucket{model_name="chat",target_model_name="llama-lora",le="2"}
		1 inference_objective_request_duration_seconds_bucket{model_name="chat",target_model_name="llama-lora",le="+Inf"}
		0.4 inference_objective_request_ttft_seconds_sum{model_name="chat",target_model_name="llama-lora"}
		0.08 inference_objective_request_tpot_seconds_sum{model_name="chat",target_model_name="llama-lora"}
		0.095238095 inference_objective_normalized_time_per_output_token_seconds_sum{model_name="chat",target_model_name="llama-lora"}
		5000 inference_objective_response_sizes_sum{model_name="chat",target_model_name="llama-lora"}
		1 inferpick_finish_reasons_total{model_name="chat",reason="length",target_model_name="llama-lora"}
		1000 inference_objective_input_tokens_sum{model_name="chat",target_model_name="llama-lora"}
		21 inference_objective_output_tokens_sum{model_name="chat",target_model_name="llama-lora"}
		640 inference_objective_prompt_cached_tokens_sum{model_name="chat",target_model_name="llama-lora"}
		1 inference_objective_request_slo_violation_total{model_name="chat",target_model_name="llama-lora",type="ttft"}
		1 inference_objective_request_slo_violation_total{model_name="chat",target_model_name="llama-lora",type="tpot"}
		1000 inferpick_model_prompt_tokens_total{model_name="chat",pool="llama",target_model_name="llama-lora"}
		21 inferpick_model_output_tokens_total{model_name="chat",pool="llama",target_model_name="llama-lora"}
		640 inferpick_model_cached_tokens_total{model_name="chat",pool="llama",target_model_name="llama-lora"}
		0.7 inferpick_model_output_tokens_per_second{model_name="chat",pool="llama",target_model_name="llama-lora"}
		0 inferpick_retries_total{pool="llama"}
		0 inferpick_bookings_expired_total{pool="llama"}
	`)
	for name := range scrape(t, f.Metrics) {
		if strings.Contains(name, "error") {
			t.Errorf("%s is there without an error", name)
		}
	}
}

// Answers are counted by how the model ended them, if they ended well and that was read.
func TestFinishReasons(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{}, endpoint("a"))
	for finish := range types.FinishOther + 2 {
		for n := range finish + 1 {
			out := types.Outcome{Status: 200, Finish: finish, Cancelled: n == 0}
			f.schedule(request("chat", "")).Done(out)
		}
	}
	f.want(`
		- inferpick_finish_reasons_total{model_name="chat",reason="unknown",target_model_name="chat"}
		1 inferpick_finish_reasons_total{model_name="chat",reason="stop",target_model_name="chat"}
		2 inferpick_finish_reasons_total{model_name="chat",reason="length",target_model_name="chat"}
		3 inferpick_finish_reasons_total{model_name="chat",reason="filter",target_model_name="chat"}
		4 inferpick_finish_reasons_total{model_name="chat",reason="tools",target_model_name="chat"}
		5 inferpick_finish_reasons_total{model_name="chat",reason="other",target_model_name="chat"}
		- inferpick_finish_reasons_total{model_name="chat",reason="invalid",target_model_name="chat"}
	`)
}

func TestWithinItsSLO(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{}, endpoint("a"))
	req := request("chat", "")
	req.SLO = types.SLO{TTFT: time.Second, TPOT: time.Second}
	d := f.schedule(req)
	f.pass(time.Second)
	d.FirstToken()
	f.pass(time.Second)
	d.Done(served)
	f.want(`
		1 inference_objective_request_ttft_seconds_count{model_name="chat",target_model_name="chat"}
		- inference_objective_request_slo_violation_total{model_name="chat",target_model_name="chat",type="ttft"}
		- inference_objective_request_slo_violation_total{model_name="chat",target_model_name="chat",type="tpot"}
	`)
}

// The first byte of a response that is not streamed comes with its last: it says
// nothing of the prefill.
func TestTrapNoTimeToFirstTokenWithoutAStream(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{}, endpoint("a"))
	req := request("chat", "")
	req.Stream, req.SLO.TTFT = false, time.Second
	d := f.schedule(req)
	f.pass(5 * time.Second)
	d.FirstToken()
	d.Done(served)
	f.want(`
		5 inference_objective_request_duration_seconds_sum{model_name="chat",target_model_name="chat"}
		- inference_objective_request_ttft_seconds_count{model_name="chat",target_model_name="chat"}
		- inference_objective_request_tpot_seconds_count{model_name="chat",target_model_name="chat"}
		- inference_objective_request_slo_violation_total{model_name="chat",target_model_name="chat",type="ttft"}
	`)
}

func TestEndsThatAreNotWell(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, tt := range []struct {
		out  types.Outcome
		code string
	}{
		{types.Outcome{Cancelled: true}, "cancelled"},
		{types.Outcome{Cancelled: true, Status: 200}, "cancelled"},
		{types.Outcome{Err: broken}, "connection"},
		{types.Outcome{Err: broken, Status: 200}, "cut_off"},
		{types.Outcome{Err: fmt.Errorf("wait: %w", context.DeadlineExceeded), Status: 200}, "timeout"},
		{types.Outcome{Err: broken, Status: 503}, "upstream_503"},
		{types.Outcome{Status: 429}, "upstream_429"},
		{types.Outcome{Status: 418}, "upstream_4xx"},
		{types.Outcome{Status: 599}, "upstream_5xx"},
		{types.Outcome{Status: 999}, "upstream_5xx"},
		{types.Outcome{Status: 1 << 30, Err: broken}, "cut_off"},
	} {
		t.Run(tt.code, func(t *testing.T) {
			f := newFixture(t, telemetry.Options{}, scheduling.Profile{}, endpoint("a"))
			req := request("chat", "")
			req.SLO.TTFT = time.Second
			d := f.schedule(req)
			f.pass(2 * time.Second)
			tt.out.Usage = served.Usage
			d.Done(tt.out)
			f.want(`
				1 inference_objective_request_error_total{error_code="` + tt.code + `",model_name="chat",target_model_name="chat"}
				0 inference_objective_running_requests{model_name="chat"}
				- inference_objective_request_duration_seconds_count{model_name="chat",target_model_name="chat"}
				- inference_objective_output_tokens_count{model_name="chat",target_model_name="chat"}
				21 inferpick_model_output_tokens_total{model_name="chat",pool="llama",target_model_name="chat"}
				1 inference_objective_request_slo_violation_total{model_name="chat",target_model_name="chat",type="ttft"}
			`)
		})
	}
}

func TestRetry(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{Fallbacks: 1}, endpoint("a"), endpoint("b"))
	d := f.schedule(request("chat", ""))
	f.pass(time.Second)
	d.FirstToken()
	d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
	f.want(`1 inference_objective_running_requests{model_name="chat"}`)
	f.pass(2 * time.Second)
	d.FirstToken()
	d.Done(served)
	f.want(`
		0 inference_objective_running_requests{model_name="chat"}
		1 inference_objective_request_total{model_name="chat",priority="0",target_model_name="chat"}
		1 inferpick_retries_total{pool="llama"}
		1 inference_objective_request_ttft_seconds_count{model_name="chat",target_model_name="chat"}
		3 inference_objective_request_ttft_seconds_sum{model_name="chat",target_model_name="chat"}
	`)
}

func TestExpiredBooking(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{BookingTTL: time.Minute}, endpoint("a"))
	f.schedule(request("chat", ""))
	f.pass(2 * time.Minute)
	f.Expire(f.now)
	f.want(`
		1 inferpick_bookings_expired_total{pool="llama"}
		1 inference_objective_request_error_total{error_code="expired",model_name="chat",target_model_name="chat"}
		0 inference_objective_running_requests{model_name="chat"}
	`)
}

// panicky is a tracker that panics.
type panicky struct{ on bool }

func (p *panicky) Picked(*types.Request, *types.Endpoint) {
	if p.on {
		panic("tracker")
	}
}
func (*panicky) FirstToken(*types.Request, *types.Endpoint)              {}
func (*panicky) Finished(*types.Request, *types.Endpoint, types.Outcome) {}

// A tracker that panics keeps nobody from counting right.
func TestTrapRunningWherePluginsPanic(t *testing.T) {
	p := &panicky{on: true}
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{Trackers: []scheduling.Tracker{p}}, endpoint("a"))
	req := request("chat", "")
	for range 2 { // with the same request again
		d := f.schedule(req)
		f.want(`1 inference_objective_running_requests{model_name="chat"}`)
		d.Done(served)
		f.want(`0 inference_objective_running_requests{model_name="chat"}`)
	}
}

func TestUsageThatCannotBe(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{}, endpoint("a"))
	for _, v := range []float64{-1, 1e300} {
		d := f.schedule(request("chat", ""))
		d.Done(types.Outcome{Status: 200, Usage: types.Usage{PromptTokens: types.Known(v), CompletionTokens: types.Known(v), CachedTokens: types.Known(v)}})
	}
	f.schedule(request("chat", "")).Done(types.Outcome{Status: 200})
	f.want(`
		3 inference_objective_request_duration_seconds_count{model_name="chat",target_model_name="chat"}
		- inference_objective_input_tokens_count{model_name="chat",target_model_name="chat"}
		- inference_objective_output_tokens_count{model_name="chat",target_model_name="chat"}
		0 inferpick_model_prompt_tokens_total{model_name="chat",pool="llama",target_model_name="chat"}
		0 inferpick_model_cached_tokens_total{model_name="chat",pool="llama",target_model_name="chat"}
	`)
}

func TestRefused(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{}, endpoint("a"))
	req := request("chat", "llama-lora")
	f.Refused(req, pool, "saturated", 429)
	f.Refused(req, pool, "saturated", 429)
	f.Refused(req, pool, "of my own", 418)
	f.Refused(req, pool, "", 511)
	f.Refused(req, pool, "", 0)
	f.Refused(req, types.NamespacedName{}, "invalid_header", 400)                     // the series are there
	f.Refused(request("made up", ""), types.NamespacedName{}, "model_not_found", 404) // they are not
	f.want(`
		6 inference_objective_request_total{model_name="chat",priority="0",target_model_name="llama-lora"}
		2 inference_objective_request_error_total{error_code="saturated",model_name="chat",target_model_name="llama-lora"}
		1 inference_objective_request_error_total{error_code="other_4xx",model_name="chat",target_model_name="llama-lora"}
		1 inference_objective_request_error_total{error_code="other_5xx",model_name="chat",target_model_name="llama-lora"}
		1 inference_objective_request_error_total{error_code="other",model_name="chat",target_model_name="llama-lora"}
		1 inference_objective_request_error_total{error_code="invalid_header",model_name="chat",target_model_name="llama-lora"}
		1 inference_objective_request_error_total{error_code="model_not_found",model_name="other",target_model_name="other"}
		2 inferpick_refused_requests_total{error_code="saturated",pool="llama"}
		- inference_objective_running_requests{model_name="chat"}
	`)
}

func TestDecisionsThatFail(t *testing.T) {
	for _, tt := range []struct {
		err      error
		failures string
	}{
		{errors.New("out of order"), "1"},
		{scheduling.ErrSaturated, "-"},
		{context.Canceled, "-"},
	} {
		f := newFixture(t, telemetry.Options{}, scheduling.Profile{Filters: []scheduling.Named{{Name: "gate", Filter: scheduling.FilterFunc(
			func(context.Context, *types.Request, []*types.Endpoint, []bool) error { return tt.err })}}}, endpoint("a"))
		if _, err := f.Schedule(ctx, request("chat", ""), f.eps); !errors.Is(err, tt.err) {
			t.Fatal(err)
		}
		f.want(`
			1 inference_extension_scheduler_attempts_total{namespace="",pod_name="",port="",status="failure",target_model_name="chat"}
			1 inference_extension_scheduler_e2e_duration_seconds_count
			- inference_objective_running_requests{model_name="chat"}
			` + tt.failures + ` inferpick_plugin_failures_total{plugin="gate",pool="llama",stage="filter"}
		`)
	}
}

func TestPluginFailures(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{Scorers: []scheduling.Weighted{{Name: "weather", Weight: 1, Scorer: scheduling.ScorerFunc(
		func(context.Context, *types.Request, []*types.Endpoint, []float64) error { return errors.New("rain") })}}}, endpoint("a"))
	f.schedule(request("chat", "")).Done(served)
	f.want(`1 inferpick_plugin_failures_total{plugin="weather",pool="llama",stage="scorer"}`)
	for i := range 1000 {
		h := f.Hooks(pool, scheduling.Hooks{})
		h.PluginFailed(nil, &scheduling.PluginError{Stage: "scorer", Plugin: fmt.Sprint(i)})
	}
	f.want(`745 inferpick_plugin_failures_total{plugin="other",pool="llama",stage="other"}`)
}

func TestRewritten(t *testing.T) {
	f := newFixture(t, telemetry.Options{MaxModels: 2}, scheduling.Profile{}, endpoint("a"))
	for _, target := range []string{"a", "b", "a", "c", "d"} {
		f.Rewritten("canary", "chat", target)
	}
	f.want(`
		2 inference_extension_model_rewrite_decisions_total{model_name="chat",model_rewrite_name="canary",target_model="a"}
		1 inference_extension_model_rewrite_decisions_total{model_name="chat",model_rewrite_name="canary",target_model="b"}
		2 inference_extension_model_rewrite_decisions_total{model_name="other",model_rewrite_name="other",target_model="other"}
	`)
}

func TestLegacyNames(t *testing.T) {
	f := newFixture(t, telemetry.Options{LegacyNames: true}, scheduling.Profile{}, endpoint("a"))
	for _, priority := range []int{0, 100} {
		req := request("chat", "")
		req.Priority = priority
		d := f.schedule(req)
		f.pass(time.Second)
		d.Done(served)
	}
	f.schedule(request("chat", ""))
	f.Refused(request("chat", ""), pool, "saturated", 429)
	f.want(`
		4 inference_model_request_total{model_name="chat",target_model_name="chat"}
		1 inference_model_request_error_total{error_code="saturated",model_name="chat",target_model_name="chat"}
		2 inference_model_request_duration_seconds_sum{model_name="chat",target_model_name="chat"}
		1 inference_model_running_requests{model_name="chat"}
		1 inference_objective_running_requests{model_name="chat"}
		3 inference_objective_request_total{model_name="chat",priority="0",target_model_name="chat"}
	`)
}

func TestNextHooksAreCalled(t *testing.T) {
	var called []string
	tell := func(name string) { called = append(called, name) }
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{
		Fallbacks: 1,
		Scorers: []scheduling.Weighted{{Weight: 1, Scorer: scheduling.ScorerFunc(
			func(context.Context, *types.Request, []*types.Endpoint, []float64) error { return errors.New("rain") })}},
		Hooks: scheduling.Hooks{
			Scheduled:    func(scheduling.Event) { tell("scheduled") },
			Rejected:     func(*types.Request, error) { tell("rejected") },
			PluginFailed: func(*types.Request, *scheduling.PluginError) { tell("plugin failed") },
			FirstToken:   func(scheduling.Event) { tell("first token") },
			Retried:      func(scheduling.Event) { tell("retried") },
			Finished: func(e scheduling.Event) {
				tell(fmt.Sprint("finished after ", e.Outcome.Duration))
			},
		},
	}, endpoint("a"), endpoint("b"))
	d := f.schedule(request("chat", ""))
	d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
	f.pass(time.Second)
	d.FirstToken()
	d.Done(served)
	_, _ = f.Schedule(ctx, request("chat", ""), nil)
	if got, want := strings.Join(called, ", "), "plugin failed, scheduled, retried, first token, finished after 1s, rejected"; got != want {
		t.Errorf("called %s, want %s", got, want)
	}
}

func TestRateDecays(t *testing.T) {
	const series = `inferpick_model_output_tokens_per_second{model_name="chat",pool="llama",target_model_name="chat"}`
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{}, endpoint("a"))
	for range 600 { // 21 tokens every half a second
		f.schedule(request("chat", "")).Done(served)
		f.pass(500 * time.Millisecond)
	}
	var got, later float64
	fmt.Sscan(scrape(t, f.Metrics)[series], &got)
	if got < 41 || got > 43 {
		t.Errorf("rate = %v, want about 42", got)
	}
	f.pass(30 * time.Second)
	fmt.Sscan(scrape(t, f.Metrics)[series], &later)
	if part := later / got; part < 0.36 || part > 0.37 {
		t.Errorf("30 s later the rate is %v of %v, want 1/e", later, got)
	}
	f.pass(time.Hour)
	f.want("0 " + series)
}
