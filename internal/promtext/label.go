package promtext

import (
	"bytes"
	"fmt"
)

// label is one element between the braces: a label, or, without a value, the
// name of the metric. Both are as they stand on the page, without their quotes.
type label struct {
	name, value               []byte
	nameEscaped, valueEscaped bool
}

// nextLabel reads the element that begins at i of line, blanks before it
// allowed, and returns the index at which the next one begins. At the closing
// brace the label has no name, and next is the index after the brace.
func nextLabel(line []byte, i int) (l label, next int, problem string) {
	i = skipBlanks(line, i)
	if i == len(line) {
		return l, i, "the labels have no closing brace"
	}
	if line[i] == '}' {
		return l, i + 1, ""
	}

	start := i
	if line[i] == '"' {
		l.name, l.nameEscaped, i, problem = quoted(line, i)
		if problem != "" {
			return label{}, i, problem
		}
	} else {
		for i < len(line) && nameByte[line[i]] {
			i++
		}
		l.name = line[start:i]
	}
	if len(l.name) == 0 {
		return label{}, i, "expected a label name, got " + quote(line, start)
	}

	i = skipBlanks(line, i)
	if i < len(line) && line[i] == '=' {
		i = skipBlanks(line, i+1)
		if i == len(line) || line[i] != '"' {
			return label{}, i, "expected a label value in quotes, got " + quote(line, i)
		}
		l.value, l.valueEscaped, i, problem = quoted(line, i)
		if problem != "" {
			return label{}, i, problem
		}
		i = skipBlanks(line, i)
	}

	switch {
	case i == len(line):
		return label{}, i, "the labels have no closing brace"
	case line[i] == ',':
		return l, i + 1, ""
	case line[i] == '}':
		return l, i, ""
	}
	return label{}, i, "expected ',' or '}' after a label, got " + quote(line, i)
}

// quoted reads the quoted string that begins at i of line. The result is never
// nil, stands as on the page, and escaped says that it holds escape sequences.
func quoted(line []byte, i int) (s []byte, escaped bool, next int, problem string) {
	i++
	start := i
	for i < len(line) {
		switch line[i] {
		case '"':
			return line[start:i:i], escaped, i + 1, ""
		case '\\':
			escaped = true
			i++
			if i == len(line) {
				continue
			}
			if c := line[i]; c != '\\' && c != '"' && c != 'n' {
				return nil, false, i, fmt.Sprintf("unknown escape sequence \"\\%c\"", c)
			}
		}
		i++
	}
	return nil, false, i, "a quoted string has no end"
}

// unescape appends s to dst with its escape sequences replaced.
func unescape(dst, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		c := s[i+1]
		if c == 'n' {
			c = '\n'
		}
		dst = append(dst, c)
		s = s[i+2:]
	}
}

func quote(line []byte, i int) string { return fmt.Sprintf("%q", clip(line[i:])) }

// Label returns the value of the named label of the current sample, unescaped,
// and whether there is such a label. The bytes are valid until the next call of
// Next or Reset, and must not be changed.
func (s *Scanner) Label(name string) (value []byte, ok bool) {
	for l := s.Labels(); l.Next(); {
		if string(l.Name()) == name {
			return l.Value(), true
		}
	}
	return nil, false
}

// Labels returns a cursor over the labels of the current sample, in the order of
// the page. It is valid until the next call of Next or Reset.
func (s *Scanner) Labels() Labels { return Labels{s: s, rest: s.labels} }

// Labels goes over the labels of one sample. Take it from Scanner.Labels.
type Labels struct {
	s    *Scanner
	rest []byte
	at   label
}

// Next goes on to the next label and reports whether there is one.
func (l *Labels) Next() bool {
	for len(l.rest) > 0 {
		// The scanner has read these labels once: there is no problem in them.
		var next int
		l.at, next, _ = nextLabel(l.rest, 0)
		l.rest = l.rest[next:]
		if l.at.name == nil {
			l.rest = nil
		} else if l.at.value != nil { // not the metric's name
			return true
		}
	}
	return false
}

// Name returns the name of the current label. The bytes must not be changed.
func (l *Labels) Name() []byte {
	if l.at.nameEscaped {
		return l.s.unescape(l.at.name)
	}
	return l.at.name
}

// Value returns the value of the current label, unescaped. The bytes must not be
// changed.
func (l *Labels) Value() []byte {
	if l.at.valueEscaped {
		return l.s.unescape(l.at.value)
	}
	return l.at.value
}

// unescape puts the unescaped form of b behind what the scratch already holds,
// so that earlier values stay as they are.
func (s *Scanner) unescape(b []byte) []byte {
	start := len(s.scratch)
	s.scratch = unescape(s.scratch, b)
	return s.scratch[start:len(s.scratch):len(s.scratch)]
}
