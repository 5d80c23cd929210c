package openai

import (
	"bytes"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// Finish returns how the answer ended, as far as it was read: FinishUnknown until then, and in
// what is not read, which is also a body beyond StreamOptions.MaxBodyBytes. Of the choices of
// one answer it is the rarest end: filter, other, length, tools, stop, in this order, so that it
// is the same whichever comes first. A response with calls of tools that the client is to run
// ends with tools, though the Responses API calls it completed.
func (s *Stream) Finish() types.Finish {
	if s.calls && s.finish == types.FinishStop {
		return types.FinishTools
	}
	return s.finish
}

// finishRanks order the ends of the choices of an answer.
var finishRanks = [...]uint8{
	types.FinishUnknown: 0, types.FinishStop: 1, types.FinishTools: 2,
	types.FinishLength: 3, types.FinishOther: 4, types.FinishFilter: 5,
}

// rarer returns the one of two ends that says more of an answer.
func rarer(a, b types.Finish) types.Finish {
	if finishRanks[a] < finishRanks[b] {
		return b
	}
	return a
}

// finishOf returns what a server means by its word for an end.
func finishOf(word []byte) types.Finish {
	switch string(word) {
	case "":
		return types.FinishUnknown
	case "stop", "end_turn", "stop_sequence", "eos_token":
		return types.FinishStop
	case "length", "max_tokens", "max_output_tokens", "model_context_window_exceeded":
		return types.FinishLength
	case "content_filter", "refusal":
		return types.FinishFilter
	case "tool_calls", "function_call", "tool_use":
		return types.FinishTools
	}
	return types.FinishOther
}

// isCall reports whether an item of a response is a call that the client is to run.
func isCall(kind []byte) bool {
	switch string(kind) {
	case "function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call":
		return true
	}
	return false
}

// word returns a string's value, and nothing of what is no string.
func (r *reading) word(v value) []byte {
	if v.kind != jsonscan.String {
		return nil
	}
	raw := r.data[v.span.Start:v.span.End]
	if !v.escaped || len(raw) > 6*maxKey {
		return raw
	}
	return unquoteKey(raw)
}

// readFinish reads a reason to finish, and reports whether there is one. One that is no string
// says nothing that is known.
func (r *reading) readFinish() bool {
	if kind, _ := r.scan.Peek(); kind != jsonscan.String {
		return r.hasContent()
	}
	word := r.word(readValue(&r.scan))
	r.finish = rarer(r.finish, finishOf(word))
	return len(word) > 0
}

// readMeta reads what SGLang and text-generation-inference say about an answer beside it. The
// former gives a reason as an object with a type.
func (r *reading) readMeta() {
	for ok := r.scan.EnterObject(); ok && r.scan.Key(); {
		if string(keyOf(&r.scan, r.data)) != "finish_reason" {
			r.scan.Skip()
			continue
		}
		if kind, _ := r.scan.Peek(); kind != jsonscan.Object {
			r.readFinish()
			continue
		}
		for r.scan.Enter(); r.scan.Key(); {
			if string(keyOf(&r.scan, r.data)) == "type" {
				r.readFinish()
				continue
			}
			r.scan.Skip()
		}
	}
}

// readWhy reads the details of a response that is not complete.
func (r *reading) readWhy(dst *value) {
	for ok := r.scan.EnterObject(); ok && r.scan.Key(); {
		is := string(keyOf(&r.scan, r.data)) == "reason"
		if v := readValue(&r.scan); is {
			*dst = v
		}
	}
}

// readItems reads the items of a response, and reports whether there is anything in them.
func (r *reading) readItems() (some bool) {
	if kind, _ := r.scan.Peek(); kind != jsonscan.Array {
		return r.hasContent()
	}
	for r.scan.Enter(); r.scan.Elem(); {
		switch kind, _ := r.scan.Peek(); kind {
		case jsonscan.Object:
			some = r.readItem() || some
		case jsonscan.Number:
			some = true
			r.scan.Skip()
		default:
			some = r.hasContent() || some
		}
	}
	return some
}

// readItem reads an item, and reports whether there is anything in it.
func (r *reading) readItem() (some bool) {
	for ok := r.scan.EnterObject(); ok && r.scan.Key(); {
		switch key := keyOf(&r.scan, r.data); {
		case string(key) == "type":
			r.calls = isCall(r.word(readValue(&r.scan))) || r.calls
		case some, isLabel(key):
			r.scan.Skip()
		default:
			some = r.hasContent()
		}
	}
	return some
}

// readState takes how a response ended, if what was read is one or an event of one.
func (r *reading) readState() {
	state, why := r.word(r.outer.status), r.why
	if name, ok := bytes.CutPrefix(r.kind, []byte("response.")); ok && r.event {
		if state, why = nil, r.responseWhy; lastOfStream(r.kind) {
			state = name
		}
	} else if string(r.object) != "response" {
		r.calls = false
		return
	}
	end := types.FinishUnknown
	switch string(state) {
	case "completed":
		end = types.FinishStop
	case "cancelled":
		end = types.FinishOther
	case "incomplete":
		if end = finishOf(r.word(why)); end == types.FinishUnknown {
			end = types.FinishOther // it does not say why
		}
	}
	r.finish = rarer(r.finish, end)
}
