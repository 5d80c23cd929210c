package openai

import (
	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// How Prompt.Tokens is estimated. Text counts one token for four bytes as they
// are written, escapes and the syntax around the text included, which stands for
// what a chat template adds. That is close for English and for code, and high by
// up to half for text written in \u escapes. Tokens given as numbers are counted.
// Media count a constant each, whatever they weigh in the body.
const (
	BytesPerToken = 4
	ImageTokens   = 768  // about an image of 1024 x 1024
	AudioTokens   = 512  // about half a minute of speech
	OtherTokens   = 1024 // a file, a video, a part of unknown type
)

// content is a prompt, or the part of it that grows from turn to turn.
type content struct {
	span    types.Span // from the first leaf to the last, without what closes it
	started bool
	text    bool // there are leaves that are not token numbers
	numbers int  // tokens given as numbers
	media   int  // bytes of the span that are media
	images  int
	audio   int
	other   int
}

// read reads the value of messages, input or prompt into c: a string, or an
// array of strings, token numbers, arrays of token numbers, and objects.
func (c *content) read(s *jsonscan.Scanner, body []byte) value {
	*c = content{}
	kind, _ := s.Peek()
	switch kind {
	case jsonscan.String:
		c.leaf(s, body)
		return value{kind: kind, escaped: s.Token.Escaped, span: types.Span{Start: s.Token.Start, End: s.Token.End}}
	case jsonscan.Array:
		start := s.Pos()
		c.elements(s, body)
		return value{kind: kind, span: types.Span{Start: start, End: s.Pos()}}
	}
	return readValue(s)
}

func (c *content) elements(s *jsonscan.Scanner, body []byte) {
	for s.Enter(); s.Elem(); {
		if kind, _ := s.Peek(); kind == jsonscan.Array {
			c.elements(s, body)
			continue
		}
		c.leaf(s, body)
	}
}

func (c *content) leaf(s *jsonscan.Scanner, body []byte) {
	kind, start := s.Peek()
	end := start
	switch kind {
	case jsonscan.String:
		s.Str()
		if end = s.Token.End; end == s.Token.Start {
			return // an empty string is no prompt
		}
		c.text = true
	case jsonscan.Number:
		_, end = s.Skip()
		c.numbers++
	case jsonscan.Object:
		c.item(s, body, false)
		end = s.Pos()
		c.text = true
	default:
		s.Skip()
		return
	}
	if !c.started {
		c.started = true
		c.span.Start = start
	}
	c.span.End = end
}

// class is what a message or a part of one is.
type class uint8

const (
	classUnknown class = iota
	classText
	classImage
	classAudio
	classOther
)

// item walks a message, an item of Responses, or (part) a content part, and
// counts its media. A part whose type is not known counts as other; an item
// whose type is not known is text.
func (c *content) item(s *jsonscan.Scanner, body []byte, part bool) {
	start, before := s.Pos(), *c
	byType, byKey := classUnknown, classUnknown
	for s.Enter(); s.Key(); {
		switch string(keyOf(s, body)) {
		case "type":
			byType = classUnknown
			if v := readValue(s); v.kind == jsonscan.String {
				byType = classOfType(body[v.span.Start:v.span.End], part)
			}
		case "content", "output":
			if kind, _ := s.Peek(); kind == jsonscan.Array {
				c.contentParts(s, body)
			} else {
				s.Skip()
			}
		case "image_url":
			byKey = classImage
			s.Skip()
		case "input_audio", "audio_url":
			byKey = classAudio
			s.Skip()
		case "video_url", "file":
			byKey = classOther
			s.Skip()
		default:
			s.Skip()
		}
	}
	if byType == classUnknown {
		byType = classText
		if part && byKey != classUnknown {
			byType = byKey
		}
	}
	if byType == classText {
		return
	}
	// What was counted inside belongs to the part that is counted now.
	*c = before
	c.media += s.Pos() - start
	switch byType {
	case classImage:
		c.images++
	case classAudio:
		c.audio++
	default:
		c.other++
	}
}

func (c *content) contentParts(s *jsonscan.Scanner, body []byte) {
	for s.Enter(); s.Elem(); {
		if kind, _ := s.Peek(); kind == jsonscan.Object {
			c.item(s, body, true)
		} else {
			s.Skip()
		}
	}
}

func classOfType(name []byte, part bool) class {
	switch string(name) {
	case "text", "input_text", "output_text", "refusal", "message",
		"thinking", "redacted_thinking", "reasoning", "reasoning_text", "summary_text",
		"tool_use", "tool_result", "tool_reference", "server_tool_use", "search_result":
		return classText
	case "image_url", "input_image", "image", "image_pil", "image_embeds",
		"computer_screenshot", "image_generation_call":
		return classImage
	case "input_audio", "audio_url", "audio", "audio_embeds":
		return classAudio
	}
	if part {
		return classOther
	}
	return classText
}

// part is a piece of the prompt, with what it holds.
type part struct {
	span   types.Span
	tokens int
	images int
	audio  int
	other  int
}

func (c *content) part() part {
	written := c.span.End - c.span.Start - c.media
	if !c.text {
		written = 0
	}
	return part{
		span:   c.span,
		tokens: tokensOf(written) + c.numbers + c.images*ImageTokens + c.audio*AudioTokens + c.other*OtherTokens,
		images: c.images,
		audio:  c.audio,
		other:  c.other,
	}
}

func tokensOf(bytes int) int { return (bytes + BytesPerToken - 1) / BytesPerToken }

// parts puts the pieces of the prompt in the order in which a model reads them.
func (d *document) parts(api API, parts *[4]part) (n int, err error) {
	head := func(f field) {
		v := d.fields[f]
		if v.kind == jsonscan.String {
			v.span.Start--
			v.span.End++
		}
		if v.absent() || v.span.End-v.span.Start <= 2 { // "", [] and {}
			return
		}
		parts[n] = part{span: v.span, tokens: tokensOf(v.span.End - v.span.Start)}
		n++
	}
	body := func(name string, f field, c *content, stringToo bool) {
		v := d.fields[f]
		if v.absent() || err != nil {
			return
		}
		if v.kind != jsonscan.Array && (v.kind != jsonscan.String || !stringToo) {
			want := "an array"
			if stringToo {
				want = "a string or an array"
			}
			err = wrongField(CodeInvalidType, name, v.at(), d.body, "must be %s, not %s", want, v.kind)
			return
		}
		if c.started {
			parts[n] = c.part()
			n++
		}
	}
	switch api {
	case ChatCompletions:
		head(fTools)
		head(fFunctions)
		body("messages", fMessages, &d.messages, false)
	case Messages:
		head(fTools)
		head(fSystem)
		body("messages", fMessages, &d.messages, false)
	case Responses:
		head(fInstructions)
		head(fTools)
		body("input", fInput, &d.input, true)
	case Embeddings:
		body("messages", fMessages, &d.messages, false)
		body("input", fInput, &d.input, true)
	case Completions, ImageGenerations:
		body("prompt", fPrompt, &d.prompt, true)
	case AudioSpeech:
		body("input", fInput, &d.input, true)
	}
	return n, err
}

// setPrompt sets p to the parts, and uses the memory of its spans again.
func setPrompt(p *types.Prompt, parts []part) {
	spans := p.Spans[:0]
	if cap(spans) < len(parts) {
		spans = make([]types.Span, 0, len(parts))
	}
	*p = types.Prompt{Spans: spans}
	for _, part := range parts {
		if part.span.End > part.span.Start {
			p.Spans = append(p.Spans, part.span)
			p.Bytes += part.span.End - part.span.Start
		}
		p.Tokens += part.tokens
		p.Images += part.images
		p.Audio += part.audio
		p.Other += part.other
	}
}
