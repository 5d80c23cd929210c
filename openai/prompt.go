package openai

import (
	"bytes"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// BytesPerToken is how Prompt.Tokens is estimated: text counts one token for four bytes as they
// are written, escapes and the syntax around the text included, which stands for
// what a chat template adds. That is close for English and for code, and high by
// up to half for text written in \u escapes. Tokens given as numbers are counted.
// Media count by their size and length, whatever they weigh in the body: see Family.
const BytesPerToken = 4

// content is a prompt, or the part of it that grows from turn to turn.
type content struct {
	body    []byte
	span    types.Span // from the first leaf to the last, without what closes it
	started bool
	text    bool // there are leaves that are not token numbers
	numbers int  // tokens given as numbers
	items   int  // texts, lists of token numbers, and objects: what a pooling model takes one by one
	media   int  // bytes of the span that are media
	images  int
	audio   int
	other   int // videos included
	videos  int
	pieces  []piece // where they are, in the order of the body; of many, the first ones
	hint    hint    // of the item that is walked
	apart   bool    // the pieces are all there is, whatever stands between them
}

// read reads the value of messages, input or prompt into c: a string, or an
// array of strings, token numbers, arrays of token numbers, and objects.
func (c *content) read(s *jsonscan.Scanner, body []byte) value {
	*c = content{body: body, pieces: c.pieces[:0]}
	kind, _ := s.Peek()
	switch kind {
	case jsonscan.String:
		c.leaf(s, body)
		c.items = 1
		return value{kind: kind, escaped: s.Token.Escaped, span: types.Span{Start: s.Token.Start, End: s.Token.End}}
	case jsonscan.Array:
		start := s.Pos()
		c.items = c.elements(s, body)
		return value{kind: kind, span: types.Span{Start: start, End: s.Pos()}}
	}
	return readValue(s)
}

// elements walks a list, and returns how many items it is.
func (c *content) elements(s *jsonscan.Scanner, body []byte) (items int) {
	for s.Enter(); s.Elem(); {
		kind, _ := s.Peek()
		if kind == jsonscan.Array {
			c.elements(s, body)
			items++
			continue
		}
		c.leaf(s, body)
		if kind != jsonscan.Number {
			items++
		}
	}
	if items == 0 && c.numbers > 0 {
		return 1
	}
	return items
}

func (c *content) leaf(s *jsonscan.Scanner, body []byte) {
	kind, start := s.Peek()
	end := start
	switch kind {
	case jsonscan.String:
		if s.Str() && s.Token.End == s.Token.Start {
			return // an empty string is no prompt
		}
		end = s.Token.End
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
	if !s.OK() {
		c.span.End = len(body) // for ParseEarly, to which it may be a beginning
	}
}

// class is what a message or a part of one is.
type class uint8

const (
	classUnknown class = iota
	classText
	classImage
	classAudio
	classVideo
	classOther
)

// item walks a message, an item of Responses, or (part) a content part, and
// counts its media. A part whose type is not known counts as other, unless it is long and text; an item
// whose type is not known is text, but for data in it.
func (c *content) item(s *jsonscan.Scanner, body []byte, part bool) {
	start, before := s.Pos(), *c
	byType, byKey, sealed := classUnknown, classUnknown, false
	alone := true // there is no text beside media
	c.hint = hint{}
	for s.Enter(); s.Key(); {
		switch key := keyOf(s, body); string(key) {
		case "type":
			byType = classUnknown
			if v := readValue(s); v.kind == jsonscan.String {
				name := body[v.span.Start:v.span.End]
				byType, sealed = classOfType(name, part), string(name) == "redacted_thinking"
			}
		case "content", "output":
			c.nested(s, body)
			alone = false
		default:
			alone = alone && string(key) != "role" && string(key) != "text"
			if class := classOfKey(key); class != classUnknown {
				byKey = class
			}
			if !c.hint.read(s, body, key) {
				c.member(s, body, key)
			}
		}
	}
	if byType == classUnknown {
		byType = classText
		if part && byKey != classUnknown || alone && byKey >= classImage && byKey <= classVideo { // {"image": "https://…"} in a list
			byType = byKey
		}
	}
	if byType == classOther && c.isText(s.Pos()-start, &before) {
		byType = classText
	}
	if sealed { // what is in it is text, though it looks like data
		*c = before
		return
	}
	if byType == classText {
		c.hint = before.hint
		return
	}
	// What was counted inside belongs to the part that is counted now.
	inside, hint := c.pieces, c.hint
	*c = before
	c.count(byType, s.Pos()-start)
	c.gather(byType, inside, hint)
}

// isText reports whether a file, or a part of unknown type, of so many bytes has more text in it than a file counts for. It
// counts as text then, and the media in it for themselves.
func (c *content) isText(size int, before *content) bool {
	text := size - (c.media - before.media)
	if len(c.pieces) == len(before.pieces) && isData(c.body[c.hint.span.Start:c.hint.span.End]) {
		text -= c.hint.span.End - c.hint.span.Start
	}
	return text > OtherTokens*BytesPerToken
}

// nested walks what a message or a tool's result consists of: parts, or one part.
func (c *content) nested(s *jsonscan.Scanner, body []byte) {
	switch kind, _ := s.Peek(); kind {
	case jsonscan.Object:
		c.item(s, body, true)
	case jsonscan.Array:
		for s.Enter(); s.Elem(); {
			if kind, _ := s.Peek(); kind == jsonscan.Object {
				c.item(s, body, true)
			} else {
				s.Skip()
			}
		}
	default:
		s.Skip()
	}
}

// member looks for data in a member of an object that is text. What the model
// wrote as arguments of a tool it reads as text, whatever is in there.
func (c *content) member(s *jsonscan.Scanner, body []byte, key []byte) {
	class := classOfKey(key)
	if class == classUnknown && (string(key) == "input" || string(key) == "arguments") {
		s.Skip()
		return
	}
	c.data(s, body, class)
}

// data walks a value and counts each piece of data in it that stands where the
// class of media is expected.
func (c *content) data(s *jsonscan.Scanner, body []byte, class class) {
	switch kind, at := s.Peek(); {
	case kind == jsonscan.Object:
		for s.Enter(); s.Key(); {
			key := keyOf(s, body)
			switch {
			case c.hint.read(s, body, key):
			case class != classUnknown:
				c.data(s, body, class)
			default:
				c.member(s, body, key)
			}
		}
	case kind == jsonscan.Array:
		for s.Enter(); s.Elem(); {
			c.data(s, body, class)
		}
	case kind == jsonscan.String:
		start, end := s.Skip()
		if start == end {
			return
		}
		text := types.Span{Start: start + 1, End: end - 1}
		c.hint.note(text, class != classUnknown)
		if class != classUnknown && isData(body[text.Start:text.End]) {
			c.count(class, text.End-at)
			c.push(piece{class: class, span: text, data: true})
		}
	default:
		s.Skip()
	}
}

// count counts a piece of media, and its bytes.
func (c *content) count(class class, bytes int) {
	c.media += bytes
	switch class {
	case classImage:
		c.images++
	case classAudio:
		c.audio++
	case classVideo:
		c.videos++
		c.other++
	default:
		c.other++
	}
}

// isData reports whether a string is a data URL or base64 that is longer than any
// name, address or key. Of base64 the first bytes are looked at.
func isData(raw []byte) bool {
	const long, head = 256, 64
	if len(raw) < long {
		return false
	}
	if len(raw) > 5 && strings.EqualFold(string(raw[:5]), "data:") {
		return true
	}
	for _, b := range raw[:head] {
		letter := b|0x20 >= 'a' && b|0x20 <= 'z'
		if !letter && b-'0' > 9 && b != '+' && b != '/' && b != '-' && b != '_' && b != '\\' {
			return false
		}
	}
	return true
}

// classOfKey returns the class of media that stand under the key.
func classOfKey(key []byte) class {
	switch string(key) {
	case "image_url", "image", "images", "image_data":
		return classImage
	case "input_audio", "audio_url", "audio", "audio_data":
		return classAudio
	case "video_url", "video":
		return classVideo
	case "file", "file_data", "source", "data", "blob", "b64_json":
		return classOther
	}
	return classUnknown
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
	case "video_url", "video", "input_video":
		return classVideo
	case "input_file", "file", "document":
		return classOther
	}
	if part && !bytes.HasSuffix(name, []byte("_tool_use")) && !bytes.HasSuffix(name, []byte("_tool_result")) {
		return classOther
	}
	return classText
}

// part is a piece of the prompt, with what it holds.
type part struct {
	span   types.Span
	tokens int64
	images int
	audio  int
	other  int
	more   int64 // how often it is computed again, with other texts

	// Where the media of the span are, in a body. Their tokens above are those of media of unknown size.
	pieces []piece
	apart  bool // nothing else of the span counts
	body   []byte
	// media are others that count: their tokens above are their own.
	media []types.Media
}

func (c *content) part() part {
	written := c.span.End - c.span.Start - c.media
	if !c.text || c.apart {
		written = 0
	}
	p := c.mediaPart(c.span, written)
	p.tokens += int64(c.numbers)
	return p
}

// mediaPart returns a piece with so many bytes of text, and the media of c.
func (c *content) mediaPart(span types.Span, text int) part {
	return part{
		span: span,
		tokens: int64(tokensOf(text)) + int64(c.images)*ImageTokens + int64(c.audio)*AudioTokens +
			int64(c.other-c.videos)*OtherTokens + int64(c.videos)*VideoTokens,
		images: c.images,
		audio:  c.audio,
		other:  c.other,
		pieces: c.pieces,
		apart:  c.apart,
		body:   c.body,
	}
}

func tokensOf(bytes int) int { return (bytes + BytesPerToken - 1) / BytesPerToken }

// parts puts the pieces of the prompt in the order in which a model reads them.
func (d *document) parts(api API, x *extra, parts *[4]part) (n int, err error) {
	head := func(f field, c content) {
		v := d.fields[f]
		if v.kind == jsonscan.String {
			v.span.Start--
			v.span.End++
		}
		if v.absent() || v.span.End-v.span.Start <= 2 { // "", [] and {}
			return
		}
		parts[n] = c.mediaPart(v.span, v.span.End-v.span.Start-c.media)
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
		head(fTools, content{})
		head(fFunctions, content{})
		body("messages", fMessages, &d.messages, false)
	case Messages, CountTokens:
		head(fTools, content{})
		head(fSystem, d.system)
		body("messages", fMessages, &d.messages, false)
	case Responses:
		head(fInstructions, d.instructions)
		head(fTools, content{})
		body("input", fInput, &d.input, true)
	case Embeddings, Pooling:
		body("messages", fMessages, &d.messages, false)
		body("input", fInput, &d.input, true)
		if d.prompt.started { // Ollama's
			parts[n] = d.prompt.part()
			n++
		}
	case Completions, ImageGenerations, Videos:
		body("prompt", fPrompt, &d.prompt, true)
	case AudioSpeech:
		body("input", fInput, &d.input, true)
	case Generate:
		body("token_ids", fTokenIDs, &d.tokenIDs, false)
	}
	if x != nil {
		n = x.parts(parts, n)
	}
	return n, err
}
