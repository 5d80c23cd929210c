package disagg

import (
	"bytes"
	"cmp"
	"context"
	"strconv"

	"github.com/inferpick/inferpick/internal/jsonedit"
	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/openai"
)

// TensorRTLLM is TensorRT-LLM's protocol, context first: the prefill engine makes the first
// token, and answers with it, with the prompt's token ids, and with parameters by which the
// decode engine goes on from there. An answer that ends with the first token is given to the
// client as it is. Of the options it needs MaxParams and Rand.
func TensorRTLLM(o Options) Protocol {
	p := &trtllm{o: o.withDefaults(0)}
	p.ids = newIDs(p.o.Rand)
	return p
}

type trtllm struct {
	o   Options
	ids *ids
}

func (p *trtllm) Begin(_ context.Context, r Request) (Handover, error) {
	a, err := judge(r, openai.ChatCompletions, openai.Completions)
	if err == nil {
		err = a.once()
	}
	if err != nil {
		return nil, err
	}
	// Ids from 2^42 on are for those that hand requests over; an engine gives itself smaller
	// ones.
	const bit = 1 << 62
	h := &trtllmHandover{p: p, a: a, id: strconv.FormatUint(bit|p.ids.below(bit), 10)}
	body, err := a.edit(
		jsonedit.Edit{Key: keyDisagg, Value: []byte(`{"request_type":"context_only","disagg_request_id":` + h.id + `}`)},
		jsonedit.Edit{Key: "stream", Value: []byte("false")},
		jsonedit.Edit{Key: "stream_options"},
	)
	if err != nil {
		return nil, err
	}
	h.prefill = r.leg(body, "")
	return h, nil
}

type trtllmHandover struct {
	p       *trtllm
	a       *asked
	id      string
	prefill Leg
}

func (h *trtllmHandover) AtOnce() bool       { return false }
func (h *trtllmHandover) Prefill() Leg       { return h.prefill }
func (h *trtllmHandover) Abort() (Leg, bool) { return Leg{}, false }

func (h *trtllmHandover) Decode(answer []byte) (Decode, error) {
	f, err := readAnswer(answer, "choices", "prompt_token_ids", "usage")
	if err != nil {
		return Decode{}, err
	}
	var choices [][]byte
	if err := jsonedit.Elements(f["choices"], func(value []byte) { choices = append(choices, value) }); err != nil || len(choices) != 1 {
		return Decode{}, blame("its answer has %d choices, want 1", len(choices))
	}
	choice, err := read(choices[0], keyDisagg, "finish_reason")
	if err != nil {
		return Decode{}, blame("its answer's choice: %v", err)
	}
	d := Decode{Cached: cachedIn(f["usage"])}
	reason := jsonedit.Text(choice["finish_reason"])
	if reason != "length" && reason != "not_finished" {
		if reason == "" {
			return Decode{}, blame("its answer has no finish_reason")
		}
		d.Complete, d.ContentType, err = h.complete(answer, choices[0])
		return d, err
	}
	params, err := relayed(keyDisagg, choice[keyDisagg], h.p.o.MaxParams)
	if err != nil {
		return Decode{}, err
	}
	body := h.a.Body
	if params == nil {
		d.Ignored = true
	} else if body, err = h.generation(params, f["prompt_token_ids"], f["usage"]); err != nil {
		return Decode{}, err
	}
	d.Leg = h.a.leg(body, "")
	return d, nil
}

// generation returns the body of the decode leg.
func (h *trtllmHandover) generation(params, tokens, usage []byte) ([]byte, error) {
	limit := 8 * h.p.o.MaxParams
	switch kind := jsonedit.KindOf(tokens); {
	case kind != jsonscan.Array:
		return nil, blame("its prompt_token_ids are %s, want an array", kind)
	case len(tokens) > limit:
		return nil, blame("its prompt_token_ids have %d bytes; the limit is %d", len(tokens), limit)
	}
	known, err := jsonedit.Find(params, "ctx_request_id", "ctx_usage")
	if err != nil {
		return nil, blame("its %s: %v", keyDisagg, err)
	}
	if jsonedit.Absent(known[0]) {
		return nil, blame("its %s name no ctx_request_id", keyDisagg)
	}
	edits := []jsonedit.Edit{
		{Key: "request_type", Value: []byte(`"generation_only"`)},
		{Key: "disagg_request_id", Value: []byte(h.id)},
	}
	if known[1] != nil && usage != nil { // an engine that does not know it refuses it
		edits = append(edits, jsonedit.Edit{Key: "ctx_usage", Value: usage})
	}
	if params, err = jsonedit.Object(params, edits...); err != nil {
		return nil, blame("its %s: %v", keyDisagg, err)
	}
	prompt := "prompt"
	if h.a.API == openai.ChatCompletions {
		prompt = "prompt_token_ids"
	}
	return h.a.edit(jsonedit.Edit{Key: keyDisagg, Value: params}, jsonedit.Edit{Key: prompt, Value: tokens})
}

// complete returns an answer that needs no decode engine as the client wants it, without what
// the engines tell each other.
func (h *trtllmHandover) complete(answer, choice []byte) (body []byte, contentType string, err error) {
	stream := string(h.a.fields["stream"]) == "true"
	choiceEdits := []jsonedit.Edit{{Key: keyDisagg}}
	edits := []jsonedit.Edit{{Key: "prompt_token_ids"}}
	if stream && h.a.API == openai.ChatCompletions {
		f, err := read(choice, "message")
		if err != nil {
			return nil, "", blame("its answer's choice: %v", err)
		}
		delta, err := deltaOf(f["message"])
		if err != nil {
			return nil, "", blame("its answer's message: %v", err)
		}
		choiceEdits = append(choiceEdits, jsonedit.Edit{Key: "message"}, jsonedit.Edit{Key: "delta", Value: delta})
		edits = append(edits, jsonedit.Edit{Key: "object", Value: []byte(`"chat.completion.chunk"`)})
	}
	if choice, err = jsonedit.Object(choice, choiceEdits...); err != nil {
		return nil, "", blame("its answer's choice: %v", err)
	}
	edits = append(edits, jsonedit.Edit{Key: "choices", Value: append(append([]byte{'['}, choice...), ']')})
	if body, err = jsonedit.Object(answer, edits...); err != nil {
		return nil, "", blame("its answer: %v", err)
	}
	if !stream {
		return body, "application/json", nil
	}
	// Between the members of an object line ends are only white space.
	body = bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("\r"), nil), []byte("\n"), nil)
	body = append([]byte("data: "), bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))...)
	return append(body, "\n\ndata: [DONE]\n\n"...), "text/event-stream", nil
}

// deltaOf returns a message as the one part of a stream.
func deltaOf(message []byte) ([]byte, error) {
	if message == nil {
		return []byte("{}"), nil
	}
	f, err := read(message, "tool_calls")
	if err != nil || f["tool_calls"] == nil {
		return message, err
	}
	calls := []byte{'['}
	n := 0
	var wrong error
	err = jsonedit.Elements(f["tool_calls"], func(call []byte) {
		call, err := jsonedit.Object(call, jsonedit.Edit{Key: "index", Value: []byte(strconv.Itoa(n))})
		if err != nil {
			wrong = err
			return
		}
		if n++; n > 1 {
			calls = append(calls, ',')
		}
		calls = append(calls, call...)
	})
	if err = cmp.Or(err, wrong); err != nil {
		return nil, err
	}
	return jsonedit.Object(message, jsonedit.Edit{Key: "tool_calls", Value: append(calls, ']')})
}
