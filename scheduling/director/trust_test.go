package director_test

import (
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// TestHeadersAreNotTrusted: by default nothing that a client sends in headers directs
// anything, and what the gateway says counts in both cases.
func TestHeadersAreNotTrusted(t *testing.T) {
	headers := []string{
		director.HeaderObjective, "fast", director.HeaderRewrite, "mine", director.HeaderFairness, "me",
		director.HeaderTTFT, "100", director.HeaderTPOT, "0x1p43", director.HeaderMaxWait, "x",
	}
	for _, trust := range []bool{false, true} {
		d := newDirector(t, newStore(t, 1, datastore.Options{}), func(o *director.Options) { o.TrustRequestHeaders = trust })
		r, err := d.Route(ctx, incoming("bulk", headers...))
		if trust {
			isError(t, err, 400, director.CodeBadHeader)
			continue
		}
		require.NoError(t, err)
		if q := r.Request; q.Priority != types.PrioritySheddable || q.TargetModel != "bulk" || q.FairnessID != "" || q.SLO != (types.SLO{}) {
			t.Errorf("headers were read: %+v", q)
		}
		r.Done(nil)
	}
	for _, trust := range []bool{false, true} {
		d := newDirector(t, newStore(t, 1, datastore.Options{}), func(o *director.Options) { o.TrustRequestHeaders = trust })
		in := incoming("bulk", director.HeaderObjective, "none", director.HeaderRewrite, "mine", director.HeaderFairness, "me", director.HeaderTTFT, "100", director.HeaderTPOT, "7")
		in.Objective, in.Rewrite, in.FairnessID, in.SLO.TTFT = "fast", "theirs", "acme", time.Second
		r, err := d.Route(ctx, in)
		require.NoError(t, err)
		tpot := map[bool]time.Duration{true: 7 * time.Millisecond}[trust]
		if q := r.Request; q.Priority != 7 || q.TargetModel != "theirs" || q.FairnessID != "acme" || q.SLO.TTFT != time.Second || q.SLO.TPOT != tpot {
			t.Errorf("trust %v: what the gateway says does not count: %+v", trust, q)
		}
		r.Done(nil)
	}
}

// TestNamesOfLLMD: its names for headers are read as those of the Inference Extension
// are, before them, and under the same conditions.
func TestNamesOfLLMD(t *testing.T) {
	names := map[string]string{
		director.HeaderLLMDObjective: "x-llm-d-inference-objective", director.HeaderLLMDFairness: "x-llm-d-inference-fairness-id",
		director.HeaderLLMDRewrite: "x-llm-d-model-name-rewrite", director.HeaderLLMDTTFT: "x-llm-d-slo-ttft-ms",
		director.HeaderLLMDTPOT: "x-llm-d-slo-tpot-ms", director.HeaderLLMDMaxWait: "x-llm-d-inference-ttl",
	}
	for name, wire := range names {
		if got := textproto.CanonicalMIMEHeaderKey(wire); got != name {
			t.Errorf("%s is not the canonical form of %s, which is %s", name, wire, got)
		}
	}
	theirs := []string{
		director.HeaderLLMDObjective, "fast", director.HeaderLLMDRewrite, "mine", director.HeaderLLMDFairness, "me",
		director.HeaderLLMDTTFT, "100", director.HeaderLLMDTPOT, "7", director.HeaderLLMDMaxWait, " 2s ",
	}
	others := []string{
		director.HeaderObjective, "none", director.HeaderRewrite, "another", director.HeaderFairness, "you",
		director.HeaderTTFT, "5", director.HeaderTPOT, "5", director.HeaderMaxWait, "5",
	}
	for _, trust := range []bool{false, true} {
		d := newDirector(t, newStore(t, 1, datastore.Options{}), func(o *director.Options) { o.TrustRequestHeaders = trust })
		r, err := d.Route(ctx, incoming("bulk", append(others, theirs...)...))
		require.NoError(t, err)
		q := r.Request
		if trust && (q.Priority != 7 || q.TargetModel != "mine" || q.FairnessID != "me" || q.SLO != (types.SLO{TTFT: 100 * time.Millisecond, TPOT: 7 * time.Millisecond})) {
			t.Errorf("what llm-d's headers say does not count: %+v", q)
		}
		if !trust && (q.Priority != types.PrioritySheddable || q.TargetModel != "bulk" || q.FairnessID != "" || q.SLO != (types.SLO{})) {
			t.Errorf("headers were read: %+v", q)
		}
		r.Done(nil)
	}
	d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
	for name, values := range map[string][]string{
		director.HeaderLLMDTTFT: {"soon", "0", "-1"}, director.HeaderLLMDTPOT: {"1s", "Inf"}, director.HeaderLLMDMaxWait: {"soon", "5", "0s", "-1s", "999999999999h", "25h"},
	} {
		for _, value := range values {
			_, err := d.Route(ctx, incoming("food", name, value))
			if e := isError(t, err, 400, director.CodeBadHeader); e.Param != name {
				t.Errorf("%s: %s: param %q", name, value, e.Param)
			}
		}
	}
}

// TestMaxWaitByLLMD: its name for the longest wait shortens it as ours does.
func TestMaxWaitByLLMD(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, nil)
	first := mustRoute(t, d, standard())
	refusedWith(t, start(ctx, d, standard(director.HeaderLLMDMaxWait, "15ms", director.HeaderMaxWait, "3600000")), 429, string(admission.TimedOut))
	answer(first)
}

// TestControlHeadersAreStripped: nothing that tells gateways or proxies an address is
// taken from a client.
func TestControlHeadersAreStripped(t *testing.T) {
	for _, name := range []string{
		"x-gateway-destination-endpoint", "X-GATEWAY-DESTINATION-ENDPOINT-SUBSET", "x-gateway-destination-endpoint-served",
		"x-gateway-destination-endpoint-fallback", "x-gateway-destination-endpoint-scores", "x-prefiller-host-port", "X-Prefiller-Host-Port",
		"x-encoder-hosts-ports", "x-kv-cache-source-host-port", "x-data-parallel-host-port", "x-llm-d-prefiller-host-port",
		"x-llm-d-encoder-hosts-ports", "x-llm-d-kv-cache-source-host-port",
	} {
		h := map[string][]string{name: {"10.0.0.9:1"}, "X-Other": {"stays"}}
		h[strings.ReplaceAll(name, "-", "_")] = []string{"10.0.0.9:1"} // as WSGI servers read them, the same
		director.StripControlHeaders(h)
		if len(h) != 1 {
			t.Errorf("%s is left: %v", name, h)
		}
		if !slices.Contains(director.ControlHeaders(), textproto.CanonicalMIMEHeaderKey(name)) {
			t.Errorf("ControlHeaders lacks %s", name)
		}
	}
}

// TestMaxWaitOfTheGateway: Incoming.MaxWait needs no header.
func TestMaxWaitOfTheGateway(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, func(o *director.Options) { o.TrustRequestHeaders = false })
	first := mustRoute(t, d, standard())
	in := standard()
	in.MaxWait = 10 * time.Millisecond
	refusedWith(t, start(ctx, d, in), 429, string(admission.TimedOut))
	answer(first)
}

// TestMilliseconds: plain decimals and nothing else, within a day.
func TestMilliseconds(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
	for value, want := range map[string]time.Duration{
		"250.5": 250500 * time.Microsecond, "1": time.Millisecond, "0.5": 500 * time.Microsecond, "86400000": 24 * time.Hour, "0001": time.Millisecond,
		"9223372036854.7754": 0, "86400001": 0, "0x1p43": 0, "1_000": 0, "1e3": 0, "+1": 0, "-1": 0, " 1": 0, "1 ": 0, ".5": 0, "5.": 0, "1.2.3": 0,
		"Inf": 0, "NaN": 0, "0": 0, "0.0": 0, "0.0000000001": 0, "١": 0, "1,5": 0, strings.Repeat("9", 400): 0, "1." + strings.Repeat("0", 400): 0,
	} {
		for _, name := range []string{director.HeaderTTFT, director.HeaderTPOT, director.HeaderMaxWait} {
			r, err := d.Route(ctx, incoming("food", name, value))
			if want == 0 {
				if e := isError(t, err, 400, director.CodeBadHeader); e.Param != name {
					t.Errorf("%s: param %q", name, e.Param)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %s: %v", name, value, err)
				continue
			}
			require.Equal(t, want, map[string]time.Duration{director.HeaderTTFT: r.Request.SLO.TTFT, director.HeaderTPOT: r.Request.SLO.TPOT, director.HeaderMaxWait: want}[name], "%s: %s", name, value)
			r.Done(nil)
		}
	}
}

// TestLongIDsGoOnToDiffer: what is alike up to the bound is not the same.
func TestLongIDsGoOnToDiffer(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
	long := strings.Repeat("x", 256)
	for name, id := range map[string]func(*types.Request) string{
		"X-Session-Id":          func(r *types.Request) string { return r.SessionID },
		director.HeaderFairness: func(r *types.Request) string { return r.FairnessID },
		"X-Request-Id":          func(r *types.Request) string { return r.ID },
	} {
		seen := map[string]string{}
		for _, value := range []string{long, long + "a", long + "b", long + "ab", long[:255], strings.Repeat("y", 100_000)} {
			for range 2 {
				r, err := d.Route(ctx, incoming("food", name, value))
				require.NoError(t, err)
				got := id(&r.Request)
				if other, ok := seen[got]; ok && other != value || len(got) > 256 || len(value) <= 256 && got != value {
					t.Errorf("%s of %d bytes became %q", name, len(value), got)
				}
				seen[got] = value
				r.Done(nil)
			}
		}
		if len(seen) != 6 {
			t.Errorf("%s: 6 values became %d", name, len(seen))
		}
	}
}

// TestWithoutAPrompt: what has none is passed on as it is, needs no place and does not
// wait; methods other than POST have none.
func TestWithoutAPrompt(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{UnknownModels: datastore.Refuse}), oneEach, nil)
	full := mustRoute(t, d, incoming("food"))
	for _, request := range []string{
		"GET /health", "GET /v1/files/x", "DELETE /v1/files/x", "OPTIONS /v1/chat/completions", "HEAD /v1/chat/completions", "GET /v1/responses/r", "GET /v1/models/m",
		"DELETE /v1/chat/completions/x", "GET /v1/chat/completions", "PUT /v1/chat/completions", "POST /v1/files", "POST /tokenize",
	} {
		in := ask(request)
		in.Body = nil
		r, err := d.Route(ctx, in)
		if err != nil {
			t.Errorf("%s: %v", request, err)
			continue
		}
		if r.Waited != 0 || len(r.Body) != 0 || r.Request.Prompt.Tokens != 0 {
			t.Errorf("%s: %+v", request, r.Request)
		}
		r.Response(200, "application/json")
		r.End()
	}
	in := ask("DELETE /v1/files/x") // a body that is not looked at
	in.Body = []byte("{")
	if r := mustRoute(t, d, in); string(r.Body) != "{" {
		t.Errorf("the body became %q", r.Body)
	} else {
		r.Done(nil)
	}
	for _, request := range []string{"POST /v1/chat/completions", "PUT /v1/chat/completions", "PATCH /v1/responses", "post /v1/chat/completions"} {
		in := ask(request)
		in.Body = []byte("{")
		_, err := d.Route(ctx, in)
		if e := director.AsError(err); e.Status != 400 {
			t.Errorf("%s: %v, want the body read", request, err)
		}
	}
	for _, request := range []string{"POST /generate", "POST /v2/models/m/generate_stream"} { // something is generated
		in := ask(request)
		in.MaxWait, in.Pool, in.Body = time.Millisecond, pool, []byte(`{"model":"food","text":"hi"}`)
		refusedWith(t, start(ctx, d, in), 429, string(admission.TimedOut))
	}
	answer(full)
}
