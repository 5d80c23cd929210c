package openai

import "github.com/inferpick/inferpick/types"

// ParseEarly reads the beginning of a body of size bytes, of which the rest is still to come, and
// reports whether it says enough for a server to be chosen: a generative API whose body is JSON
// (chat completions, completions, responses, messages), the model, and that it is in the middle of the
// prompt, which is text and the last thing in it that matters as far as is known. It then
// fills in req and returns a Parsed as Parse does, with what was said so far; the prompt is
// estimated as if all of the rest were text of it, while its spans end where head ends. With false, req is as it was:
// more may help, or only all of it.
//
// Nothing of it is certain before Parse has read the whole body: see Parsed.Began.
func ParseEarly(api API, contentType string, head []byte, size int64, req *types.Request, limits Limits) (Parsed, bool) {
	limits = limits.withDefaults()
	prompt, ok := lastOf(api)
	if _, form := formBoundary(contentType); !ok || form || size > int64(limits.MaxBytes) || size <= int64(len(head)) {
		return Parsed{}, false
	}
	var d document
	if err := d.scan(head, limits.MaxDepth, nil); err == nil || !d.cut || d.diffuses || d.broken != prompt || d.fields[fModel].absent() || endsInData(head) {
		return Parsed{}, false
	}
	c := d.contentOf(prompt)
	if !c.started || !c.text || c.media > 0 {
		return Parsed{}, false
	}
	limits.ModelOptional = false
	found := *req // which stays as it is if that does not do
	found.Prompt = types.Prompt{}
	p, err := d.fill(api, nil, &found, limits)
	if err != nil || hasMedia(&found.Prompt) {
		return Parsed{}, false
	}
	rest := int(size) - len(head)
	found.Prompt.Bytes += rest
	found.Prompt.Tokens += tokensOf(rest)
	*req = found
	return p, true
}

// lastOf returns the field with the part of the prompt that models read last, of the APIs for which a
// beginning may be enough.
func lastOf(api API) (field, bool) {
	switch api {
	case ChatCompletions, Messages:
		return fMessages, true
	case Responses:
		return fInput, true
	case Completions:
		return fPrompt, true
	}
	return fUnknown, false
}

func (d *document) contentOf(f field) *content {
	switch f {
	case fMessages:
		return &d.messages
	case fInput:
		return &d.input
	}
	return &d.prompt
}

func hasMedia(p *types.Prompt) bool { return p.Images+p.Audio+p.Other+len(p.Media) > 0 }

// endsInData reports whether the last bytes look like base64: then it is not text that goes on.
func endsInData(head []byte) bool {
	const long = 256
	if len(head) < long {
		return false
	}
	for _, b := range head[len(head)-long:] {
		letter := b|0x20 >= 'a' && b|0x20 <= 'z'
		if !letter && b-'0' > 9 && b != '+' && b != '/' && b != '-' && b != '_' {
			return false
		}
	}
	return true
}

// Began reports whether what ParseEarly said of the beginning of a body, p and early, is what Parse says
// of all of it: whether the choice of a server would have depended on the same. The model is the same and
// in the same place, the same are the salt of the cache, session, program and previous response; the prompt begins with
// what there was of it; and its estimate was not off by more than half or twice. What else came later
// (a bound on tokens, whether it streams) may differ.
func (p Parsed) Began(early *types.Request, whole Parsed, req *types.Request) bool {
	a, b := &early.Prompt, &req.Prompt
	whole.IncludeUsage = p.IncludeUsage
	if p != whole || early.Model != req.Model || early.CacheSalt != req.CacheSalt || early.SessionID != req.SessionID ||
		early.ProgramID != req.ProgramID || early.PreviousID != req.PreviousID || early.Work.Kind != req.Work.Kind ||
		a.Tokens > 2*b.Tokens || b.Tokens > 2*a.Tokens || hasMedia(b) || len(a.Spans) != len(b.Spans) {
		return false
	}
	last := len(a.Spans) - 1
	for i, span := range a.Spans {
		if span.Start != b.Spans[i].Start || i < last && span.End != b.Spans[i].End || span.End > b.Spans[i].End {
			return false
		}
	}
	return true
}
