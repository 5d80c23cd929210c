package openai_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// feedIn passes a body through a stream in chunks of a size.
func feedIn(s *openai.Stream, body string, size int) string {
	var out bytes.Buffer
	for b := []byte(body); len(b) > 0; b = b[min(size, len(b)):] {
		out.Write(s.Feed(b[:min(size, len(b))]))
	}
	out.Write(s.Close())
	return out.String()
}

func TestCachedTokens(t *testing.T) {
	for _, tt := range []struct {
		name, in, out string
		sse           bool
	}{
		{
			name: "chat",
			in:   `{"id":"x", "usage" : {"prompt_tokens":5000,"prompt_tokens_details" : { "cached_tokens" : 4999 , "audio_tokens":1 },"completion_tokens":2}} ` + "\n",
			out:  `{"id":"x", "usage" : {"prompt_tokens":5000,"prompt_tokens_details" : { "cached_tokens" : 1024 , "audio_tokens":1 },"completion_tokens":2}} ` + "\n",
		},
		{
			name: "null becomes a number",
			in:   `{"usage":{"prompt_tokens_details":{"cached_tokens":null}}}`,
			out:  `{"usage":{"prompt_tokens_details":{"cached_tokens":1024}}}`,
		},
		{
			name: "what is absent stays absent",
			in:   `{"usage":{"prompt_tokens":1,"prompt_tokens_details":null},"cached_tokens":9,"x":{"usage":{"prompt_tokens_details":{"cached_tokens":9}}}}`,
			out:  `{"usage":{"prompt_tokens":1,"prompt_tokens_details":null},"cached_tokens":9,"x":{"usage":{"prompt_tokens_details":{"cached_tokens":9}}}}`,
		},
		{
			name: "neither a number nor null",
			in:   `{"usage":{"prompt_tokens_details":{"cached_tokens":"9"}}}`,
			out:  `{"usage":{"prompt_tokens_details":{"cached_tokens":"9"}}}`,
		},
		{
			name: "all of several, escaped keys, other numbers",
			in:   `{"usage":{"prompt_tokens_details":{"cached\u005ftokens":0,"cached_tokens":1.5e3},"n":123456789012345678901234567890}}`,
			out:  `{"usage":{"prompt_tokens_details":{"cached\u005ftokens":1024,"cached_tokens":1024},"n":123456789012345678901234567890}}`,
		},
		{
			name: "responses",
			in:   `{"object":"response","usage":{"input_tokens":5000,"input_tokens_details":{"cached_tokens":4999}}}`,
			out:  `{"object":"response","usage":{"input_tokens":5000,"input_tokens_details":{"cached_tokens":1024}}}`,
		},
		{
			name: "a cut off body passes",
			in:   `{"usage":{"prompt_tokens_details":{"cached_tokens":4999}}`,
			out:  `{"usage":{"prompt_tokens_details":{"cached_tokens":4999}}`,
		},
		{
			name: "a stream", sse: true,
			in: ": ping\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":4999}}}\r\n\r\n" +
				"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5000,\"prompt_tokens_details\":\ndata: {\"cached_tokens\":4999}}}\n\ndata: [DONE]\n\n",
			out: ": ping\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":1024}}}\r\n\r\n" +
				"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5000,\"prompt_tokens_details\":\ndata: {\"cached_tokens\":1024}}}\n\ndata: [DONE]\n\n",
		},
		{
			name: "a stream of responses", sse: true,
			in:  "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens_details\":{\"cached_tokens\":1}}}}\n\n",
			out: "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens_details\":{\"cached_tokens\":1024}}}}\n\n",
		},
	} {
		o := openai.StreamOptions{CachedTokens: types.Known(1024)}
		if tt.sse {
			o.ContentType = sse
		}
		for size := 1; size <= len(tt.in); size++ {
			s := openai.NewStream(o)
			if got := feedIn(s, tt.in, size); got != tt.out {
				t.Fatalf("%s, in chunks of %d: got\n%s\nwant\n%s", tt.name, size, got, tt.out)
			}
			require.Equal(t, types.Known(1024), s.Usage().CachedTokens, tt.name)

			o.CachedTokens = types.Gauge{}
			s.Reset(o)
			require.Equal(t, tt.in, feedIn(s, tt.in, size), "%s: without a correction", tt.name)
			o.CachedTokens = types.Known(1024)
		}
	}
}

// The public name and the number are put in the same event.
func TestCachedTokensAndModel(t *testing.T) {
	o := openai.StreamOptions{ContentType: sse, TargetModel: "t", Model: "public", CachedTokens: types.Known(0)}
	in := "data: {\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":77}},\"model\":\"t\"}\n\n"
	want := "data: {\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":0}},\"model\":\"public\"}\n\n"
	for size := 1; size <= len(in); size++ {
		require.Equal(t, want, feedIn(openai.NewStream(o), in, size))
	}
}

func TestCachedLater(t *testing.T) {
	const event = "data: {\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":77}}}\n\n"
	s := openai.NewStream(openai.StreamOptions{ContentType: sse, CachedLater: true})
	require.Equal(t, event, string(s.Feed([]byte(event))))
	require.Equal(t, types.Known(77), s.Usage().CachedTokens)
	require.Empty(t, s.Feed([]byte(event[:20])), "an event that is not complete")
	s.SetCachedTokens(types.Known(-1))
	s.SetCachedTokens(types.Gauge{})
	s.SetCachedTokens(types.Known(5))
	require.Equal(t, strings.Replace(event, "77", "5", 1), string(s.Feed([]byte(event[20:]))))
	require.Equal(t, types.Known(5), s.Usage().CachedTokens)

	// Not announced: what has been passed on of an event is not passed on again.
	s.Reset(openai.StreamOptions{ContentType: sse})
	require.Equal(t, event[:20], string(s.Feed([]byte(event[:20]))))
	s.SetCachedTokens(types.Known(5))
	require.Equal(t, event[20:], string(s.Feed([]byte(event[20:]))))
	require.Equal(t, types.Known(77), s.Usage().CachedTokens)
}

// What is too long passes as it is, but the number is reported.
func TestCachedTokensOfLongBodies(t *testing.T) {
	in := `{"x":"` + strings.Repeat("x", 200) + `","usage":{"prompt_tokens_details":{"cached_tokens":77}}}`
	s := openai.NewStream(openai.StreamOptions{CachedTokens: types.Known(5), MaxBodyBytes: 100})
	require.Equal(t, in, feedIn(s, in, 50))
	require.Equal(t, types.Known(5), s.Usage().CachedTokens)
}

func TestCachedTokensAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("allocation counts differ under the race detector")
	}
	event := []byte("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":77}}}\n\n")
	o := openai.StreamOptions{ContentType: sse, CachedTokens: types.Known(12345)}
	s := openai.NewStream(o)
	if n := testing.AllocsPerRun(100, func() {
		s.Reset(o)
		s.Feed(event)
	}); n > 0 {
		t.Errorf("%v allocations for an event, want 0", n)
	}
}

// Whatever a server sends, the value of an event is what it was but for the numbers, and how
// it is cut does not matter.
func FuzzCachedTokens(f *testing.F) {
	for _, seed := range []string{
		`{"usage":{"prompt_tokens_details":{"cached_tokens":77}}}`,
		`{"response":{"usage":{"input_tokens_details":{"cached_tokens":null}}}}`,
		`{"message":{"usage":{"input_tokens_details":{"cached\u005ftokens":1e2,"cached_tokens":"x"}}}}`,
		`[{"usage":{}}]`, `{"usage":{"prompt_tokens_details":{"cached_tokens":-1}},"usage":null}`, ` { } x`,
	} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, body string, size int) {
		if size <= 0 || strings.Count(body, "{")+strings.Count(body, "[") > 200 {
			t.Skip()
		}
		o := openai.StreamOptions{CachedTokens: types.Known(7)}
		whole := feedIn(openai.NewStream(o), body, len(body)+1)
		if cut := feedIn(openai.NewStream(o), body, size); cut != whole {
			t.Fatalf("%q in chunks of %d: got %q, whole %q", body, size, cut, whole)
		}
		in, ok := decodeAny(body)
		if !ok {
			return // of what is only the start of a body JSON, all may be
		}
		out, ok := decodeAny(whole)
		if !ok {
			t.Fatalf("%q became %q, which is no JSON", body, whole)
		}
		if diff := cmp.Diff(corrected(in), out); diff != "" {
			t.Fatalf("%q became %q: %s", body, whole, diff)
		}
	})
}

func decodeAny(body string) (value any, ok bool) {
	if !json.Valid([]byte(body)) {
		return nil, false
	}
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	return value, d.Decode(&value) == nil
}

// corrected is what a Stream does, of a decoded body.
func corrected(body any) any {
	object := func(v any, key string) map[string]any {
		m, _ := v.(map[string]any)
		inner, _ := m[key].(map[string]any)
		return inner
	}
	top, _ := body.(map[string]any)
	for _, m := range []map[string]any{top, object(top, "response"), object(top, "message")} {
		for _, key := range []string{"prompt_tokens_details", "input_tokens_details"} {
			details := object(object(m, "usage"), key)
			switch v := details["cached_tokens"].(type) {
			case json.Number:
				details["cached_tokens"] = json.Number("7")
			case nil:
				if _, ok := details["cached_tokens"]; ok && v == nil {
					details["cached_tokens"] = json.Number("7")
				}
			}
		}
	}
	return body
}
