package modelserver

import (
	"encoding/json"
	"net/http"
)

// messages is POST /v1/messages, Anthropic's API.
type messages struct{}

func (a *messages) read(p *process, w http.ResponseWriter, r *http.Request) (query, *apiError) {
	var body struct {
		fields
		System    json.RawMessage `json:"system"`
		Messages  []chatMessage   `json:"messages"`
		Tools     json.RawMessage `json:"tools"`
		MaxTokens int             `json:"max_tokens"`
	}
	if err := p.readJSON(w, r, &body); err != nil {
		return query{}, err
	}
	if body.MaxTokens < 1 {
		return query{}, invalid("max_tokens", "max_tokens: must be given and at least 1")
	}
	q := query{fields: body.fields, limit: body.MaxTokens}
	if len(body.Tools) > 0 && string(body.Tools) != "null" {
		q.prompt.text(string(body.Tools))
	}
	if len(body.System) > 0 && string(body.System) != "null" {
		q.prompt.role("system")
		if err := q.prompt.content(body.System); err != nil {
			return q, invalid("system", "system: %v", err)
		}
	}
	return q, q.prompt.messages(body.Messages)
}

func (a *messages) kind() string { return "msg" }

func (a *messages) fail(w http.ResponseWriter, e *apiError) { e.writeAnthropic(w) }

// usage counts what was read from the cache apart, as Anthropic does.
func (a *messages) usage(r *reply, output int) any {
	return map[string]any{
		"input_tokens": r.prompt - r.cached(), "cache_read_input_tokens": r.cached(), "cache_creation_input_tokens": 0,
		"output_tokens": output,
	}
}

func (a *messages) stopReason(r *reply) string {
	if r.cut() {
		return "max_tokens"
	}
	return "end_turn"
}

func (a *messages) message(r *reply) map[string]any {
	return map[string]any{
		"id": r.id, "type": "message", "role": "assistant", "model": r.model,
		"content": []any{}, "stop_reason": nil, "stop_sequence": nil, "usage": a.usage(r, 0),
	}
}

func (a *messages) whole(r *reply) any {
	m := a.message(r)
	m["content"] = []any{map[string]any{"type": "text", "text": string(r.text)}}
	m["stop_reason"] = a.stopReason(r)
	m["usage"] = a.usage(r, r.tokens())
	return m
}

func (a *messages) begin(buf []byte, r *reply) []byte {
	buf = appendEvent(buf, "message_start", map[string]any{"type": "message_start", "message": a.message(r)})
	buf = appendEvent(buf, "content_block_start", map[string]any{
		"type": "content_block_start", "index": 0, "content_block": map[string]any{"type": "text", "text": ""},
	})
	return appendEvent(buf, "ping", map[string]any{"type": "ping"})
}

func (a *messages) delta(buf []byte, r *reply, i int) []byte {
	buf = append(buf, `event: content_block_delta`+"\n"+
		`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`...)
	buf = append(buf, r.token(i)...)
	return append(buf, `"}}`+"\n\n"...)
}

func (a *messages) end(buf []byte, r *reply) []byte {
	buf = appendEvent(buf, "content_block_stop", map[string]any{"type": "content_block_stop", "index": 0})
	buf = appendEvent(buf, "message_delta", map[string]any{
		"type":  "message_delta",
		"delta": map[string]any{"stop_reason": a.stopReason(r), "stop_sequence": nil},
		"usage": a.usage(r, r.tokens()),
	})
	return appendEvent(buf, "message_stop", map[string]any{"type": "message_stop"})
}
