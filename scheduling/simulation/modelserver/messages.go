package modelserver

import "net/http"

// messages is POST /v1/messages, Anthropic's API.
type messages struct{}

func (a *messages) query(r *request) (prompt, int, *apiError) {
	var p prompt
	if r.maxTokens() < 1 {
		return prompt{}, 0, invalid("max_tokens", "max_tokens: must be given and at least 1")
	}
	p.json(r.Tools)
	if !absent(r.System) {
		p.role("system")
		if err := p.content(r.System); err != nil {
			return prompt{}, 0, invalid("system", "system: %v", err)
		}
	}
	failure := p.messages(r.Messages)
	return p, r.maxTokens(), failure
}

func (a *messages) kind() string { return "msg" }

func (a *messages) fail(w http.ResponseWriter, e *apiError) { e.writeAnthropic(w) }

// usage counts what was read from the cache apart, as Anthropic does.
func (a *messages) usage(r *reply, output int) object {
	return object{
		"input_tokens": r.prompt - r.cached(), "cache_read_input_tokens": r.cached(), "cache_creation_input_tokens": 0,
		"output_tokens": output,
	}
}

// stop is why a reply has ended.
func (a *messages) stop(r *reply, more object) object {
	more["stop_reason"], more["stop_sequence"] = "end_turn", nil
	if r.truncated() {
		more["stop_reason"] = "max_tokens"
	}
	return more
}

func (a *messages) message(r *reply, content list, output int) object {
	return object{
		"id": r.id, "type": "message", "role": "assistant", "model": r.model,
		"content": content, "stop_reason": nil, "stop_sequence": nil, "usage": a.usage(r, output),
	}
}

func (a *messages) whole(r *reply) any {
	return a.stop(r, a.message(r, list{object{"type": "text", "text": string(r.text)}}, r.tokens()))
}

func (a *messages) event(buf []byte, kind string, fields object) []byte {
	fields["type"] = kind
	return appendEvent(buf, kind, fields)
}

func (a *messages) begin(buf []byte, r *reply) []byte {
	buf = a.event(buf, "message_start", object{"message": a.message(r, list{}, 0)})
	buf = a.event(buf, "content_block_start", object{"index": 0, "content_block": object{"type": "text", "text": ""}})
	return a.event(buf, "ping", object{})
}

func (a *messages) delta(buf []byte, r *reply, i int) []byte {
	return a.event(buf, "content_block_delta", object{"index": 0, "delta": object{"type": "text_delta", "text": string(r.token(i))}})
}

func (a *messages) end(buf []byte, r *reply) []byte {
	buf = a.event(buf, "content_block_stop", object{"index": 0})
	buf = a.event(buf, "message_delta", object{"delta": a.stop(r, object{}), "usage": a.usage(r, r.tokens())})
	return a.event(buf, "message_stop", object{})
}
