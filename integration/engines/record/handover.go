package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/inferpick/inferpick/integration/engines/recording"
)

// keep asks a server to keep the KV cache for another: the prefill leg's kv_transfer_params.
var keep = map[string]any{
	"do_remote_decode": true, "do_remote_prefill": false,
	"remote_engine_id": nil, "remote_block_ids": nil, "remote_host": nil, "remote_port": nil,
}

// handedOver are the two legs of requests whose prompt one server computes and another
// answers, and what the second says to the whole request. Prompts are longer than a few
// blocks, and no two begin alike, but for "again", of which the first server knows all but
// the end.
func (r *recorder) handedOver(prefill, decode string) {
	long := strings.Repeat("a ledger has two sides and they agree ", 12)
	ask := func(first, last string, more map[string]any) map[string]any {
		body := map[string]any{
			"model": "tiny", "max_tokens": 12, "ignore_eos": true, "temperature": 0, "seed": 7,
			"messages": []map[string]string{{"role": "user", "content": first + " " + long + last}},
		}
		maps.Copy(body, more)
		return body
	}
	streamed := map[string]any{"stream": true, "stream_options": map[string]bool{"include_usage": true}}
	for _, q := range []struct {
		name, path string
		body       map[string]any
	}{
		{"chat", "/v1/chat/completions", ask("One:", "", nil)},
		{"chat-again", "/v1/chat/completions", ask("One:", "and it is so", nil)},
		{"chat-stream-usage", "/v1/chat/completions", ask("Two:", "", streamed)},
		{"chat-stream", "/v1/chat/completions", ask("Three:", "", map[string]any{"stream": true})},
		{"completion", "/v1/completions", map[string]any{"model": "tiny", "max_tokens": 12, "ignore_eos": true, "temperature": 0, "prompt": "Four: " + long}},
		{"responses", "/v1/responses", map[string]any{"model": "tiny", "max_output_tokens": 12, "temperature": 0, "input": "Five: " + long}},
	} {
		if err := r.legs(q.name, prefill, decode, q.path, q.body); err != nil {
			r.failed = append(r.failed, fmt.Errorf("%s: %w", q.name, err))
		}
	}
}

// legs records NAME-whole, NAME-prefill and NAME-decode. The whole comes last: what the
// second server has cached by then makes no difference to what it says, but for usage.
func (r *recorder) legs(name, prefill, decode, path string, body map[string]any) error {
	first := maps.Clone(body)
	delete(first, "stream_options")
	first["stream"], first["kv_transfer_params"] = false, keep
	if _, ok := body["max_output_tokens"]; ok {
		first["max_output_tokens"] = 1
	} else {
		first["max_tokens"] = 1
	}
	text, err := json.Marshal(first)
	if err != nil {
		return err
	}
	x, err := recording.Record(name+"-prefill", prefill, recording.Request("POST", path, string(text)), patience)
	if err != nil {
		return err
	}
	if err := x.Write(r.into); err != nil {
		return err
	}
	_, answer, err := x.HTTPResponse()
	if err != nil {
		return err
	}
	var got struct {
		Params json.RawMessage `json:"kv_transfer_params"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return err
	}
	if len(got.Params) == 0 || string(got.Params) == "null" {
		return fmt.Errorf("no kv_transfer_params in %.300s", answer)
	}
	second := maps.Clone(body)
	second["kv_transfer_params"] = got.Params
	for _, leg := range []struct {
		name string
		body map[string]any
	}{{"-decode", second}, {"-whole", body}} {
		text, err := json.Marshal(leg.body)
		if err != nil {
			return err
		}
		r.one(name+leg.name, decode, "POST", path, string(text))
	}
	return nil
}
