package disagg_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

// options are for legs that can be compared byte by byte.
func options() disagg.Options {
	n := atomic.Uint64{}
	return disagg.Options{
		Rand: func() uint64 { return n.Add(1) },
		Query: func(context.Context, string) ([]byte, error) {
			return []byte(`{"0":{"engine_id":"e-0","worker_addr":{}}}`), nil
		},
	}
}

func protocol(t testing.TB, name string, o disagg.Options) disagg.Protocol {
	t.Helper()
	p, err := disagg.ByName(name, o)
	require.NoError(t, err)
	return p
}

var (
	prefill = types.NewEndpoint("p", "10.0.0.7:8000")
	decode  = types.NewEndpoint("d", "10.0.0.8:8000")
)

func request(api openai.API, body string) disagg.Request {
	return disagg.Request{API: api, Path: "/v1/x?y=z", Body: []byte(body), ID: "id-1", Prefill: prefill, Decode: decode}
}

func begin(t testing.TB, p disagg.Protocol, r disagg.Request) disagg.Handover {
	t.Helper()
	h, err := p.Begin(context.Background(), r)
	require.NoError(t, err)
	return h
}

const askNIXL = `"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null}`

// What a prefill engine of NIXL answers.
const (
	paramsNIXL = `{"do_remote_prefill":true, "remote_block_ids":[[7,8,9]],"remote_engine_id":"e-1","remote_port":5600,"new":12345678901234567890123}`
	answerNIXL = `{"id":"cmpl-7","choices":[{"index":0,"text":" The","finish_reason":"length"}],` +
		`"usage":{"prompt_tokens":5000,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":1024}},"kv_transfer_params":` + paramsNIXL + `}`
)

func TestLegs(t *testing.T) {
	const (
		tokens = `[1,2,3]`
		// %s is the prompt's token ids.
		answerTRT = `{"object":"text_completion","choices":[{"index":0,"text":"","finish_reason":"length","disaggregated_params":` +
			`{"request_type":"context_only","first_gen_tokens":[7],"ctx_request_id":99,"encoded_opaque_state":"AA==","disagg_request_id":1,"ctx_usage":null}}],` +
			`"prompt_token_ids":` + tokens + `,"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}}`
	)
	for _, tt := range []struct {
		protocol, name string
		api            openai.API
		body           string
		prefill        string // HEX, ROOM, ID stand for what was drawn
		answer         string
		decode         string
		atOnce         bool
		cached         types.Gauge
	}{
		{
			protocol: "nixl", name: "chat", api: openai.ChatCompletions,
			body:    `{"model":"m", "messages":[ {"role":"user","content":"hi"} ],"stream":true,"stream_options":{"include_usage":true},"max_tokens":500,"min_tokens":3,"seed":12345678901234567890123}`,
			prefill: `{"model":"m", "messages":[ {"role":"user","content":"hi"} ],"stream":false,"max_tokens":1,"seed":12345678901234567890123,` + askNIXL + `}`,
			answer:  answerNIXL, cached: types.Known(1024),
			decode: `{"model":"m", "messages":[ {"role":"user","content":"hi"} ],"stream":true,"stream_options":{"include_usage":true},"max_tokens":500,"min_tokens":3,"seed":12345678901234567890123,"kv_transfer_params":` + paramsNIXL + `}`,
		},
		{
			protocol: "nixl", name: "chat with both caps, and equal keys", api: openai.ChatCompletions,
			body:    `{"max_tokens":5,"max_completion_tokens":7,"messages":[],"min_completion_tokens":2,"max\u005ftokens":9,"kv_transfer_params":{"remote_host":"evil"},"n":1}`,
			prefill: `{"max_completion_tokens":1,"messages":[],` + askNIXL + `,"n":1,"stream":false}`,
			answer:  answerNIXL, cached: types.Known(1024),
			decode: `{"max_tokens":5,"max_completion_tokens":7,"messages":[],"min_completion_tokens":2,"max\u005ftokens":9,"kv_transfer_params":` + paramsNIXL + `,"n":1}`,
		},
		{
			protocol: "nixl", name: "a cap that is null", api: openai.ChatCompletions,
			body:    `{"max_completion_tokens":null,"n":null}`,
			prefill: `{"max_completion_tokens":null,"n":null,` + askNIXL + `,"stream":false,"max_tokens":1}`,
			answer:  answerNIXL, cached: types.Known(1024),
			decode: `{"max_completion_tokens":null,"n":null,"kv_transfer_params":` + paramsNIXL + `}`,
		},
		{
			protocol: "nixl", name: "completions", api: openai.Completions,
			body:    `{"prompt":["hi"],"echo":false}`,
			prefill: `{"prompt":["hi"],"echo":false,` + askNIXL + `,"stream":false,"max_tokens":1}`,
			answer:  answerNIXL, cached: types.Known(1024),
			decode: `{"prompt":["hi"],"echo":false,"kv_transfer_params":` + paramsNIXL + `}`,
		},
		{
			protocol: "nixl", name: "responses", api: openai.Responses,
			body:    `{"input":"hi","max_output_tokens":100,"stream":true}`,
			prefill: `{"input":"hi","max_output_tokens":1,"stream":false,` + askNIXL + `,"store":false}`,
			answer:  `{"usage":{"input_tokens_details":{"cached_tokens":7}},"kv_transfer_params":{"a":1}}`, cached: types.Known(7),
			decode: `{"input":"hi","max_output_tokens":100,"stream":true,"kv_transfer_params":{"a":1}}`,
		},
		{
			protocol: "nixl", name: "generate", api: openai.Generate,
			body:    `{"token_ids":[1,2],"sampling_params":{"min_tokens":2, "temperature":0.0,"max_tokens":9}}`,
			prefill: `{"token_ids":[1,2],"sampling_params":{ "temperature":0.0,"max_tokens":1},` + askNIXL + `,"stream":false}`,
			answer:  `{"kv_transfer_params":{"a":1}}`,
			decode:  `{"token_ids":[1,2],"sampling_params":{"min_tokens":2, "temperature":0.0,"max_tokens":9},"kv_transfer_params":{"a":1}}`,
		},
		{
			protocol: "nixl", name: "generate without parameters", api: openai.Generate,
			body:    `{"token_ids":[1,2]}`,
			prefill: `{"token_ids":[1,2],` + askNIXL + `,"stream":false,"sampling_params":{"max_tokens":1}}`,
			answer:  `{"kv_transfer_params":{"a":1}}`,
			decode:  `{"token_ids":[1,2],"kv_transfer_params":{"a":1}}`,
		},
		{
			protocol: "mooncake", name: "chat", api: openai.ChatCompletions, atOnce: true,
			body:    `{"messages":[],"max_tokens":9}`,
			prefill: `{"messages":[],"max_tokens":1,"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"transfer_id":"xfer-HEX2HEX3"},"stream":false}`,
			decode:  `{"messages":[],"max_tokens":9,"kv_transfer_params":{"do_remote_decode":false,"do_remote_prefill":true,"transfer_id":"xfer-HEX2HEX3","remote_bootstrap_addr":"http://10.0.0.7:8998","remote_engine_id":"e-0"}}`,
		},
		{
			protocol: "p2p", name: "completions", api: openai.Completions,
			body:    `{"prompt":[1,2,3],"max_tokens":9}`,
			prefill: `{"prompt":[1,2,3],"max_tokens":1,"kv_transfer_params":{"remote_decoder":{"kv_request_id":"HEX1HEX2"}},"stream":false}`,
			answer:  `{"usage":{"prompt_tokens_details":{"cached_tokens":0}}}`, cached: types.Known(0),
			decode: `{"prompt":[1,2,3],"max_tokens":9,"kv_transfer_params":{"remote_prefiller":{"kv_request_id":"HEX1HEX2","remote_host":"10.0.0.7","remote_port":7777}}}`,
		},
		{
			protocol: "sglang", name: "chat", api: openai.ChatCompletions, atOnce: true,
			body:    `{"messages":[],"stream":true,"rid":"mine","max_tokens":9}`,
			prefill: `{"messages":[],"stream":true,"rid":"id-1-HEX3","max_tokens":9,"bootstrap_host":"10.0.0.7","bootstrap_port":8998,"bootstrap_room":ROOM}`,
			decode:  `{"messages":[],"stream":true,"rid":"id-1-HEX3","max_tokens":9,"bootstrap_host":"10.0.0.7","bootstrap_port":8998,"bootstrap_room":ROOM}`,
		},
		{
			protocol: "sglang", name: "several prompts", api: openai.Completions, atOnce: true,
			body:    `{"prompt":["a",[1,2]],"data_parallel_rank":3,"routed_dp_rank":4}`,
			prefill: `{"prompt":["a",[1,2]],"bootstrap_host":["10.0.0.7","10.0.0.7"],"bootstrap_port":[8998,8998],"bootstrap_room":[ROOM,ROOM],"rid":"id-1-HEX3"}`,
			decode:  `{"prompt":["a",[1,2]],"bootstrap_host":["10.0.0.7","10.0.0.7"],"bootstrap_port":[8998,8998],"bootstrap_room":[ROOM,ROOM],"rid":"id-1-HEX3"}`,
		},
		{
			protocol: "sglang", name: "a list of one", api: openai.Completions, atOnce: true,
			body:    `{"prompt":["a"]}`,
			prefill: `{"prompt":["a"],"bootstrap_host":["10.0.0.7"],"bootstrap_port":[8998],"bootstrap_room":[ROOM],"rid":"id-1-HEX3"}`,
			decode:  `{"prompt":["a"],"bootstrap_host":["10.0.0.7"],"bootstrap_port":[8998],"bootstrap_room":[ROOM],"rid":"id-1-HEX3"}`,
		},
		{
			protocol: "trtllm", name: "completions", api: openai.Completions,
			body:    `{"prompt":"hi" ,"max_tokens":9,"stream":true,"stream_options":{}}`,
			prefill: `{"prompt":"hi" ,"max_tokens":9,"stream":false,"disaggregated_params":{"request_type":"context_only","disagg_request_id":ID}}`,
			answer:  answerTRT, cached: types.Known(2),
			decode: `{"prompt":[1,2,3] ,"max_tokens":9,"stream":true,"stream_options":{},"disaggregated_params":` +
				`{"request_type":"generation_only","first_gen_tokens":[7],"ctx_request_id":99,"encoded_opaque_state":"AA==","disagg_request_id":ID,"ctx_usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}}}`,
		},
		{
			protocol: "trtllm", name: "chat, of an older engine", api: openai.ChatCompletions,
			body:    `{"messages":[{"content":"hi"}]}`,
			prefill: `{"messages":[{"content":"hi"}],"disaggregated_params":{"request_type":"context_only","disagg_request_id":ID},"stream":false}`,
			answer:  `{"choices":[{"finish_reason":"not_finished","disaggregated_params":{"ctx_request_id":99}}],"prompt_token_ids":[4, 5],"usage":{}}`,
			decode:  `{"messages":[{"content":"hi"}],"disaggregated_params":{"ctx_request_id":99,"request_type":"generation_only","disagg_request_id":ID},"prompt_token_ids":[4, 5]}`,
		},
	} {
		t.Run(tt.protocol+"/"+tt.name, func(t *testing.T) {
			r := request(tt.api, tt.body)
			h := begin(t, protocol(t, tt.protocol, options()), r)
			require.Equal(t, tt.atOnce, h.AtOnce())
			var answer []byte
			if !tt.atOnce {
				answer = []byte(tt.answer)
			}
			d, err := h.Decode(answer)
			require.NoError(t, err)
			require.Equal(t, tt.cached, d.Cached)
			require.False(t, d.Ignored)
			require.Nil(t, d.Complete)

			drawn := func(want string, got []byte) string {
				var values struct {
					Room json.RawMessage `json:"bootstrap_room"`
					TRT  struct {
						ID json.Number `json:"disagg_request_id"`
					} `json:"disaggregated_params"`
				}
				require.NoError(t, json.Unmarshal(got, &values))
				for room := range strings.SplitSeq(strings.Trim(string(values.Room), "[]"), ",") {
					want = strings.Replace(want, "ROOM", room, 1)
				}
				want = strings.Replace(want, "ID", string(values.TRT.ID), 1)
				for n := range 9 {
					want = strings.ReplaceAll(want, fmt.Sprintf("HEX%d", n), fmt.Sprintf("%016x", n))
				}
				return want
			}
			require.Equal(t, drawn(tt.prefill, h.Prefill().Body), string(h.Prefill().Body))
			require.Equal(t, drawn(tt.decode, d.Body), string(d.Body))
			require.Equal(t, tt.body, string(r.Body), "the request's body was changed")
			for _, leg := range []disagg.Leg{h.Prefill(), d.Leg} {
				require.Equal(t, r.Path, leg.Path)
				require.Equal(t, "id-1", leg.Header["X-Request-Id"])
				require.Equal(t, "application/json", leg.Header["Content-Type"])
			}
		})
	}
}

func TestUnsupported(t *testing.T) {
	for _, tt := range []struct {
		protocols string
		api       openai.API
		body      string
		why       string
	}{
		{"nixl mooncake p2p sglang trtllm", openai.Embeddings, `{"input":"x"}`, "no legs for embeddings"},
		{"nixl mooncake p2p sglang trtllm", openai.Other, `{}`, "no legs for other"},
		{"nixl mooncake p2p sglang trtllm", openai.Messages, `{}`, "no legs for messages"},
		{"sglang trtllm", openai.Responses, `{}`, "no legs for responses"},
		{"nixl mooncake p2p sglang trtllm", openai.ChatCompletions, `[]`, "expected an object"},
		{"nixl mooncake p2p sglang trtllm", openai.ChatCompletions, `{"n":2}`, "it has n: 2"},
		{"nixl mooncake p2p sglang trtllm", openai.ChatCompletions, `{"n":1,"\u006e":"2"}`, `it has n: "2"`},
		{"nixl mooncake p2p sglang trtllm", openai.Completions, `{"prompt":"x","echo":true}`, "it has echo: true"},
		{"nixl mooncake p2p sglang trtllm", openai.Completions, `{"prompt":"x","best_of":2}`, "it has best_of: 2"},
		{"nixl mooncake p2p sglang trtllm", openai.ChatCompletions, `{"use_beam_search":true}`, "use_beam_search"},
		{"nixl mooncake p2p sglang trtllm", openai.ChatCompletions, `{"prompt_logprobs":1}`, "prompt_logprobs"},
		{"nixl mooncake p2p trtllm", openai.Completions, `{"prompt":["a","b"]}`, "it has 2 prompts"},
		{"nixl mooncake p2p trtllm", openai.Completions, `{"prompt":[[1],[2],[3]]}`, "it has 3 prompts"},
		{"sglang", openai.Completions, `{"prompt":[` + strings.Repeat(`"a",`, 5000) + `"b"]}`, "it has 5001 prompts; the limit is 4096"},
		{"nixl mooncake p2p", openai.Responses, `{"previous_response_id":"r"}`, "previous_response_id"},
		{"nixl mooncake p2p", openai.Responses, `{"background":true}`, "background"},
		{"nixl mooncake p2p", openai.Generate, `{"sampling_params":{"n":2}}`, "it has n: 2"},
		{"nixl mooncake p2p", openai.Generate, `{"sampling_params":[]}`, "sampling_params: "},
	} {
		for name := range strings.FieldsSeq(tt.protocols) {
			_, err := protocol(t, name, options()).Begin(context.Background(), request(tt.api, tt.body))
			require.ErrorIs(t, err, disagg.ErrUnsupported, "%s of %s", name, tt.body)
			require.ErrorContains(t, err, tt.why, "%s of %s", name, tt.body)
		}
	}
}

// A prefill engine that takes no part, or answers what nobody can use.
func TestAnswers(t *testing.T) {
	big := `{"x":"` + strings.Repeat("x", 2000) + `"}`
	for _, tt := range []struct {
		protocol, answer string
		ignored          bool
		err              string
	}{
		{"nixl", `{"choices":[]}`, true, ""},
		{"nixl", `{"kv_transfer_params":null,"choices":[{"finish_reason":"length"}]}`, true, ""},
		{"nixl", `{"kv_transfer_params":{}}`, true, ""},
		{"nixl", `{"kv_transfer_params":null,"choices":[{"finish_reason":"stop"}]}`, false, ""}, // there was nothing to keep
		{"nixl", `{"kv_transfer_params":{"a":1},"kv_transfer_params":null}`, true, ""},
		{"nixl", `{"kv_transfer_params":[1]}`, false, "kv_transfer_params are an array, want an object"},
		{"nixl", `{"kv_transfer_params":"x"}`, false, "kv_transfer_params are a string, want an object"},
		{"nixl", `{"kv_transfer_params":` + big + `}`, false, "kv_transfer_params have 2008 bytes; the limit is 1000"},
		{"nixl", ``, false, "no JSON object: jsonscan: unexpected end"},
		{"nixl", `<html>`, false, "no JSON object"},
		{"nixl", "\r\ndata: {}\n\n", false, "a stream of events"},
		{"nixl", `{"error":{"message":"no"}}`, false, `an error: {"message":"no"}`},
		{"nixl", `{"error":null}`, true, ""},
		{"p2p", `{"error":"no"}`, false, `an error: "no"`},
		{"p2p", `{}`, false, ""},
		{"p2p", `[]`, false, "no JSON object"},
		{"trtllm", `{"choices":[{"finish_reason":"length"}]}`, true, ""},
		{"trtllm", `{"choices":[{"finish_reason":"length","disaggregated_params":null}]}`, true, ""},
		{"trtllm", `{"choices":[]}`, false, "0 choices, want 1"},
		{"trtllm", `{"choices":{}}`, false, "0 choices, want 1"},
		{"trtllm", `{"choices":[{},{}]}`, false, "2 choices, want 1"},
		{"trtllm", `{"choices":[1]}`, false, "expected an object, not a number"},
		{"trtllm", `{"choices":[{"disaggregated_params":{"ctx_request_id":1}}],"prompt_token_ids":[1]}`, false, "no finish_reason"},
		{"trtllm", `{"choices":[{"finish_reason":"length","disaggregated_params":{"ctx_request_id":1}}]}`, false, "prompt_token_ids are no value, want an array"},
		{"trtllm", `{"choices":[{"finish_reason":"length","disaggregated_params":{"x":1}}],"prompt_token_ids":[1]}`, false, "no ctx_request_id"},
		{"trtllm", `{"choices":[{"finish_reason":"length","disaggregated_params":` + big + `}],"prompt_token_ids":[1]}`, false, "disaggregated_params have 2008 bytes; the limit is 1000"},
		{"trtllm", `{"choices":[{"finish_reason":"length","disaggregated_params":{"ctx_request_id":1}}],"prompt_token_ids":[1` + strings.Repeat(",1", 4000) + `]}`, false, "prompt_token_ids have 8003 bytes; the limit is 8000"},
	} {
		const body = `{"prompt":"hi","max_tokens":7}`
		o := options()
		o.MaxParams = 1000
		h := begin(t, protocol(t, tt.protocol, o), request(openai.Completions, body))
		d, err := h.Decode([]byte(tt.answer))
		name := tt.protocol + ": " + tt.answer[:min(len(tt.answer), 100)]
		if tt.err != "" {
			require.ErrorIs(t, err, disagg.ErrPrefill, name)
			require.ErrorContains(t, err, tt.err, name)
			require.Less(t, len(err.Error()), 300, "a message that is too long")
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, tt.ignored, d.Ignored, name)
		if tt.protocol != "p2p" {
			require.Equal(t, body, string(d.Body), name)
		}
	}
}

// A message of 10 MB goes nowhere, whoever has set nothing.
func TestParametersAreBounded(t *testing.T) {
	h := begin(t, protocol(t, "nixl", options()), request(openai.ChatCompletions, `{}`))
	_, err := h.Decode([]byte(`{"kv_transfer_params":{"x":"` + strings.Repeat("x", 10<<20) + `"}}`))
	require.ErrorIs(t, err, disagg.ErrPrefill)
	require.EqualError(t, err, "disagg: the prefill engine: its kv_transfer_params have 10485768 bytes; the limit is 1048576")
}

// An answer of TensorRT-LLM's that ends with its first token is the client's.
func TestComplete(t *testing.T) {
	const internal = `,"disaggregated_params":{"ctx_request_id":99}`
	for _, tt := range []struct {
		name         string
		api          openai.API
		stream       string
		answer, want string
	}{
		{
			"completions", openai.Completions, "false",
			`{"id":"1","object":"text_completion", "choices":[ {"index":0,"text":"a","finish_reason":"stop"` + internal + `} ],"prompt_token_ids":[1],"usage":{"prompt_tokens":3}}`,
			`{"id":"1","object":"text_completion", "choices":[{"index":0,"text":"a","finish_reason":"stop"}],"usage":{"prompt_tokens":3}}`,
		},
		{
			"a stream of completions", openai.Completions, "true",
			"{\"id\":\"1\",\r\n \"choices\":[{\"text\":\"a\\nb\",\n\"finish_reason\":\"stop\"" + internal + "}]}\n",
			"data: {\"id\":\"1\", \"choices\":[{\"text\":\"a\\nb\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
		},
		{
			"a stream of chat", openai.ChatCompletions, "true",
			`{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"` + internal + `}],"usage":{}}`,
			"data: " + `{"object":"chat.completion.chunk","choices":[{"index":0,"finish_reason":"stop","delta":{"role":"assistant","content":"a"}}],"usage":{}}` + "\n\ndata: [DONE]\n\n",
		},
		{
			"a stream of chat with calls", openai.ChatCompletions, "true",
			`{"choices":[{"message":{"tool_calls":[{"id":"a"},{"id":"b"}]},"finish_reason":"tool_calls"}]}`,
			"data: " + `{"choices":[{"finish_reason":"tool_calls","delta":{"tool_calls":[{"id":"a","index":0},{"id":"b","index":1}]}}],"object":"chat.completion.chunk"}` + "\n\ndata: [DONE]\n\n",
		},
	} {
		h := begin(t, protocol(t, "trtllm", options()), request(tt.api, `{"stream":`+tt.stream+`}`))
		d, err := h.Decode([]byte(tt.answer))
		require.NoError(t, err, tt.name)
		require.Equal(t, tt.want, string(d.Complete), tt.name)
		require.Equal(t, disagg.Leg{}, d.Leg, tt.name)

		// A client's reader takes it for what it is.
		s := openai.NewStream(openai.StreamOptions{API: tt.api, ContentType: d.ContentType})
		s.Feed(d.Complete)
		s.Close()
		require.True(t, s.Done(), tt.name)
		require.False(t, s.CutOff(), tt.name)
		require.NoError(t, s.Err(), tt.name)
		require.Equal(t, tt.stream == "true", s.FirstToken(), tt.name)
	}
	for answer, want := range map[string]string{
		`{"choices":[{"message":1,"finish_reason":"stop"}]}`:                  "message: jsonscan: expected an object",
		`{"choices":[{"message":{"tool_calls":1},"finish_reason":"stop"}]}`:   "message: jsonscan: expected an array",
		`{"choices":[{"message":{"tool_calls":[1]},"finish_reason":"stop"}]}`: "message: jsonscan: expected an object",
	} {
		h := begin(t, protocol(t, "trtllm", options()), request(openai.ChatCompletions, `{"stream":true}`))
		_, err := h.Decode([]byte(answer))
		require.ErrorIs(t, err, disagg.ErrPrefill)
		require.ErrorContains(t, err, want)
	}
}

func TestCached(t *testing.T) {
	for answer, want := range map[string]types.Gauge{
		`{"usage":{"prompt_tokens_details":{"cached_tokens":12}}}`:                            types.Known(12),
		`{"usage":{"prompt_tokens_details":null,"input_tokens_details":{"cached_tokens":0}}}`: types.Known(0),
		`{"usage":{"prompt_tokens_details":{"cached_tokens":-1}}}`:                            {},
		`{"usage":{"prompt_tokens_details":{"cached_tokens":null}}}`:                          {},
		`{"usage":{"prompt_tokens_details":{"cached_tokens":99999999999999999999}}}`:          {},
		`{"usage":{}}`: {}, `{"usage":3}`: {}, `{}`: {}, `x`: {}, ``: {},
	} {
		require.Equal(t, want, disagg.Cached([]byte(answer)), answer)
	}
}

// Where an endpoint is a rank, both legs are bound to it.
func TestRanks(t *testing.T) {
	o := options()
	o.Rank = func(ep *types.Endpoint) (int, int) {
		if ep == prefill {
			return 2, 3
		}
		return 1, 5
	}
	body := `{"routed_dp_rank":9,"disagg_prefill_dp_rank":9}`
	h := begin(t, protocol(t, "sglang", o), request(openai.ChatCompletions, body))
	d, err := h.Decode(nil)
	require.NoError(t, err)
	var p, q struct {
		Room   uint64 `json:"bootstrap_room"`
		Routed *int   `json:"routed_dp_rank"`
		From   *int   `json:"disagg_prefill_dp_rank"`
	}
	require.NoError(t, json.Unmarshal(h.Prefill().Body, &p))
	require.NoError(t, json.Unmarshal(d.Body, &q))
	require.Equal(t, uint64(2), p.Room%3)
	require.Equal(t, p.Room, q.Room)
	require.Equal(t, 2, *p.Routed)
	require.Nil(t, p.From)
	require.Equal(t, 1, *q.Routed)
	require.Equal(t, 2, *q.From)

	for _, name := range []string{"nixl", "p2p"} {
		h := begin(t, protocol(t, name, o), request(openai.ChatCompletions, `{}`))
		d, err := h.Decode([]byte(`{}`))
		require.NoError(t, err)
		require.Equal(t, "2", h.Prefill().Header["X-Data-Parallel-Rank"], name)
		require.Equal(t, "1", d.Header["X-Data-Parallel-Rank"], name)
	}

	o.Query = func(context.Context, string) ([]byte, error) {
		return []byte(`{"0":{"engine_id":"e-0"},"2":{"engine_id":"old"},"x":{"engine_id":"x"},"2":{"engine_id":"e-2"},"3":{}}`), nil
	}
	h = begin(t, protocol(t, "mooncake", o), request(openai.ChatCompletions, `{}`))
	d, _ = h.Decode(nil)
	require.Contains(t, string(d.Body), `"remote_engine_id":"e-2"`)
	require.Equal(t, "2", h.Prefill().Header["X-Data-Parallel-Rank"])
	require.Equal(t, "1", d.Header["X-Data-Parallel-Rank"])

	o.Rank = func(*types.Endpoint) (int, int) { return 3, 4 }
	_, err = protocol(t, "mooncake", o).Begin(context.Background(), request(openai.ChatCompletions, `{}`))
	require.ErrorIs(t, err, disagg.ErrPrefill)
	require.ErrorContains(t, err, "knows no rank 3")

	o.Rank = nil
	r := request(openai.ChatCompletions, `{}`)
	ranked := *r.Prefill
	ranked.Rank, r.Prefill = types.Rank{Index: 3, Of: 8}, &ranked
	require.Equal(t, "3", begin(t, protocol(t, "nixl", o), r).Prefill().Header[types.HeaderRank])

	o.Rank = func(*types.Endpoint) (int, int) { return 7, 4 } // nonsense
	h = begin(t, protocol(t, "nixl", o), request(openai.ChatCompletions, `{}`))
	require.NotContains(t, h.Prefill().Header, "X-Data-Parallel-Rank")
}

func TestPorts(t *testing.T) {
	o := options()
	o.Port, o.PortLabel = 1111, "port"
	at := func(address, label string) disagg.Request {
		r := request(openai.ChatCompletions, `{}`)
		r.Prefill = types.NewEndpoint("p", address)
		r.Prefill.Labels = map[string]string{"port": label}
		return r
	}
	body := func(name string, r disagg.Request) string {
		d, err := begin(t, protocol(t, name, o), r).Decode([]byte(`{}`))
		require.NoError(t, err)
		return string(d.Body)
	}
	require.Contains(t, body("sglang", at("h:80", "")), `"bootstrap_host":"h","bootstrap_port":1111,`)
	require.Contains(t, body("sglang", at("[fd00::1]:80", "2222")), `"bootstrap_host":"[fd00::1]","bootstrap_port":2222,`)
	require.Contains(t, body("p2p", at("[fd00::1]:80", "2222")), `"remote_host":"fd00::1","remote_port":2222`)
	require.Contains(t, body("mooncake", at("[fd00::1]:80", "2222")), `"remote_bootstrap_addr":"http://[fd00::1]:2222"`)
	for _, label := range []string{"x", "0", "65536", "-1"} {
		for _, name := range []string{"sglang", "p2p", "mooncake"} {
			_, err := protocol(t, name, o).Begin(context.Background(), at("h:80", label))
			require.ErrorIs(t, err, disagg.ErrPrefill)
			require.ErrorContains(t, err, fmt.Sprintf("h:80 has the label port: %q, which is no port", label))
		}
	}
}

// An abort hits the one request and no other: the ids have one length.
func TestAbort(t *testing.T) {
	p := protocol(t, "sglang", disagg.Options{})
	seen := map[string]bool{}
	length := 0
	for range 100 {
		h := begin(t, p, request(openai.ChatCompletions, `{}`))
		leg, ok := h.Abort()
		require.True(t, ok)
		require.Equal(t, "/abort_request", leg.Path)
		var abort, body struct{ RID string }
		require.NoError(t, json.Unmarshal(leg.Body, &abort))
		require.NoError(t, json.Unmarshal(h.Prefill().Body, &body))
		require.Equal(t, body, abort)
		if length == 0 {
			length = len(abort.RID)
		}
		require.Len(t, abort.RID, length)
		require.False(t, seen[abort.RID], "an id came twice")
		seen[abort.RID] = true
	}
	for _, name := range []string{"nixl", "mooncake", "p2p", "trtllm"} {
		_, ok := begin(t, protocol(t, name, options()), request(openai.ChatCompletions, `{}`)).Abort()
		require.False(t, ok, name)
	}
}

// However bad the source of randomness is, no room comes twice, nor an id of TensorRT-LLM's.
func TestNumbersAreUnique(t *testing.T) {
	o := disagg.Options{Rand: func() uint64 { return 4 }, Rank: func(*types.Endpoint) (int, int) { return 6, 7 }}
	sglang, trt := protocol(t, "sglang", o), protocol(t, "trtllm", o)
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				var a, b struct {
					Room uint64 `json:"bootstrap_room"`
					TRT  struct {
						ID uint64 `json:"disagg_request_id"`
					} `json:"disaggregated_params"`
				}
				first, err1 := sglang.Begin(context.Background(), request(openai.ChatCompletions, `{}`))
				second, err2 := trt.Begin(context.Background(), request(openai.ChatCompletions, `{}`))
				if err := errors.Join(err1, err2, json.Unmarshal(first.Prefill().Body, &a), json.Unmarshal(second.Prefill().Body, &b)); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[a.Room] || seen[b.TRT.ID] {
					t.Errorf("%d or %d came twice", a.Room, b.TRT.ID)
				}
				seen[a.Room], seen[b.TRT.ID] = true, true
				if a.Room >= 1<<63 || a.Room%7 != 6 || b.TRT.ID < 1<<42 || b.TRT.ID >= 1<<63 {
					t.Errorf("room %d, id %d", a.Room, b.TRT.ID)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestByName(t *testing.T) {
	for _, name := range disagg.Names() {
		protocol(t, name, options())
	}
	_, err := disagg.ByName("x", disagg.Options{})
	require.EqualError(t, err, `disagg: no protocol "x": want one of [nixl mooncake p2p sglang trtllm]`)
	_, err = disagg.ByName("mooncake", disagg.Options{})
	require.ErrorContains(t, err, "Options.Query is missing")
}

// The clock and the randomness that nobody gave work, too.
func TestDefaults(t *testing.T) {
	p := protocol(t, "mooncake", disagg.Options{Query: options().Query})
	a, _ := begin(t, p, request(openai.ChatCompletions, `{}`)).Decode(nil)
	b, _ := begin(t, p, request(openai.ChatCompletions, `{}`)).Decode(nil)
	require.NotEqual(t, string(a.Body), string(b.Body))
}
