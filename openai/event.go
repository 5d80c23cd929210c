package openai

import (
	"bytes"
	"errors"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// maxResponseDepth bounds the nesting of a response. A deeper one is not read.
const maxResponseDepth = 512

// scratch is memory for reading one event.
type scratch struct {
	edits  []edit     // of what is read
	joined []byte     // data of several lines
	lines  []dataLine // where the lines of joined come from
}

// edit is what is to be put in a place.
type edit struct {
	types.Span
	value []byte
}

// dataLine says that the data from joined on was at raw in the event.
type dataLine struct{ joined, raw int }

// readEvent reads one event, with all its line ends. A field error is that of older llama.cpp,
// in place of data.
func (s *Stream) readEvent(raw []byte) {
	c := &s.scratch
	c.edits, c.lines, c.joined = c.edits[:0], c.lines[:0], c.joined[:0]

	pos := 0
	if !s.started && bytes.HasPrefix(raw, []byte(byteOrderMark)) {
		pos = len(byteOrderMark)
	}
	if s.kind == lineStream {
		c.lines = append(c.lines, dataLine{0, pos})
		s.readData(nil, raw[pos:])
		c.shiftEdits()
		return
	}
	var name []byte
	var only types.Span // the data, while there is one line of it
	for pos < len(raw) {
		end := lineEnd(raw[pos:])
		if end < 0 {
			end = len(raw)
		} else {
			end += pos
		}
		line := raw[pos:end]
		if data, ok := fieldValue(line, "data"); ok {
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
		} else if value, ok := fieldValue(line, "event"); ok {
			name = value
		} else if value, ok := fieldValue(line, "error"); ok && len(c.lines) == 0 {
			name, only = []byte("error"), types.Span{Start: end - len(value), End: end}
			c.lines = append(c.lines, dataLine{0, only.Start})
		}
		pos = end + 1
	}

	switch len(c.lines) {
	case 0:
		s.readData(name, nil)
	case 1:
		s.readData(name, raw[only.Start:only.End])
	default:
		s.readData(name, c.joined)
		c.joined = kept(c.joined)
	}
	c.shiftEdits()
}

// shiftEdits converts the edits from ranges of the data to those of the event. Neither a JSON
// string nor a number has a line end in it, so that a range lies on one line.
func (c *scratch) shiftEdits() {
	for j := range c.edits {
		span := &c.edits[j]
		i := len(c.lines) - 1
		for i > 0 && c.lines[i].joined > span.Start {
			i--
		}
		shift := c.lines[i].raw - c.lines[i].joined
		span.Start += shift
		span.End += shift
	}
}

// fieldValue returns the value of a line that is a field of the name.
func fieldValue(line []byte, name string) ([]byte, bool) {
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

// readData reads the name and the data of one event.
func (s *Stream) readData(name, data []byte) {
	trimmed := bytes.Trim(data, " \t\r\n")
	if len(trimmed) == 0 {
		s.readNameOnly(name)
		return
	}
	last := s.closed // it lacks its empty line, and may be a fragment
	if string(trimmed) == "[DONE]" {
		s.begun, s.done = true, true
		return
	}
	if trimmed[0] != '{' {
		s.unread = true
		s.begun = s.begun || !last
		if string(name) == "error" {
			s.begun = true
			s.failure = &ServerError{Message: cut(trimmed, maxErrorText), Status: 500}
		}
		return
	}
	r := reading{s: s, data: data, scan: jsonscan.New(data, maxResponseDepth), event: true, kind: name, named: string(name) == "error"}
	r.walk(atTop)
	if err := r.scan.End(); err != nil {
		s.scratch.edits = s.scratch.edits[:0]
		if last && isFragment(data, err) {
			return // no event: there was to be more of it
		}
		s.begun, s.unread = true, true
		return
	}
	s.begun = true
	r.commit()
	if r.generated() {
		s.tokens++
	}
	s.done = s.done || r.ends()
	if d := r.dialect(); d != dialectNeutral && d != dialectOf(s.api) {
		s.foreign = true
	}
}

// isFragment reports whether all that is wrong with data is that there is no more
// of it.
func isFragment(data []byte, err error) bool {
	var at *jsonscan.Error
	if !errors.As(err, &at) {
		return false
	}
	rest := string(data[at.Offset:])
	return strings.HasPrefix("true", rest) || strings.HasPrefix("false", rest) || strings.HasPrefix("null", rest)
}

// readNameOnly reads an event without data: some servers' streams have such, so
// that nothing may be said of their end. One that is called an error is one.
func (s *Stream) readNameOnly(name []byte) {
	if len(name) == 0 || string(name) == "ping" {
		return
	}
	s.unread = true
	s.done = s.done || lastOfStream(name)
	if string(name) == "error" { // Dynamo says why in a comment
		s.begun = true
		s.failure = &ServerError{Message: "no reason given", Status: 500}
	}
}

// readBody reads the value that data starts with, and reports whether there is a
// complete one.
func (s *Stream) readBody(data []byte) bool {
	c := &s.scratch
	c.edits = c.edits[:0]
	mark := 0
	if bytes.HasPrefix(data, []byte(byteOrderMark)) {
		mark = len(byteOrderMark)
		data = data[mark:]
	}
	r := reading{s: s, data: data, scan: jsonscan.New(data, maxResponseDepth)}
	if kind, _ := r.scan.Peek(); kind != jsonscan.Object {
		r.scan.Skip()
		return r.scan.OK()
	}
	if s.keeps {
		r.kept = new(keptFields)
	}
	r.walk(atTop)
	if !r.scan.OK() {
		c.edits = c.edits[:0]
		return false
	}
	for i := range c.edits {
		c.edits[i].Start += mark
		c.edits[i].End += mark
	}
	r.commit()
	return true
}
