package openai_test

import (
	"strings"
	"testing"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// TestAnswersOfWork: answers that are no text, in the forms of real servers: nothing of them is an error that is none, and
// what they say was used is read.
func TestAnswersOfWork(t *testing.T) {
	const js = "application/json"
	unknown := known(-1, -1, -1)
	tests := []struct {
		name, path, contentType, body string
		streamed                      bool
		usage                         types.Usage
		tokens                        int
		first, done                   bool
		status                        int
	}{
		{name: "embeddings", path: "/v1/embeddings", contentType: js, done: true, usage: known(5, 0, -1),
			body: `{"id":"e","object":"list","data":[{"index":0,"object":"embedding","embedding":[0.1]}],"model":"m","usage":{"prompt_tokens":5,"total_tokens":5,"completion_tokens":0,"prompt_tokens_details":null}}`},
		{name: "Jina's rerank", path: "/v1/rerank", contentType: js, done: true, usage: known(815, -1, -1),
			body: `{"model":"m","usage":{"total_tokens":815},"results":[{"index":0,"relevance_score":0.9,"document":{"text":"error"}}]}`},
		{name: "vLLM's rerank", path: "/v2/rerank", contentType: js, done: true, usage: known(56, -1, -1),
			body: `{"id":"r","model":"m","usage":{"prompt_tokens":56,"total_tokens":56},"results":[]}`},
		{name: "Cohere's rerank", path: "/v2/rerank", contentType: js, done: true, usage: unknown,
			body: `{"id":"r","results":[{"index":3,"relevance_score":0.9}],"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1}}}`},
		{name: "Cohere's embeddings", path: "/v2/embed", contentType: js, done: true, usage: known(2, -1, -1),
			body: `{"id":"e","embeddings":{"float":[[0.1]]},"texts":["hi"],"meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":2}},"response_type":"embeddings_by_type"}`},
		{name: "Cohere's tokens", path: "/v2/embed", contentType: js, done: true, usage: known(7, -1, -1),
			body: `{"embeddings":[[1]],"meta":{"tokens":{"input_tokens":7},"billed_units":{"input_tokens":2}}}`},
		{name: "meta of others", path: "/v1/chat/completions", contentType: js, done: true, usage: unknown, body: `{"choices":[],"meta":{"tokens":{"input_tokens":7}},"usage":{"total_tokens":5}}`},
		{name: "odd meta", path: "/v2/embed", contentType: js, done: true, usage: unknown, body: `{"embeddings":[[1]],"meta":{"tokens":[],"billed_units":{"input_tokens":"x"}}}`},
		{name: "text-embeddings-inference", path: "/embed", contentType: js, done: true, usage: unknown, body: `[[0.1,0.2],[0.3,0.4]]`},
		{name: "its ranks", path: "/rerank", contentType: js, done: true, usage: unknown, body: `[{"index":0,"score":1.0,"text":"x"}]`},
		{name: "its overload", path: "/embed", contentType: js, done: true, usage: unknown, status: 503, body: `{"error":"Model is overloaded","error_type":"overloaded"}`},
		{name: "score", path: "/score", contentType: js, done: true, usage: known(17, -1, -1), body: `{"id":"s","object":"list","data":[{"index":0,"object":"score","score":1}],"usage":{"prompt_tokens":17,"total_tokens":17}}`},
		{name: "binary embeddings", path: "/v1/embeddings", contentType: "application/octet-stream", usage: unknown, body: "\x00{\x00"},
		{name: "moderations", path: "/v1/moderations", contentType: js, done: true, usage: unknown, body: `{"id":"m","model":"m","results":[{"flagged":true,"categories":{"violence":true}}],"error":null}`},
		{name: "decisions", path: "/v1/decisions", contentType: js, done: true, usage: known(9, 1, -1), body: `{"object":"decision","answers":[{"name":"x","probability":0.1}],"usage":{"input_tokens":9,"output_tokens":1}}`},

		{name: "transcription", path: "/v1/audio/transcriptions", contentType: js, done: true, usage: unknown, body: `{"text":"an error","usage":{"type":"duration","seconds":12}}`},
		{name: "transcription by tokens", path: "/v1/audio/transcriptions", contentType: js, done: true, usage: known(14, 45, -1),
			body: `{"text":"x","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}`},
		{name: "subtitles", path: "/v1/audio/transcriptions", contentType: "text/vtt", usage: unknown, body: "WEBVTT\n\n00:00.000 --> 00:01.000\nerror\n"},
		{name: "transcription in events", path: "/v1/audio/transcriptions", contentType: sse, streamed: true, usage: known(14, 3, -1), tokens: 2, first: true, done: true,
			body: events(`{"type":"transcript.text.delta","delta":"I "}`, `{"type":"transcript.text.delta","delta":"see"}`,
				`{"type":"transcript.text.done","text":"I see","usage":{"type":"tokens","input_tokens":14,"output_tokens":3,"total_tokens":17}}`)},
		{name: "vLLM's transcription in events", path: "/v1/audio/transcriptions", contentType: sse, streamed: true, usage: unknown, tokens: 1, first: true, done: true,
			body: events(`{"id":"trsc-1","object":"transcription.chunk","created":1,"model":"m","choices":[{"delta":{"content":" I"}}]}`,
				`{"id":"trsc-1","object":"transcription.chunk","created":1,"model":"m","choices":[{"delta":{"content":""},"finish_reason":"stop","stop_reason":null}]}`, "[DONE]")},
		{name: "transcription in events that ends early", path: "/v1/audio/transcriptions", contentType: sse, streamed: true, usage: unknown, tokens: 1, first: true,
			body: events(`{"type":"transcript.text.delta","delta":"I "}`)},
		{name: "speech", path: "/v1/audio/speech", contentType: "audio/mpeg", usage: unknown, body: "ID3" + strings.Repeat("x", 500)},
		{name: "speech as it is said", path: "/v1/audio/speech", contentType: "audio/pcm", streamed: true, usage: unknown, first: true, body: strings.Repeat("\x01", 500)},
		{name: "a header of speech", path: "/v1/audio/speech", contentType: "audio/wav", streamed: true, usage: unknown, body: "RIFF" + strings.Repeat("x", 40)},
		{name: "an error in place of speech", path: "/v1/audio/speech", contentType: js, streamed: true, usage: unknown, done: true, status: 400,
			body: `{"error":{"message":"no such voice","type":"BadRequestError","code":400}}`},
		{name: "speech in events", path: "/v1/audio/speech", contentType: sse, streamed: true, usage: known(14, 101, -1), tokens: 1, first: true, done: true,
			body: events(`{"type":"speech.audio.delta","audio":"AAA="}`, `{"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}}`)},

		{name: "pictures", path: "/v1/images/generations", contentType: js, done: true, usage: known(50, 4160, -1),
			body: `{"created":1,"data":[{"b64_json":"AAAA"}],"usage":{"total_tokens":4210,"input_tokens":50,"output_tokens":4160,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}`},
		{name: "SGLang's pictures", path: "/v1/images/generations", contentType: js, done: true, usage: unknown, body: `{"id":"i","created":1,"data":[{"url":"http://x/y"}],"peak_memory_mb":1.5,"inference_time_s":2}`},
		{name: "a picture as a file", path: "/v1/images/edits", contentType: "image/png", usage: unknown, body: "\x89PNG"},
		{name: "vLLM-Omni's edits in events", path: "/v1/images/edits", contentType: sse, streamed: true, usage: unknown, tokens: 1, first: true, done: true,
			body: events(`{"object":"image.edit.chunk","type":"ar_delta","delta":"a cat","index":0,"model":"m"}`, `{"object":"image.edit.chunk","type":"image","data":[{"b64_json":"AAAA"}],"model":"m"}`, "[DONE]")},
		{name: "its error in events", path: "/v1/images/edits", contentType: sse, streamed: true, usage: unknown, done: true, status: 500,
			body: events(`{"object":"error","created":1,"model":"m","error":{"message":"out of memory","type":"InternalServerError"}}`, "[DONE]")},
		{name: "a job", path: "/v1/videos", contentType: js, done: true, usage: unknown, body: `{"id":"video_1","object":"video","model":"m","status":"queued","progress":0,"error":null}`},
		{name: "a job that has failed", path: "/v1/videos", contentType: js, done: true, usage: unknown, body: `{"id":"video_1","object":"video","status":"failed","error":{"code":"x","message":"bad prompt"}}`},
		{name: "an error in place of a job", path: "/v1/videos", contentType: js, done: true, usage: unknown, status: 400, body: `{"error":{"message":"bad size","type":"invalid_request_error"}}`},
		{name: "a film", path: "/v1/videos/sync", contentType: "video/mp4", usage: unknown, body: "\x00\x00\x00\x20ftypisom"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := openai.StreamOptions{API: openai.APIOf(tt.path), ContentType: tt.contentType, Streamed: tt.streamed}
			got := checkSplits(t, o, tt.body)
			require.Equal(t, tt.body, got.out)
			require.Equal(t, tt.usage, got.usage)
			require.Equal(t, []any{tt.tokens, tt.first, tt.done, tt.status, false}, []any{got.tokens, got.first, got.done, got.status, got.cutOff},
				"tokens, first token, done, status, cut off")
		})
	}
}

// TestErrorsOfWork: errors look as the clients of the path expect.
func TestErrorsOfWork(t *testing.T) {
	for path, want := range map[string]string{
		"/embed?x":              `{"error":"a \"b\"","error_type":"overloaded"}`,
		"/similarity":           `{"error":"a \"b\"","error_type":"overloaded"}`,
		"/v2/embed":             `{"message":"a \"b\"","error":{"message":"a \"b\"","type":"rate_limit_error","param":null,"code":"c"}}`,
		"/v2/rerank/":           `{"message":"a \"b\"","error":{"message":"a \"b\"","type":"rate_limit_error","param":null,"code":"c"}}`,
		"/rerank":               `{"error":{"message":"a \"b\"","type":"rate_limit_error","param":null,"code":"c"}}`,
		"/v1/images/edits":      `{"error":{"message":"a \"b\"","type":"rate_limit_error","param":null,"code":"c"}}`,
		"/v1/completions/embed": `{"error":"a \"b\"","error_type":"overloaded"}`,
	} {
		require.Equal(t, want, string(openai.ErrorBodyFor(path, 429, `a "b"`, "", "c")), path)
	}
	require.Contains(t, string(openai.ErrorBodyFor("/embed", 502, "x", "", "")), `"backend"`)
	require.Contains(t, string(openai.ErrorBodyFor("/embed", 400, "x", "", "")), `"validation"`)
}

func TestQueryModel(t *testing.T) {
	long := strings.Repeat("m", 257)
	tests := []struct{ target, model, spliced string }{
		{"/v1/realtime?model=gpt-realtime", "gpt-realtime", "/v1/realtime?model=a%2Fb"},
		{"/v1/realtime?x=1&model=a%2fb&model=c#f", "a/b", "/v1/realtime?x=1&model=a%2fb&model=c#f"},
		{"/v1/realtime?%6dodel=a+b%", "a b%", "/v1/realtime?%6dodel=a%2Fb"},
		{"/v1/realtime?model=", "", "/v1/realtime?model=a%2Fb"},
		{"/v1/realtime?model&x", "", "/v1/realtime?model&x&model=a%2Fb"},
		{"/v1/realtime#?model=x", "", "/v1/realtime?model=a%2Fb#?model=x"},
		{"/v1/realtime", "", "/v1/realtime?model=a%2Fb"},
		{"", "", "?model=a%2Fb"},
		{"?model=" + long, "", "?model=a%2Fb"},
		{"?model=%ff%zz", "\ufffd%zz", "?model=a%2Fb"},
	}
	for _, tt := range tests {
		model, _ := openai.QueryModel(tt.target)
		require.Equal(t, tt.model, model, tt.target)
		require.Equal(t, tt.spliced, openai.SpliceQueryModel(tt.target, "a/b"), tt.target)
	}
	require.Equal(t, "/x", openai.SpliceQueryModel("/x", ""))
}

// FuzzQueryModel: what is spliced in is what is read, and nothing else changes.
func FuzzQueryModel(f *testing.F) {
	f.Add("/v1/realtime?a&model=b%2fc&d#e?model=f", "x/y z")
	f.Add("?%6dodel=%", "\xff&=")
	f.Fuzz(func(t *testing.T, target, name string) {
		before, at := openai.QueryModel(target)
		if at.Start > at.End || at.End > len(target) {
			t.Fatalf("%q: model at %v", target, at)
		}
		spliced := openai.SpliceQueryModel(target, name)
		want := strings.ToValidUTF8(name, "\ufffd")
		if got, _ := openai.QueryModel(spliced); len(want) <= 256 && got != want {
			t.Fatalf("%q with %q is %q, whose model is %q; before it was %q", target, name, spliced, got, before)
		}
	})
}
