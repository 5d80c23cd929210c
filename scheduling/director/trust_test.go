package director_test

import (
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
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
		if err != nil {
			t.Fatal(err)
		}
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
		if err != nil {
			t.Fatal(err)
		}
		tpot := map[bool]time.Duration{true: 7 * time.Millisecond}[trust]
		if q := r.Request; q.Priority != 7 || q.TargetModel != "theirs" || q.FairnessID != "acme" || q.SLO.TTFT != time.Second || q.SLO.TPOT != tpot {
			t.Errorf("trust %v: what the gateway says does not count: %+v", trust, q)
		}
		r.Done(nil)
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
			if got := map[string]time.Duration{director.HeaderTTFT: r.Request.SLO.TTFT, director.HeaderTPOT: r.Request.SLO.TPOT, director.HeaderMaxWait: want}[name]; got != want {
				t.Errorf("%s: %s is %v, want %v", name, value, got, want)
			}
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
				if err != nil {
					t.Fatal(err)
				}
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
	for _, request := range []string{"POST /v1/chat/completions", "PUT /v1/chat/completions", "PATCH /v1/responses"} {
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
