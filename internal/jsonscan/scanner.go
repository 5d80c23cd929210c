package jsonscan

import (
	"bytes"
	"fmt"
)

// DefaultMaxDepth is the nesting allowed where a limit of 0 is given.
const DefaultMaxDepth = 128

// MaxDepth is the deepest nesting that may be asked for, the same as that of
// encoding/json. Skip recurses once a level.
const MaxDepth = 10000

// Kind is the kind of a JSON value.
type Kind uint8

// The kinds of JSON values. Invalid is the zero value: no value, or an error.
const (
	Invalid Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// String returns the kind with its article, as it reads in an error message.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return kinds[Invalid]
}

var kinds = [...]string{
	Invalid: "no value", Null: "null", Bool: "a boolean", Number: "a number",
	String: "a string", Array: "an array", Object: "an object",
}

// Token is where a string lies: the half-open range between its quotes.
type Token struct {
	Start, End int
	// Escaped is set if there is a backslash in it: Unquote gives the value.
	// Otherwise the bytes are the value, if they are UTF-8.
	Escaped bool
}

// Error says where a document is not JSON. Offset counts bytes from 0, Line and
// Column (in bytes) from 1.
type Error struct {
	Offset, Line, Column int
	Msg                  string
	TooDeep              bool // well-formed so far, but nested beyond the limit
}

// Error returns the message with its position.
func (e *Error) Error() string {
	return fmt.Sprintf("jsonscan: %s at line %d column %d (byte %d)", e.Msg, e.Line, e.Column, e.Offset)
}

// Position returns line and column, both from 1, of the byte at offset.
func Position(data []byte, offset int) (line, column int) {
	head := data[:min(max(offset, 0), len(data))]
	return 1 + bytes.Count(head, []byte{'\n'}), len(head) - bytes.LastIndexByte(head, '\n')
}

// Scanner walks one document. Get one from New. It is a plain value that holds
// no memory of its own, and is for one goroutine.
type Scanner struct {
	// Token is the string that Key or Str has read last.
	Token Token

	data     []byte
	pos      int
	depth    int
	maxDepth int
	fresh    bool // nothing was read yet of the container that was entered last

	failed  bool
	errPos  int
	errMsg  string
	tooDeep bool
}

// New returns a Scanner at the start of data. maxDepth bounds the nesting of
// objects and arrays; 0 stands for DefaultMaxDepth, and more than MaxDepth is
// MaxDepth.
func New(data []byte, maxDepth int) Scanner {
	if maxDepth <= 0 {
		maxDepth = DefaultMaxDepth
	}
	return Scanner{data: data, maxDepth: min(maxDepth, MaxDepth)}
}

// SkipMark skips a UTF-8 byte order mark at the start of data. RFC 8259, section 8.1, leaves
// it to readers whether they take one; Python's and most C++ ones do.
func (s *Scanner) SkipMark() {
	if s.pos == 0 && bytes.HasPrefix(s.data, []byte("\xef\xbb\xbf")) {
		s.pos = 3
	}
}

// Check reports whether data is one JSON value, nested no deeper than maxDepth
// (as in New). The error is an *Error.
func Check(data []byte, maxDepth int) error {
	s := New(data, maxDepth)
	s.Skip()
	return s.End()
}

// Pos returns the offset of the next byte to be read.
func (s *Scanner) Pos() int { return s.pos }

// OK reports whether no error was met so far.
func (s *Scanner) OK() bool { return !s.failed }

// Cut reports whether the error is no more than that the data ended: they may be the beginning of a
// document.
func (s *Scanner) Cut() bool { return s.failed && s.errPos >= len(s.data) }

// Err returns the error met so far: an *Error, or nil.
func (s *Scanner) Err() error {
	if !s.failed {
		return nil
	}
	line, column := Position(s.data, s.errPos)
	return &Error{Offset: s.errPos, Line: line, Column: column, Msg: s.errMsg, TooDeep: s.tooDeep}
}

// End checks that nothing but white space is left, and returns the first error
// of the walk.
func (s *Scanner) End() error {
	if !s.failed {
		if s.pos = s.space(s.pos); s.pos < len(s.data) {
			s.fail(s.pos, "unexpected data after the end of the value")
		}
	}
	return s.Err()
}

// Peek returns the kind of the value that comes next, and its first byte's
// offset. The value itself may still turn out to be malformed.
func (s *Scanner) Peek() (Kind, int) {
	if s.failed {
		return Invalid, s.pos
	}
	s.pos = s.space(s.pos)
	if s.pos >= len(s.data) {
		s.fail(s.pos, "unexpected end")
		return Invalid, s.pos
	}
	switch c := s.data[s.pos]; {
	case c == '"':
		return String, s.pos
	case c == '{':
		return Object, s.pos
	case c == '[':
		return Array, s.pos
	case c == '-' || c-'0' < 10:
		return Number, s.pos
	case c == 't' || c == 'f':
		return Bool, s.pos
	case c == 'n':
		return Null, s.pos
	}
	s.fail(s.pos, "expected a value")
	return Invalid, s.pos
}

// Enter goes into the object or array that comes next. Walk it with Key or Elem
// to its end.
func (s *Scanner) Enter() bool {
	if k, _ := s.Peek(); k != Object && k != Array {
		s.fail(s.pos, "expected an object or an array")
		return false
	}
	if s.depth++; s.depth > s.maxDepth {
		s.failDepth(s.pos)
		return false
	}
	s.pos++
	s.fresh = true
	return true
}

// Key reads the next key of the object that was entered, into s.Token, and its
// colon; the value must be read next. It returns false, and leaves the object,
// at its end.
func (s *Scanner) Key() bool {
	if !s.next('}') {
		return false
	}
	start := s.pos + 1
	end, colon, escaped := s.skipKey(s.pos)
	if colon < 0 {
		return false
	}
	s.setToken(start, end, escaped)
	s.pos = colon + 1
	return true
}

// EnterObject goes into the object that comes next; another value it skips, and returns
// false.
func (s *Scanner) EnterObject() bool {
	if kind, _ := s.Peek(); kind != Object {
		s.Skip()
		return false
	}
	return s.Enter()
}

// Elem goes to the next element of the array that was entered, which must be
// read next. It returns false, and leaves the array, at its end.
func (s *Scanner) Elem() bool { return s.next(']') }

// next reads what stands between two entries of a container, or its end.
func (s *Scanner) next(closing byte) bool {
	if s.failed {
		return false
	}
	s.pos = s.space(s.pos)
	if s.pos >= len(s.data) {
		s.fail(s.pos, "unexpected end")
		return false
	}
	fresh := s.fresh
	s.fresh = false
	c := s.data[s.pos]
	if c == closing {
		s.pos++
		s.depth--
		return false
	}
	if fresh {
		return true
	}
	if c != ',' {
		s.fail(s.pos, "expected a comma or the end of the object or array")
		return false
	}
	s.pos = s.space(s.pos + 1)
	return true
}

// Str reads the string that comes next into s.Token.
func (s *Scanner) Str() bool {
	if k, _ := s.Peek(); k != String {
		s.fail(s.pos, "expected a string")
		return false
	}
	start := s.pos + 1
	end, escaped := s.skipString(start)
	if end < 0 {
		return false
	}
	s.setToken(start, end, escaped)
	s.pos = end
	return true
}

// setToken makes a string that skipString has read the Token.
func (s *Scanner) setToken(start, end int, escaped bool) {
	escaped = escaped || end-start > nearBytes && bytes.IndexByte(s.data[start:end], '\\') >= 0
	s.Token = Token{start, end - 1, escaped}
}

// Skip validates the value that comes next and goes past it. It returns the
// range of the value; both are the same after an error.
func (s *Scanner) Skip() (start, end int) {
	if s.failed {
		return s.pos, s.pos
	}
	start = s.space(s.pos)
	end = s.skip(start)
	if end < 0 {
		return s.pos, s.pos
	}
	s.pos = end
	return start, end
}

// fail keeps the first error. It returns -1, which the skip functions pass on.
func (s *Scanner) fail(pos int, msg string) int {
	if !s.failed {
		s.failed, s.errPos, s.errMsg = true, pos, msg
	}
	return -1
}

func (s *Scanner) failDepth(pos int) int {
	s.tooDeep = !s.failed
	return s.fail(pos, "nested too deep")
}

// space returns the offset of the first byte at or after i that is not white
// space.
func (s *Scanner) space(i int) int {
	for i < len(s.data) {
		if c := s.data[i]; c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return i
		}
		i++
	}
	return i
}

// skip returns the end of the value at i, where no white space is.
func (s *Scanner) skip(i int) int {
	if i >= len(s.data) {
		return s.fail(i, "unexpected end")
	}
	switch c := s.data[i]; {
	case c == '"':
		end, _ := s.skipString(i + 1)
		return end
	case c == '{' || c == '[':
		return s.skipContainer(i)
	case c == '-' || c-'0' < 10:
		return s.skipNumber(i)
	case c == 't':
		return s.skipWord(i, "true")
	case c == 'f':
		return s.skipWord(i, "false")
	case c == 'n':
		return s.skipWord(i, "null")
	}
	return s.fail(i, "expected a value")
}

// skipContainer returns the end of the object or array at i.
func (s *Scanner) skipContainer(i int) int {
	if s.depth++; s.depth > s.maxDepth {
		return s.failDepth(i)
	}
	opening := s.data[i]
	closing := opening + 2 // '}' or ']'
	i = s.space(i + 1)
	if i < len(s.data) && s.data[i] == closing {
		s.depth--
		return i + 1
	}
	for {
		if opening == '{' {
			_, colon, _ := s.skipKey(i)
			if colon < 0 {
				return -1
			}
			i = s.space(colon + 1)
		}
		if i = s.skip(i); i < 0 {
			return -1
		}
		i = s.space(i)
		if i >= len(s.data) {
			return s.fail(i, "unexpected end")
		}
		switch s.data[i] {
		case ',':
			i = s.space(i + 1)
		case closing:
			s.depth--
			return i + 1
		default:
			return s.fail(i, "expected a comma or the end of the object or array")
		}
	}
}

// skipKey returns the end of the key at i, and the offset of its colon, less than 0 if there
// is an error.
func (s *Scanner) skipKey(i int) (end, colon int, escaped bool) {
	if i >= len(s.data) || s.data[i] != '"' {
		return i, s.fail(i, "expected a key in double quotes"), false
	}
	if end, escaped = s.skipString(i + 1); end < 0 {
		return i, -1, escaped
	}
	colon = s.space(end)
	if colon >= len(s.data) || s.data[colon] != ':' {
		return end, s.fail(colon, "expected a colon after the key"), escaped
	}
	return end, colon, escaped
}

func (s *Scanner) skipNumber(i int) int {
	d := s.data
	if d[i] == '-' {
		i++
	}
	switch {
	case i < len(d) && d[i] == '0':
		i++
	case i < len(d) && d[i]-'1' < 9:
		i = digits(d, i)
	default:
		return s.fail(i, "expected a digit")
	}
	if i < len(d) && d[i] == '.' {
		j := digits(d, i+1)
		if j == i+1 {
			return s.fail(j, "expected a digit")
		}
		i = j
	}
	if i < len(d) && d[i]|0x20 == 'e' {
		i++
		if i < len(d) && (d[i] == '+' || d[i] == '-') {
			i++
		}
		j := digits(d, i)
		if j == i {
			return s.fail(j, "expected a digit")
		}
		i = j
	}
	return i
}

func digits(d []byte, i int) int {
	for i < len(d) && d[i]-'0' < 10 {
		i++
	}
	return i
}

func (s *Scanner) skipWord(i int, word string) int {
	if len(s.data)-i < len(word) || string(s.data[i:i+len(word)]) != word {
		return s.fail(i, "expected a value")
	}
	return i + len(word)
}
