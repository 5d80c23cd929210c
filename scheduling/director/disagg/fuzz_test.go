package disagg_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
)

func unmarshal(t *testing.T, body []byte, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(string(body), "\xef\xbb\xbf")), v), "%q", body)
}

// edited are the members that each protocol may set or remove, in either leg.
var edited = map[string]string{
	"nixl":     "kv_transfer_params stream stream_options max_tokens max_completion_tokens max_output_tokens store min_tokens min_completion_tokens sampling_params",
	"mooncake": "kv_transfer_params stream stream_options max_tokens max_completion_tokens max_output_tokens store min_tokens min_completion_tokens sampling_params",
	"p2p":      "kv_transfer_params stream stream_options max_tokens max_completion_tokens max_output_tokens store min_tokens min_completion_tokens sampling_params",
	"sglang":   "bootstrap_host bootstrap_port bootstrap_room rid data_parallel_rank routed_dp_rank disagg_prefill_dp_rank",
	"trtllm":   "disaggregated_params stream stream_options",
}

// FuzzBegin: whatever a client sends, a hand-over is made or refused as unsupported; its legs
// are JSON, and all but the members that the protocol edits are there byte by byte.
func FuzzBegin(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"role":"user","content":"hi"}],"max_tokens":5,"stream":true}`,
		`{"max\u005ftokens":1,"max_tokens":2,"max_completion_tokens":3,"n":1}`,
		`{"prompt":["a","b"],"rid":["x","y"]}`, `{"prompt":[1,2]}`, `{"sampling_params":{"n":1,"min_tokens":4},"token_ids":[1]}`,
		` {"n":2}`, "\xef\xbb\xbf{}", `{"kv_transfer_params":{"a":1},"stream_options":{},"kv_transfer_params":2}`,
	} {
		for api := range 2 {
			f.Add(seed, uint8(api+1))
		}
		f.Add(seed, uint8(openai.Generate))
	}
	f.Fuzz(func(t *testing.T, body string, api uint8) {
		for _, name := range disagg.Names() {
			p := protocol(t, name, options())
			h, err := p.Begin(context.Background(), request(openai.API(api), body))
			if err != nil {
				require.ErrorIs(t, err, disagg.ErrUnsupported)
				continue
			}
			d, err := h.Decode([]byte(`{"kv_transfer_params":{"x":1},"choices":[{"finish_reason":"length","disaggregated_params":{"ctx_request_id":1}}],"prompt_token_ids":[]}`))
			require.NoError(t, err)
			var prompt []string
			if name == "trtllm" {
				prompt = []string{"prompt", "prompt_token_ids"}
			}
			want := others(t, []byte(body), strings.Fields(edited[name]))
			require.Equal(t, want, others(t, h.Prefill().Body, strings.Fields(edited[name])), "%s: the prefill leg of %q is %q", name, body, h.Prefill().Body)
			want = others(t, []byte(body), append(strings.Fields(edited[name]), prompt...))
			require.Equal(t, want, others(t, d.Body, append(strings.Fields(edited[name]), prompt...)), "%s: the decode leg of %q is %q", name, body, d.Body)

			var once map[string]json.RawMessage
			unmarshal(t, h.Prefill().Body, &once)
			if name == "sglang" {
				continue
			}
			require.Equal(t, "false", string(once["stream"]))
			require.NotContains(t, once, "stream_options")
			if name == "trtllm" {
				continue
			}
			require.NotContains(t, once, "min_completion_tokens")
			caps := 0
			for _, key := range []string{"max_tokens", "max_completion_tokens", "max_output_tokens"} {
				if v := string(once[key]); v == "1" {
					caps++
				}
			}
			switch openai.API(api) {
			case openai.ChatCompletions:
				require.True(t, caps == 1 && (string(once["max_tokens"]) == "1" || once["max_tokens"] == nil) || once["max_output_tokens"] != nil, "%q", h.Prefill().Body)
			case openai.Generate:
				var sampling map[string]json.RawMessage
				unmarshal(t, once["sampling_params"], &sampling)
				require.Equal(t, "1", string(sampling["max_tokens"]))
				require.NotContains(t, sampling, "min_tokens")
			}
		}
	})
}

// others returns the members beside some, as they are written, in their order.
func others(t *testing.T, body []byte, but []string) string {
	t.Helper()
	var b strings.Builder
	s := jsonscan.New(body, jsonscan.MaxDepth)
	s.SkipMark()
	for s.Enter(); s.Key(); {
		raw := body[s.Token.Start:s.Token.End]
		start, end := s.Skip()
		if key := string(jsonscan.Unquote(nil, raw)); !slices.Contains(but, key) {
			b.Write(raw)
			b.WriteByte(':')
			b.Write(body[start:end])
			b.WriteByte('\n')
		}
	}
	require.NoError(t, s.End(), "%q", body)
	return b.String()
}

// FuzzAnswer: whatever a prefill engine answers, the decode leg has its parameters as they
// stand, or is the ordinary request, or the engine is to blame.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		answerNIXL, `{"kv_transfer_params":null}`, `{"kv_transfer_params":{},"choices":[{"finish_reason":"stop"}]}`, `{"error":{}}`, "data: {}\n\n",
		`{"choices":[{"finish_reason":"stop","message":{"content":"x","tool_calls":[{}]}}]}`,
		`{"choices":[{"finish_reason":"length","disaggregated_params":{"ctx_request_id":1,"ctx_usage":null}}],"prompt_token_ids":[1],"usage":{}}`,
	} {
		f.Add(seed)
	}
	const body = `{"stream":true,"prompt":"x","n":1}`
	f.Fuzz(func(t *testing.T, answer string) {
		for _, name := range []string{"nixl", "p2p", "trtllm"} {
			for _, api := range []openai.API{openai.ChatCompletions, openai.Completions} {
				h := begin(t, protocol(t, name, options()), request(api, body))
				d, err := h.Decode([]byte(answer))
				if err != nil {
					require.ErrorIs(t, err, disagg.ErrPrefill, "%q", answer)
					continue
				}
				var in, out map[string]json.RawMessage
				unmarshal(t, []byte(answer), &in)
				if d.Complete != nil {
					checkComplete(t, string(d.Complete))
					continue
				}
				unmarshal(t, d.Body, &out)
				require.JSONEq(t, `1`, string(out["n"]))
				switch params := string(in["kv_transfer_params"]); {
				case name == "nixl" && params != "" && params != "null" && strings.Trim(params, "{} \t\r\n") != "":
					require.Equal(t, params, string(out["kv_transfer_params"]))
					require.False(t, d.Ignored)
				case name == "nixl":
					require.Equal(t, body, string(d.Body))
				case name == "trtllm" && d.Ignored:
					require.Equal(t, body, string(d.Body))
				case name == "trtllm":
					key := map[openai.API]string{openai.ChatCompletions: "prompt_token_ids", openai.Completions: "prompt"}[api]
					require.Equal(t, string(in["prompt_token_ids"]), string(out[key]))
					var params map[string]json.RawMessage
					unmarshal(t, out["disaggregated_params"], &params)
					require.Equal(t, `"generation_only"`, string(params["request_type"]))
				}
			}
		}
	})
}

// checkComplete checks that an answer for a client that wants a stream is one.
func checkComplete(t *testing.T, body string) {
	t.Helper()
	event, ok := strings.CutSuffix(body, "\n\ndata: [DONE]\n\n")
	require.True(t, ok, "%q", body)
	event, ok = strings.CutPrefix(event, "data: ")
	require.True(t, ok, "%q", body)
	require.NotContains(t, event, "\n")
	require.NotContains(t, event, "\r")
	var chunk struct {
		Choices []map[string]json.RawMessage
		Tokens  json.RawMessage `json:"prompt_token_ids"`
	}
	require.NoError(t, json.Unmarshal([]byte(event), &chunk), "%q", event)
	require.Len(t, chunk.Choices, 1)
	require.NotContains(t, chunk.Choices[0], "disaggregated_params")
	require.Nil(t, chunk.Tokens)
}

// FuzzQuery: whatever stands at a bootstrap port, an engine is taken from it or it is to blame.
func FuzzQuery(f *testing.F) {
	f.Add(`{"0":{"engine_id":"a"},"1":{"engine_id":"b\"c"}}`)
	f.Add(`{"0":{"engine_id":1},"0":[]}`)
	f.Add(`{"00":{"engine_id":"a"},"+1":{"engine_id":"a"}}`)
	f.Fuzz(func(t *testing.T, answer string) {
		o := options()
		o.Query = func(context.Context, string) ([]byte, error) { return []byte(answer), nil }
		h, err := protocol(t, "mooncake", o).Begin(context.Background(), chat())
		if err != nil {
			require.True(t, errors.Is(err, disagg.ErrPrefill), "%q: %v", answer, err)
			return
		}
		d, err := h.Decode(nil)
		require.NoError(t, err)
		var body struct {
			Params struct {
				Engine string `json:"remote_engine_id"`
			} `json:"kv_transfer_params"`
		}
		unmarshal(t, d.Body, &body)
		var all map[string]json.RawMessage
		unmarshal(t, []byte(answer), &all)
		found := false
		for _, v := range all {
			var one map[string]json.RawMessage
			var id string
			_ = json.Unmarshal(v, &one)
			_ = json.Unmarshal(one["engine_id"], &id)
			found = found || id == body.Params.Engine && id != ""
		}
		require.True(t, found, "%q: no engine %q", answer, body.Params.Engine)
	})
}
