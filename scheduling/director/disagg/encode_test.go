package disagg_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
)

// conversation is a chat request with parts of a message, and other members.
func conversation(members string, parts ...string) string {
	return `{` + members + `"messages":[{"role":"user","content":[` + strings.Join(parts, ", ") + `]}]}`
}

func find(t testing.TB, body string, limits disagg.MediaLimits) *disagg.Media {
	t.Helper()
	r := request(openai.ChatCompletions, body)
	r.ID = "a-1"
	m, err := disagg.FindMedia(r, limits)
	require.NoError(t, err, body)
	return m
}

// written are items as "kind part".
func written(m *disagg.Media) []string {
	var all []string
	for _, item := range m.Items() {
		all = append(all, fmt.Sprintf("%v %s", item.Kind, item.Part))
	}
	return all
}

func TestFindMedia(t *testing.T) {
	const (
		image = `{ "type":"image_url","image_url":{"url":"data:image\/png;base64,AA"} }`
		low   = `{"type":"image_url","image_url":{"detail":"low","url":"data:image\/png;base64,AA"}}`
		other = `{"type":"image_url","image_url":{"url":"data:image\/png;base64,AB"}}`
		named = `{"type":"image_url","image_url":{"url":"data:image\/png;base64,AA"},"uuid":"u"}`
		sound = `{"input_audio":{"data":"AA==","format":"wav"},"type":"input_audio"}`
		text  = `{"type":"text","text":"{\"type\":\"image_url\"}"}`
	)
	for _, tt := range []struct {
		name, body string
		limits     disagg.MediaLimits
		want       []string
	}{
		{name: "one", body: conversation(`"model":"m",`, text, image), want: []string{"image " + image}},
		{name: "all kinds", body: conversation(``, image, sound, `{"type":"audio_url","audio_url":{"url":"http://a"}}`, `{"type":"video_url","video_url":{"url":null,"data":"a"}}`),
			want: []string{"image " + image, "audio " + sound, `audio {"type":"audio_url","audio_url":{"url":"http://a"}}`, `video {"type":"video_url","video_url":{"url":null,"data":"a"}}`}},
		{name: "the same twice", body: conversation(``, image, low, other, image, other), want: []string{"image " + image, "image " + other}},
		{name: "the same under another name", body: conversation(``, image, named, named), want: []string{"image " + image, "image " + named}},
		{name: "in several messages", body: `{"messages":[{"content":"x","role":"system"},{"role":"tool","content":[` + image + `]},7,{"content":[` + other + `,` + image + `]}]}`,
			want: []string{"image " + image, "image " + other}},
		{name: "no type", body: conversation(``, `{"image_url":"http://a"}`, `{"type":null,"video_url":{"url":"b"}}`), want: []string{`image {"image_url":"http://a"}`, `video {"type":null,"video_url":{"url":"b"}}`}},
		{name: "a key twice", body: `{"messages":[{"content":[` + image + `]}],"messages":[{"content":[` + image + `],"c\u006fntent":[` + sound + `]}]}`, want: []string{"audio " + sound}},
		{name: "escapes", body: conversation(``, `{"t\u0079pe":"image\u005furl","image_url":{"url":"a"}}`), want: []string{`image {"t\u0079pe":"image\u005furl","image_url":{"url":"a"}}`}},
		{name: "nothing", body: conversation(``, text, `{"type":"image_url"}`, `{"type":"image_url","image_url":null,"uuid":"x"}`, `{"type":"image_url","image_url":{"url":""}}`,
			`{"type":"image_url","image_url":{"url":1}}`, `{"type":"text","text":"a","image_url":{"url":"a"}}`, `{"type":"file","file":{"data":"AA"}}`, `"http://a"`, `null`)},
		{name: "no messages", body: `{}`},
		{name: "other messages", body: `{"messages":{"content":[` + image + `]}}`},
		{name: "text", body: `{"messages":[{"role":"user","content":"hi"},{"role":"user"},{"content":{}}]}`},
		{name: "a mark", body: "\xef\xbb\xbf" + conversation(``, image), want: []string{"image " + image}},
		{name: "at most two", body: conversation(``, image, other, image, sound), limits: disagg.MediaLimits{Items: 2}, want: []string{"image " + image, "image " + other}},
		{name: "at most so many bytes", body: conversation(``, image, other), limits: disagg.MediaLimits{Bytes: 250}, want: []string{"image " + image}},
	} {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, written(find(t, tt.body, tt.limits))) })
	}
	for _, r := range []disagg.Request{
		request(openai.Completions, `{"prompt":"x"}`), request(openai.Responses, `{}`), request(openai.ChatCompletions, `[]`), request(openai.ChatCompletions, `{"messages":[{]}`),
	} {
		_, err := disagg.FindMedia(r, disagg.MediaLimits{})
		require.ErrorIs(t, err, disagg.ErrUnsupported)
	}
}

func TestEncodeLeg(t *testing.T) {
	const item = `{"type":"image_url" ,"image_url":{"url":"data:image\/png;base64,AA\u0041"}}`
	const one = `"messages":[{"role":"user","content":[` + item + `]}]}`
	for _, tt := range []struct{ name, members, want string }{
		{"bare", ``, `{"max_tokens":1,"stream":false,` + one},
		{"model and parameters", ` "model" : "m","temperature": 1.50 ,"seed":12345678901234567890,"mm_processor_kwargs":{"a":[ 1 ]},`,
			`{"model":"m","temperature":1.50,"seed":12345678901234567890,"mm_processor_kwargs":{"a":[ 1 ]},"max_tokens":1,"stream":false,` + one},
		{"what asks for more", `"stream":true,"stream_options":{},"max_tokens":9,"min_tokens":3,"n":2,"tools":[{}],"tool_choice":"required","response_format":{},"logprobs":true,"top_logprobs":2,`,
			`{"max_tokens":1,"stream":false,` + one},
		{"the newer cap", `"max_completion_tokens":7,"max_tokens":8,`, `{"max_completion_tokens":1,"stream":false,` + one},
		{"no newer cap", `"max_completion_tokens":7,"max_completion_tokens":null,`, `{"max_tokens":1,"stream":false,` + one},
		{"names of the request", `"session_id":"s","request_id":"r","user":"u","session_id":"t",`, `{"user":"u","max_tokens":1,"stream":false,` + one},
		{"escaped keys", `"str\u0065am":true,"us\u0065r":"u",`, `{"user":"u","max_tokens":1,"stream":false,` + one},
		{"parameters of gateways", `"ec_transfer_params":null,"kv_transfer_params":null,`, `{"max_tokens":1,"stream":false,` + one},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := conversation(tt.members, item, item)
			m := find(t, body, disagg.MediaLimits{})
			leg := m.Leg(0)
			require.Equal(t, tt.want, string(leg.Body))
			require.Equal(t, map[string]string{"Content-Type": "application/json", "X-Request-Id": "a-1-enc-0"}, leg.Header)
			require.Equal(t, conversation(tt.members, item, item), body, "the body was changed")
		})
	}
}

func TestEncoded(t *testing.T) {
	nixl := disagg.EncoderNIXL(disagg.Options{MaxParams: 40})
	for _, tt := range []struct {
		answer string
		want   disagg.Encoded
	}{
		{`{"choices":[],"ec_transfer_params": {"h" : {"a":1e400}} }`, disagg.Encoded{Params: []byte(`{"h" : {"a":1e400}}`)}},
		{`{"ec_transfer_params":null}`, disagg.Encoded{Ignored: true}},
		{`{"ec_transfer_params":{ }}`, disagg.Encoded{Ignored: true}},
		{`{"choices":[]}`, disagg.Encoded{Ignored: true}},
	} {
		got, err := nixl.Encoded([]byte(tt.answer))
		require.NoError(t, err)
		require.Equal(t, tt.want, got, tt.answer)
	}
	for answer, want := range map[string]string{
		`{"ec_transfer_params":[1]}`:                                     "its ec_transfer_params are an array, want an object",
		`{"ec_transfer_params":{"h":"` + strings.Repeat("x", 40) + `"}}`: "its ec_transfer_params have 48 bytes; the limit is 40",
		`{"error":{"message":"no"}}`:                                     `its answer is an error: {"message":"no"}`,
		"data: {}\n\n":                                                   "its answer is no JSON object",
		`{"ec_transfer_params":{"h":1}} x`:                               "its answer is no JSON object",
	} {
		_, err := nixl.Encoded([]byte(answer))
		require.ErrorIs(t, err, disagg.ErrEncode)
		require.ErrorContains(t, err, want)
		require.False(t, errors.Is(err, disagg.ErrPrefill))
	}
	got, err := disagg.EncoderStorage().Encoded([]byte("anything"))
	require.NoError(t, err)
	require.Equal(t, disagg.Encoded{}, got)
}

func TestEncoderByName(t *testing.T) {
	for _, name := range disagg.EncoderNames() {
		e, err := disagg.EncoderByName(name, disagg.Options{})
		require.NoError(t, err)
		require.NotNil(t, e)
	}
	_, err := disagg.EncoderByName("x", disagg.Options{})
	require.ErrorContains(t, err, `no encoder "x": want one of [nixl storage]`)
}

func TestMergeEncoded(t *testing.T) {
	for _, tt := range []struct {
		limit int
		in    []string
		want  string
		used  int
	}{
		{100, nil, "", 0},
		{100, []string{`{"a" : {"x":1e400} }`}, `{"a":{"x":1e400}}`, 1},
		{100, []string{`{"a":[ 1 ]}`, `{"b":"\u003c","c":null}`}, `{"a":[ 1 ],"b":"\u003c","c":null}`, 2},
		{100, []string{`{"a":1,"b":2}`, `{"\u0061":3}`}, `{"a":3,"b":2}`, 2},
		{100, []string{`{}`, ``, `[1]`, `{"a":1}`}, `{"a":1}`, 1},
		{16, []string{`{"a":1}`, `{"b":"long enough"}`, `{"c":3}`}, `{"a":1,"c":3}`, 2},
		{4, []string{`{"a":1}`}, "", 0},
	} {
		var in [][]byte
		for _, one := range tt.in {
			in = append(in, []byte(one))
		}
		merged, used := disagg.MergeEncoded(tt.limit, in...)
		require.Equal(t, tt.want, string(merged))
		require.Equal(t, tt.used, used)
		require.LessOrEqual(t, len(merged), tt.limit)
	}
}

func TestWithEncoded(t *testing.T) {
	for in, want := range map[string]string{
		`{"model":"m", "n":1}`: `{"model":"m", "n":1,"ec_transfer_params":{"h":1}}`,
		` {"ec_transfer_params" :null,"a":12345678901234567890,"ec_transfer_params":0}`: ` {"ec_transfer_params" :{"h":1},"a":12345678901234567890}`,
	} {
		got, err := disagg.WithEncoded([]byte(in), []byte(`{"h":1}`))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	_, err := disagg.WithEncoded([]byte(`[`), []byte(`{}`))
	require.ErrorIs(t, err, disagg.ErrUnsupported)
}

// What encoders made goes with the prefill leg of vLLM's protocols, and with no decode leg.
func TestEncodedGoesWithThePrompt(t *testing.T) {
	for _, name := range []string{"nixl", "mooncake", "p2p"} {
		r := chat()
		r.Encoded = []byte(`{"h" : 1}`)
		h := begin(t, protocol(t, name, options()), r)
		require.Contains(t, string(h.Prefill().Body), `"ec_transfer_params":{"h" : 1}`)
		d, err := h.Decode([]byte(`{"kv_transfer_params":{"x":1}}`))
		require.NoError(t, err)
		require.NotContains(t, string(d.Body), "ec_transfer_params")
	}
}

// FuzzMedia: whatever a client sends, the items are parts of its messages, byte for byte, in the order
// of encoding/json and as many; each leg is JSON with one of them.
func FuzzMedia(f *testing.F) {
	for _, seed := range []string{
		conversation(``, `{"type":"image_url","image_url":{"url":"a"}}`, `{"type":"input_audio","input_audio":{"data":"a"},"uuid":1}`),
		conversation(`"max_completion_tokens":1,"tools":[],`, `{"video_url":"v"}`, `{"type":"text","text":"x"}`),
		`{"messages":[{"content":[{"type":"image_url","image_url":{"url":"\ud800"}}],"content":null}],"m\u0065ssages":[]}`,
		"\xef\xbb\xbf{\"messages\":[1,[],{\"content\":[[],1]}]}", `{"stream":tru`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := request(openai.ChatCompletions, body)
		m, err := disagg.FindMedia(r, disagg.MediaLimits{})
		var object map[string]json.RawMessage
		oracle := json.Unmarshal([]byte(strings.TrimPrefix(body, "\xef\xbb\xbf")), &object)
		require.Equal(t, oracle == nil && object != nil, err == nil, "%q: %v, %v", body, oracle, err)
		if err != nil {
			require.ErrorIs(t, err, disagg.ErrUnsupported)
			return
		}
		want := mediaOf(object["messages"])
		var got []string
		for i, item := range m.Items() {
			got = append(got, string(item.Part))
			var leg struct {
				Stream   bool
				N        *int
				Tools    json.RawMessage
				Messages []struct {
					Role    string
					Content []json.RawMessage
				}
			}
			unmarshal(t, m.Leg(i).Body, &leg)
			var once map[string]json.RawMessage
			unmarshal(t, m.Leg(i).Body, &once)
			require.Equal(t, "false", string(once["stream"]))
			require.True(t, string(once["max_tokens"]) == "1" || string(once["max_completion_tokens"]) == "1" && once["max_tokens"] == nil)
			require.NotContains(t, once, "tools")
			require.Len(t, leg.Messages, 1)
			require.Len(t, leg.Messages[0].Content, 1)
			require.Equal(t, string(item.Part), string(leg.Messages[0].Content[0]))
			for key, value := range object {
				if kept, ok := once[key]; ok && key != "messages" && key != "stream" && key != "max_tokens" && key != "max_completion_tokens" {
					require.Equal(t, string(value), string(kept), key)
				}
			}
		}
		if len(want) <= 32 {
			require.Equal(t, want, got, "%q", body)
		}
	})
}

// mediaOf is what FindMedia is to find, by encoding/json.
func mediaOf(messages json.RawMessage) []string {
	var all []string
	var list []json.RawMessage
	if json.Unmarshal(messages, &list) != nil {
		return nil
	}
	known := map[string]bool{}
	for _, message := range list {
		var m map[string]json.RawMessage
		if json.Unmarshal(message, &m) != nil {
			continue
		}
		var parts []json.RawMessage
		if json.Unmarshal(m["content"], &parts) != nil {
			continue
		}
		for _, part := range parts {
			var p map[string]json.RawMessage
			if json.Unmarshal(part, &p) != nil {
				continue
			}
			key, source := payloadOf(p)
			if id := key + string(p["uuid"]) + "\x00" + source; source != "" && !known[id] {
				known[id] = true
				all = append(all, string(part))
			}
		}
	}
	return all
}

func payloadOf(p map[string]json.RawMessage) (key, source string) {
	var kind string
	_ = json.Unmarshal(p["type"], &kind)
	untyped := p["type"] == nil || string(p["type"]) == "null"
	for _, key := range []string{"image_url", "audio_url", "input_audio", "video_url"} {
		value := p[key]
		if kind != key && !(untyped && value != nil && string(value) != "null") {
			continue
		}
		var inner map[string]json.RawMessage
		if json.Unmarshal(value, &inner) == nil && inner != nil {
			if value = inner["url"]; value == nil || string(value) == "null" {
				value = inner["data"]
			}
		}
		var s string
		if json.Unmarshal(value, &s) != nil || len(value) <= 2 || value[0] != '"' {
			return key, ""
		}
		return key, string(value)
	}
	return "", ""
}

// FuzzMergeEncoded: what is merged has the members of all objects that fit, the last of equal ones.
func FuzzMergeEncoded(f *testing.F) {
	f.Add(`{"a":1}`, `{"b":{"c":[1e400]}}`, 100)
	f.Add(`{"a":1,"a":2}`, `{"\u0061":3}`, 20)
	f.Fuzz(func(t *testing.T, a, b string, limit int) {
		merged, used := disagg.MergeEncoded(limit, []byte(a), []byte(b))
		if merged == nil {
			require.Zero(t, used)
			return
		}
		require.LessOrEqual(t, len(merged), limit)
		want := map[string]json.RawMessage{}
		var left []map[string]json.RawMessage
		for _, one := range []string{a, b} {
			var object map[string]json.RawMessage
			if json.Unmarshal([]byte(strings.TrimPrefix(one, "\xef\xbb\xbf")), &object) == nil && len(object) > 0 {
				left = append(left, object)
			}
		}
		if used < len(left) {
			return // which one fits is the table's to say
		}
		for _, object := range left {
			for key, value := range object {
				want[key] = value
			}
		}
		var got map[string]json.RawMessage
		unmarshal(t, merged, &got)
		require.Equal(t, want, got)
	})
}

func BenchmarkFindMedia(b *testing.B) {
	data := strings.Repeat("iVBORw0KGgo", 100_000)
	body := conversation(`"model":"m",`, `{"type":"image_url","image_url":{"url":"data:image/png;base64,`+data+`"}}`)
	r := request(openai.ChatCompletions, body)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		m, err := disagg.FindMedia(r, disagg.MediaLimits{})
		if err != nil || len(m.Items()) != 1 {
			b.Fatal(err, len(m.Items()))
		}
	}
}
