package disaggtest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is read as an object is one to encoding/json too, with the same members.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"a":null, "b":{"c":[1e400]}}`, `{"a":1}x`, `[]`, ``, `{"a"`, `{"\u0061":"\/"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := readMembers(body)
		var want map[string]json.RawMessage
		if json.Unmarshal(body, &want) != nil || want == nil {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		for key, value := range want {
			if string(value) == "null" {
				require.Nil(t, got.get(key))
				continue
			}
			require.Equal(t, value, got.get(key))
		}
		for _, m := range got {
			require.Contains(t, want, m.key)
		}
		_, _ = readRequest(completionsPath, body) // must not panic
		_, _ = readRequest(chatPath, body)
	})
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("data: {\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"))
	f.Add([]byte(`{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := Read(body)
		for _, c := range a.Choices {
			require.False(t, err == nil && c.Finish == "")
		}
	})
}

// Read finds what is not the answer of one engine.
func TestRead(t *testing.T) {
	event := func(s string) string { return "data: " + s + "\n\n" }
	text := event(`{"choices":[{"index":0,"text":"a"}]}`)
	last := event(`{"choices":[{"index":0,"text":"b","finish_reason":"stop"}]}`)
	usage := event(`{"choices":[],"usage":{"prompt_tokens":1}}`)
	done := event("[DONE]")
	a, err := Read([]byte(text + last + usage + done))
	require.NoError(t, err)
	require.Equal(t, []Choice{{"ab", "stop"}}, a.Choices)
	require.Equal(t, 1, a.Usage.Prompt)
	for _, c := range []struct{ body, says string }{
		{text + last, "breaks off"},
		{"", "not an event"},
		{done, "breaks off"},
		{text + done, "no finish_reason"},
		{text + last + done + done, "after the end"},
		{text + last + done + text, "after the end"},
		{text + last + text + done, "goes on after its end"},
		{text + last + last + done, "goes on after its end"},
		{text + last + usage + usage + done, "two accounts"},
		{event(`{"error":{"message":"x"}}`) + done, "is an error"},
		{`{"object":"error","message":"x"}`, "is an error"},
		{`{"choices":[{"index":3,"text":"a","finish_reason":"stop"}]}`, "choice 3"},
		{`{"choices":[{"text":"a"}]}`, "no finish_reason"},
		{`{"choices":[`, "unexpected end"},
	} {
		_, err := Read([]byte(c.body))
		require.ErrorContains(t, err, c.says, c.body)
	}
}
