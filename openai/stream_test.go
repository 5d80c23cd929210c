package openai_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

const sse = "text/event-stream; charset=utf-8"

// result is all that a Stream says at the end.
type result struct {
	out    string
	first  bool
	done   bool
	usage  types.Usage
	err    string
	status int
	tokens int
	begun  bool
	cutOff bool
	id     string
	finish types.Finish
}

// feed gives body to a new Stream, in chunks of the lengths that next returns.
func feed(o openai.StreamOptions, body []byte, next func() int) result {
	s := openai.NewStream(o)
	var out []byte
	for len(body) > 0 {
		n := max(1, min(next(), len(body)))
		chunk := bytes.Clone(body[:n])
		out = append(out, s.Feed(chunk)...)
		if !bytes.Equal(chunk, body[:n]) {
			panic("Feed changed its chunk")
		}
		clear(chunk) // nothing of it may be kept
		body = body[n:]
	}
	out = append(out, s.Close()...)
	r := result{
		out: string(out), first: s.FirstToken(), done: s.Done(), usage: s.Usage(),
		tokens: s.Tokens(), begun: s.Begun(), cutOff: s.CutOff(), id: s.ResponseID(), finish: s.Finish(),
	}
	var e *openai.ServerError
	if errors.As(s.Err(), &e) {
		r.err, r.status = e.Error(), e.Status
	}
	return r
}

func whole() int    { return 1 << 30 }
func bytewise() int { return 1 }

// checkSplits feeds body in every way to cut it in two, and byte by byte.
func checkSplits(t *testing.T, o openai.StreamOptions, body string) result {
	t.Helper()
	want := feed(o, []byte(body), whole)
	if got := feed(o, []byte(body), bytewise); got != want {
		t.Errorf("%q byte by byte = %+v, want %+v", body, got, want)
	}
	for cut := 1; cut < len(body); cut++ {
		lengths := []int{cut, len(body)}
		got := feed(o, []byte(body), func() int { n := lengths[0]; lengths = lengths[1:]; return n })
		if got != want {
			t.Errorf("%q cut at %d = %+v, want %+v", body, cut, got, want)
		}
	}
	return want
}

func known(prompt, completion, cached float64) types.Usage {
	g := func(v float64) types.Gauge {
		if v < 0 {
			return types.Gauge{}
		}
		return types.Known(v)
	}
	return types.Usage{PromptTokens: g(prompt), CompletionTokens: g(completion), CachedTokens: g(cached)}
}

func TestStream(t *testing.T) {
	none := known(-1, -1, -1)
	tests := []struct {
		name        string
		contentType string
		in          string
		out         string // empty: as in
		first       bool
		done        bool
		usage       types.Usage
		err         string
	}{
		{name: "chat", contentType: sse,
			in: `data: {"model":"t","choices":[{"delta":{"role":"assistant","content":""}}]}` + "\n\n" +
				`data: {"model":"t","choices":[{"delta":{"content":"hi"}}]}` + "\n\n" +
				`data: {"model":"t","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}` + "\n\n" +
				"data: [DONE]\n\n",
			out: `data: {"model":"pub","choices":[{"delta":{"role":"assistant","content":""}}]}` + "\n\n" +
				`data: {"model":"pub","choices":[{"delta":{"content":"hi"}}]}` + "\n\n" +
				`data: {"model":"pub","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}` + "\n\n" +
				"data: [DONE]\n\n",
			first: true, done: true, usage: known(5, 2, 4)},
		{name: "responses", contentType: sse,
			in: "event: response.created\r\n" + `data: {"type":"response.created","response":{"model":"t","usage":null,"error":null}}` + "\r\n\r\n" +
				"event: response.output_text.delta\r\n" + `data: {"type":"response.output_text.delta","delta":"x"}` + "\r\n\r\n" +
				`data: {"type":"response.completed","response":{"model":"t","usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":3},"output_tokens":1}}}` + "\r\n\r\n",
			out: "event: response.created\r\n" + `data: {"type":"response.created","response":{"model":"pub","usage":null,"error":null}}` + "\r\n\r\n" +
				"event: response.output_text.delta\r\n" + `data: {"type":"response.output_text.delta","delta":"x"}` + "\r\n\r\n" +
				`data: {"type":"response.completed","response":{"model":"pub","usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":3},"output_tokens":1}}}` + "\r\n\r\n",
			first: true, done: true, usage: known(7, 1, 3)},
		{name: "anthropic", contentType: sse,
			in: "event: message_start\n" + `data: {"type":"message_start","message":{"model":"t","usage":{"input_tokens":10,"cache_read_input_tokens":6,"cache_creation_input_tokens":2,"output_tokens":1}}}` + "\n\n" +
				"event: ping\n" + `data: {"type":"ping"}` + "\n\n" +
				`data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}` + "\n\n" +
				`data: {"type":"message_delta","usage":{"output_tokens":15}}` + "\n\n" +
				`data: {"type":"message_stop"}` + "\n\n",
			out: "event: message_start\n" + `data: {"type":"message_start","message":{"model":"pub","usage":{"input_tokens":10,"cache_read_input_tokens":6,"cache_creation_input_tokens":2,"output_tokens":1}}}` + "\n\n" +
				"event: ping\n" + `data: {"type":"ping"}` + "\n\n" +
				`data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}` + "\n\n" +
				`data: {"type":"message_delta","usage":{"output_tokens":15}}` + "\n\n" +
				`data: {"type":"message_stop"}` + "\n\n",
			first: true, done: true, usage: known(18, 15, 6)},
		{name: "only a role", contentType: sse, in: `data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n", usage: none},
		{name: "a tool call", contentType: sse, in: `data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}` + "\n\n", first: true, usage: none},
		{name: "finished with nothing", contentType: sse, in: `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}` + "\n\n", done: true, usage: none},
		{name: "completions", contentType: sse, in: `data: {"choices":[{"text":""}]}` + "\n\n" + `data: {"choices":[{"text":"a"}]}` + "\n\n", first: true, usage: none},
		{name: "created is no token", contentType: sse, in: `data: {"type":"response.created","response":{}}` + "\n\n", usage: none},
		{name: "comments and fields", contentType: sse, in: ": ping\n\nid: 1\nretry: 5\nevent: x\n\n:\n\n\n\n", usage: none},
		{name: "not data", contentType: sse, in: "data2: {\"model\":\"t\"}\n data: {}\n\ndata\n\ndata:\n\n", usage: none},
		{name: "no space, lines by CR", contentType: sse, in: "data:{\"model\":\"t\"}\r\rdata:[DONE]\r\r", out: "data:{\"model\":\"pub\"}\r\rdata:[DONE]\r\r", done: true, usage: none},
		{name: "line ends mixed", contentType: sse, in: "data: {\"model\":\"t\"}\r\n\rdata: {\"model\":\"t\"}\n\r\n\ndata: [DONE]\r\n\n", out: "data: {\"model\":\"pub\"}\r\n\rdata: {\"model\":\"pub\"}\n\r\n\ndata: [DONE]\r\n\n", done: true, usage: none},
		{name: "several data lines", contentType: sse, in: "data: {\ndata:  \"model\" :\ndata: \"t\",\nevent: x\r\ndata:\"usage\":{\"prompt_tokens\":1}}\n\n", out: "data: {\ndata:  \"model\" :\ndata: \"pub\",\nevent: x\r\ndata:\"usage\":{\"prompt_tokens\":1}}\n\n", usage: known(1, -1, -1)},
		{name: "byte order mark", contentType: sse, in: "\xef\xbb\xbfdata: {\"model\":\"t\"}\n\n", out: "\xef\xbb\xbfdata: {\"model\":\"pub\"}\n\n", usage: none},
		{name: "byte order mark later on", contentType: sse, in: "data: {\"x\":1}\n\n\xef\xbb\xbfdata: {\"model\":\"t\"}\n\n", usage: none},
		{name: "no empty line at the end", contentType: sse, in: "data: {\"model\":\"t\"}\n\ndata: [DONE]", out: "data: {\"model\":\"pub\"}\n\ndata: [DONE]", done: true, usage: none},
		{name: "other places of the name", contentType: sse, in: `data: {"choices":[{"model":"t","delta":{"content":"\"model\":\"t\""}}],"x":{"model":"t"},"message":{"x":{"model":"t"}},"id":"t"}` + "\n\n", first: true, usage: none},
		{name: "other values", contentType: sse, in: `data: {"model":"tt","model":"T","model":7,"model":null,"Model":"t"}` + "\n\n", usage: none},
		{name: "escapes and duplicates", contentType: sse, in: `data: {"m\u006fdel":"\u0074","model" : "t"}` + "\n\n", out: `data: {"m\u006fdel":"pub","model" : "pub"}` + "\n\n", usage: none},
		{name: "broken", contentType: sse, in: `data: {"model":"t","usage":{"prompt_tokens":1}` + "\n\n", usage: none},
		{name: "error in a stream", contentType: sse, in: `data: {"error":{"message":"no \"memory\"","type":"server_error","code":500}}` + "\n\n", usage: none, err: `openai: server reported server_error: no "memory"`},
		{name: "error, old form", contentType: sse, in: `data: {"object":"error","message":"bad","type":"BadRequestError","code":400}` + "\n\n", usage: none, err: "openai: server reported BadRequestError: bad"},
		{name: "error of responses", contentType: sse, in: `data: {"type":"error","code":"overloaded","message":"later"}` + "\n\n", usage: none, err: "openai: server reported overloaded: later"},
		{name: "failed", contentType: sse, in: `data: {"type":"response.failed","response":{"error":{"code":"x","message":"y"}}}` + "\n\n", done: true, usage: none, err: "openai: server reported x: y"},
		{name: "cached by DeepSeek", contentType: sse, in: `data: {"choices":[],"usage":{"prompt_tokens":9,"prompt_cache_hit_tokens":8}}` + "\n\n", usage: known(9, -1, 8)},
		{name: "usage in each chunk", contentType: sse, in: `data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1}}` + "\n\n" + `data: {"choices":[],"usage":{"completion_tokens":2.0}}` + "\n\n", usage: known(9, 2, -1)},
		{name: "usage of wrong types", contentType: sse, in: `data: {"choices":[],"usage":{"prompt_tokens":"9","completion_tokens":-1,"prompt_tokens_details":null}}` + "\n\n", usage: none},

		{name: "JSON", contentType: "application/json", in: ` { "model" : "t" , "usage":{"prompt_tokens":3,"completion_tokens":4}, "big":12345678901234567890}` + "\n", out: ` { "model" : "pub" , "usage":{"prompt_tokens":3,"completion_tokens":4}, "big":12345678901234567890}` + "\n", done: true, usage: known(3, 4, -1)},
		{name: "JSON and more", contentType: "", in: `{"model":"t"} {"model":"t"}`, out: `{"model":"pub"} {"model":"t"}`, done: true, usage: none},
		{name: "JSON cut off", contentType: "application/json", in: `{"model":"t","usage":{"prompt_tokens":3}`, usage: none},
		{name: "JSON error", contentType: "application/problem+json", in: `{"error":"no"}`, done: true, usage: none, err: "openai: server reported: no"},
		{name: "JSON array", contentType: "application/json", in: `[{"model":"t"}]`, done: true, usage: none},
		{name: "not JSON", contentType: "application/json", in: `<html>}`, usage: none},
		{name: "audio", contentType: "audio/mpeg", in: `{"model":"t"}`, usage: none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			type said struct {
				out         string
				first, done bool
				usage       types.Usage
				err         string
			}
			want := said{tt.out, tt.first, tt.done, tt.usage, tt.err}
			if want.out == "" {
				want.out = tt.in
			}
			o := openai.StreamOptions{ContentType: tt.contentType, TargetModel: "t", Model: "pub"}
			restored := checkSplits(t, o, tt.in)
			if got := (said{restored.out, restored.first, restored.done, restored.usage, restored.err}); got != want {
				t.Errorf("%q = %+v\nwant %+v", tt.in, got, want)
			}
			// The same without restoring: nothing is held, nothing changes. And with the
			// first event held.
			o.Model = ""
			restored.out = tt.in
			for _, o.HoldFirst = range []bool{false, true} {
				if got := checkSplits(t, o, tt.in); got != restored {
					t.Errorf("%q, not restored, HoldFirst %v = %+v\nwant %+v", tt.in, o.HoldFirst, got, restored)
				}
			}
		})
	}
}

func TestStreamHoldsNoCompleteEvent(t *testing.T) {
	s := openai.NewStream(openai.StreamOptions{ContentType: sse, TargetModel: "t", Model: "pub"})
	tests := []struct{ in, out string }{
		{"data: {\"model\":\"t\"}\n", ""},
		{"\ndata: x", "data: {\"model\":\"pub\"}\n\n"},
		{"\r", ""},
		{"\n\r", "data: x\r\n\r"},
		{"\n", "\n"},
		{"data: 1\n\ndata: {\"model\":\"t\"}\n\ndata", "data: 1\n\ndata: {\"model\":\"pub\"}\n\n"},
	}
	for _, tt := range tests {
		if got := s.Feed([]byte(tt.in)); string(got) != tt.out {
			t.Errorf("Feed(%q) = %q, want %q", tt.in, got, tt.out)
		}
	}
	if got := s.Close(); string(got) != "data" {
		t.Errorf("Close() = %q, want data", got)
	}
	if got := s.Close(); got != nil {
		t.Errorf("second Close() = %q", got)
	}
}

func TestStreamPassesWithoutCopy(t *testing.T) {
	chunk := []byte("data: {\"model\":\"x\"}\n\ndata: {\"mo")
	s := openai.NewStream(openai.StreamOptions{ContentType: sse})
	if got := s.Feed(chunk); &got[0] != &chunk[0] || len(got) != len(chunk) {
		t.Errorf("Feed = %q, want the chunk itself", got)
	}
	s.Reset(openai.StreamOptions{ContentType: sse, TargetModel: "t", Model: "pub"})
	if got := s.Feed(chunk); &got[0] != &chunk[0] || len(got) != 21 {
		t.Errorf("Feed = %q, want the first event of the chunk itself", got)
	}
	chunk = []byte(`{"model":"t"}`)
	s.Reset(openai.StreamOptions{TargetModel: "x", Model: "pub"})
	if got := s.Feed(chunk); &got[0] != &chunk[0] || len(got) != len(chunk) {
		t.Errorf("Feed = %q, want the body itself", got)
	}
}

func TestStreamLimits(t *testing.T) {
	long := `data: {"model":"t","usage":{"prompt_tokens":1},"pad":"` + strings.Repeat("x", 100) + "\"}\n\n"
	short := "data: {\"model\":\"t\"}\n\n"
	o := openai.StreamOptions{ContentType: sse, TargetModel: "t", Model: "pub", MaxEventBytes: 64}
	got := checkSplits(t, o, short+long+short)
	want := "data: {\"model\":\"pub\"}\n\n"
	if got.out != want+long+want || got.usage.PromptTokens.IsKnown() {
		t.Errorf("long event: %+v", got)
	}
	if got := checkSplits(t, o, long); got.first || !got.begun || got.out != long {
		t.Errorf("only a long event: %+v", got)
	}
	for size, restored := range map[int]bool{64: true, 65: false} {
		for _, lineEnd := range []string{"\n", "\r"} {
			event := "data: {\"model\":\"t\",\"p\":\"\"}" + lineEnd + lineEnd
			event = strings.Replace(event, `""`, `"`+strings.Repeat("x", size-len(event))+`"`, 1)
			if got := checkSplits(t, o, event); (got.out != event) != restored {
				t.Errorf("event of %d bytes, limit 64: %+v", len(event), got)
			}
		}
	}

	// A long body passes, and the usage at its end is found.
	o = openai.StreamOptions{TargetModel: "t", Model: "pub", MaxBodyBytes: 64}
	body := `{"model":"t","text":"` + strings.Repeat(`\"usage\":`, 3000) + `","usage" : {"prompt_tokens":5,"completion_tokens":6}}` + "\n"
	for _, cut := range []int{1 << 20, 1, 63, 64, 65, 1000, 9000} {
		got := feed(o, []byte(body), func() int { return cut })
		if got.out != body || got.usage != known(5, 6, -1) || !got.done {
			t.Errorf("long body in chunks of %d: usage %v, done %v", cut, got.usage, got.done)
		}
	}
	// Also where the end of it is kept in two steps.
	body = `{"text":"` + strings.Repeat("x", 3*8<<10) + `","usage":{"prompt_tokens":5,"completion_tokens":6}}`
	for extra := range 60 {
		body := body[:10] + body[10+8<<10+extra:]
		if got := feed(o, []byte(body), bytewise); got.usage != known(5, 6, -1) {
			t.Errorf("long body of %d bytes: usage %v", len(body), got.usage)
		}
	}
	// What is complete within the limit is read, whatever follows.
	if got := checkSplits(t, o, `{"model":"t"}`+strings.Repeat(" ", 100)+"{}"); !strings.HasPrefix(got.out, `{"model":"pub"}`) {
		t.Errorf("long white space: %q", got.out)
	}
}

func TestTrapUsageSplitOverChunks(t *testing.T) {
	body := `data: {"choices":[{"delta":{"content":"x"}}]}` + "\n\n" +
		`data: {"choices":[],"usage":{"prompt_tokens":1234,"completion_tokens":567,"prompt_tokens_details":{"cached_tokens":1024}}}` + "\n\n" +
		"data: [DONE]\n\n"
	for _, model := range []string{"", "pub"} {
		got := checkSplits(t, openai.StreamOptions{ContentType: sse, TargetModel: "t", Model: model}, body)
		if got.usage != known(1234, 567, 1024) {
			t.Errorf("usage = %+v", got.usage)
		}
	}
}

func TestTrapModelNameSplitOverChunks(t *testing.T) {
	for _, space := range []string{"", " ", "\t ", "  "} {
		body := fmt.Sprintf("data: {\"id\":1,\"model\"%s:%s\"food-review-v2\"%s}\n\n", space, space, space)
		got := checkSplits(t, openai.StreamOptions{ContentType: sse, TargetModel: "food-review-v2", Model: "food-review"}, body)
		if want := strings.Replace(body, "food-review-v2", "food-review", 1); got.out != want {
			t.Errorf("%q = %q, want %q", body, got.out, want)
		}
	}
}

func TestTrapDoneAndUsageInDifferentChunks(t *testing.T) {
	s := openai.NewStream(openai.StreamOptions{ContentType: sse})
	s.Feed([]byte(`data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}` + "\n\n"))
	require.False(t, s.Done(), "Done before [DONE]")
	s.Feed([]byte("data: [DONE]\n\n"))
	s.Close()
	if !s.Done() || s.Usage() != known(5, 6, -1) {
		t.Errorf("done %v, usage %+v", s.Done(), s.Usage())
	}
	// And the other way round, as some servers do.
	got := checkSplits(t, openai.StreamOptions{ContentType: sse},
		"data: [DONE]\n\n"+`data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}`+"\n\n")
	if !got.done || got.usage != known(5, 6, -1) {
		t.Errorf("%+v", got)
	}
}

func TestTrapPromptTokensDetailsKey(t *testing.T) {
	tests := []struct {
		usage string
		want  types.Usage
	}{
		{`{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":8}}`, known(9, -1, 8)},
		{`{"input_tokens":9,"input_tokens_details":{"cached_tokens":8}}`, known(9, -1, 8)},
		{`{"prompt_tokens":9,"prompt_token_details":{"cached_tokens":8}}`, known(9, -1, -1)},
		{`{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":0}}`, known(9, -1, 0)},
		{`{"prompt_tokens":9,"prompt_tokens_details":null}`, known(9, -1, -1)},
	}
	for _, tt := range tests {
		got := checkSplits(t, openai.StreamOptions{}, `{"usage":`+tt.usage+`}`)
		if got.usage != tt.want {
			t.Errorf("usage %s = %+v, want %+v", tt.usage, got.usage, tt.want)
		}
	}
}

func TestTrapBodyReMarshalled(t *testing.T) {
	body := "{ \"z\":12345678901234567890.10, \"a\" : 1e400,\r\n\t\"dup\":1,\"dup\":2, \"html\":\"<b>&amp;\u2028</b>\",\n" +
		" \"model\"\t:  \"public\" , \"esc\":\"\\u003c\\/\\ud800\", \"raw\":\"\xff\", \"messages\":[ {\"role\":\"user\",\"content\":\"hi\"} ] , \"neg\":-0.0 } \n"
	var req types.Request
	p, err := openai.Parse(openai.ChatCompletions, "application/json", []byte(body), &req, openai.Limits{})
	require.NoError(t, err)
	if got, want := string(p.SpliceModel(nil, req.Body, "target<&>")), strings.Replace(body, "public", "target<&>", 1); got != want {
		t.Errorf("SpliceModel = %q, want %q", got, want)
	}
	// And back again in the response.
	in := strings.Replace(body, "public", "target", 1)
	got := checkSplits(t, openai.StreamOptions{ContentType: "application/json", TargetModel: "target", Model: "public"}, in)
	if got.out != body {
		t.Errorf("restored %q, want %q", got.out, body)
	}
}

func TestServerErrorIsBounded(t *testing.T) {
	body := []byte(`{"error":{"message":"` + strings.Repeat("ä", 5000) + `"}}`)
	s := openai.NewStream(openai.StreamOptions{})
	s.Feed(body)
	s.Close()
	var e *openai.ServerError
	if !errors.As(s.Err(), &e) || len(e.Message) > 1024 || !strings.HasPrefix(e.Message, "ää") {
		t.Errorf("Err() = %v", s.Err())
	}
}

func FuzzStream(f *testing.F) {
	for _, body := range []string{
		chatEvent + "data: [DONE]\n\n",
		"data: {\"model\":\"t\"}\r\n\r\n: c\r\rdata:{\ndata:\"model\":\"t\"}\n\n",
		"\xef\xbb\xbfevent: x\ndata: {\"response\":{\"model\":\"t\"},\"usage\":{\"prompt_tokens\":1}}\n\n",
		`{"model":"t","message":{"model":"t"},"usage":{"input_tokens":1,"cache_read_input_tokens":2}}`,
		`{"model":"t"} {"error":{"message":"x"}}`,
		": ping\ndata: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}\n\n: ping\r\n\r\ndata: {\"choices\":[{\"index\":1,\"finish_reason\":\"stop\"}]}",
		" \n{\"error\":{\"code\":404},\"object\":\"error\"}\n",
		"{\"response\":\"x\"}\r\n{\"error\":\"y\"}\n",
		"data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\n\ndata: {\"choices\":[{\"finish_reason\":\"length\"}]}\n\n",
		"event: error\ndata: no\n\nevent: x\n\ndata: {\"response\":{\"id\":\"resp_1\"},\"type\":\"response.completed\"}\n\n",
	} {
		f.Add([]byte(body), uint64(1), true, uint16(0))
		f.Add([]byte(body), uint64(2), false, uint16(40))
		f.Add([]byte(body), uint64(3), true, uint16(40))
	}
	f.Fuzz(func(t *testing.T, body []byte, seed uint64, events bool, limit uint16) {
		o := openai.StreamOptions{
			API: openai.API(seed % 6), HoldFirst: seed%5 > 1, TargetModel: "t", Model: "pub\"lic",
			MaxEventBytes: int(limit), MaxBodyBytes: int(limit),
		}
		if events && seed%7 == 0 {
			o.ContentType = "application/x-ndjson"
		} else if events {
			o.ContentType = sse
		}
		for range 2 {
			want := feed(o, body, whole)
			if want.first != (want.tokens > 0) || want.cutOff && (want.done || !want.first || !want.begun || want.err != "") ||
				(want.err != "") != (want.status >= 400 && want.status <= 599) || !events && want.first || len(want.id) > 256 {
				t.Fatalf("%q says %+v", body, want)
			}
			r := rand.New(rand.NewPCG(seed, 0))
			for _, next := range []func() int{bytewise, func() int { return 1 + r.IntN(16) }, func() int { return 1 + r.IntN(len(body)+1) }} {
				if got := feed(o, body, next); got != want {
					t.Fatalf("%q split = %+v\nwant %+v", body, got, want)
				}
			}
			if o.Model == "" && want.out != string(body) {
				t.Fatalf("%q = %q though nothing is to be restored", body, want.out)
			}
			// But for the names, the bytes are the same.
			if restored := strings.ReplaceAll(want.out, `"pub\"lic"`, ""); o.Model != "" && !isSubsequence(restored, string(body)) {
				t.Fatalf("%q = %q", body, want.out)
			}
			if !events && limit == 0 && o.Model != "" && json.Valid(body) {
				checkRestored(t, body, []byte(want.out), o)
			}
			o.Model = ""
		}
	})
}

// isSubsequence reports whether a is b with some bytes left out.
func isSubsequence(a, b string) bool {
	for i := range len(b) {
		if len(a) > 0 && a[0] == b[i] {
			a = a[1:]
		}
	}
	return a == ""
}

// checkRestored compares the restored body with one restored the plain way.
func checkRestored(t *testing.T, body, out []byte, o openai.StreamOptions) {
	t.Helper()
	depth := 0
	for _, c := range body {
		if c == '[' || c == '{' {
			depth++
		}
	}
	if depth > 500 {
		return // perhaps too deep to be read
	}
	tree := decode(t, body)
	if top, ok := tree.(map[string]any); ok {
		restore := func(m any) {
			if m, ok := m.(map[string]any); ok && m["model"] == o.TargetModel {
				m["model"] = o.Model
			}
		}
		restore(top)
		restore(top["response"])
		restore(top["message"])
	}
	if got := decode(t, out); !reflect.DeepEqual(got, tree) {
		t.Fatalf("%q = %q", body, out)
	}
}
