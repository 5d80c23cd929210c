package openai

import (
	"bytes"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// reading is the walk of one event or body. What it finds counts only if all of
// it turns out to be JSON.
type reading struct {
	s     *Stream
	data  []byte
	scan  jsonscan.Scanner
	event bool // of a stream of events
	named bool // the event is called an error, whatever is in it

	kind       []byte // the value of type, or else the name of the event
	object     []byte // the value of object
	usage      usage
	choices    choices
	hasChoices bool
	output     bool // there is something generated
	answer     bool // there is something else that is an answer, like an embedding
	stopped    bool // delta has a reason to stop
	finish     types.Finish
	calls      bool  // there is a call that the client is to run, if it is a response
	why        value // it is not complete
	id         value

	responseID, responseWhy value // of the response in an event

	kept *keptFields // nil: the answer is about nothing that the server keeps

	hasError     bool        // there is a field error that says something
	inner, outer errorFields // in it, and around it
	failure      *ServerError
}

// place is where an object stands.
type place uint8

const (
	atTop place = iota
	inResponse
	inMessage
)

// walk walks an event, or the response or message in it.
func (r *reading) walk(at place) {
	for r.scan.Enter(); r.scan.Key(); {
		key := keyOf(&r.scan, r.data)
		switch string(key) {
		case "model":
			r.readModel()
			continue
		case "usage":
			r.readUsage()
			continue
		}
		switch at {
		case atTop:
			r.readTop(key)
		case inResponse:
			r.readResponse(key)
		default:
			r.readMessage(key)
		}
	}
}

// readTop reads the value of a key at the top.
func (r *reading) readTop(key []byte) {
	if r.kept != nil && r.kept.read(r, key) {
		return
	}
	switch string(key) {
	case "choices":
		r.readChoices()
	case "delta":
		r.readDelta()
	case "type":
		if v := readValue(&r.scan); v.kind == jsonscan.String {
			r.kind = r.data[v.span.Start:v.span.End]
		}
	case "object":
		if v := readValue(&r.scan); v.kind == jsonscan.String {
			r.object = r.data[v.span.Start:v.span.End]
		}
	case "id":
		r.id = readValue(&r.scan)
	case "error":
		r.readError()
	case "response":
		if kind, _ := r.scan.Peek(); kind == jsonscan.Object {
			r.walk(inResponse)
			return
		}
		r.output = r.hasContent() || r.output
	case "message":
		if kind, _ := r.scan.Peek(); kind == jsonscan.Object {
			r.walk(inMessage)
			return
		}
		r.outer.message = readValue(&r.scan)
	case "error_type":
		r.outer.kind = readValue(&r.scan)
	case "code":
		r.outer.code = readValue(&r.scan)
	case "status":
		r.outer.status = readValue(&r.scan)
	case "status_code":
		r.outer.statusCode = readValue(&r.scan)
	case "data", "results", "embedding", "embeddings", "answers":
		r.answer = r.hasContent() || r.answer
	case "output":
		r.output = r.readItems() || r.output
	case "item":
		r.readItem()
	case "incomplete_details":
		r.readWhy(&r.why)
	case "stop_reason", "done_reason": // the latter is Ollama's
		r.readFinish()
	case "meta_info", "details":
		r.readMeta()
	case "meta":
		if r.s.api.Kind() != types.Pools {
			r.scan.Skip()
			return
		}
		r.readBilled()
	default:
		r.readOutput(key)
	}
}

// readResponse reads the value of a key of the response in an event.
func (r *reading) readResponse(key []byte) {
	switch string(key) {
	case "id":
		r.responseID = readValue(&r.scan)
	case "error":
		r.readError()
	case "output":
		r.readItems()
	case "incomplete_details":
		r.readWhy(&r.responseWhy)
	default:
		r.scan.Skip()
	}
}

// readMessage reads the value of a key of the message in an event.
func (r *reading) readMessage(key []byte) {
	if string(key) == "stop_reason" {
		r.readFinish()
		return
	}
	r.readOutput(key)
}

// readOutput reads a value that is generated if its key says so.
func (r *reading) readOutput(key []byte) {
	switch string(key) {
	case "content", "text", "refusal", "audio", "image", "images", "transcript",
		"reasoning", "reasoning_content", "reasoning_text", "reasoning_details", "thinking",
		"output", "outputs", "output_text", "output_ids", "text_output", // SGLang's and Triton's
		"token", "tokens", "token_ids", "generated_text", // text-generation-inference's, llama.cpp's and vLLM's
		"completion", "result", "b64_json", "partial_image_b64":
		r.output = r.hasContent() || r.output
	case "tool_calls", "function_call":
		r.output = !r.blank() || r.output
	default:
		r.scan.Skip()
	}
}

// readChoices reads what was generated, and which choices have come to their end.
func (r *reading) readChoices() {
	r.hasChoices = true
	if kind, _ := r.scan.Peek(); kind != jsonscan.Array {
		r.scan.Skip()
		return
	}
	n := 0
	for r.scan.Enter(); r.scan.Elem(); n++ {
		if !r.scan.EnterObject() {
			continue
		}
		index, ended := n, false
		for r.scan.Key() {
			switch key := keyOf(&r.scan, r.data); string(key) {
			case "index":
				index = r.readIndex(index)
			case "finish_reason":
				ended = r.readFinish()
			case "delta", "message":
				for ok := r.scan.EnterObject(); ok && r.scan.Key(); {
					r.readOutput(keyOf(&r.scan, r.data))
				}
			case "text", "token_ids":
				r.output = r.hasContent() || r.output
			default:
				r.scan.Skip()
			}
		}
		r.choices.add(index, ended)
	}
}

// readIndex returns the index of a choice, -1 for one that cannot be, or what it
// is without one.
func (r *reading) readIndex(without int) int {
	v := readValue(&r.scan)
	if v.absent() {
		return without
	}
	if v.kind != jsonscan.Number {
		return -1
	}
	n, ok := parseInt(r.data[v.span.Start:v.span.End])
	if !ok {
		return -1
	}
	return n
}

// readDelta reads the delta of an event that has a type.
func (r *reading) readDelta() {
	if kind, _ := r.scan.Peek(); kind != jsonscan.Object {
		r.output = r.hasContent() || r.output
		return
	}
	for r.scan.Enter(); r.scan.Key(); {
		key := keyOf(&r.scan, r.data)
		if string(key) == "stop_reason" {
			r.stopped = r.readFinish() || r.stopped
			continue
		}
		label := isLabel(key)
		if some := r.hasContent(); some && !label {
			r.output = true
		}
	}
}

// hasContent reads a value and reports whether there is anything in it but labels:
// a string that is not empty, or numbers in a list.
func (r *reading) hasContent() bool {
	kind, _ := r.scan.Peek()
	some := false
	switch kind {
	case jsonscan.String:
		some = r.scan.Str() && r.scan.Token.End > r.scan.Token.Start
	case jsonscan.Array:
		for r.scan.Enter(); r.scan.Elem(); {
			kind, _ := r.scan.Peek()
			if some || kind == jsonscan.Number {
				some = true
				r.scan.Skip()
				continue
			}
			some = r.hasContent()
		}
	case jsonscan.Object:
		for r.scan.Enter(); r.scan.Key(); {
			if some || isLabel(keyOf(&r.scan, r.data)) {
				r.scan.Skip()
				continue
			}
			some = r.hasContent()
		}
	default:
		r.scan.Skip()
	}
	return some
}

// isLabel reports whether what stands under the key describes what was generated
// and is none of it.
func isLabel(key []byte) bool {
	switch string(key) {
	case "type", "role", "id", "index", "object", "model", "status", "usage", "logprobs",
		"finish_reason", "stop_reason", "stop_sequence":
		return true
	}
	return false
}

// blank skips a value and reports whether there is nothing in it.
func (r *reading) blank() bool {
	kind, at := r.scan.Peek()
	_, end := r.scan.Skip()
	switch kind {
	case jsonscan.Invalid, jsonscan.Null:
		return true
	case jsonscan.String, jsonscan.Array, jsonscan.Object:
		return len(bytes.Trim(r.data[at:end], "\"[]{} \t\r\n")) == 0
	}
	return false
}

func (r *reading) readModel() {
	v := readValue(&r.scan)
	if v.kind != jsonscan.String || r.s.public == nil {
		return
	}
	if equalString(r.data[v.span.Start:v.span.End], r.s.target) {
		r.edit(types.Span{Start: v.span.Start - 1, End: v.span.End + 1}, r.s.public)
	}
}

// edit puts value in the place of what is at the span.
func (r *reading) edit(at types.Span, value []byte) {
	r.s.scratch.edits = append(r.s.scratch.edits, edit{at, value})
}

// commit moves what was found to the stream.
func (r *reading) commit() {
	r.s.usage.update(r.usage)
	r.s.choices.merge(&r.choices)
	r.readState()
	r.s.finish, r.s.calls = rarer(r.s.finish, r.finish), r.s.calls || r.calls
	if r.failure = r.serverError(); r.failure != nil {
		r.s.failure = r.failure
	}
	r.commitKept()
	if r.s.id != "" {
		return
	}
	id := r.responseID
	if string(r.object) == "response" {
		id = r.id
	} else if r.dialect() != dialectResponses {
		return
	}
	if name := r.short(id, maxID+1); id.kind == jsonscan.String && len(name) <= maxID {
		r.s.id = name
	}
}

// generated reports whether an event carries a token.
func (r *reading) generated() bool {
	if r.failure != nil || !r.output {
		return false
	}
	if r.hasChoices {
		return true
	}
	switch kind := string(r.kind); kind {
	case "message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop",
		"speech.audio.done", "transcript.text.done", "ping", "keepalive", "heartbeat", "error":
		return false
	default:
		return !strings.HasPrefix(kind, "response.") || strings.HasSuffix(kind, ".delta") || strings.HasSuffix(kind, ".partial_image")
	}
}

// dialect returns the dialect of an event.
func (r *reading) dialect() dialect {
	if r.hasChoices {
		return dialectChoices
	}
	switch kind := string(r.kind); kind {
	case "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop":
		return dialectMessages
	case "ping", "keepalive", "heartbeat", "error":
		return dialectNeutral
	default:
		if strings.HasPrefix(kind, "response.") {
			return dialectResponses
		}
	}
	if r.failure != nil {
		return dialectNeutral
	}
	return dialectUnknown
}

// ends reports whether an event is the last of its stream, or says that nothing
// more is generated.
func (r *reading) ends() bool {
	return lastOfStream(r.kind) || r.stopped && string(r.kind) == "message_delta"
}

// lastOfStream reports whether an event of the type is the last of its stream.
func lastOfStream(kind []byte) bool {
	switch string(kind) {
	case "response.completed", "response.incomplete", "response.failed", "response.cancelled",
		"message_stop", "transcript.text.done", "speech.audio.done",
		"image_generation.completed", "image_edit.completed":
		return true
	}
	return false
}
