package engines_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/integration/engines/recording"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/stretchr/testify/require"
)

// What real servers took as the legs of a hand-over, and answered, is what the protocol
// makes of the whole request.
func TestRecordedHandover(t *testing.T) {
	all, err := recording.Read("testdata/vllm-0.32-nixl")
	require.NoError(t, err)
	body, answer := make(map[string][]byte), make(map[string][]byte)
	seen := 0
	for _, x := range all {
		_, body[x.Name], err = x.HTTPRequest()
		require.NoError(t, err, x.Name)
		resp, text, err := x.HTTPResponse()
		require.NoError(t, err, x.Name)
		require.Equal(t, 200, resp.StatusCode, x.Name)
		answer[x.Name] = text
	}
	for _, x := range all {
		name, ok := strings.CutSuffix(x.Name, "-whole")
		if !ok {
			continue
		}
		seen++
		t.Run(name, func(t *testing.T) {
			req, whole, err := x.HTTPRequest()
			require.NoError(t, err)
			h, err := disagg.NIXL(disagg.Options{}).Begin(context.Background(), disagg.Request{
				API: openai.APIOf(req.URL.Path), Path: req.URL.Path, Body: whole,
			})
			require.NoError(t, err)
			require.False(t, h.AtOnce())
			recorded := string(body[name+"-prefill"])
			if name == "responses" { // it was recorded when the server was still let to store what nobody asks for again
				recorded = strings.Replace(recorded, "{", `{"store":false,`, 1)
			}
			require.JSONEq(t, recorded, string(h.Prefill().Body))

			d, err := h.Decode(answer[name+"-prefill"])
			require.NoError(t, err)
			require.False(t, d.Ignored)
			require.JSONEq(t, string(body[name+"-decode"]), string(d.Body))

			cached, known := d.Cached.Value()
			require.True(t, known)
			if name == "chat-again" {
				require.Equal(t, 96., cached, "tokens that the first server had cached")
			} else {
				require.Zero(t, cached)
			}
			require.Equal(t, said(t, answer[x.Name]), said(t, answer[name+"-decode"]), "the two legs, and one server alone")
			require.NotEmpty(t, said(t, answer[x.Name]))
			if bytes.Contains(answer[name+"-decode"], []byte(`"usage":{`)) {
				require.Equal(t, int64(cached), cachedOf(t, answer[name+"-decode"]), "of the usage that the client sees")
			}
		})
	}
	require.Equal(t, 6, seen)
}

// said is the text of an answer, streamed or not, of any API.
func said(t *testing.T, body []byte) string {
	t.Helper()
	var text strings.Builder
	type part struct {
		Text    string
		Content any
		Message struct{ Content string }
		Delta   struct{ Content string }
	}
	for _, object := range objects(body) {
		var a struct {
			Choices []part
			Output  []struct{ Content []part }
		}
		require.NoError(t, json.Unmarshal(object, &a), "%s", object)
		for _, c := range a.Choices {
			text.WriteString(c.Text + c.Message.Content + c.Delta.Content)
		}
		for _, o := range a.Output {
			for _, c := range o.Content {
				text.WriteString(c.Text)
			}
		}
	}
	return text.String()
}

// cachedOf is how many tokens of the prompt were cached, by the last usage of an answer.
func cachedOf(t *testing.T, body []byte) int64 {
	t.Helper()
	type details struct {
		Cached *int64 `json:"cached_tokens"`
	}
	cached := int64(-1)
	for _, object := range objects(body) {
		var a struct {
			Usage *struct {
				Prompt details `json:"prompt_tokens_details"`
				Input  details `json:"input_tokens_details"`
			}
		}
		require.NoError(t, json.Unmarshal(object, &a), "%s", object)
		if a.Usage == nil {
			continue
		}
		for _, d := range []details{a.Usage.Prompt, a.Usage.Input} {
			if d.Cached != nil {
				cached = *d.Cached
			}
		}
	}
	return cached
}

// objects are those of an answer: one, or those of a stream.
func objects(body []byte) (all [][]byte) {
	if bytes.HasPrefix(body, []byte("{")) {
		return [][]byte{body}
	}
	for line := range bytes.Lines(body) {
		if data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data: ")); ok && data[0] == '{' {
			all = append(all, data)
		}
	}
	return all
}
