package openai_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestSpliceOfASession(t *testing.T) {
	const chat = "/v1/chat/completions"
	tests := []struct {
		name, path, body, model, want string
	}{
		{"chat", chat, `{"model":"m","messages":[]}`, "", `{"session_id":"s\"1","model":"m","messages":[]}`},
		{"spaces", "/v1/completions", " \n{ \"model\":\"m\",\"prompt\":\"a\"}", "", " \n{\"session_id\":\"s\\\"1\", \"model\":\"m\",\"prompt\":\"a\"}"},
		{"the client's own comes later, and counts", "/v1/responses", `{"session_id":"mine","model":"m","input":"a"}`, "", `{"session_id":"s\"1","session_id":"mine","model":"m","input":"a"}`},
		{"an API that may not know it", "/v1/embeddings", `{"model":"m","input":"a"}`, "", `{"model":"m","input":"a"}`},
		{"with a model", chat, `{"messages":[],"model":"m"}`, "n", `{"session_id":"s\"1","messages":[],"model":"n"}`},
		{"with the same model", chat, `{"messages":[],"model":"m"}`, "m", `{"session_id":"s\"1","messages":[],"model":"m"}`},
		{"with a model where there was none", chat, `{"messages":[]}`, "n", `{"session_id":"s\"1","model":"n","messages":[]}`},
		{"with a model in place of null", chat, `{"model":null}`, "n", `{"session_id":"s\"1","model":"n"}`},
		{"with a model into nothing", chat, ` { } `, "n", ` {"session_id":"s\"1","model":"n" } `},
		{"into nothing", chat, `{ }`, "", `{"session_id":"s\"1" }`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(tt.body)
			p, err := openai.Parse(openai.APIOf(tt.path), "application/json", body, new(types.Request), openai.Limits{ModelOptional: true})
			require.NoError(t, err)
			got := p.Splice(body, tt.model, `s"1`)
			require.Equal(t, tt.want, string(got))
			require.Equal(t, tt.body, string(body), "the body was changed")
			require.True(t, json.Valid(got), "%s is no JSON", got)
			require.Equal(t, tt.want, string(bytes.Join(p.Pieces(body, tt.model, `s"1`), nil)))
		})
	}
}

// Long parts are where they were, and short ones are put together.
func TestPieces(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	tests := []struct {
		name, body, model, session string
		sizes                      []int // of pieces; below 0: part of the body
	}{
		{"nothing changes", `{"model":"m","prompt":"` + long + `"}`, "m", "", []int{-204825}},
		{"no model is given", `{"model":"m","prompt":"` + long + `"}`, "", "", []int{-204825}},
		{"the model first", `{"model":"m","prompt":"` + long + `"}`, "other", "", []int{16, -204813}},
		{"the model last", `{"prompt":"` + long + `","model":"m"}`, "other", "", []int{-204821, 8}},
		{"in the middle", `{"prompt":"` + long + `","model":"m","suffix":"` + long + `"}`, "other", "", []int{-204821, 7, -204813}},
		{"a session", `{"model":"m","prompt":"` + long + `"}`, "", "s", []int{18, -204824}},
		{"both", `{"prompt":"` + long + `","model":"m"}`, "other", "s", []int{18, -204820, 8}},
		{"both side by side", `{"model":"m","prompt":"` + long + `"}`, "other", "s", []int{33, -204813}},
		{"all is short", `{"prompt":"a","model":"m"}`, "other", "s", []int{47}},
		{"all is short, and nothing changes", `{"prompt":"a","model":"m"}`, "m", "", []int{-26}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(tt.body)
			p, err := openai.Parse(openai.Completions, "", body, new(types.Request), openai.Limits{})
			require.NoError(t, err)
			pieces := p.Pieces(body, tt.model, tt.session)
			var sizes []int
			for _, piece := range pieces {
				require.Equal(t, len(piece), cap(piece), "who appends to a piece writes over what comes next")
				if size := len(piece); liesIn(body, piece) {
					sizes = append(sizes, -size)
				} else {
					sizes = append(sizes, size)
				}
			}
			require.Equal(t, tt.sizes, sizes)
			require.Equal(t, string(p.Splice(body, tt.model, tt.session)), string(bytes.Join(pieces, nil)))
			require.Equal(t, tt.body, string(body))
		})
	}
	require.Empty(t, openai.Parsed{}.Pieces(nil, "m", "s"))
}

// liesIn reports whether part, which is not empty, is memory of body.
func liesIn(body, part []byte) bool {
	for at := range body {
		if &body[at] == &part[0] {
			return true
		}
	}
	return false
}

// FuzzPieces compares pieces with bodies that are made by two passes, one for the model and one for the session.
func FuzzPieces(f *testing.F) {
	const form = "multipart/form-data; boundary=b"
	long := strings.Repeat(`a\n`, 700)
	for _, seed := range []struct{ contentType, body string }{
		{"", `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}`},
		{"", `{"model":"a","model":"b","prompt":"` + long + `"}`},
		{"", `{"prompt":"` + long + `","\u006dodel":"\u0061\n","session_id":"mine"}`},
		{"", `{"prompt":"` + long + `","model":null,"suffix":"` + long + `"}`},
		{"", "\xef\xbb\xbf { } "}, {"", `{"messages":[],"model":""}`}, {"", ""}, {"", `["{"]`}, {"", "no JSON {"},
		{"", "\x00\x00\x00\x00\x05\x0a\x03abc"},
		{form, "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b--\r\n"},
		{form, "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n\r\n--b--\r\n"},
		{form, "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a{\"\r\n\r\n" + long + "\r\n--b--\r\n"},
	} {
		for _, api := range []openai.API{openai.ChatCompletions, openai.Completions, openai.Other, openai.GRPCGenerate, openai.Transcriptions} {
			f.Add(uint8(api), seed.contentType, []byte(seed.body), "other/\"model", "s")
			f.Add(uint8(api), seed.contentType, []byte(seed.body), "b", "")
		}
	}
	f.Fuzz(func(t *testing.T, api uint8, contentType string, body []byte, model, session string) {
		original := bytes.Clone(body)
		var req types.Request
		p, err := openai.Parse(openai.API(api), contentType, body, &req, openai.Limits{ModelOptional: true})
		if err != nil {
			return
		}
		want := body
		if model != "" {
			want = p.SpliceModel(nil, body, model)
		}
		if session != "" {
			want = spliceSession(p, want, session)
		}
		pieces := p.Pieces(body, model, session)
		if got := bytes.Join(pieces, nil); !bytes.Equal(got, want) {
			t.Fatalf("pieces %q, want %q", pieces, want)
		}
		if got := p.Splice(body, model, session); !bytes.Equal(got, want) {
			t.Fatalf("spliced %q, want %q", got, want)
		}
		for i, piece := range pieces {
			if len(piece) == 0 || len(pieces) > 5 {
				t.Fatalf("piece %d of %q is empty, or there are too many", i, pieces)
			}
		}
		if !bytes.Equal(body, original) {
			t.Fatalf("the body changed from %q to %q", original, body)
		}
	})
}

// spliceSession puts a session into a body that may have got its model already.
func spliceSession(p openai.Parsed, body []byte, session string) []byte {
	before, after, found := strings.Cut(string(body), "{")
	if !found || p.Form || p.API != openai.ChatCompletions && p.API != openai.Completions && p.API != openai.Responses {
		return body
	}
	comma := ","
	if rest := strings.TrimLeft(after, " \t\r\n"); rest == "" || rest[0] == '}' {
		comma = ""
	}
	return []byte(before + `{"session_id":` + string(jsonscan.AppendQuote(nil, session)) + comma + after)
}
