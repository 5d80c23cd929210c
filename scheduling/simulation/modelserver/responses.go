package modelserver

import (
	"bytes"
	"encoding/json"
)

// responses is POST /v1/responses.
type responses struct {
	openAI
	p        *process
	sequence int           // number of the next event
	given    []object      // items of the request
	read     prompt        // all that the model has read
	talk     *conversation // to which the response is added
	from     string        // the response before
	store    bool
}

func (a *responses) query(r *request) (prompt, int, *apiError) {
	p, failure := a.history(r)
	if failure != nil {
		return prompt{}, 0, failure
	}
	p.json(r.Tools)
	if r.Instructions != "" {
		p.role("system")
		p.text(r.Instructions)
	}
	items := []message{{Role: "user", Content: r.Input}}
	if input := bytes.TrimSpace(r.Input); len(input) == 0 {
		return prompt{}, 0, invalid("input", "'input' must be a string or a list of items")
	} else if input[0] == '[' {
		if err := json.Unmarshal(input, &items); err != nil {
			return prompt{}, 0, invalid("input", "'input': %v", err)
		}
	}
	if failure = p.messages(items); failure != nil {
		failure.param = "input"
	}
	a.given, a.read = a.inputItems(r.Input), p
	return p, r.MaxOutputTokens, failure
}

func (a *responses) kind() string { return "resp" }

func (a *responses) whole(r *reply) any { return a.keep(r) }

// response is the object as it is at the start and at the end.
func (a *responses) response(r *reply, done bool) object {
	resp := object{
		"id": r.id, "object": "response", "created_at": r.created, "model": r.model,
		"status": a.status(r, done), "error": nil, "incomplete_details": nil, "instructions": nil, "metadata": object{},
		"output": list{}, "parallel_tool_calls": true, "temperature": 1, "tool_choice": "auto", "tools": list{}, "top_p": 1,
		"usage": nil, "store": a.store, "previous_response_id": nil,
	}
	if a.from != "" {
		resp["previous_response_id"] = a.from
	}
	if a.talk != nil {
		resp["conversation"] = object{"id": a.talk.view()["id"]}
	}
	if !done {
		return resp
	}
	if r.truncated() {
		resp["incomplete_details"] = object{"reason": "max_output_tokens"}
	}
	resp["output"] = list{a.message(r, true)}
	resp["usage"] = object{
		"input_tokens": r.prompt, "input_tokens_details": object{"cached_tokens": r.cached()},
		"output_tokens": r.tokens(), "output_tokens_details": object{"reasoning_tokens": 0},
		"total_tokens": r.prompt + r.tokens(),
	}
	return resp
}

func (a *responses) status(r *reply, done bool) string {
	switch {
	case !done:
		return "in_progress"
	case r.truncated():
		return "incomplete"
	}
	return "completed"
}

func (a *responses) item(r *reply) string { return "msg_" + r.id }

func (a *responses) message(r *reply, done bool) object {
	content := list{}
	if done {
		content = list{a.part(string(r.text))}
	}
	return object{"id": a.item(r), "type": "message", "role": "assistant", "status": a.status(r, done), "content": content}
}

func (a *responses) part(text string) object {
	return object{"type": "output_text", "text": text, "annotations": list{}}
}

// event appends one event of the response, with a field; textEvent one of its only part.
func (a *responses) event(buf []byte, kind string, fields object) []byte {
	fields["type"], fields["sequence_number"] = "response."+kind, a.sequence
	a.sequence++
	return appendEvent(buf, "response."+kind, fields)
}

func (a *responses) textEvent(buf []byte, r *reply, kind, field string, value any) []byte {
	fields := object{"item_id": a.item(r), "output_index": 0, "content_index": 0, field: value}
	if field != "part" {
		fields["logprobs"] = list{}
	}
	return a.event(buf, kind, fields)
}

func (a *responses) begin(buf []byte, r *reply) []byte {
	buf = a.event(buf, "created", object{"response": a.response(r, false)})
	buf = a.event(buf, "in_progress", object{"response": a.response(r, false)})
	buf = a.event(buf, "output_item.added", object{"output_index": 0, "item": a.message(r, false)})
	return a.textEvent(buf, r, "content_part.added", "part", a.part(""))
}

func (a *responses) delta(buf []byte, r *reply, i int) []byte {
	return a.textEvent(buf, r, "output_text.delta", "delta", string(r.token(i)))
}

func (a *responses) end(buf []byte, r *reply) []byte {
	buf = a.textEvent(buf, r, "output_text.done", "text", string(r.text))
	buf = a.textEvent(buf, r, "content_part.done", "part", a.part(string(r.text)))
	buf = a.event(buf, "output_item.done", object{"output_index": 0, "item": a.message(r, true)})
	return a.event(buf, a.status(r, true), object{"response": a.keep(r)})
}
