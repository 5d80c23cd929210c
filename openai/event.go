package openai

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// maxResponseDepth bounds the nesting of a response. A deeper one is not read.
const maxResponseDepth = 512

// scratch is memory for reading one event.
type scratch struct {
	edits  []types.Span // where the target model stands, in what is read
	joined []byte       // data of several lines
	lines  []dataLine   // where the lines of joined come from
}

// dataLine says that the data from joined on was at raw in the event.
type dataLine struct{ joined, raw int }

// readEvent reads one event, with all its line ends.
func (s *Stream) readEvent(raw []byte) {
	c := &s.scratch
	c.edits, c.lines, c.joined = c.edits[:0], c.lines[:0], c.joined[:0]

	pos := 0
	if !s.begun && bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")) {
		pos = 3
	}
	var only types.Span // the data, while there is one line of it
	for pos < len(raw) {
		end := lineEnd(raw[pos:])
		if end < 0 {
			end = len(raw)
		} else {
			end += pos
		}
		data, ok := dataOf(raw[pos:end])
		if ok {
			line := types.Span{Start: end - len(data), End: end}
			switch len(c.lines) {
			case 0:
				only = line
			case 1:
				c.joined = append(c.joined, raw[only.Start:only.End]...)
				fallthrough
			default:
				c.joined = append(c.joined, '\n')
			}
			c.lines = append(c.lines, dataLine{len(c.joined), line.Start})
			if len(c.lines) > 1 {
				c.joined = append(c.joined, data...)
			}
		}
		pos = end + 1
	}

	switch len(c.lines) {
	case 0:
		return
	case 1:
		s.readData(raw[only.Start:only.End])
	default:
		s.readData(c.joined)
		c.joined = kept(c.joined)
	}
	for i := range c.edits {
		c.edits[i] = c.inEvent(c.edits[i])
	}
}

// inEvent converts a range of the data to one of the event. A JSON string has no
// line end in it, so that a range lies on one line.
func (c *scratch) inEvent(span types.Span) types.Span {
	i := len(c.lines) - 1
	for i > 0 && c.lines[i].joined > span.Start {
		i--
	}
	shift := c.lines[i].raw - c.lines[i].joined
	return types.Span{Start: span.Start + shift, End: span.End + shift}
}

// dataOf returns the value of a line that is a data field.
func dataOf(line []byte) ([]byte, bool) {
	const name = "data"
	if len(line) < len(name) || string(line[:len(name)]) != name {
		return nil, false
	}
	line = line[len(name):]
	if len(line) == 0 {
		return line, true
	}
	if line[0] != ':' {
		return nil, false
	}
	line = line[1:]
	if len(line) > 0 && line[0] == ' ' {
		line = line[1:]
	}
	return line, true
}

// readData reads the data of one event.
func (s *Stream) readData(data []byte) {
	trimmed := bytes.Trim(data, " \t\n")
	switch {
	case len(trimmed) == 0:
		return
	case string(trimmed) == "[DONE]":
		s.done = true
		return
	case trimmed[0] != '{':
		s.first = true // not of any form we know, but something
		return
	}
	r := reading{s: s, data: data, scan: jsonscan.New(data, maxResponseDepth)}
	r.object(0)
	if r.scan.End() != nil {
		s.scratch.edits = s.scratch.edits[:0]
		s.first = true
		return
	}
	r.commit()
	s.first = s.first || r.generated()
	s.done = s.done || endTypes(r.kind)
}

// readBody reads the value that data starts with, and reports whether there is a
// complete one.
func (s *Stream) readBody(data []byte) bool {
	s.scratch.edits = s.scratch.edits[:0]
	r := reading{s: s, data: data, scan: jsonscan.New(data, maxResponseDepth)}
	if kind, _ := r.scan.Peek(); kind != jsonscan.Object {
		r.scan.Skip()
		return r.scan.OK()
	}
	r.object(0)
	if !r.scan.OK() {
		s.scratch.edits = s.scratch.edits[:0]
		return false
	}
	r.commit()
	return true
}

// readTail looks for usage in the end of a long body. A quote inside of a JSON
// string has a backslash before it, so that "usage" in its quotes is a string of
// its own.
func (s *Stream) readTail() {
	const key = `"usage"`
	tail := s.tail[max(0, len(s.tail)-tailBytes):]
	s.done = endsObject(tail)
	i := bytes.LastIndex(tail, []byte(key))
	if i < 0 {
		return
	}
	rest := bytes.TrimLeft(tail[i+len(key):], " \t\r\n")
	if len(rest) == 0 || rest[0] != ':' {
		return
	}
	r := reading{data: rest[1:], scan: jsonscan.New(rest[1:], maxResponseDepth)}
	r.readUsage()
	if r.scan.OK() {
		s.usage.update(r.usage)
	}
}

// reading is the walk of one event or body. What it finds counts only if all of
// it turns out to be JSON.
type reading struct {
	s    *Stream
	data []byte
	scan jsonscan.Scanner

	kind       []byte // the value of type
	usage      usage
	failure    *ServerError
	oldError   bool  // object is "error": the fields of the error are at the top
	message    value // those fields
	code       value
	hasChoices bool
	output     bool // one of the choices has something generated
}

// object walks an event, or (level 1) the response or message in it.
func (r *reading) object(level int) {
	for r.scan.Enter(); r.scan.Key(); {
		switch string(keyOf(&r.scan, r.data)) {
		case "model":
			r.readModel()
		case "usage":
			r.readUsage()
		case "error":
			r.readError()
		case "choices":
			if level == 0 && !r.s.first {
				r.readChoices()
				continue
			}
			r.scan.Skip()
		case "response":
			r.nested(level)
		case "message":
			if kind, _ := r.scan.Peek(); kind == jsonscan.Object {
				r.nested(level)
			} else {
				r.text(level, &r.message)
			}
		case "type":
			v := readValue(&r.scan)
			if level == 0 && v.kind == jsonscan.String {
				r.kind = r.data[v.span.Start:v.span.End]
			}
		case "code":
			r.text(level, &r.code)
		case "object":
			v := readValue(&r.scan)
			if level == 0 && v.kind == jsonscan.String {
				r.oldError = string(r.data[v.span.Start:v.span.End]) == "error"
			}
		default:
			r.scan.Skip()
		}
	}
}

func (r *reading) nested(level int) {
	if kind, _ := r.scan.Peek(); level == 0 && kind == jsonscan.Object {
		r.object(1)
		return
	}
	r.scan.Skip()
}

// text keeps where a string or number at the top is.
func (r *reading) text(level int, dst *value) {
	if v := readValue(&r.scan); level == 0 {
		*dst = v
	}
}

// short returns a string or a number, no more than 1 KiB of it.
func (r *reading) short(v value) string {
	const limit = 1 << 10
	raw := r.data[v.span.Start:v.span.End]
	switch v.kind {
	case jsonscan.String:
		if len(raw) > 6*limit {
			raw = raw[:6*limit]
		}
		b := jsonscan.Unquote(nil, raw)
		return strings.ToValidUTF8(string(b[:min(len(b), limit)]), "")
	case jsonscan.Number:
		return string(raw[:min(len(raw), limit)])
	}
	return ""
}

func (r *reading) readModel() {
	v := readValue(&r.scan)
	if v.kind != jsonscan.String || r.s.public == nil {
		return
	}
	if equalString(r.data[v.span.Start:v.span.End], r.s.target) {
		r.s.scratch.edits = append(r.s.scratch.edits, types.Span{Start: v.span.Start - 1, End: v.span.End + 1})
	}
}

func (r *reading) readError() {
	kind, _ := r.scan.Peek()
	switch kind {
	case jsonscan.String:
		r.failure = &ServerError{Message: r.short(readValue(&r.scan))}
	case jsonscan.Object:
		e := new(ServerError)
		for r.scan.Enter(); r.scan.Key(); {
			switch string(keyOf(&r.scan, r.data)) {
			case "message":
				e.Message = r.short(readValue(&r.scan))
			case "type":
				e.Type = r.short(readValue(&r.scan))
			case "code":
				e.Code = r.short(readValue(&r.scan))
			default:
				r.scan.Skip()
			}
		}
		r.failure = e
	default:
		r.scan.Skip()
	}
}

// readChoices looks for anything generated.
func (r *reading) readChoices() {
	r.hasChoices = true
	if kind, _ := r.scan.Peek(); kind != jsonscan.Array {
		r.scan.Skip()
		return
	}
	for r.scan.Enter(); r.scan.Elem(); {
		if kind, _ := r.scan.Peek(); kind != jsonscan.Object {
			r.scan.Skip()
			continue
		}
		for r.scan.Enter(); r.scan.Key(); {
			switch string(keyOf(&r.scan, r.data)) {
			case "text", "finish_reason", "message":
				r.output = !r.blank() || r.output
			case "delta":
				r.readDelta()
			default:
				r.scan.Skip()
			}
		}
	}
}

func (r *reading) readDelta() {
	if kind, _ := r.scan.Peek(); kind != jsonscan.Object {
		r.scan.Skip()
		return
	}
	for r.scan.Enter(); r.scan.Key(); {
		role := string(keyOf(&r.scan, r.data)) == "role"
		r.output = !r.blank() && !role || r.output
	}
}

// blank skips a value and reports whether there is nothing in it.
func (r *reading) blank() bool {
	start, end := r.scan.Skip()
	switch string(r.data[start:end]) {
	case "", "null", `""`, "[]", "{}":
		return true
	}
	return false
}

// generated reports whether an event without an error carries a token.
func (r *reading) generated() bool {
	if r.failure != nil {
		return false
	}
	if r.hasChoices {
		return r.output
	}
	switch string(r.kind) {
	case "response.created", "response.queued", "response.in_progress",
		"response.output_item.added", "response.content_part.added", "response.reasoning_summary_part.added",
		"message_start", "content_block_start", "ping", "error", "response.failed":
		return false
	}
	return true
}

// endTypes reports whether an event of the type is the last of its stream.
func endTypes(kind []byte) bool {
	switch string(kind) {
	case "response.completed", "response.incomplete", "response.failed", "response.cancelled",
		"message_stop", "transcript.text.done", "speech.audio.done",
		"image_generation.completed", "image_edit.completed":
		return true
	}
	return false
}

// commit moves what was found to the stream.
func (r *reading) commit() {
	r.s.usage.update(r.usage)
	if r.failure == nil && (r.oldError || string(r.kind) == "error") {
		r.failure = &ServerError{Message: r.short(r.message), Code: r.short(r.code)}
		if r.oldError {
			r.failure.Type = string(r.kind)
		}
	}
	if r.failure != nil {
		r.s.failure = r.failure
	}
}

// usage is what was reported, in the words of the APIs.
type usage struct {
	prompt, input        types.Gauge // OpenAI's older and newer word
	completion           types.Gauge
	cached               types.Gauge
	cacheRead, cacheMade types.Gauge // Anthropic's: not part of its input
}

func (u *usage) update(v usage) {
	set := func(dst *types.Gauge, g types.Gauge) {
		if g.IsKnown() {
			*dst = g
		}
	}
	set(&u.prompt, v.prompt)
	set(&u.input, v.input)
	set(&u.completion, v.completion)
	set(&u.cached, v.cached)
	set(&u.cacheRead, v.cacheRead)
	set(&u.cacheMade, v.cacheMade)
}

func (u *usage) sum() types.Usage {
	sum := types.Usage{PromptTokens: u.prompt, CompletionTokens: u.completion, CachedTokens: u.cached}
	if input, ok := u.input.Value(); ok && !u.prompt.IsKnown() {
		sum.PromptTokens = types.Known(input + u.cacheRead.Or(0) + u.cacheMade.Or(0))
	}
	if !u.cached.IsKnown() {
		sum.CachedTokens = u.cacheRead
	}
	return sum
}

func (r *reading) readUsage() {
	if kind, _ := r.scan.Peek(); kind != jsonscan.Object {
		r.scan.Skip()
		return
	}
	u := &r.usage
	for r.scan.Enter(); r.scan.Key(); {
		switch string(keyOf(&r.scan, r.data)) {
		case "prompt_tokens":
			r.readCount(&u.prompt)
		case "input_tokens":
			r.readCount(&u.input)
		case "completion_tokens", "output_tokens":
			r.readCount(&u.completion)
		case "prompt_tokens_details", "input_tokens_details":
			r.readDetails()
		case "prompt_cache_hit_tokens": // DeepSeek's
			r.readCount(&u.cached)
		case "cache_read_input_tokens":
			r.readCount(&u.cacheRead)
		case "cache_creation_input_tokens":
			r.readCount(&u.cacheMade)
		default:
			r.scan.Skip()
		}
	}
}

func (r *reading) readDetails() {
	if kind, _ := r.scan.Peek(); kind != jsonscan.Object {
		r.scan.Skip()
		return
	}
	for r.scan.Enter(); r.scan.Key(); {
		if string(keyOf(&r.scan, r.data)) == "cached_tokens" {
			r.readCount(&r.usage.cached)
			continue
		}
		r.scan.Skip()
	}
}

// readCount reads a number that is not negative; anything else leaves dst.
func (r *reading) readCount(dst *types.Gauge) {
	kind, _ := r.scan.Peek()
	start, end := r.scan.Skip()
	if kind != jsonscan.Number || start == end {
		return
	}
	n, ok := parseInt(r.data[start:end])
	f := float64(n)
	if !ok {
		var err error
		if f, err = strconv.ParseFloat(string(r.data[start:end]), 64); err != nil {
			return
		}
	}
	if f >= 0 {
		*dst = types.Known(f)
	}
}
