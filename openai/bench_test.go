package openai_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// chatBody returns a chat request of ten messages and about size bytes, with
// text as people and editors write it: a line end or a quote in every line.
func chatBody(size int) []byte {
	const line = "The function returns \"ok\" when the queue is empty; see the notes on back-pressure below.\n"
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	text := strings.Repeat(line, 1+size/10/len(line))
	each := max(size/10-40-2*size/10/len(line)-size/10/len(line), 8)
	var messages []message
	for i := range 10 {
		messages = append(messages, message{[]string{"user", "assistant"}[i%2], text[i : i+min(each, len(text)-i)]})
	}
	messages[0].Role = "system"
	b, _ := json.Marshal(map[string]any{
		"model": "meta-llama/Llama-3.1-8B-Instruct", "messages": messages, "stream": true,
		"max_tokens": 256, "temperature": 0.7, "stream_options": map[string]bool{"include_usage": true},
	})
	return b
}

var benchSizes = []int{1 << 10, 32 << 10, 256 << 10}

// BenchmarkParse parses into a Request that is used again, as the director does;
// BenchmarkParseFresh into a new one. Compare runs with benchstat.
func BenchmarkParse(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("body=%dKiB", size>>10), func(b *testing.B) {
			body := chatBody(size)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			var req types.Request
			for b.Loop() {
				if _, err := openai.Parse(openai.ChatCompletions, "application/json", body, &req, openai.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParseEncodingJSON is the baseline: what a gateway does that decodes the
// body into a map, sets the model and encodes it again.
func BenchmarkParseEncodingJSON(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("body=%dKiB", size>>10), func(b *testing.B) {
			body := chatBody(size)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				var m map[string]any
				if err := json.Unmarshal(body, &m); err != nil {
					b.Fatal(err)
				}
				m["model"] = "target"
				if _, err := json.Marshal(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseFresh(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("body=%dKiB", size>>10), func(b *testing.B) {
			body := chatBody(size)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				var req types.Request
				if _, err := openai.Parse(openai.ChatCompletions, "application/json", body, &req, openai.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSpliceModel(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("body=%dKiB", size>>10), func(b *testing.B) {
			body := chatBody(size)
			var req types.Request
			p, err := openai.Parse(openai.ChatCompletions, "", body, &req, openai.Limits{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			var dst []byte
			for b.Loop() {
				dst = p.SpliceModel(dst, body, "food-review-v2")
			}
		})
	}
}

const chatEvent = `data: {"id":"chatcmpl-7f2a","object":"chat.completion.chunk","created":1760000000,"model":"food-review-v2","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}` + "\n\n"

// BenchmarkStream feeds one event an operation, as it comes from a server that
// decodes token by token.
func BenchmarkStream(b *testing.B) {
	tests := []struct {
		name  string
		model string
		cut   int // bytes a chunk; 0: one event
	}{
		{"restore=off/chunk=event", "", 0},
		{"restore=on/chunk=event", "food-review", 0},
		{"restore=on/chunk=64", "food-review", 64},
	}
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			s := openai.NewStream(openai.StreamOptions{ContentType: "text/event-stream", TargetModel: "food-review-v2", Model: tt.model})
			event := []byte(chatEvent)
			cut := tt.cut
			if cut == 0 {
				cut = len(event)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(event)))
			for b.Loop() {
				for rest := event; len(rest) > 0; {
					n := min(cut, len(rest))
					s.Feed(rest[:n])
					rest = rest[n:]
				}
			}
		})
	}
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("allocation counts differ under the race detector")
	}
	body := []byte(`{"model":"m","prompt_cache_key":"k","cache_salt":"s","tools":[{"type":"function"}],` +
		`"messages":[{"role":"user","content":[{"type":"text","text":"x \"y\"\n"}]}],"stream":true,"max_tokens":5}`)
	var reused types.Request
	s := openai.NewStream(openai.StreamOptions{ContentType: "text/event-stream", TargetModel: "food-review-v2", Model: "food-review"})
	event := []byte(chatEvent)
	p, err := openai.Parse(openai.ChatCompletions, "", body, &reused, openai.Limits{})
	require.NoError(t, err)
	dst := make([]byte, 0, 4096)
	tests := []struct {
		name string
		max  float64
		f    func()
	}{
		{"Parse into a new Request", 4, func() {
			var req types.Request
			if _, err := openai.Parse(openai.ChatCompletions, "", body, &req, openai.Limits{}); err != nil {
				t.Fatal(err)
			}
		}},
		{"Parse into a used Request", 0, func() {
			if _, err := openai.Parse(openai.ChatCompletions, "", body, &reused, openai.Limits{}); err != nil {
				t.Fatal(err)
			}
		}},
		{"SpliceModel", 0, func() { dst = p.SpliceModel(dst, body, "other") }},
		{"SpliceModel of the same name", 0, func() { p.SpliceModel(nil, body, "m") }},
		{"Stream.Feed of an event", 0, func() { s.Feed(event) }},
		{"Stream.Feed of an event in two", 0, func() { s.Feed(event[:50]); s.Feed(event[50:]) }},
		{"Stream.Reset", 0, func() {
			s.Reset(openai.StreamOptions{ContentType: "text/event-stream", TargetModel: "food-review-v2", Model: "food-review"})
		}},
	}
	for _, tt := range tests {
		if n := testing.AllocsPerRun(100, tt.f); n > tt.max {
			t.Errorf("%s allocates %v times, want at most %v", tt.name, n, tt.max)
		}
	}
}

// imageBody is a chat request with a picture of so many bytes in base64, as JSON says it: between these strings.
func imageBody(size int) []byte {
	return []byte(`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` +
		base64.StdEncoding.EncodeToString(pngOf(1024, 1024, size)) + `"}}]}]}`)
}

// BenchmarkParseImage parses a request with a large picture, and scans one.
func BenchmarkParseImage(b *testing.B) {
	body := imageBody(2 << 20)
	b.Run("image=2MiB", func(b *testing.B) {
		b.ReportAllocs()
		var req types.Request
		for b.Loop() {
			if _, err := openai.Parse(openai.ChatCompletions, "application/json", body, &req, openai.Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scan", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := jsonscan.Check(body, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}
