package openai_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

var text = strings.Repeat(`It was the best of \"times\".\n`, 20)

// early parses the beginning of a body, and all of it, and checks what must be true of any.
func early(t *testing.T, api openai.API, body string, at int) (decided, stands bool) {
	t.Helper()
	var began, whole types.Request
	p, ok := openai.ParseEarly(api, "", []byte(body[:at]), int64(len(body)), &began, openai.Limits{})
	if !ok {
		require.Empty(t, began)
		return false, false
	}
	require.NotEmpty(t, began.Model)
	require.NotEmpty(t, began.Prompt.Spans)
	for _, s := range began.Prompt.Spans {
		require.True(t, 0 <= s.Start && s.Start < s.End && s.End <= at, "%v at %d of %s", s, at, body)
	}
	q, err := openai.Parse(api, "", []byte(body), &whole, openai.Limits{})
	if err != nil || !p.Began(&began, q, &whole) {
		return true, false
	}
	// What goes out is what would have gone out, and the prompt begins as it does.
	target := "the-target"
	require.Equal(t, string(q.SpliceModel(nil, []byte(body), target)), string(p.SpliceModel(nil, []byte(body[:at]), target))+body[at:])
	require.True(t, strings.HasPrefix(promptOf(&whole), promptOf(&began)), "%q, %q", promptOf(&whole), promptOf(&began))
	require.Equal(t, whole.CacheSalt, began.CacheSalt)
	require.Equal(t, whole.SessionID, began.SessionID)
	return true, true
}

func promptOf(r *types.Request) (s string) {
	for _, span := range r.Prompt.Spans {
		s += string(r.Body[span.Start:span.End])
	}
	return s
}

// TestParseEarly cuts bodies at each byte: where a decision is possible it stands or not, as the rest is.
func TestParseEarly(t *testing.T) {
	message := `{"role":"user","content":"` + text + `"}`
	image := `{"role":"user","content":[{"type":"text","text":"what"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + strings.Repeat("iVBORw0KGgo", 100) + `"}}]}`
	for _, tt := range []struct {
		name, body      string
		api             openai.API
		decides, stands bool // anywhere
	}{
		{"model first", `{"model":"m","stream":true,"messages":[` + message + `,` + message + `]}`, openai.ChatCompletions, true, true},
		{"more fields after it", `{"model":"m","messages":[` + message + `],"stream":true,"max_tokens":5}`, openai.ChatCompletions, true, true},
		{"tools before", `{"model":"m","tools":[{"x":"` + text + `"}],"messages":[` + message + `]}`, openai.ChatCompletions, true, true},
		{"tools after", `{"model":"m","messages":[` + message + `],"tools":[{"x":1}]}`, openai.ChatCompletions, true, false},
		{"model after", `{"messages":[` + message + `],"model":"m"}`, openai.ChatCompletions, false, false},
		{"model twice", `{"model":"m","messages":[` + message + `],"model":"n"}`, openai.ChatCompletions, true, false},
		{"the same model twice", `{"model":"m","messages":[` + message + `],"model":"m"}`, openai.ChatCompletions, true, false},
		{"model in escapes", `{"model":"m","messages":[` + message + `],"mod\u0065l":"n"}`, openai.ChatCompletions, true, false},
		{"salt after", `{"model":"m","messages":[` + message + `],"cache_salt":"s"}`, openai.ChatCompletions, true, false},
		{"salt before", `{"model":"m","cache_salt":"s","messages":[` + message + `]}`, openai.ChatCompletions, true, true},
		{"session after", `{"model":"m","messages":[` + message + `],"prompt_cache_key":"s"}`, openai.ChatCompletions, true, false},
		{"messages twice", `{"model":"m","messages":[` + message + `],"messages":[` + message + `]}`, openai.ChatCompletions, true, true}, // in the second
		{"messages twice, the second null", `{"model":"m","messages":[` + message + `],"messages":null}`, openai.ChatCompletions, true, false},
		{"an image", `{"model":"m","messages":[` + image + `]}`, openai.ChatCompletions, true, false}, // at its text
		{"an image after text", `{"model":"m","messages":[` + message + `,` + image + `]}`, openai.ChatCompletions, true, false},
		{"wrong type later", `{"model":"m","messages":[` + message + `],"stream":"yes"}`, openai.ChatCompletions, true, false},
		{"no JSON later", `{"model":"m","messages":[` + message + `,]}`, openai.ChatCompletions, true, false},
		{"data after it", `{"model":"m","messages":[` + message + `]}{`, openai.ChatCompletions, true, false},
		{"cut off", `{"model":"m","messages":[` + message, openai.ChatCompletions, true, false},
		{"too deep later", `{"model":"m","messages":[` + message + `],"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, openai.ChatCompletions, true, false},
		{"anthropic", `{"model":"m","system":"` + text + `","messages":[` + message + `],"max_tokens":5}`, openai.Messages, true, true},
		{"system after", `{"model":"m","max_tokens":5,"messages":[` + message + `],"system":"you"}`, openai.Messages, true, false},
		{"responses", `{"model":"m","instructions":"you","input":"` + text + text + `"}`, openai.Responses, true, true},
		{"previous response after", `{"model":"m","input":"` + text + text + `","previous_response_id":"r"}`, openai.Responses, true, false},
		{"completions", `{"model":"m","prompt":"` + text + `"}`, openai.Completions, true, true},
		{"several prompts", `{"model":"m","prompt":["` + text + `","` + text + `"]}`, openai.Completions, true, true},
		{"token ids", `{"model":"m","prompt":[` + strings.Repeat("17,", 300) + `4]}`, openai.Completions, false, false},
		{"embeddings", `{"model":"m","input":"` + text + `"}`, openai.Embeddings, false, false},
		{"model empty", `{"model":"","messages":[` + message + `]}`, openai.ChatCompletions, false, false},
		{"model no string", `{"model":7,"messages":[` + message + `]}`, openai.ChatCompletions, false, false},
		{"a byte order mark", "\xef\xbb\xbf" + `{"model":"m","messages":[` + message + `]}`, openai.ChatCompletions, true, true},
		{"an array", `[{"model":"m","messages":[` + message + `]}]`, openai.ChatCompletions, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var decides, stands bool
			for at := range len(tt.body) {
				d, s := early(t, tt.api, tt.body, at)
				decides, stands = decides || d, stands || s
			}
			require.Equal(t, tt.decides, decides)
			require.Equal(t, tt.stands, stands)
		})
	}
}

func TestParseEarlyLimits(t *testing.T) {
	body := `{"model":"m","max_tokens":7,"stream":true,"messages":[{"role":"user","content":"` + text
	var r types.Request
	p, ok := openai.ParseEarly(openai.ChatCompletions, "application/json", []byte(body), 1<<20, &r, openai.Limits{})
	require.True(t, ok)
	require.Equal(t, `"m"`, body[p.Model.Start:p.Model.End])
	require.Equal(t, 7, r.MaxTokens)
	require.True(t, r.Stream)
	require.InDelta(t, 1<<18, r.Prompt.Tokens, 50, "the rest is taken for text")
	for name, f := range map[string]func() bool{
		"a form": func() bool {
			_, ok := openai.ParseEarly(openai.ChatCompletions, "multipart/form-data; boundary=x", []byte(body), 1<<20, &r, openai.Limits{})
			return ok
		},
		"all of it is here": func() bool {
			_, ok := openai.ParseEarly(openai.ChatCompletions, "", []byte(body), int64(len(body)), &r, openai.Limits{})
			return ok
		},
		"too large": func() bool {
			_, ok := openai.ParseEarly(openai.ChatCompletions, "", []byte(body), 1<<20, &r, openai.Limits{MaxBytes: 1 << 19})
			return ok
		},
		"another API": func() bool {
			_, ok := openai.ParseEarly(openai.Other, "", []byte(body), 1<<20, &r, openai.Limits{})
			return ok
		},
		"length not known": func() bool {
			_, ok := openai.ParseEarly(openai.ChatCompletions, "", []byte(body), -1, &r, openai.Limits{})
			return ok
		},
	} {
		require.False(t, f(), name)
	}
}

// FuzzParseEarly: whatever the body and wherever it is cut, a decision that stands is that of the whole.
func FuzzParseEarly(f *testing.F) {
	f.Add(`{"model":"m","messages":[{"role":"user","content":"hello"}],"tools":[]}`, uint16(50), uint8(1))
	f.Add(`{"model":"m","input":["a",[1,2],"b"],"model":null}`, uint16(30), uint8(3))
	f.Add(`{"model":"m","tools":[1],"prompt":"\u00e9x","prompt_cache_key":"k"}`, uint16(40), uint8(2))
	f.Add(`{"model":"m","system":[{"text":"x"}],"messages":[{"content":[{"type":"image_url"}]}]}`, uint16(60), uint8(5))
	f.Fuzz(func(t *testing.T, body string, at uint16, api uint8) {
		early(t, openai.API(api%14), body, min(int(at), len(body)))
	})
}

func BenchmarkParseEarly(b *testing.B) {
	body := `{"model":"m","stream":true,"messages":[`
	for i := 0; len(body) < 256<<10; i++ {
		body += fmt.Sprintf(`{"role":"user","content":"%d %s"},`, i, text)
	}
	for _, size := range []int{32 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("first=%dKiB", size>>10), func(b *testing.B) {
			head := []byte(body[:size])
			b.ReportAllocs()
			for b.Loop() {
				var r types.Request
				if _, ok := openai.ParseEarly(openai.ChatCompletions, "", head, 1<<20, &r, openai.Limits{}); !ok {
					b.Fatal("not decided")
				}
			}
		})
	}
}
