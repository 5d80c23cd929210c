package openai_test

import (
	"os"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/openai"
	"github.com/stretchr/testify/require"
)

// events makes an event of each string.
func events(data ...string) string {
	var b strings.Builder
	for _, d := range data {
		b.WriteString("data: " + d + "\n\n")
	}
	return b.String()
}

func delta(delta string) string {
	return `{"object":"chat.completion.chunk","choices":[{"index":0,"delta":` + delta + `,"logprobs":null,"finish_reason":null}]}`
}

// A first token is what an event carries that was generated, and nothing else.
func TestFirstToken(t *testing.T) {
	const ndjson = "application/x-ndjson"
	tests := []struct {
		name        string
		contentType string
		body        string
		tokens      int
	}{
		{"comments", sse, ": ping\n\n:\n: x\n\n", 0},
		{"white space", sse, "\n\n\r\n\r\r", 0},
		{"pings", sse, "event: ping\ndata: {\"type\":\"ping\"}\n\nevent: ping\ndata: {\"text\":\"x\"}\n\n" + events(`{"type":"ping"}`, `{}`, `{"ping":1}`, ``, ` `), 0},
		{"text that is no JSON", sse, events("ping", "12", `"x"`, "null", "[1]"), 0},
		{"roles", sse, events(delta(`{"role":"assistant"}`), delta(`{"role":"assistant","content":""}`), delta(`{"role":"assistant","content":null,"tool_calls":null,"refusal":null}`)), 0},
		{"empty deltas", sse, events(delta(`{}`), delta(`null`), delta(`{"content":[]}`), delta(`{"content":""}`), delta(`{"tool_calls":[ ]}`), delta(`{"reasoning_content":"","function_call":{ }}`)), 0},
		{"deltas of other things", sse, events(delta(`{"name":"x","index":1,"provider":"y"}`), delta(`{"content":[{"type":"text","text":""}]}`), delta(`{"audio":{"id":"audio_1","expires_at":5}}`)), 0},
		{"no choices", sse, events(`{"choices":[]}`, `{"choices":null}`, `{"choices":{}}`, `{"choices":[7,null]}`, `{"choices":[{}]}`), 0},
		{"usage", sse, events(`{"choices":[],"usage":{"completion_tokens":5}}`, `{"usage":{"completion_tokens":5}}`), 0},
		{"only a reason to finish", sse, events(`{"choices":[{"delta":{"content":""},"finish_reason":"stop"}]}`, `{"choices":[{"text":"","finish_reason":"length"}]}`), 0},
		{"errors", sse, events(`{"error":{"message":"x"}}`, `{"object":"error","message":"x"}`, `{"type":"error","message":"x","text":"y"}`, `{"error":"x","content":""}`), 0},
		{"end", sse, events("[DONE]"), 0},
		{"announcements of responses", sse, events(`{"type":"response.created","response":{"id":"r","instructions":"x","output":[]}}`,
			`{"type":"response.in_progress","response":{}}`, `{"type":"response.output_item.added","item":{"content":"x"},"text":"x"}`,
			`{"type":"response.content_part.added","part":{"text":""}}`, `{"type":"response.output_text.delta","delta":""}`,
			`{"type":"response.output_text.done","text":"x"}`, `{"type":"response.completed","response":{"output":[{"text":"x"}]}}`), 0},
		{"announcements named by the event", sse, "event: response.output_item.added\ndata: {\"text\":\"x\"}\n\nevent: content_block_start\ndata: {\"content\":\"x\"}\n\n", 0},
		{"announcements of messages", sse, events(`{"type":"message_start","message":{"content":[{"text":"x"}]}}`, `{"type":"content_block_start","content_block":{"type":"text","text":""}}`,
			`{"type":"content_block_delta","delta":{"type":"text_delta","text":""}}`, `{"type":"content_block_stop"}`, `{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`, `{"type":"message_stop"}`), 0},
		{"unreadable", sse, events(`{"choices":[{"text":"x","p":NaN}]}`, `{"text":"x"`, `{"text":"x"}}`), 0},
		{"too long", sse, events(delta(`{"content":"` + strings.Repeat("x", 5000) + `"}`)), 0},
		{"JSON", "application/json", `{"choices":[{"message":{"content":"x"}}]}`, 0},
		{"JSON without a type", "", `{"choices":[{"message":{"content":"x"}}]}`, 0},
		{"opaque", "audio/mpeg", "ID3x", 0},
		{"events without their type", "text/plain", events(delta(`{"content":"x"}`)), 0},

		{"text", sse, events(delta(`{"role":"assistant","content":""}`), delta(`{"content":"a"}`), delta(`{"content":"b"}`)), 2},
		{"blanks", sse, events(delta(`{"content":" "}`), delta(`{"content":"\n"}`), `{"choices":[{"text":"\t"}]}`), 3},
		{"other outputs of chat", sse, events(delta(`{"reasoning_content":"x"}`), delta(`{"reasoning":"x"}`), delta(`{"refusal":"x"}`), delta(`{"function_call":{"name":"f"}}`),
			delta(`{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}`), delta(`{"audio":{"data":"AA"}}`), delta(`{"content":[{"type":"text","text":"x"}]}`)), 7},
		{"token ids of a text that is to come", sse, events(`{"choices":[{"delta":{"content":""},"token_ids":[5]}]}`, `{"choices":[{"delta":{"content":""},"token_ids":[]}],"prompt_token_ids":[1]}`), 1},
		{"several choices", sse, events(`{"choices":[{"index":0,"delta":{"content":""}},{"index":1,"delta":{"content":"x"}}]}`), 1},
		{"content and its end", sse, events(`{"choices":[{"delta":{"content":"x"},"finish_reason":"length"}],"usage":{}}`), 1},
		{"escaped keys", sse, events(`{"cho\u0069ces":[{"delta":{"c\u006fntent":"x"}}]}`), 1},
		{"responses", sse, events(`{"type":"response.output_text.delta","delta":"x"}`, `{"type":"response.reasoning_text.delta","delta":"x"}`, `{"type":"response.function_call_arguments.delta","delta":"{"}`,
			`{"type":"response.image_generation_call.partial_image","partial_image_b64":"AA"}`), 4},
		{"messages", sse, events(`{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}`, `{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}`,
			`{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"x"}}`), 3},
		{"named by the event", sse, "event: response.output_text.delta\ndata: {\"delta\":\"x\"}\n\nevent: content_block_delta\ndata: {\"delta\":{\"text\":\"x\"}}\n\n", 2},
		{"media", sse, events(`{"type":"speech.audio.delta","audio":"AA"}`, `{"type":"transcript.text.delta","delta":"x"}`, `{"type":"image_generation.partial_image","b64_json":"AA"}`,
			`{"type":"speech.audio.done","usage":{}}`, `{"type":"transcript.text.done","text":"x"}`), 3},
		{"Triton", sse, events(`{"model_name":"m","model_version":"1","text_output":""}`, `{"model_name":"m","model_version":"1","text_output":"x"}`), 1},
		{"text-generation-inference", sse, "data:{\"index\":1,\"token\":{\"id\":5,\"text\":\" a\",\"special\":false},\"generated_text\":null}\n\n", 1},
		{"llama.cpp", sse, events(`{"content":"x","stop":false}`, `{"content":"","tokens":[],"stop":true,"model":"m","prompt":"p","generation_settings":{"a":"b"}}`), 1},
		{"SGLang", sse, events(`{"text":"x","meta_info":{"id":"a"}}`, `{"output_ids":[5],"meta_info":{}}`), 2},
		{"Ollama", ndjson, `{"model":"m","message":{"role":"assistant","content":""}}` + "\n" + `{"model":"m","message":{"role":"assistant","content":"x"}}` + "\r\n\r\n" + `{"response":"x"}` + "\n" + `{"response":"","context":[1],"done":true,"done_reason":"stop"}` + "\n", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, api := range []openai.API{openai.Other, openai.ChatCompletions, openai.Messages} {
				got := feed(openai.StreamOptions{API: api, ContentType: tt.contentType, MaxEventBytes: 4096}, []byte(tt.body), whole)
				if got.tokens != tt.tokens || got.first != (tt.tokens > 0) || got.out != tt.body {
					t.Errorf("%s: %d tokens, first %v, want %d", api, got.tokens, got.first, tt.tokens)
				}
			}
			if len(tt.body) < 2000 {
				checkSplits(t, openai.StreamOptions{ContentType: tt.contentType, TargetModel: "m", Model: "p"}, tt.body)
			}
		})
	}
}

const (
	token  = `{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}`
	finish = `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
)

// What is complete without a doubt is done; what lacks an end that must be there is
// cut off; of all else nothing is said.
func TestEndOfStream(t *testing.T) {
	const (
		text    = `{"type":"response.output_text.delta","delta":"x"}`
		block   = `{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}`
		stopped = `{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`
	)
	chat, other := openai.ChatCompletions, openai.Other
	long := `{"type":"image_generation.completed","b64_json":"` + strings.Repeat("A", 5000) + `"}`
	tests := []struct {
		name         string
		api          openai.API
		contentType  string
		body         string
		done, cutOff bool
	}{
		{"chat", chat, sse, events(token, finish, "[DONE]"), true, false},
		{"chat, only a reason to finish", chat, sse, events(token, finish), true, false},
		{"chat, usage after it", chat, sse, events(token, finish, `{"choices":[],"usage":{}}`), true, false},
		{"chat, reason and text at once", chat, sse, events(`{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"length"}]}`), true, false},
		{"chat, no index", chat, sse, events(`{"choices":[{"delta":{"content":"x"}}]}`, `{"choices":[{"finish_reason":"stop"}]}`), true, false},
		{"chat, [DONE] without its empty line", chat, sse, events(token) + "data: [DONE]", true, false},
		{"chat cut off", chat, sse, events(token, token), false, true},
		{"chat cut off after pings", chat, sse, ": ping\n\n" + events(token, `{"type":"ping"}`) + ": ping\n\n", false, true},
		{"chat cut off, empty reason", chat, sse, events(`{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":""}]}`), false, true},
		{"chat cut off in an event", chat, sse, events(token) + "data: " + token[:len(token)-4], false, true},
		{"chat cut off in a word", chat, sse, events(token) + "data: " + token[:strings.Index(token, "ull")], false, true},
		{"chat cut off in the name of a field", chat, sse, events(token) + "dat", false, true},
		{"chat, one of two choices", chat, sse, events(`{"choices":[{"index":1,"delta":{"content":"y"}}]}`, token, finish), false, true},
		{"chat, both choices", chat, sse, events(`{"choices":[{"index":1,"delta":{"content":"y"},"finish_reason":"stop"}]}`, token, finish), true, false},
		{"chat, more choices than are counted", chat, sse, events(token, `{"choices":[{"index":1000,"text":"x"}]}`, finish), false, false},
		{"chat, choices of odd indices", chat, sse, events(token, `{"choices":[{"index":-1,"text":"x"},{"index":"0"},{"index":4294967296}]}`, finish), false, false},
		{"completions", openai.Completions, sse, events(`{"choices":[{"index":0,"text":"x"}]}`, `{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}`), true, false},
		{"completions cut off", openai.Completions, sse, events(`{"choices":[{"index":0,"text":"x"}]}`), false, true},
		{"responses", openai.Responses, sse, events(text, `{"type":"response.completed","response":{}}`), true, false},
		{"responses, incomplete", openai.Responses, sse, events(text, `{"type":"response.incomplete","response":{}}`), true, false},
		{"responses by names", openai.Responses, sse, "event: response.output_text.delta\ndata: {\"delta\":\"x\"}\n\nevent: response.completed\ndata: {}\n\n", true, false},
		{"responses cut off", openai.Responses, sse, events(`{"type":"response.created","response":{}}`, text), false, true},
		{"messages", openai.Messages, sse, events(block, stopped, `{"type":"message_stop"}`), true, false},
		{"messages, only a reason to stop", openai.Messages, sse, events(block, stopped), true, false},
		{"messages, only the name of the end", openai.Messages, sse, events(block) + "event: message_stop\n\n", true, false},
		{"messages cut off", openai.Messages, sse, events(block, `{"type":"message_delta","delta":{"stop_reason":null}}`, `{"type":"content_block_stop"}`), false, true},
		{"media", openai.ImageGenerations, sse, events(`{"type":"image_generation.completed","b64_json":"AA"}`), true, false},
		{"media cut off: not known", openai.ImageGenerations, sse, events(`{"type":"image_generation.partial_image","b64_json":"AA"}`), false, false},
		{"media, last event too long", openai.ImageGenerations, sse, events(long), false, false},

		{"nothing generated", chat, sse, events(delta(`{"role":"assistant"}`)), false, false},
		{"an error", chat, sse, events(token, `{"error":{"message":"x"}}`), false, false},
		{"empty", chat, sse, "", false, false},
		{"only comments", chat, sse, ": ping\n\n", false, false},
		{"the API is not known", other, sse, events(token), false, false},
		{"the API of another form", openai.Messages, sse, events(token), false, false},
		{"an event of another form", chat, sse, events(token, `{"end":true}`), false, false},
		{"a native stream", chat, sse, events(`{"text_output":"x"}`), false, false},
		{"a native stream of an API that is not known", other, sse, events(`{"text_output":"x"}`), false, false},
		{"an event that is no JSON", chat, sse, events(token, "bye"), false, false},
		{"the start of [DONE]", chat, sse, events(token) + "data: [DON", false, false},
		{"NaN", chat, sse, events(token, `{"choices":[{"index":0,"logprobs":NaN}]}`), false, false},
		{"NaN at the end", chat, sse, events(token) + `data: {"choices":[{"index":0,"logprobs":NaN}]}`, false, false},
		{"Infinity", chat, sse, events(`{"choices":[{"index":0,"delta":{"content":"x"},"p":-Infinity}]}`, token), false, false},
		{"last event too long", chat, sse, events(token, strings.Replace(finish, "{}", `{"content":"`+strings.Repeat("x", 5000)+`"}`, 1)), false, false},
		{"events with only a name", chat, sse, events(token) + "event: end\n\n", false, false},
		{"byte order mark", chat, sse, "\xef\xbb\xbf" + events(token, finish), true, false},
		{"lines of JSON", chat, "application/x-ndjson", token + "\n" + token + "\n", false, false},
		{"opaque", chat, "text/plain", events(token), false, false},
		{"JSON", chat, "application/json", `{"choices":[]}`, true, false},
		{"JSON with a byte order mark", chat, "application/json", "\xef\xbb\xbf" + `{"choices":[]}`, true, false},
		{"JSON cut off", chat, "application/json", `{"choices":[{"message":{"content":"x"}}`, false, false},
		{"JSON with NaN", chat, "application/json", `{"choices":[{"message":{"content":"x"}}],"p":NaN}`, false, false},
		{"empty JSON", chat, "application/json", "", false, false},
		{"no type and empty", chat, "", "", false, false},
		{"no type and no JSON", other, "", "OK", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := openai.StreamOptions{API: tt.api, ContentType: tt.contentType, MaxEventBytes: 4096}
			got := feed(o, []byte(tt.body), whole)
			if got.done != tt.done || got.cutOff != tt.cutOff || got.out != tt.body || (got.err != "") != (tt.name == "an error") {
				t.Errorf("%q = %+v, want done %v, cut off %v", tt.body, got, tt.done, tt.cutOff)
			}
			if len(tt.body) < 2000 {
				o.HoldFirst = true
				checkSplits(t, o, tt.body)
			}
			for _, o.ContentEncoding = range []string{"gzip", "identity, br"} {
				if got := feed(o, []byte(tt.body), whole); got.done || got.cutOff || got.first || got.err != "" || got.out != tt.body {
					t.Errorf("encoded in %s: %+v", o.ContentEncoding, got)
				}
			}
			o.ContentEncoding = " Identity"
			if same := feed(o, []byte(tt.body), whole); same != got {
				t.Errorf("encoded in identity: %+v, want %+v", same, got)
			}
		})
	}

	s := openai.NewStream(openai.StreamOptions{API: chat, ContentType: sse})
	s.Feed([]byte(events(token)))
	require.False(t, s.CutOff(), "cut off before its end")
}

// An error is what says so, and it is the client's if it says that.
func TestServerErrorStatus(t *testing.T) {
	tests := []struct {
		name   string
		body   string // JSON, and also the only event of a stream
		status int    // 0: no error
	}{
		{"empty object", `{"error":{},"choices":[{"message":{"content":"x"}}]}`, 0},
		{"empty object alone", `{"error":{}}`, 0},
		{"empty fields", `{"error":{"message":"","type":null,"code":0,"param":[ ],"x":false}}`, 0},
		{"null", `{"error":null}`, 0},
		{"empty text", `{"error":""}`, 0},
		{"false", `{"error":false}`, 0},
		{"zero", `{"error":0}`, 0},
		{"lists", `{"error":[]}`, 0},
		{"beside choices", `{"error":{"message":"x"},"choices":[{"message":{"content":"x"}}]}`, 0},
		{"beside choices, before it", `{"choices":[{"text":"x"}],"error":"x"}`, 0},
		{"beside output", `{"output":[{"type":"message","content":[{"text":"x"}]}],"error":{"message":"x"}}`, 0},
		{"beside content", `{"error":"warning","content":[{"type":"text","text":"x"}]}`, 0},
		{"beside data", `{"error":{"message":"x"},"data":[{"embedding":[0.5]}]}`, 0},
		{"an answer of text", `{"text":"x","type":"text"}`, 0},

		{"beside no choices", `{"error":{"message":"x","code":400},"choices":[]}`, 400},
		{"beside empty choices", `{"choices":[{"delta":{"content":""},"finish_reason":"error"}],"error":{"message":"x","code":502}}`, 502},
		{"number", `{"error":{"message":"x","type":"server_error","code":429}}`, 429},
		{"number in a string", `{"error":{"message":"x","code":"404"}}`, 404},
		{"number and its name", `{"error":{"message":"x","code":"413 Content Too Large"}}`, 413},
		{"number as status", `{"error":{"message":"x","status":422}}`, 422},
		{"number of text-generation-inference's chat", `{"error":{"message":"x","http_status_code":422}}`, 422},
		{"numbers of no status", `{"error":{"message":"x","code":20,"status":200}}`, 500},
		{"a number that is too large", `{"error":{"message":"x","code":18446744073709551616404}}`, 500},
		{"only a number", `{"error":404}`, 404},
		{"true", `{"error":true,"message":"x","status":400}`, 400},
		{"text", `{"error":"boom"}`, 500},
		{"text and a number beside it", `{"error":"boom","code":"409"}`, 409},
		{"text that is a name", `{"error":"Bad Request"}`, 400},
		{"text like a name", `{"error":"invalid state of the engine"}`, 500},
		{"unknown", `{"error":{"message":"x","type":"oops"}}`, 500},
		{"unknown fields", `{"error":{"detail":"x"}}`, 500},
		{"vLLM's", `{"object":"error","message":"x","type":"BadRequestError","param":null,"code":400}`, 400},
		{"vLLM's without a number", `{"object":"error","message":"x","type":"NotFoundError"}`, 404},
		{"vLLM's busy", `{"error":{"message":"x","type":"Service Unavailable"}}`, 503},
		{"vLLM's own fault", `{"error":{"message":"x","type":"InternalServerError"}}`, 500},
		{"OpenAI's request", `{"error":{"message":"x","type":"invalid_request_error","code":null}}`, 400},
		{"OpenAI's model", `{"error":{"message":"x","type":"invalid_request_error","code":"model_not_found"}}`, 404},
		{"OpenAI's key", `{"error":{"message":"x","type":"invalid_request_error","code":"invalid_api_key"}}`, 401},
		{"OpenAI's rate", `{"error":{"message":"x","type":"requests","code":"rate_limit_exceeded"}}`, 429},
		{"OpenAI's length", `{"error":{"message":"x","code":"context_length_exceeded"}}`, 400},
		{"Anthropic's overload", `{"type":"error","error":{"type":"overloaded_error","message":"x"}}`, 529},
		{"Anthropic's request", `{"type":"error","error":{"type":"invalid_request_error","message":"x"}}`, 400},
		{"Anthropic's own fault", `{"type":"error","error":{"type":"api_error","message":"x"}}`, 500},
		{"Responses'", `{"type":"error","code":"rate_limit_exceeded","message":"x"}`, 429},
		{"text-generation-inference's", `{"error":"x","error_type":"validation"}`, 422},
		{"text-generation-inference's overload", `{"error":"x","error_type":"overloaded"}`, 503},
		{"text-generation-inference's own fault", `{"error":"x","error_type":"generation"}`, 500},
		{"llama.cpp's", `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`, 503},
		{"llama.cpp's without a number", `{"error":{"message":"x","type":"exceed_context_size_error"}}`, 400},
		{"SGLang's", `{"error":{"object":"error","message":"x","type":"BadRequest","code":400}}`, 400},
		{"Google's", `{"error":{"status":"RESOURCE_EXHAUSTED","message":"x"}}`, 429},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := openai.StreamOptions{API: openai.ChatCompletions, ContentType: "application/json"}
			got := checkSplits(t, o, tt.body)
			if got.status != tt.status || (got.err != "") != (tt.status != 0) {
				t.Errorf("%s = %q status %d, want %d", tt.body, got.err, got.status, tt.status)
			}
			o.ContentType = sse
			got = checkSplits(t, o, events(tt.body))
			if got.status != tt.status {
				t.Errorf("event %s = %q status %d, want %d", tt.body, got.err, got.status, tt.status)
			}
		})
	}
}

func TestServerErrorOfResponse(t *testing.T) {
	failed := `{"object":"response","id":"resp_1","status":"failed","error":{"code":"rate_limit_exceeded","message":"x"},"output":[{"content":[{"text":"x"}]}]}`
	tests := []struct {
		name, contentType, body string
		api                     openai.API
		status                  int
	}{
		{"failed", "", failed, openai.Responses, 429},
		{"state of another that failed", "", failed, openai.Other, 0},
		{"state of a batch", "", `{"object":"batch","status":"failed","error":{"message":"x"}}`, openai.Other, 0},
		{"failed in a stream", sse, events(`{"type":"response.failed","response":` + failed + `}`), openai.Responses, 429},
		{"failed without an error", sse, events(`{"type":"response.failed","response":{"error":null}}`), openai.Responses, 500},
		{"completed", sse, events(`{"type":"response.completed","response":{"status":"completed","error":null}}`), openai.Responses, 0},
		{"named by the event", sse, "event: error\ndata: {\"message\":\"x\",\"code\":400}\n\n", openai.Responses, 400},
		{"named by the event, with a type of its own", sse, "event: error\ndata: {\"message\":\"x\",\"type\":\"unavailable_error\"}\n\n", openai.ChatCompletions, 503},
		{"named by the event, with an error inside", sse, "event: error\ndata: {\"error\":{\"code\":429}}\n\n", openai.ChatCompletions, 429},
		{"named by the event, without data", sse, "event: error\n: \"no instances\"\n\n", openai.ChatCompletions, 500},
		{"named by the event, after why", sse, ": \"no instances\"\nevent: error\n\n", openai.ChatCompletions, 500},
		{"a field of its own", sse, "error: {\"code\":503,\"message\":\"Loading model\",\"type\":\"unavailable_error\"}\n\n", openai.ChatCompletions, 503},
		{"the client's fault in a field of its own", sse, "error: {\"code\":400,\"message\":\"x\",\"type\":\"invalid_request_error\"}\n\n", openai.ChatCompletions, 400},
		{"text named by the event", sse, "event: error\ndata: out of memory\n\n", openai.Other, 500},
		{"a line", "application/x-ndjson", "{\"response\":\"a\"}\n{\"error\":\"x\"}\n", openai.Other, 500},
	}
	for _, tt := range tests {
		if got := checkSplits(t, openai.StreamOptions{API: tt.api, ContentType: tt.contentType}, tt.body); got.status != tt.status {
			t.Errorf("%s: %q status %d, want %d", tt.name, got.err, got.status, tt.status)
		}
	}
}

// What a real server said.
func TestRecorded(t *testing.T) {
	tests := []struct {
		file, contentType string
		status, tokens    int
		done              bool
	}{
		{"refused.sse.txt", sse, 503, 0, true},
		{"refused.json", "application/json", 503, 0, true},
		{"error_too_long.json", "application/json", 400, 0, true},
		{"error_unknown_model.json", "application/json", 404, 0, true},
		{"stream_usage.sse.txt", sse, 0, 1, true},
	}
	for _, tt := range tests {
		body, err := os.ReadFile("testdata/vllm/" + tt.file)
		require.NoError(t, err)
		o := openai.StreamOptions{API: openai.ChatCompletions, ContentType: tt.contentType, HoldFirst: true}
		got := checkSplits(t, o, string(body))
		if got.status != tt.status || got.tokens != tt.tokens || got.done != tt.done || got.cutOff {
			t.Errorf("%s: %+v, want %+v", tt.file, got, tt)
		}
	}
}

func TestResponseID(t *testing.T) {
	tests := []struct{ name, contentType, body, want string }{
		{"JSON", "", `{"id":"resp_1","object":"response"}`, "resp_1"},
		{"JSON of another kind", "", `{"id":"chatcmpl-1","object":"chat.completion"}`, ""},
		{"JSON, no string", "", `{"id":7,"object":"response"}`, ""},
		{"created", sse, events(`{"type":"response.created","response":{"id":"resp_1"}}`), "resp_1"},
		{"completed, named by the event", sse, "event: response.completed\ndata: {\"response\":{\"id\":\"r\\u0065sp_1\"}}\n\n", "resp_1"},
		{"no event of a response", sse, events(`{"type":"x","response":{"id":"resp_1"}}`), ""},
		{"an item", sse, events(`{"type":"response.output_item.added","id":"x","item":{"id":"msg_1"}}`), ""},
		{"as long as may be", "", `{"id":"` + strings.Repeat("x", 256) + `","object":"response"}`, strings.Repeat("x", 256)},
		{"too long", "", `{"id":"` + strings.Repeat("x", 257) + `","object":"response"}`, ""},
		{"far too long", sse, events(`{"type":"response.created","response":{"id":"` + strings.Repeat(`\u0061`, 300) + `"}}`), ""},
	}
	for _, tt := range tests {
		if got := feed(openai.StreamOptions{ContentType: tt.contentType}, []byte(tt.body), bytewise); got.id != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got.id, tt.want)
		}
	}
}
