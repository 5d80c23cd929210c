package director_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

const (
	token    = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n"
	finish   = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
	doneLine = "data: [DONE]\n\n"
)

// played returns how a request ended, and what was left, for each attempt.
func played(t *testing.T, in director.Incoming, play func(*director.Route)) (end types.Outcome, left []types.Outcome) {
	t.Helper()
	store := newStore(t, 3, datastore.Options{})
	p, ends := plugins.Classic(), 0
	p.Fallbacks = 2
	p.Hooks.Finished = func(e scheduling.Event) { end, ends = e.Outcome, ends+1 }
	p.Hooks.Retried = func(e scheduling.Event) { left = append(left, e.Outcome) }
	s, err := scheduling.New(p)
	require.NoError(t, err)
	d := newDirector(t, store, func(o *director.Options) { o.Scheduler = s })
	r, err := d.Route(ctx, in)
	require.NoError(t, err)
	play(r)
	r.Done(errors.New("late"))
	if ends != 1 {
		t.Errorf("%d ends", ends)
	}
	zeroLedgers(t, endpoints(store))
	return end, left
}

// answered is a server's answer, and how it ended.
type answered struct {
	status int
	header string // content type, and an encoding after a blank
	body   string
	end    func(*director.Route)
}

func (a answered) play(r *director.Route) {
	kind, encoding, _ := strings.Cut(a.header, " ")
	r.ResponseHeader(a.status, http.Header{"Content-Type": {kind}, "Content-Encoding": {encoding}})
	r.Data([]byte(a.body))
	a.end(r)
}

var errBroken = errors.New("connection reset")

func ends(r *director.Route)   { r.End() }
func breaks(r *director.Route) { r.Break(errBroken) }
func leaves(r *director.Route) { r.Done(context.Canceled) }

// TestVerdicts: the framing of HTTP says whether an answer is complete.
func TestVerdicts(t *testing.T) {
	const events, json = "text/event-stream", "application/json"
	type verdict string
	const served, failed, cancelled verdict = "served", "failed", "cancelled"
	for name, tt := range map[string]struct {
		path string
		answered
		want   verdict
		status int // 0: that of the answer
	}{
		"nothing at all":                    {"", answered{200, "", "", ends}, served, 0},
		"nothing of type JSON":              {"", answered{200, json, "", ends}, served, 0},
		"nothing of type events":            {"", answered{200, events, "", ends}, served, 0},
		"204":                               {"", answered{204, "", "", ends}, served, 0},
		"304":                               {"", answered{304, json, "", ends}, served, 0},
		"gzip":                              {"", answered{200, json + " gzip", "\x1f\x8b", ends}, served, 0},
		"gzip of events":                    {"", answered{200, events + " gzip", "\x1f\x8b", ends}, served, 0},
		"opaque":                            {"", answered{200, "audio/mpeg", "\x00", ends}, served, 0},
		"no JSON":                           {"", answered{200, json, "NaN", ends}, served, 0},
		"JSON in half, by its framing all":  {"", answered{200, json, `{"a":`, ends}, served, 0},
		"events without [DONE]":             {"", answered{200, events, token + finish, ends}, served, 0},
		"events of another API":             {"/v2/models/m/generate_stream", answered{200, events, "data: {\"text_output\":\"a\"}\n\n", ends}, served, 0},
		"events cut off":                    {"", answered{200, events, token, ends}, failed, 0},
		"one that broke off":                {"", answered{200, json, `{"a":`, breaks}, failed, 0},
		"gzip that broke off":               {"", answered{200, json + " gzip", "\x1f\x8b", breaks}, failed, 0},
		"events that broke off":             {"", answered{200, events, token, breaks}, failed, 0},
		"events that broke off after all":   {"", answered{200, events, token + finish + doneLine, breaks}, served, 0},
		"JSON that broke off after a value": {"", answered{200, json, `{"a":1}`, breaks}, failed, 0},
		"500":                               {"", answered{500, json, `{"error":{"message":"x"}}`, ends}, failed, 0},
		"400":                               {"", answered{400, json, `{"error":{"message":"x"}}`, ends}, "", 0},
		"error of the request in a 200":     {"", answered{200, json, `{"error":{"message":"x","code":400}}`, ends}, "", 400},
		"error event of the request":        {"", answered{200, events, "data: {\"error\":{\"message\":\"x\",\"type\":\"BadRequestError\",\"code\":400}}\n\n", ends}, "", 400},
		"error event and [DONE]":            {"", answered{200, events, "data: {\"error\":{\"message\":\"x\",\"code\":400}}\n\n" + doneLine, ends}, "", 400},
		"error event that is busy":          {"", answered{200, events, "data: {\"error\":{\"message\":\"x\",\"code\":503}}\n\n", ends}, failed, 503},
		"error event of the server":         {"", answered{200, events, "data: {\"error\":{\"message\":\"x\"}}\n\n" + doneLine, ends}, failed, 500},
		"error after tokens":                {"", answered{200, events, token + "data: {\"error\":{\"message\":\"x\",\"code\":500}}\n\n", ends}, failed, 500},
		"an empty error beside an answer":   {"", answered{200, json, `{"choices":[{"message":{"content":"a"}}],"error":{}}`, ends}, served, 0},
		"leaves after [DONE]":               {"", answered{200, events, token + finish + doneLine, leaves}, served, 0},
		"leaves after the last event":       {"", answered{200, events, token + finish, leaves}, served, 0},
		"leaves after a JSON value":         {"", answered{200, json, `{"a":1}`, leaves}, served, 0},
		"leaves in the middle":              {"", answered{200, events, token, leaves}, cancelled, 0},
		"leaves after the head":             {"", answered{200, events, "", leaves}, cancelled, 0},
		"leaves after an error":             {"", answered{200, events, "data: {\"error\":{\"message\":\"x\",\"code\":400}}\n\n", leaves}, "", 400},
		"101 unasked":                       {"", answered{101, "", "", breaks}, failed, 0},
		"a file that looks like an error":   {"GET /v1/files/x/content", answered{200, json, `{"error":{"message":"x","code":500}}`, ends}, served, 0},
	} {
		t.Run(name, func(t *testing.T) {
			in := incoming("food")
			if method, path, ok := strings.Cut(tt.path, " "); ok {
				in.Method, in.Path = method, path
			} else if tt.path != "" {
				in.Path = tt.path
			}
			got, _ := played(t, in, tt.play)
			if tt.status == 0 {
				tt.status = tt.answered.status
			}
			var is verdict
			switch {
			case got.Served():
				is = served
			case got.Cancelled:
				is = cancelled
			case got.Failed():
				is = failed
			}
			if is != tt.want || got.Status != tt.status {
				t.Errorf("outcome is %q, %+v; want %q with status %d", is, got, tt.want, tt.status)
			}
		})
	}
}

// TestModelMissing: of a 404 it is known whether the server has not got the model, or the client has asked by a path that
// is not there.
func TestModelMissing(t *testing.T) {
	const missing = `{"error":{"message":"The model ` + "`food-v2`" + ` does not exist.","type":"NotFoundError","param":"model","code":404}}`
	for name, tt := range map[string]struct {
		status int
		body   string
		want   bool
	}{
		"vLLM":            {404, missing, true},
		"older vLLM":      {404, `{"object":"error","message":"The model x does not exist.","type":"NotFoundError","param":null,"code":404}`, true},
		"Ollama":          {404, `{"error":"model 'x' not found"}`, true},
		"OpenAI":          {404, `{"error":{"message":"No.","type":"invalid_request_error","code":"model_not_found"}}`, true},
		"in a 200":        {200, missing, true},
		"as a 400":        {400, missing, false},
		"in a 500":        {500, missing, false},
		"a path of vLLM":  {404, `{"detail":"Not Found"}`, false},
		"a path":          {404, `{"error":{"message":"Not Found","type":"NotFoundError","code":404}}`, false},
		"a response":      {404, `{"error":{"message":"Response with id 'model not found' not found.","type":"NotFoundError","code":404}}`, false},
		"another trouble": {404, `{"error":{"message":"The model is tired.","code":404}}`, false},
		"no JSON":         {404, `the model does not exist`, false},
		"nothing":         {404, ``, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := played(t, incoming("food"), answered{tt.status, "application/json", tt.body, ends}.play)
			require.Equal(t, tt.want, got.ModelMissing)
		})
	}
}

// TestAttemptsThatAreLeft: an attempt that is left tells how it ended, and nothing of it is
// there in the next one.
func TestAttemptsThatAreLeft(t *testing.T) {
	const busyEvent = "data: {\"error\":{\"message\":\"x\",\"code\":503}}\n\n"
	begin := func(status int, after, kind, body string) func(*director.Route) {
		return func(r *director.Route) {
			r.HoldFirst()
			r.ResponseHeader(status, http.Header{"Retry-After": {after}, "Content-Type": {kind}})
			r.Data([]byte(body))
		}
	}
	for name, tt := range map[string]struct {
		play func(*director.Route)
		want types.Outcome
	}{
		"no word":              {func(*director.Route) {}, types.Outcome{Err: errors.New("director: no answer")}},
		"refused":              {func(r *director.Route) { r.Failed(errBroken, false) }, types.Outcome{Err: errBroken}},
		"unsent":               {func(r *director.Route) { r.Failed(errBroken, true) }, types.Outcome{Err: errBroken, Unsent: true}},
		"503":                  {begin(503, "7", "", "busy"), types.Outcome{Status: 503, RetryAfter: 7 * time.Second, ResponseBytes: 4}},
		"429":                  {begin(429, "0.5", "", ""), types.Outcome{Status: 429, RetryAfter: 500 * time.Millisecond}},
		"429 for ever":         {begin(429, "99999999999999999999", "", ""), types.Outcome{Status: 429, RetryAfter: time.Hour}},
		"429 in the past":      {begin(429, "Fri, 31 Dec 1999 23:59:59 GMT", "", ""), types.Outcome{Status: 429}},
		"503 some day":         {begin(503, "Fri, 31 Dec 2999 23:59:59 GMT", "", ""), types.Outcome{Status: 503, RetryAfter: time.Hour}},
		"503 and rubbish":      {begin(503, "soon", "", ""), types.Outcome{Status: 503}},
		"529":                  {begin(529, "7", "", "busy"), types.Outcome{Status: 529, RetryAfter: 7 * time.Second, ResponseBytes: 4}},
		"502":                  {begin(502, "7", "", ""), types.Outcome{Status: 502}},
		"busy by its event":    {begin(200, "3", "text/event-stream", busyEvent), types.Outcome{Status: 503, RetryAfter: 3 * time.Second, ResponseBytes: int64(len(busyEvent))}},
		"broke off after head": {func(r *director.Route) { begin(200, "", "", "")(r); r.Failed(errBroken, false) }, types.Outcome{Status: 200, Err: errBroken}},
		"status that is none":  {func(r *director.Route) { begin(101, "", "", "")(r); r.Failed(errBroken, false) }, types.Outcome{Status: 101, Err: errBroken}},
	} {
		t.Run(name, func(t *testing.T) {
			end, left := played(t, incoming("food"), func(r *director.Route) {
				tt.play(r)
				if r.Next() == nil || r.Status() != 0 {
					t.Error("it did not go on")
				}
				r.Response(200, "application/json")
				r.Data([]byte("{}"))
				r.End()
			})
			if len(left) != 1 || !left[0].Retried {
				t.Fatalf("left %+v", left)
			}
			got := left[0]
			same := got.Err == tt.want.Err || got.Err != nil && (tt.want.Err == nil && got.Status == 503 || tt.want.Err != nil && got.Err.Error() == tt.want.Err.Error())
			if !same || got.Status != tt.want.Status || got.Unsent != tt.want.Unsent || got.RetryAfter != tt.want.RetryAfter || got.ResponseBytes != tt.want.ResponseBytes {
				t.Errorf("left %+v, want %+v", got, tt.want)
			}
			if !end.Served() || end.RetryAfter != 0 || end.ResponseBytes != 2 {
				t.Errorf("the end is %+v", end)
			}
		})
	}
}

// TestStatus: what an answer means so far, before anything of it is passed on.
func TestStatus(t *testing.T) {
	if !director.Retryable(429) || !director.Retryable(503) || director.Retryable(500) || director.Retryable(200) ||
		!director.IsAnswer(200) || !director.IsAnswer(599) || director.IsAnswer(101) || director.IsAnswer(600) || director.IsAnswer(1) {
		t.Error("what is retryable, or an answer, is another")
	}
	_, _ = played(t, incoming("food"), func(r *director.Route) {
		r.HoldFirst()
		r.Response(200, "text/event-stream")
		if out := r.Data([]byte(": ping\n\n")); string(out) != ": ping\n\n" || r.Status() != 200 {
			t.Errorf("a comment is held back: %q, status %d", out, r.Status())
		}
		if out := r.Data([]byte("data: {\"error\":{\"message\":\"x\",")); len(out) > 0 {
			t.Errorf("the first event is not held back: %q", out)
		}
		r.Data([]byte("\"code\":429}}\n\n"))
		if r.Status() != 429 {
			t.Errorf("status %d, want 429", r.Status())
		}
		r.Next()
		r.Next() // the last one: nothing to go on to, so nothing is held back
		r.Response(200, "text/event-stream")
		if out := r.Data([]byte("data: {")); string(out) != "data: {" {
			t.Errorf("held back %q", out)
		}
		r.Done(nil)
	})
}

// TestWhatAStreamTells: tokens, pieces, the id and the time to the first token are those
// of real tokens; the time in which nobody read counts from there on.
func TestWhatAStreamTells(t *testing.T) {
	in := director.Incoming{Path: "/v1/responses", Body: []byte(`{"model":"food","input":"hi","stream":true}`)}
	end, _ := played(t, in, func(r *director.Route) {
		r.Response(200, "text/event-stream")
		r.Stalled(time.Hour)
		r.Data([]byte(": ping\n\n"))
		r.Data([]byte("data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_7\"}}\n\n"))
		delta := "data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n"
		r.Data([]byte(delta + delta))
		r.Stalled(time.Second)
		r.Data([]byte(delta))
		r.Data(nil)
		r.Data([]byte("data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_7\",\"output\":[{\"type\":\"function_call\"}],\"usage\":{\"input_tokens\":3,\"output_tokens\":3}}}\n\n"))
		r.End()
	})
	if end.Tokens != 3 || end.Reads != 3 || end.Stalled != time.Second || end.ResponseID != "resp_7" || end.TTFT <= 0 || end.Usage.CompletionTokens.Or(0) != 3 || end.Finish != types.FinishTools {
		t.Errorf("the end is %+v", end)
	}
	end, _ = played(t, incoming("food"), func(r *director.Route) {
		r.Response(200, "application/json")
		r.Data([]byte(`{"choices":[{"message":{"content":"hi"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`))
		r.End()
	})
	if end.Finish != types.FinishLength {
		t.Errorf("it ended with %v, want length", end.Finish)
	}
	if end.TTFT != 0 || end.Tokens != 0 || end.Reads != 0 {
		t.Errorf("the byte of an answer that is not streamed is taken for a token: %+v", end)
	}
}

// TestBreakGivesWhatIsHeldBack.
func TestBreakGivesWhatIsHeldBack(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), func(o *director.Options) { o.RestoreModel = true })
	r := mustRoute(t, d, incoming("food"))
	r.Response(200, "text/event-stream")
	out := string(r.Data([]byte(token + "data: {\"mod")))
	if rest := string(r.Break(io.ErrUnexpectedEOF)); out != token || rest != "data: {\"mod" {
		t.Errorf("passed on %q, and at the end %q", out, rest)
	}
}
