package openai_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// TestFinish: how an answer ended is read in the words of each API, whole or streamed, and the
// same however it is cut.
func TestFinish(t *testing.T) {
	const ndjson = "application/x-ndjson"
	choice := func(reason string) string {
		return `{"choices":[{"index":0,"delta":{},"finish_reason":` + reason + `}]}`
	}
	for _, tt := range []struct {
		name, contentType, body string
		want                    types.Finish
	}{
		{"chat", "", `{"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}`, types.FinishStop},
		{"chat, to the last token", "", `{"choices":[{"message":{"content":"x"},"finish_reason":"length"}]}`, types.FinishLength},
		{"completions, filtered", "", `{"choices":[{"text":"","finish_reason":"content_filter"}]}`, types.FinishFilter},
		{"tools", "", `{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a"}]},"finish_reason":"tool_calls"}]}`, types.FinishTools},
		{"a function, as of old", "", `{"choices":[{"message":{"function_call":{}},"finish_reason":"function_call"}]}`, types.FinishTools},
		{"aborted", "", `{"choices":[{"text":"x","finish_reason":"abort"}]}`, types.FinishOther},
		{"escapes", "", `{"cho\u0069ces":[{"finish\u005freason":"st\u006fp"}]}`, types.FinishStop},
		{"a word that only begins like one", "", `{"choices":[{"finish_reason":"stopped"}]}`, types.FinishOther},
		{"a very long word", "", `{"choices":[{"finish_reason":"` + strings.Repeat(`\u0073`, 300) + `"}]}`, types.FinishOther},
		{"null", "", `{"choices":[{"text":"x","finish_reason":null}]}`, types.FinishUnknown},
		{"empty", "", `{"choices":[{"text":"x","finish_reason":""}]}`, types.FinishUnknown},
		{"no string", "", `{"choices":[{"finish_reason":7},{"finish_reason":["stop"]},{"finish_reason":{"x":"stop"}}]}`, types.FinishUnknown},
		{"elsewhere", "", `{"finish_reason":"stop","choices":[{"message":{"finish_reason":"stop"},"x":{"finish_reason":"length"}}]}`, types.FinishUnknown},
		{"what stopped it is no reason", "", `{"choices":[{"finish_reason":"stop","stop_reason":"length"}]}`, types.FinishStop},
		{"no answer", "", `{"object":"list","data":[{"embedding":[1]}]}`, types.FinishUnknown},
		{"an error", "", `{"error":{"message":"x"}}`, types.FinishUnknown},
		{"broken off", "", `{"choices":[{"finish_reason":"stop"}]`, types.FinishUnknown},
		{"vLLM's own", "", `{"request_id":"r","choices":[{"index":0,"token_ids":[1],"finish_reason":"length"}]}`, types.FinishLength},

		{"several, one of them stopped by its length", "", `{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"},{"finish_reason":"stop"}]}`, types.FinishLength},
		{"several, in another order", "", `{"choices":[{"finish_reason":"length"},{"finish_reason":"tool_calls"},{"finish_reason":"stop"}]}`, types.FinishLength},
		{"several, the rarest counts", "", `{"choices":[{"finish_reason":"abort"},{"finish_reason":"content_filter"},{"finish_reason":"length"}]}`, types.FinishFilter},

		{"streamed", sse, events(token, choice("null"), choice(`"stop"`), "[DONE]"), types.FinishStop},
		{"streamed, and usage after it", sse, events(token, choice(`"length"`), `{"choices":[],"usage":{"completion_tokens":5}}`, "[DONE]"), types.FinishLength},
		{"streamed, with text", sse, events(`{"choices":[{"delta":{"content":"x"},"finish_reason":"tool_calls"}]}`), types.FinishTools},
		{"streamed, several choices", sse, events(choice(`"stop"`), `{"choices":[{"index":1,"finish_reason":"content_filter"}]}`, `{"choices":[{"index":2,"finish_reason":"stop"}]}`), types.FinishFilter},
		{"cut off", sse, events(token, token), types.FinishUnknown},
		{"cut off in the last event", sse, events(token) + "data: " + finish[:len(finish)-1], types.FinishUnknown},
		{"without its last empty line", sse, events(token) + "data: " + finish, types.FinishStop},
		{"no JSON", sse, events(token, `{"choices":[{"finish_reason":"stop","p":NaN}]}`), types.FinishUnknown},
		{"too long an event", sse, events(`{"choices":[{"finish_reason":"stop","text":"` + strings.Repeat("x", 5000) + `"}]}`), types.FinishUnknown},
		{"opaque", "text/plain", events(finish), types.FinishUnknown},

		{"messages", "", `{"type":"message","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn","stop_sequence":null}`, types.FinishStop},
		{"messages, a sequence of the client's", "", `{"type":"message","stop_reason":"stop_sequence","stop_sequence":"max_tokens"}`, types.FinishStop},
		{"messages, to the last token", "", `{"type":"message","stop_reason":"max_tokens"}`, types.FinishLength},
		{"messages, to the end of the context", "", `{"type":"message","stop_reason":"model_context_window_exceeded"}`, types.FinishLength},
		{"messages, tools", "", `{"type":"message","stop_reason":"tool_use"}`, types.FinishTools},
		{"messages, refused", "", `{"type":"message","stop_reason":"refusal"}`, types.FinishFilter},
		{"messages, a pause", "", `{"type":"message","stop_reason":"pause_turn"}`, types.FinishOther},
		{"messages, streamed", sse, events(`{"type":"message_start","message":{"stop_reason":null}}`, `{"type":"message_delta","delta":{"stop_reason":"refusal","stop_sequence":null},"usage":{}}`, `{"type":"message_stop"}`), types.FinishFilter},
		{"messages, not yet", sse, events(`{"type":"message_start","message":{"stop_reason":null}}`, `{"type":"message_delta","delta":{"stop_reason":null}}`), types.FinishUnknown},
		{"messages, in what began it", sse, events(`{"type":"message_start","message":{"stop_reason":"max_tokens"}}`), types.FinishLength},

		{"responses", "", `{"object":"response","status":"completed","output":[{"type":"message","content":[{"text":"x"}]}],"incomplete_details":null}`, types.FinishStop},
		{"responses, to the last token", "", `{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"object":"response"}`, types.FinishLength},
		{"responses, filtered", "", `{"status":"incomplete","incomplete_details":{"reason":"content_filter"},"object":"response"}`, types.FinishFilter},
		{"responses, incomplete without a reason", "", `{"status":"incomplete","incomplete_details":{},"object":"response"}`, types.FinishOther},
		{"responses, cancelled", "", `{"status":"cancelled","object":"response"}`, types.FinishOther},
		{"responses, in progress", "", `{"status":"in_progress","object":"response","output":[{"type":"function_call"}]}`, types.FinishUnknown},
		{"responses, failed", "", `{"status":"failed","object":"response","error":{"message":"x"}}`, types.FinishUnknown},
		{"responses, a call", "", `{"output":[{"type":"reasoning"},{"id":"1","type":"function_call","name":"f"}],"status":"completed","object":"response"}`, types.FinishTools},
		{"responses, a call that the server ran", "", `{"output":[{"type":"web_search_call"},7,"x"],"status":"completed","object":"response"}`, types.FinishStop},
		{"responses, a call cut short", "", `{"output":[{"type":"function_call"}],"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"object":"response"}`, types.FinishLength},
		{"the status of something else", "", `{"object":"batch","status":"completed","output":[{"type":"function_call"}]}`, types.FinishUnknown},
		{"responses, streamed", sse, events(`{"type":"response.created","response":{"status":"in_progress"}}`, `{"type":"response.completed","response":{"status":"completed","output":[{"type":"message"}]}}`), types.FinishStop},
		{"responses, streamed, by names", sse, "event: response.completed\ndata: {}\n\n", types.FinishStop},
		{"responses, streamed, a call", sse, events(`{"type":"response.completed","response":{"output":[{"type":"custom_tool_call"}]}}`), types.FinishTools},
		{"responses, streamed, a call that the end leaves out", sse, events(`{"type":"response.output_item.done","item":{"id":"1","type":"function_call"}}`, `{"type":"response.completed","response":{"output":[]}}`), types.FinishTools},
		{"responses, streamed, a call and no end", sse, events(`{"type":"response.output_item.added","item":{"type":"function_call"}}`), types.FinishUnknown},
		{"responses, streamed, incomplete", sse, events(`{"type":"response.incomplete","response":{"incomplete_details":{"reason":"max_output_tokens"}}}`), types.FinishLength},
		{"responses, streamed, failed", sse, events(`{"type":"response.failed","response":{"error":{"message":"x"}}}`), types.FinishUnknown},
		{"an item of something else", sse, events(`{"type":"x","item":{"type":"function_call"}}`, finish), types.FinishStop},

		{"SGLang's", "", `{"text":"x","meta_info":{"id":"a","finish_reason":{"type":"length","length":16},"prompt_tokens":1}}`, types.FinishLength},
		{"SGLang's, streamed", sse, events(`{"text":"x","meta_info":{"finish_reason":null}}`, `{"text":"xy","meta_info":{"finish_reason":{"matched":2,"type":"stop"}}}`, "[DONE]"), types.FinishStop},
		{"SGLang's, aborted", "", `{"meta_info":{"finish_reason":{"type":"abort","message":"length"}}}`, types.FinishOther},
		{"text-generation-inference's", sse, events(`{"token":{"text":"x"},"details":null}`, `{"token":{"text":"x"},"details":{"finish_reason":"eos_token"}}`), types.FinishStop},
		{"Ollama's", ndjson, `{"response":"x"}` + "\n" + `{"response":"","done":true,"done_reason":"length"}` + "\n", types.FinishLength},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, o := range []openai.StreamOptions{
				{ContentType: tt.contentType, MaxEventBytes: 4096},
				{ContentType: tt.contentType, MaxEventBytes: 4096, API: openai.ChatCompletions, HoldFirst: true, TargetModel: "t", Model: "p"},
			} {
				if got := feed(o, []byte(tt.body), whole); got.finish != tt.want || got.out != tt.body {
					t.Errorf("Finish of %q = %v, want %v", tt.body, got.finish, tt.want)
				}
				if len(tt.body) < 2000 {
					checkSplits(t, o, tt.body)
				}
			}
		})
	}
	// Of a body that is too long only usage is read.
	o := openai.StreamOptions{MaxBodyBytes: 64}
	require.Equal(t, types.FinishUnknown, feed(o, []byte(`{"choices":[{"text":"`+strings.Repeat("x", 200)+`","finish_reason":"stop"}]}`), bytewise).finish)
}

func TestFinishIsForgotten(t *testing.T) {
	s := openai.NewStream(openai.StreamOptions{})
	s.Feed([]byte(`{"object":"response","status":"completed","output":[{"type":"function_call"}]}`))
	require.Equal(t, types.FinishTools, s.Finish())
	s.Reset(openai.StreamOptions{})
	require.Equal(t, types.FinishUnknown, s.Finish())
	s.Feed([]byte(`{"object":"response","status":"completed"}`))
	require.Equal(t, types.FinishStop, s.Finish())
}

func TestFinishString(t *testing.T) {
	for f, want := range []string{"unknown", "stop", "length", "filter", "tools", "other", "invalid"} {
		require.Equal(t, want, types.Finish(f).String())
	}
}

// Reading how an answer ended takes no memory, in none of the forms.
func TestFinishAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("allocation counts differ under the race detector")
	}
	for _, event := range []string{
		finish,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`,
		`{"type":"response.completed","response":{"output":[{"type":"function_call"}],"incomplete_details":null}}`,
		`{"type":"response.incomplete","response":{"incomplete_details":{"reason":"max_output_tokens"}}}`,
		`{"text":"x","meta_info":{"finish_reason":{"type":"stop"}}}`,
	} {
		o := openai.StreamOptions{ContentType: sse, API: openai.ChatCompletions}
		s, data := openai.NewStream(o), []byte(events(event))
		if n := testing.AllocsPerRun(100, func() {
			s.Reset(o)
			s.Feed(data)
		}); n > 0 || s.Finish() == types.FinishUnknown {
			t.Errorf("%s: %v allocations, finish %v; want 0, and one that is known", event, n, s.Finish())
		}
	}
}

// FuzzFinish compares what is read of an answer, whole and as an event, with what encoding/json
// finds in it, by rules that are written once more.
func FuzzFinish(f *testing.F) {
	for _, body := range []string{
		`{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}`,
		`{"type":"message_delta","delta":{"stop_reason":"tool_use"},"message":{"stop_reason":"refusal"},"stop_reason":"x"}`,
		`{"object":"response","status":"completed","output":[{"type":"function_call"}],"done_reason":""}`,
		`{"type":"response.completed","item":{"type":"shell_call"},"response":{"output":[{"type":"computer_call"}]}}`,
		`{"type":"response.incomplete","response":{"incomplete_details":{"reason":"content_filter"}},"incomplete_details":{"reason":"stop"}}`,
		`{"meta_info":{"finish_reason":{"type":"eos_token"}},"details":{"finish_reason":"function_call"}}`,
		`{"type":"response.cancelled","choices":[{"finish_reason":"max_tokens"}]}`,
		`[{"choices":[{"finish_reason":"stop"}]}]`, `"stop"`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) || hasDuplicates(body) || bytes.Count(body, []byte("["))+bytes.Count(body, []byte("{")) > 400 {
			return
		}
		value := decode(t, body)
		if got, want := feed(openai.StreamOptions{}, body, whole).finish, plainFinish(value, false); got != want {
			t.Fatalf("Finish of %s = %v, want %v", body, got, want)
		}
		var line bytes.Buffer
		require.NoError(t, json.Compact(&line, body))
		data := []byte("data: " + line.String() + "\n\n")
		if got, want := feed(openai.StreamOptions{ContentType: sse}, data, whole).finish, plainFinish(value, true); got != want {
			t.Fatalf("Finish of the event %s = %v, want %v", data, got, want)
		}
	})
}

// plainFinish is Stream.Finish of one decoded value.
func plainFinish(value any, event bool) types.Finish {
	top, ok := value.(map[string]any)
	if !ok {
		return types.FinishUnknown
	}
	words := map[string]types.Finish{
		"": types.FinishUnknown, "stop": types.FinishStop, "end_turn": types.FinishStop, "stop_sequence": types.FinishStop,
		"eos_token": types.FinishStop, "length": types.FinishLength, "max_tokens": types.FinishLength,
		"max_output_tokens": types.FinishLength, "model_context_window_exceeded": types.FinishLength,
		"content_filter": types.FinishFilter, "refusal": types.FinishFilter,
		"tool_calls": types.FinishTools, "function_call": types.FinishTools, "tool_use": types.FinishTools,
	}
	all := map[types.Finish]bool{}
	said := func(v any) types.Finish {
		word, _ := v.(string)
		if f, ok := words[word]; ok {
			return f
		}
		return types.FinishOther
	}
	add := func(v any) { all[said(v)] = true }
	in := func(v any, key string) any {
		m, _ := v.(map[string]any)
		return m[key]
	}
	list := func(v any) []any {
		l, _ := v.([]any)
		return l
	}

	for _, c := range list(top["choices"]) {
		add(in(c, "finish_reason"))
	}
	add(top["stop_reason"])
	add(top["done_reason"])
	add(in(top["delta"], "stop_reason"))
	add(in(top["message"], "stop_reason"))
	for _, key := range []string{"meta_info", "details"} {
		reason := in(top[key], "finish_reason")
		add(reason)
		add(in(reason, "type"))
	}

	kind, _ := top["type"].(string)
	state, why, response := top["status"], in(top["incomplete_details"], "reason"), top["object"] == "response"
	if name, ok := strings.CutPrefix(kind, "response."); ok && event {
		state, why, response = name, in(in(top["response"], "incomplete_details"), "reason"), true
	} else if !response {
		state = nil
	}
	switch state {
	case "completed":
		all[types.FinishStop] = true
	case "cancelled":
		all[types.FinishOther] = true
	case "incomplete":
		if f := said(why); f != types.FinishUnknown {
			all[f] = true
		} else {
			all[types.FinishOther] = true
		}
	}
	for _, f := range []types.Finish{types.FinishFilter, types.FinishOther, types.FinishLength, types.FinishTools} {
		if all[f] {
			return f
		}
	}
	if !all[types.FinishStop] {
		return types.FinishUnknown
	}
	items := append(list(top["output"]), list(in(top["response"], "output"))...)
	for _, item := range append(items, top["item"]) {
		switch in(item, "type") {
		case "function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call":
			if response {
				return types.FinishTools
			}
		}
	}
	return types.FinishStop
}

// hasDuplicates reports whether an object of the document has a key twice.
func hasDuplicates(body []byte) bool {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var walk func() bool
	walk = func() bool {
		token, err := d.Token()
		if err != nil {
			return true
		}
		open, ok := token.(json.Delim)
		if !ok {
			return false
		}
		seen := map[json.Token]bool{}
		for d.More() {
			if open == '{' {
				key, err := d.Token()
				if err != nil || seen[key] {
					return true
				}
				seen[key] = true
			}
			if walk() {
				return true
			}
		}
		_, err = d.Token()
		return err != nil
	}
	return walk()
}
