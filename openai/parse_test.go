package openai_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestAPIOf(t *testing.T) {
	tests := []struct {
		path string
		want openai.API
	}{
		{"/v1/chat/completions", openai.ChatCompletions},
		{"/chat/completions?api-version=1", openai.ChatCompletions},
		{"/openai/deployments/x/chat/completions/", openai.ChatCompletions},
		{"/v1/completions", openai.Completions},
		{"/completions", openai.Completions},
		{"/v1/incompletions", openai.Other},
		{"/v1/responses", openai.Responses},
		{"/v1/responses/resp_1/cancel", openai.Other},
		{"/v1/embeddings", openai.Embeddings},
		{"/v1/messages", openai.Messages},
		{"/messages", openai.Messages},
		{"/anthropic/v1/messages", openai.Messages},
		{"/v1/messages/count_tokens", openai.CountTokens},
		{"/anthropic/v1/messages/count_tokens/?beta=true", openai.CountTokens},
		{"/messages/count_tokens", openai.CountTokens},
		{"/v1/messages/batches", openai.Other},
		{"/v1/threads/thread_1/messages/count_tokens", openai.Other},
		{"/v1/rerank", openai.Rerank},
		{"/v2/rerank", openai.Rerank},
		{"/rerank", openai.Rerank},
		{"/score", openai.Score},
		{"/similarity", openai.Score},
		{"/v1/score?x=1", openai.Score},
		{"/generative_scoring", openai.Score},
		{"/pooling", openai.Pooling},
		{"/classify", openai.Pooling},
		{"/v1/moderations", openai.Pooling},
		{"/v2/embed", openai.Pooling},
		{"/embed_all", openai.Pooling},
		{"/embed_sparse", openai.Pooling},
		{"/api/embed", openai.Pooling},
		{"/api/embeddings", openai.Embeddings},
		{"/v1/decisions", openai.Decisions},
		{"/v1/systemone", openai.Decisions},
		{"/v1/videos", openai.Videos},
		{"/v1/videos/", openai.Videos},
		{"/v1/videos/sync", openai.Videos},
		{"/v1/videos/video_1/remix", openai.Videos},
		{"/v1/videos/video_1", openai.Other},
		{"/v1/videos/video_1/content", openai.Other},
		{"/v1/meshes", openai.Videos},
		{"/v1/actions/generations", openai.Videos},
		{"/v1/images/variations", openai.ImageGenerations},
		{"/v1/realtime?model=m", openai.Realtime},
		{"/v1/audio/speech/stream", openai.Realtime},
		{"/v1/realtime/sessions", openai.Other},
		{"/tokenize", openai.Other},
		{"/v1/chat/completions/render", openai.Other},
		{"/v1/batches", openai.Other},
		{"/v1/files", openai.Other},
		{"/v1/threads/thread_1/messages", openai.Other},
		{"/v1/images/generations", openai.ImageGenerations},
		{"/v1/images/edits", openai.ImageGenerations},
		{"/v1/audio/speech", openai.AudioSpeech},
		{"/v1/audio/transcriptions", openai.Transcriptions},
		{"/v1/audio/translations", openai.Transcriptions},
		{"/v1/models", openai.Other},
		{"/", openai.Other},
		{"", openai.Other},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, openai.APIOf(tt.path), "APIOf(%q)", tt.path)
	}
}

func TestParseFields(t *testing.T) {
	type want struct {
		model     string
		stream    bool
		maxTokens int
		salt      string
		session   string
		usage     bool
		previous  string
	}
	tests := []struct {
		name string
		api  openai.API
		body string
		want want
	}{
		{"the least", openai.ChatCompletions, `{"model":"m"}`, want{model: "m"}},
		{"all of chat", openai.ChatCompletions,
			`{"model":"m","stream":true,"max_tokens":5,"cache_salt":"s","prompt_cache_key":"k","user":"u","safety_identifier":"i",
			"stream_options":{"include_usage":true}}`,
			want{model: "m", stream: true, maxTokens: 5, salt: "s", session: "k", usage: true}},
		{"the newer bound counts", openai.ChatCompletions, `{"model":"m","max_completion_tokens":7,"max_tokens":5}`, want{model: "m", maxTokens: 7}},
		{"a null bound does not", openai.ChatCompletions, `{"model":"m","max_completion_tokens":null,"max_tokens":5}`, want{model: "m", maxTokens: 5}},
		{"the bound of another API", openai.Completions, `{"model":"m","max_output_tokens":"x","max_tokens":5}`, want{model: "m", maxTokens: 5}},
		{"max_output_tokens", openai.Responses, `{"model":"m","max_output_tokens":9}`, want{model: "m", maxTokens: 9}},
		{"a negative bound is none", openai.Completions, `{"model":"m","max_tokens":-1}`, want{model: "m"}},
		{"largest integer", openai.Completions, fmt.Sprintf(`{"model":"m","max_tokens":%d}`, math.MaxInt), want{model: "m", maxTokens: math.MaxInt}},
		{"nulls", openai.Responses, `{"model":"m","stream":null,"max_output_tokens":null,"cache_salt":null,"prompt_cache_key":null,
			"conversation":null,"previous_response_id":null,"input":null,"tools":null,"instructions":null}`, want{model: "m"}},
		{"the last of duplicates", openai.ChatCompletions, `{"model":1,"stream":true,"model":"b","stream":false}`, want{model: "b"}},
		{"escaped keys and values", openai.ChatCompletions, `{"\u006dodel":"a\u002fb\ud83d\ude00","str\u0065am":true}`, want{model: "a/b😀", stream: true}},
		{"keys are matched by case", openai.ChatCompletions, `{"Model":"x","model":"m","STREAM":true}`, want{model: "m"}},
		{"nested keys do not count", openai.ChatCompletions, `{"a":{"model":"x","stream":true},"model":"m"}`, want{model: "m"}},
		{"conversation", openai.Responses, `{"model":"m","conversation":"c","previous_response_id":"p"}`, want{model: "m", session: "c", previous: "p"}},
		{"conversation object", openai.Responses, `{"model":"m","conversation":{"x":1,"id":"c"}}`, want{model: "m", session: "c", previous: "c"}},
		{"previous response", openai.Responses, `{"model":"m","previous_response_id":"p\u0031"}`, want{model: "m", previous: "p1"}},
		{"previous response of another API", openai.ChatCompletions, `{"model":"m","previous_response_id":7}`, want{model: "m"}},
		{"counting tokens", openai.CountTokens, `{"model":"m","max_tokens":"x"}`, want{model: "m"}},
		{"cache key before conversation", openai.Responses, `{"model":"m","conversation":"c","prompt_cache_key":"k"}`, want{model: "m", session: "k", previous: "c"}},
		{"other", openai.Other, `{"model":"m","stream":true,"query":"x"}`, want{model: "m", stream: true}},
		{"other without a model", openai.Other, `{"query":"x"}`, want{}},
		{"other of a wrong type", openai.Other, `{"model":7,"stream":1}`, want{}},
		{"other that is no JSON", openai.Other, "\x00\x01", want{}},
		{"other and empty", openai.Other, "", want{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// What was in the Request before must not show.
			req := types.Request{Model: "old", Stream: true, MaxTokens: 99, CacheSalt: "old", SessionID: "old", ProgramID: "old", PreviousID: "old", FairnessID: "kept",
				Prompt: types.Prompt{Spans: []types.Span{{Start: 1, End: 2}}, Tokens: 9, Images: 9}}
			p, err := openai.Parse(tt.api, "application/json", []byte(tt.body), &req, openai.Limits{})
			require.NoError(t, err, "Parse(%s)", tt.body)
			got := want{req.Model, req.Stream, req.MaxTokens, req.CacheSalt, req.SessionID, p.IncludeUsage, req.PreviousID}
			if got != tt.want {
				t.Errorf("Parse(%s) = %+v, want %+v", tt.body, got, tt.want)
			}
			if string(req.Body) != tt.body || req.FairnessID != "kept" || req.Prompt.Images != 0 || len(req.Prompt.Spans) != 0 {
				t.Errorf("Parse(%s) left %+v", tt.body, req)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	long := strings.Repeat("x", 257)
	tests := []struct {
		name   string
		api    openai.API
		body   string
		limits openai.Limits
		want   string // status code param offset
		say    string // in the message
	}{
		{"empty", openai.ChatCompletions, ``, openai.Limits{}, "400 invalid_json  0", "line 1 column 1"},
		{"cut", openai.ChatCompletions, `{"model":"m"`, openai.Limits{}, "400 invalid_json  12", "unexpected end"},
		{"trailing garbage", openai.ChatCompletions, "{\"model\":\"m\"}\nx", openai.Limits{}, "400 invalid_json  14", "line 2 column 1"},
		{"gzip", openai.ChatCompletions, "\x1f\x8b\x08", openai.Limits{}, "400 invalid_json  0", "gzip"},
		{"not an object", openai.ChatCompletions, ` ["model"]`, openai.Limits{}, "400 invalid_type  1", "not an array"},
		{"not an object, malformed", openai.ChatCompletions, `["model"`, openai.Limits{}, "400 invalid_json  8", ""},
		{"too deep", openai.ChatCompletions, `{"model":"m","a":[[[]]]}`, openai.Limits{MaxDepth: 3}, "400 invalid_json  19", "too deep"},
		{"too large", openai.ChatCompletions, `{"model":"m"}`, openai.Limits{MaxBytes: 12}, "413 request_too_large  -1", "limit of 12"},
		{"no model", openai.ChatCompletions, `{}`, openai.Limits{}, "400 missing_required_parameter model -1", "missing"},
		{"null model", openai.ChatCompletions, `{"model":null}`, openai.Limits{}, "400 missing_required_parameter model -1", "missing"},
		{"empty model", openai.ChatCompletions, `{"model":""}`, openai.Limits{}, "400 invalid_value model 9", "empty"},
		{"model is a number", openai.ChatCompletions, `{"model":1}`, openai.Limits{}, "400 invalid_type model 9", "not a number"},
		{"last model is wrong", openai.ChatCompletions, `{"model":"m","model":[]}`, openai.Limits{}, "400 invalid_type model 21", "not an array"},
		{"long model", openai.ChatCompletions, `{"model":"` + long + `"}`, openai.Limits{}, "400 string_above_max_length model 9", "257"},
		{"stream", openai.ChatCompletions, `{"model":"m","stream":"true"}`, openai.Limits{}, "400 invalid_type stream 22", "true or false"},
		{"fraction", openai.ChatCompletions, `{"model":"m","max_tokens":1.0}`, openai.Limits{}, "400 invalid_type max_tokens 26", "integer"},
		{"exponent", openai.ChatCompletions, `{"model":"m","max_tokens":1e2}`, openai.Limits{}, "400 invalid_type max_tokens 26", "integer"},
		{"overflow", openai.ChatCompletions, `{"model":"m","max_tokens":9223372036854775808}`, openai.Limits{}, "400 invalid_type max_tokens 26", "at most"},
		{"bound is a string", openai.Responses, `{"model":"m","max_output_tokens":"1"}`, openai.Limits{}, "400 invalid_type max_output_tokens 33", "not a string"},
		{"messages", openai.ChatCompletions, `{"model":"m","messages":"hi"}`, openai.Limits{}, "400 invalid_type messages 24", "must be an array"},
		{"prompt", openai.Completions, `{"model":"m","prompt":{}}`, openai.Limits{}, "400 invalid_type prompt 22", "string or an array"},
		{"input", openai.Responses, `{"model":"m","input":1}`, openai.Limits{}, "400 invalid_type input 21", "string or an array"},
		{"salt", openai.ChatCompletions, `{"model":"m","cache_salt":1}`, openai.Limits{}, "400 invalid_type cache_salt 26", "string"},
		{"long salt", openai.ChatCompletions, `{"model":"m","cache_salt":"abcde"}`, openai.Limits{MaxIDBytes: 4}, "400 string_above_max_length cache_salt 26", "limit is 4"},
		{"conversation", openai.Responses, `{"model":"m","conversation":{}}`, openai.Limits{}, "400 invalid_type conversation 28", "string"},
		{"previous response", openai.Responses, `{"model":"m","conversation":"c","previous_response_id":{}}`, openai.Limits{}, "400 invalid_type previous_response_id 55", "string"},
		{"long previous response", openai.Responses, `{"model":"m","previous_response_id":"abcde"}`, openai.Limits{MaxIDBytes: 4}, "400 string_above_max_length previous_response_id 36", "limit is 4"},
		{"model is a number where none is needed", openai.ChatCompletions, `{"model":1}`, openai.Limits{ModelOptional: true}, "400 invalid_type model 9", "not a number"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := types.Request{Model: "old", SessionID: "old", MaxTokens: 3}
			req := before
			_, err := openai.Parse(tt.api, "", []byte(tt.body), &req, tt.limits)
			var e *openai.Error
			if !errors.As(err, &e) {
				t.Fatalf("Parse(%s) = %v, want an *Error", tt.body, err)
			}
			got := fmt.Sprintf("%d %s %s %d", e.Status, e.Code, e.Param, e.Offset)
			if got != tt.want || !strings.Contains(e.Message, tt.say) {
				t.Errorf("Parse(%s) = %s %q, want %s and %q", tt.body, got, e.Message, tt.want, tt.say)
			}
			if !reflect.DeepEqual(req, before) {
				t.Errorf("Parse(%s) changed the request: %+v", tt.body, req)
			}
			for _, api := range []openai.API{openai.ChatCompletions, openai.Messages} {
				if !json.Valid(e.Body(api)) {
					t.Errorf("Body(%v) = %s", api, e.Body(api))
				}
			}
		})
	}
}

func TestParseLimitsAreOfValues(t *testing.T) {
	var req types.Request
	body := `{"model":"` + strings.Repeat(`\u0061`, 256) + `"}`
	if _, err := openai.Parse(openai.ChatCompletions, "", []byte(body), &req, openai.Limits{}); err != nil {
		t.Errorf("Parse of a model of 256 bytes, all escaped: %v", err)
	}
}

func TestParsePrompt(t *testing.T) {
	image := `{"type":"image_url","image_url":{"url":"data:image/png;base64,` + strings.Repeat("A", 4000) + `"}}`
	tests := []struct {
		name   string
		api    openai.API
		body   string
		spans  []string
		tokens int
		images int
		audio  int
		other  int
	}{
		{name: "tools before messages, wherever they are", api: openai.ChatCompletions,
			body:   `{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[{"a":1}]}`,
			spans:  []string{`[{"a":1}]`, `{"role":"user","content":"hi"}`},
			tokens: 3 + 8},
		{name: "nothing is no span", api: openai.ChatCompletions,
			body: `{"model":"m","messages":[],"tools":[]}`},
		{name: "an image is its bytes, not their tokens", api: openai.ChatCompletions,
			body:   `{"model":"m","messages":[{"role":"user","content":[` + image + `]}]}`,
			spans:  []string{`{"role":"user","content":[` + image + `]}`},
			tokens: 7 + openai.ImageTokens, images: 1},
		{name: "parts", api: openai.ChatCompletions,
			body: `{"model":"m","messages":[{"content":[{"type":"input_audio"},{"file":{},"type":"file"},{"audio_url":1},{"type":"x"},{"type":"text","text":"ab"},7]}]}`,
			spans: []string{
				`{"content":[{"type":"input_audio"},{"file":{},"type":"file"},{"audio_url":1},{"type":"x"},{"type":"text","text":"ab"},7]}`},
			tokens: 12 + 2*openai.AudioTokens + 2*openai.OtherTokens, audio: 2, other: 2},
		{name: "media inside of media count once", api: openai.Messages,
			body:   `{"model":"m","messages":[{"content":[{"type":"document","content":[{"type":"image"}]}]}]}`,
			spans:  []string{`{"content":[{"type":"document","content":[{"type":"image"}]}]}`},
			tokens: 4 + openai.OtherTokens, other: 1},
		{name: "the last messages count", api: openai.ChatCompletions,
			body:   `{"model":"m","messages":[{"content":[{"type":"image_url"}]}],"messages":[{"content":"hi"}]}`,
			spans:  []string{`{"content":"hi"}`},
			tokens: 4},
		{name: "prompt", api: openai.Completions, body: `{"prompt":"Once \"upon\"","model":"m"}`,
			spans: []string{`"Once \"upon\"`}, tokens: 4},
		{name: "prompts", api: openai.Completions, body: `{"prompt":["Once", "upon"],"model":"m"}`,
			spans: []string{`"Once", "upon`}, tokens: 4},
		{name: "tokens", api: openai.Completions, body: `{"prompt":[1, 22, 333],"model":"m"}`,
			spans: []string{`1, 22, 333`}, tokens: 3},
		{name: "lists of tokens", api: openai.Embeddings, body: `{"input":[[1,2],[3]],"model":"m"}`,
			spans: []string{`1,2],[3`}, tokens: 3},
		{name: "empty prompt", api: openai.Completions, body: `{"prompt":"","model":"m"}`},
		{name: "responses", api: openai.Responses,
			body:  `{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"x"}]},{"type":"image_generation_call","result":"AAAA"}],"tools":[1,2],"instructions":"be brief"}`,
			spans: []string{`"be brief"`, `[1,2]`, `{"role":"user","content":[{"type":"input_image","image_url":"x"}]},{"type":"image_generation_call","result":"AAAA"}`},
			// 10 and 5 bytes, and 28 around the images
			tokens: 3 + 2 + 8 + 2*openai.ImageTokens, images: 2},
		{name: "responses to a string", api: openai.Responses, body: `{"model":"m","input":"hi","instructions":null}`,
			spans: []string{`"hi`}, tokens: 1},
		{name: "anthropic", api: openai.Messages,
			body: `{"model":"m","system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"image","source":{"data":"AAAA"}}]}]}],"tools":[{}]}`,
			spans: []string{`[{}]`, `[{"type":"text","text":"s"}]`,
				`{"role":"user","content":[{"type":"tool_result","content":[{"type":"image","source":{"data":"AAAA"}}]}]}`},
			tokens: 1 + 7 + 16 + openai.ImageTokens, images: 1},
		{name: "speech", api: openai.AudioSpeech, body: `{"model":"m","input":"say it","voice":"x"}`,
			spans: []string{`"say it`}, tokens: 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var req types.Request
			if _, err := openai.Parse(tt.api, "", []byte(tt.body), &req, openai.Limits{}); err != nil {
				t.Fatal(err)
			}
			var spans []string
			var last types.Span
			size := 0
			for _, s := range req.Prompt.Spans {
				size += s.End - s.Start
				if n := len(spans); n > 0 && s.Start >= last.Start && s.Start < last.End { // the end of an address again
					spans[n-1] = tt.body[last.Start:s.End]
					last.End = s.End
					continue
				}
				spans, last = append(spans, tt.body[s.Start:s.End]), s
			}
			p := req.Prompt
			if !reflect.DeepEqual(spans, tt.spans) || p.Bytes != size {
				t.Errorf("spans %q (%d bytes), want %q (%d bytes)", spans, p.Bytes, tt.spans, size)
			}
			if p.Tokens != tt.tokens || p.Images != tt.images || p.Audio != tt.audio || p.Other != tt.other {
				t.Errorf("tokens %d, images %d, audio %d, other %d, want %d %d %d %d",
					p.Tokens, p.Images, p.Audio, p.Other, tt.tokens, tt.images, tt.audio, tt.other)
			}
		})
	}
}

// Data is media wherever it stands, and its bytes are not those of a text.
func TestMediaAreNoText(t *testing.T) {
	data := strings.Repeat("iVBORw0KGgo", 100_000)
	url := `"data:image/png;base64,` + data + `"`
	source := `{"type":"base64","media_type":"image/png","data":"` + data + `"}`
	tests := []struct {
		name                 string
		api                  openai.API
		body                 string // without the model
		images, audio, other int
	}{
		{"screenshot", openai.Responses, `"input":[{"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot","image_url":` + url + `}}]`, 1, 0, 0},
		{"screenshot without a type", openai.Responses, `"input":[{"type":"computer_call_output","output":{"image_url":{"url":` + url + `}}}]`, 1, 0, 0},
		{"result of a function", openai.Responses, `"input":[{"type":"function_call_output","output":[{"type":"input_text","text":"x"},{"type":"input_image","image_url":` + url + `}]}]`, 1, 0, 0},
		{"generated image", openai.Responses, `"input":[{"type":"image_generation_call","result":"` + data + `"}]`, 1, 0, 0},
		{"file", openai.Responses, `"input":[{"role":"user","content":[{"type":"input_file","filename":"x","file_data":` + url + `}]}]`, 0, 0, 1},
		{"file as an item", openai.Responses, `"input":[{"type":"input_file","file_data":` + url + `}]`, 0, 0, 1},
		{"image in the instructions", openai.Responses, `"input":"x","instructions":[{"role":"developer","content":[{"type":"input_image","image_url":` + url + `}]}]`, 1, 0, 0},
		{"an item of an unknown type", openai.Responses, `"input":[{"type":"x","result":{"screens":[{"image_url":` + url + `},{"image_url":{"url":` + url + `}}]}}]`, 2, 0, 0},
		{"sound", openai.ChatCompletions, `"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"` + data + `","format":"wav"}}]}]`, 0, 1, 0},
		{"content that is no list", openai.ChatCompletions, `"messages":[{"role":"user","content":{"type":"image_url","image_url":{"url":` + url + `}}}]`, 1, 0, 0},
		{"result of a tool", openai.ChatCompletions, `"messages":[{"role":"tool","tool_call_id":"c","content":[{"type":"image_url","image_url":{"url":` + url + `}}]}]`, 1, 0, 0},
		{"file of chat", openai.ChatCompletions, `"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":` + url + `}}]}]`, 0, 0, 1},
		{"beside the content", openai.ChatCompletions, `"messages":[{"role":"user","content":"x","images":["` + data + `","` + strings.ReplaceAll(data, "w", `\/`) + `"]}]`, 2, 0, 0},
		{"image_url beside the content", openai.ChatCompletions, `"messages":[{"role":"user","content":"x","image_url":` + url + `}]`, 1, 0, 0},
		{"source", openai.Messages, `"messages":[{"role":"user","content":[{"type":"image","source":` + source + `}]}]`, 1, 0, 0},
		{"source in a result", openai.Messages, `"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"image","source":` + source + `}]}]}]`, 1, 0, 0},
		{"source in a result that is no list", openai.CountTokens, `"messages":[{"role":"user","content":[{"type":"tool_result","content":{"type":"document","source":` + source + `}}]}]`, 0, 0, 1},
		{"source in the system prompt", openai.Messages, `"messages":[],"system":[{"type":"text","text":"x"},{"type":"image","source":` + source + `}]`, 1, 0, 0},
		{"source beside a text", openai.Messages, `"messages":[{"role":"user","content":[{"type":"text","text":"x","source":` + source + `}]}]`, 0, 0, 1},
		{"image to embed", openai.Embeddings, `"input":[{"text":"x"},{"image":` + url + `}]`, 1, 0, 0},
	}
	for _, tt := range tests {
		var req types.Request
		if _, err := openai.Parse(tt.api, "", []byte(`{"model":"m",`+tt.body+`}`), &req, openai.Limits{}); err != nil {
			t.Fatal(err)
		}
		p := req.Prompt
		media := tt.images*openai.ImageTokens + tt.audio*openai.AudioTokens + tt.other*openai.OtherTokens
		if p.Images != tt.images || p.Audio != tt.audio || p.Other != tt.other || p.Tokens < media || p.Tokens > media+60 {
			t.Errorf("%s: %d tokens, images %d, audio %d, other %d, want %d and a few, %d, %d, %d",
				tt.name, p.Tokens, p.Images, p.Audio, p.Other, media, tt.images, tt.audio, tt.other)
		}
	}

	// What a model reads as text is text, whatever it looks like.
	for _, messages := range []string{
		`[{"content":` + url + `}]`,
		`[{"content":[{"type":"text","text":` + url + `}]}]`,
		`[{"content":[{"type":"tool_use","input":{"image":` + url + `}}]}]`,
		`[{"tool_calls":[{"function":{"arguments":` + url + `}}]}]`,
		`[{"source":"` + strings.Repeat("a text with words ", 60_000) + `"}]`,
	} {
		var req types.Request
		if _, err := openai.Parse(openai.ChatCompletions, "", []byte(`{"model":"m","messages":`+messages+`}`), &req, openai.Limits{}); err != nil {
			t.Fatal(err)
		}
		if p := req.Prompt; p.Tokens < len(data)/openai.BytesPerToken*9/10 || p.Images+p.Other > 0 {
			t.Errorf("%.60s…: %+v", messages, p)
		}
	}
}

// The next turn of a conversation starts with the bytes of the one before, in
// every form a prompt may have.
func TestPromptExtends(t *testing.T) {
	tests := []struct {
		name       string
		api        openai.API
		body, next string
	}{
		{"chat", openai.ChatCompletions,
			`{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{"x":1}],"max_tokens":10}`,
			`{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[{"x":1}],"max_tokens":20}`},
		{"chat with an image", openai.ChatCompletions,
			`{"model":"m","messages":[{"content":[{"type":"image_url","image_url":"x"}]}]}`,
			`{"model":"m","messages":[{"content":[{"type":"image_url","image_url":"x"}]},{"content":"b"}],"stream":true}`},
		{"completions", openai.Completions, `{"model":"m","prompt":"a b"}`, `{"model":"m","prompt":"a b c"}`},
		{"completions, string and list", openai.Completions, `{"model":"m","prompt":"a b"}`, `{"model":"m","prompt":["a b c"]}`},
		{"tokens", openai.Completions, `{"model":"m","prompt":[1,2]}`, `{"model":"m","prompt":[1,2,3]}`},
		{"responses", openai.Responses,
			`{"model":"m","instructions":"i","input":[{"role":"user","content":"a"}]}`,
			`{"model":"m","input":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"instructions":"i"}`},
		{"messages", openai.Messages,
			`{"model":"m","messages":[{"role":"user","content":"a"}],"system":"s"}`,
			`{"model":"m","system":"s","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`},
	}
	for _, tt := range tests {
		first, next := promptBytes(t, tt.api, tt.body), promptBytes(t, tt.api, tt.next)
		if len(first) == 0 || len(first) == len(next) || !bytes.HasPrefix(next, first) {
			t.Errorf("%s: %q does not start with %q", tt.name, next, first)
		}
	}
}

func promptBytes(t *testing.T, api openai.API, body string) []byte {
	t.Helper()
	var req types.Request
	if _, err := openai.Parse(api, "", []byte(body), &req, openai.Limits{}); err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, s := range req.Prompt.Spans {
		all = append(all, body[s.Start:s.End]...)
	}
	return all
}

func TestSpliceModel(t *testing.T) {
	tests := []struct {
		body, name, want string
	}{
		{`{"model":"a"}`, "b", `{"model":"b"}`},
		{`{ "model" : "a" , "x":1}`, `q"\` + "\n", `{ "model" : "q\"\\\n" , "x":1}`},
		{`{"model":"a","model":"b"}`, "c", `{"model":"a","model":"c"}`},
		{`{"model":"\u0061"}`, "a", `{"model":"\u0061"}`},
		{`{"model":"a\\b"}`, `a\b`, `{"model":"a\\b"}`},
		{`{"model":"a"}`, "", `{"model":""}`},
		{"\xef\xbb\xbf{\"model\":\"a\"}", "b", "\xef\xbb\xbf{\"model\":\"b\"}"}, // with a byte order mark
	}
	for _, tt := range tests {
		var req types.Request
		body := []byte(tt.body)
		p, err := openai.Parse(openai.ChatCompletions, "", body, &req, openai.Limits{})
		require.NoError(t, err)
		if got := p.SpliceModel([]byte("old"), body, tt.name); string(got) != tt.want {
			t.Errorf("SpliceModel(%s, %q) = %s, want %s", tt.body, tt.name, got, tt.want)
		}
		if string(body) != tt.body {
			t.Errorf("SpliceModel(%s, %q) changed the body to %s", tt.body, tt.name, body)
		}
	}
	body := []byte(`{"model":"a"}`)
	var req types.Request
	p, _ := openai.Parse(openai.ChatCompletions, "", body, &req, openai.Limits{})
	if got := p.SpliceModel(nil, body, "a"); &got[0] != &body[0] {
		t.Error("SpliceModel of the same name made a copy")
	}
	p, _ = openai.Parse(openai.Other, "", []byte(`{}`), &req, openai.Limits{})
	if got := p.SpliceModel(nil, []byte(`{}`), "a"); string(got) != `{}` {
		t.Errorf("SpliceModel without a model = %s", got)
	}
}

func TestModelOptional(t *testing.T) {
	tests := []struct{ body, want string }{
		{`{}`, `{"model":"q\"m"}`},
		{"\xef\xbb\xbf{}", "\xef\xbb\xbf{\"model\":\"q\\\"m\"}"},
		{` { } `, ` {"model":"q\"m" } `},
		{`{"messages":[]}`, `{"model":"q\"m","messages":[]}`},
		{"{\n \"a\":1,\"b\":{\"model\":\"x\"}}", "{\"model\":\"q\\\"m\",\n \"a\":1,\"b\":{\"model\":\"x\"}}"},
		{`{"a":1,"model" : null , "b":2}`, `{"a":1,"model" : "q\"m" , "b":2}`},
		{`{"model":""}`, `{"model":"q\"m"}`},
		{`{"model":"a","model":null}`, `{"model":"a","model":"q\"m"}`},
		{`{"model":"a"}`, `{"model":"q\"m"}`},
	}
	for _, tt := range tests {
		for api := openai.ChatCompletions; api <= openai.CountTokens; api++ {
			req := types.Request{Model: "old"}
			body := []byte(tt.body)
			p, err := openai.Parse(api, "", body, &req, openai.Limits{ModelOptional: true})
			require.NoError(t, err, "%v: Parse(%s)", api, tt.body)
			named := tt.body == `{"model":"a"}`
			if (req.Model != "") != named || (p.Model != types.Span{}) != named {
				t.Errorf("Parse(%s): model %q at %v", tt.body, req.Model, p.Model)
			}
			for _, dst := range [][]byte{nil, make([]byte, 5, 1000)} {
				if got := p.SpliceModel(dst, body, `q"m`); string(got) != tt.want || string(body) != tt.body {
					t.Errorf("SpliceModel(%s) = %s, want %s", tt.body, got, tt.want)
				}
			}
			if got := p.SpliceModel(nil, body, ""); !named && string(got) != tt.body {
				t.Errorf("SpliceModel(%s) of no name = %s", tt.body, got)
			}
		}
	}
	// Into a body of an unknown kind nothing is put.
	var req types.Request
	p, _ := openai.Parse(openai.Other, "", []byte(`{}`), &req, openai.Limits{ModelOptional: true})
	if got := p.SpliceModel(nil, []byte(`{}`), "a"); string(got) != `{}` {
		t.Errorf("SpliceModel(%s) = %s", `{}`, got)
	}
	if e := openai.MissingModel(); e.Status != 400 || e.Code != openai.CodeMissing || e.Param != "model" {
		t.Errorf("MissingModel() = %+v", e)
	}
}

func TestErrorBodyFor(t *testing.T) {
	tests := map[string]bool{ // whether it is Anthropic's
		"/v1/messages": true, "/v1/messages/": true, "/messages": true, "/v1/messages/count_tokens?x": true, "/messages/count_tokens": true,
		"/v1/messages/batches/b/results": true, "/anthropic/v1/messages/x": true,
		"/v1/chat/completions": false, "/v1/threads/t/messages": false, "/v1/threads/t/messages/m": false, "/v1/messages_x": false, "": false,
	}
	for path, anthropic := range tests {
		want := openai.ErrorBody(404, "x", "model", "c")
		if anthropic {
			want = openai.MessagesErrorBody(404, "x")
		}
		if got := openai.ErrorBodyFor(path, 404, "x", "model", "c"); !bytes.Equal(got, want) {
			t.Errorf("ErrorBodyFor(%q) = %s, want %s", path, got, want)
		}
		if api := openai.APIOf(path); api != openai.Other {
			e := &openai.Error{Status: 404, Message: "x", Param: "model", Code: "c"}
			if got := e.Body(api); !bytes.Equal(got, want) {
				t.Errorf("Body(%v) = %s, want %s", api, got, want)
			}
		}
	}
}

// decode is the oracle: it keeps numbers as they are written.
func decode(t *testing.T, data []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v), "decoding %q", data)
	return v
}

func FuzzParse(f *testing.F) {
	for _, body := range []string{
		`{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":5}`,
		`{"\u006dodel":"a\n","max_completion_tokens":1e2,"tools":[{}],"functions":[1]}`,
		`{"model":"m","messages":[{"content":[{"type":"image_url","content":[{"type":"text"}]}]}],"max_tokens":-5}`,
		`{"model":"a","model":"b","cache_salt":"s","prompt_cache_key":"k","stream":null}`,
		`{"model":"m","stream_options":{"include_usage":true}} x`, `[]`, `{"model":""}`, `{"model":"` + "\xff" + `"}`,
		`{"model":"m","messages":[[[1,2],"x"],null,3]}`,
		`{"model":"m","messages":[{"content":[{"type":"video","fps":2,"nframes":3,"video":["https://a",{"url":"data:,"}]}],"images":["` + strings.Repeat("iVBO", 300) + `"]}]}`,
		`{"model":"m","messages":[{"content":[{"type":"image_url","image_url":{"url":"` + dataURL(pngOf(32, 16, 600)) + `"}}]}]}`,
		`{"model":"m","messages":[{"content":[{"image_url":{"url":"` + wavOf(0) + `","detail":"low"},"type":"file"}]}]}`,
	} {
		f.Add([]byte(body), "other/model")
	}
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		limits := openai.Limits{MaxDepth: 10000}
		original := bytes.Clone(body)
		var req types.Request
		p, err := openai.Parse(openai.ChatCompletions, "", body, &req, limits)

		var e *openai.Error
		if !json.Valid(body) {
			if !errors.As(err, &e) || e.Code != openai.CodeInvalidJSON {
				t.Fatalf("Parse(%q) = %v, want %s", body, err, openai.CodeInvalidJSON)
			}
			return
		}
		tree, ok := decode(t, body).(map[string]any)
		want, problem := expect(tree)
		if !ok {
			problem = "not an object"
		}
		if (err == nil) != (problem == "") {
			t.Fatalf("Parse(%q) = %v, the oracle says %q", body, err, problem)
		}
		if model := tree["model"]; ok && (model == nil || model == "") {
			limits.ModelOptional = true
			if p, err := openai.Parse(openai.ChatCompletions, "", body, &req, limits); err == nil {
				spliced := p.SpliceModel(nil, body, "put in")
				tree["model"] = "put in"
				if req.Model != "" || !reflect.DeepEqual(decode(t, spliced), any(tree)) {
					t.Fatalf("SpliceModel(%q) = %q", body, spliced)
				}
			}
			return
		}
		if err != nil {
			if !errors.As(err, &e) || e.Code == openai.CodeInvalidJSON || e.Offset >= len(body) || !json.Valid(e.Body(openai.ChatCompletions)) {
				t.Fatalf("Parse(%q) = %#v", body, err)
			}
			return
		}
		if req.Model != want.Model || req.Stream != want.Stream || req.MaxTokens != want.MaxTokens ||
			req.CacheSalt != want.CacheSalt || req.SessionID != want.SessionID || req.ProgramID != want.ProgramID {
			t.Fatalf("Parse(%q) = %+v, want %+v", body, req, want)
		}
		checkPrompt(t, &req)

		spliced := p.SpliceModel(nil, body, name)
		tree["model"] = strings.ToValidUTF8(name, "")
		after := decode(t, spliced).(map[string]any)
		if valid := name == tree["model"]; !valid {
			delete(tree, "model")
			delete(after, "model")
		}
		if !reflect.DeepEqual(after, tree) {
			t.Fatalf("SpliceModel(%q, %q) = %q", body, name, spliced)
		}
		if !bytes.HasPrefix(spliced, body[:p.Model.Start]) || !bytes.HasSuffix(spliced, body[p.Model.End:]) {
			t.Fatalf("SpliceModel(%q, %q) = %q: other bytes changed", body, name, spliced)
		}
		for api := openai.Other; api <= openai.CountTokens; api++ {
			if _, err := openai.Parse(api, "", body, &req, limits); err == nil {
				checkPrompt(t, &req)
			}
		}
		if !bytes.Equal(body, original) {
			t.Fatalf("the body changed from %q to %q", original, body)
		}
	})
}

// expect reads a decoded chat body the plain way.
func expect(tree map[string]any) (want types.Request, problem string) {
	str := func(key string, limit int) string {
		s, ok := tree[key].(string)
		if !ok && tree[key] != nil || len(s) > limit {
			problem = key
		}
		return s
	}
	if want.Model = str("model", 256); want.Model == "" {
		problem = "model"
	}
	want.CacheSalt = str("cache_salt", 1024)
	want.SessionID, want.ProgramID = idsIn(tree, str("prompt_cache_key", 1024))
	var ok bool
	if want.Stream, ok = tree["stream"].(bool); !ok && tree["stream"] != nil {
		problem = "stream"
	}
	bound := tree["max_completion_tokens"]
	if bound == nil {
		bound = tree["max_tokens"]
	}
	if number, ok := bound.(json.Number); ok {
		n, err := strconv.Atoi(string(number))
		if err != nil {
			problem = "max_tokens"
		}
		want.MaxTokens = max(n, 0)
	} else if bound != nil {
		problem = "max_tokens"
	}
	if _, ok := tree["messages"].([]any); !ok && tree["messages"] != nil {
		problem = "messages"
	}
	return want, problem
}

// checkPrompt checks what holds for every prompt.
func checkPrompt(t testing.TB, req *types.Request) {
	t.Helper()
	size := 0
	for _, s := range req.Prompt.Spans {
		if s.Start < 0 || s.Start >= s.End || s.End > len(req.Body) {
			t.Fatalf("span %v of a body of %d bytes: %q", s, len(req.Body), req.Body)
		}
		size += s.End - s.Start
	}
	p := req.Prompt
	media := 0
	for i, m := range p.Media {
		if media += m.Tokens; m.Tokens <= 0 || m.Span.Start > m.Span.End || i > 0 && m.Span.End > 0 && m.Span == p.Media[i-1].Span {
			t.Fatalf("media %+v of %q", p.Media, req.Body)
		}
	}
	if rest := p.Images + p.Audio + p.Other - len(p.Media); p.Bytes != size || p.Tokens < 0 || p.Tokens > size+media+rest*openai.VideoTokens || rest < 0 {
		t.Fatalf("prompt %+v of %q", p, req.Body)
	}
}
