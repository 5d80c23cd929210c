package modelserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

// responses is POST /v1/responses.
type responses struct {
	item     string // id of the only output item
	sequence int    // number of the next event
	delta1   string // what an event with a word begins with
}

func (a *responses) read(p *process, w http.ResponseWriter, r *http.Request) (query, *apiError) {
	var body struct {
		fields
		Instructions    string          `json:"instructions"`
		Input           json.RawMessage `json:"input"`
		Tools           json.RawMessage `json:"tools"`
		MaxOutputTokens int             `json:"max_output_tokens"`
	}
	if err := p.readJSON(w, r, &body); err != nil {
		return query{}, err
	}
	q := query{fields: body.fields, limit: body.MaxOutputTokens}
	if len(body.Tools) > 0 && string(body.Tools) != "null" {
		q.prompt.text(string(body.Tools))
	}
	if body.Instructions != "" {
		q.prompt.role("system")
		q.prompt.text(body.Instructions)
	}
	input := bytes.TrimSpace(body.Input)
	if len(input) == 0 || input[0] != '[' {
		q.prompt.role("user")
		if err := q.prompt.content(input); err != nil || len(input) == 0 {
			return q, invalid("input", "'input' must be a string or a list of items")
		}
		q.prompt.role("assistant")
		return q, nil
	}
	var items []chatMessage
	if err := json.Unmarshal(input, &items); err != nil {
		return q, invalid("input", "'input': %v", err)
	}
	return q, q.prompt.messages(items)
}

func (a *responses) kind() string { return "resp" }

func (a *responses) fail(w http.ResponseWriter, e *apiError) { e.write(w) }

func (a *responses) whole(r *reply) any {
	a.item = "msg_" + r.id
	return a.response(r, true)
}

// response is the object as it is at the start and at the end.
func (a *responses) response(r *reply, done bool) any {
	resp := map[string]any{
		"id": r.id, "object": "response", "created_at": r.created, "model": r.model,
		"status": "in_progress", "error": nil, "incomplete_details": nil, "instructions": nil, "metadata": map[string]any{},
		"output": []any{}, "parallel_tool_calls": true, "temperature": 1, "tool_choice": "auto", "tools": []any{}, "top_p": 1,
		"usage": nil,
	}
	if !done {
		return resp
	}
	resp["status"] = "completed"
	if r.cut() {
		resp["status"] = "incomplete"
		resp["incomplete_details"] = map[string]any{"reason": "max_output_tokens"}
	}
	resp["output"] = []any{a.message(r, true)}
	resp["usage"] = map[string]any{
		"input_tokens": r.prompt, "input_tokens_details": map[string]any{"cached_tokens": r.cached()},
		"output_tokens": r.tokens(), "output_tokens_details": map[string]any{"reasoning_tokens": 0},
		"total_tokens": r.prompt + r.tokens(),
	}
	return resp
}

func (a *responses) message(r *reply, done bool) any {
	m := map[string]any{"id": a.item, "type": "message", "role": "assistant", "status": "in_progress", "content": []any{}}
	if done {
		m["status"] = "completed"
		if r.cut() {
			m["status"] = "incomplete"
		}
		m["content"] = []any{a.part(r.text)}
	}
	return m
}

func (a *responses) part(text []byte) any {
	return map[string]any{"type": "output_text", "text": string(text), "annotations": []any{}}
}

// event appends one event with the given fields.
func (a *responses) event(buf []byte, kind string, fields map[string]any) []byte {
	fields["type"] = kind
	fields["sequence_number"] = a.sequence
	a.sequence++
	return appendEvent(buf, kind, fields)
}

func (a *responses) begin(buf []byte, r *reply) []byte {
	a.item = "msg_" + r.id
	a.delta1 = `event: response.output_text.delta` + "\n" +
		`data: {"type":"response.output_text.delta","item_id":` + quote(a.item) + `,"output_index":0,"content_index":0,"logprobs":[],"delta":"`
	buf = a.event(buf, "response.created", map[string]any{"response": a.response(r, false)})
	buf = a.event(buf, "response.in_progress", map[string]any{"response": a.response(r, false)})
	buf = a.event(buf, "response.output_item.added", map[string]any{"output_index": 0, "item": a.message(r, false)})
	return a.event(buf, "response.content_part.added", map[string]any{
		"item_id": a.item, "output_index": 0, "content_index": 0, "part": a.part(nil),
	})
}

func (a *responses) delta(buf []byte, r *reply, i int) []byte {
	buf = append(buf, a.delta1...)
	buf = append(buf, r.token(i)...)
	buf = append(buf, `","sequence_number":`...)
	buf = strconv.AppendInt(buf, int64(a.sequence), 10)
	a.sequence++
	return append(buf, "}\n\n"...)
}

func (a *responses) end(buf []byte, r *reply) []byte {
	buf = a.event(buf, "response.output_text.done", map[string]any{
		"item_id": a.item, "output_index": 0, "content_index": 0, "text": string(r.text), "logprobs": []any{},
	})
	buf = a.event(buf, "response.content_part.done", map[string]any{
		"item_id": a.item, "output_index": 0, "content_index": 0, "part": a.part(r.text),
	})
	buf = a.event(buf, "response.output_item.done", map[string]any{"output_index": 0, "item": a.message(r, true)})
	kind := "response.completed"
	if r.cut() {
		kind = "response.incomplete"
	}
	return a.event(buf, kind, map[string]any{"response": a.response(r, true)})
}

// appendEvent appends a server-sent event with a name.
func appendEvent(buf []byte, name string, data any) []byte {
	body, err := json.Marshal(data)
	if err != nil {
		panic("modelserver: " + err.Error()) // built from strings and numbers
	}
	buf = append(buf, "event: "...)
	buf = append(buf, name...)
	buf = append(buf, "\ndata: "...)
	buf = append(buf, body...)
	return append(buf, "\n\n"...)
}
