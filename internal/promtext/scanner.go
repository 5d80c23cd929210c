package promtext

import (
	"bytes"
	"fmt"
)

// Scanner walks over the samples of wanted metrics in a page. The zero value
// becomes ready with Reset, and a Scanner is best kept and reset for the next
// page: then it does not allocate. It is for one goroutine.
type Scanner struct {
	// OpenMetrics says that the page is in the OpenMetrics format, where all
	// timestamps are seconds. If false, a timestamp is milliseconds unless it has
	// a fraction or an exponent. Reset leaves it as it is.
	OpenMetrics bool

	set  *Set
	page []byte
	pos  int // start of the next line
	err  error

	// other is the name of the last line that was not wanted. The lines of a
	// family stand together, so the next line mostly has the same name, and one
	// comparison says so.
	other []byte

	// The current sample.
	line     []byte // from its first byte to its newline, without it
	index    int
	labels   []byte // what stands after the opening brace, up to the closing one and with it
	value    float64
	stamp    int64
	hasStamp bool

	scratch []byte // unescaped label values of the current sample
}

// SyntaxError says where and why the line of a wanted metric cannot be read.
type SyntaxError struct {
	Line    int    // the first line is 1
	Metric  string // the metric's name
	Problem string
}

// Error returns the line, the metric and the problem.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("promtext: line %d: %s: %s", e.Line, e.Metric, e.Problem)
}

// Reset makes the Scanner start at the beginning of page and look for the names
// of set. The Scanner keeps page until the next Reset, and does not change it.
func (s *Scanner) Reset(set *Set, page []byte) {
	s.set, s.page, s.pos = set, page, 0
	s.err = nil
	s.other, s.line, s.labels = nil, nil, nil
}

// Next goes on to the next sample of a wanted metric and reports whether there
// is one. It returns false at the end of the page and at the first line of a
// wanted metric that cannot be read; Err tells the two apart.
func (s *Scanner) Next() bool {
	if s.err != nil {
		return false
	}
	for s.pos < len(s.page) {
		rest := s.page[s.pos:]

		// A line of the same family as the one before, not wanted either.
		if n := len(s.other); n > 0 && n < len(rest) && string(rest[:n]) == string(s.other) && !nameByte[rest[n]] {
			s.skipLine(rest, n)
			continue
		}

		start := 0
		for start < len(rest) && isBlank(rest[start]) {
			start++
		}
		end := start
		for end < len(rest) && nameByte[rest[end]] {
			end++
		}
		if end == start { // a comment, an empty line, no metric, or its name is inside the braces
			if start < len(rest) && rest[start] == '{' {
				if found, ok := s.nameInBraces(rest, start); found {
					return ok
				}
			}
			s.skipLine(rest, start)
			continue
		}

		name := rest[start:end]
		index := s.set.find(name)
		if index < 0 {
			s.other = name
			s.skipLine(rest, end)
			continue
		}
		if !s.beginLine(rest, index) {
			return false
		}
		return s.sample(end)
	}
	return false
}

// Index returns the index in the Set of the current sample's name.
func (s *Scanner) Index() int { return s.index }

// Value returns the value of the current sample.
func (s *Scanner) Value() float64 { return s.value }

// Timestamp returns the timestamp of the current sample in milliseconds since
// 1970, and whether it has one.
func (s *Scanner) Timestamp() (ms int64, ok bool) { return s.stamp, s.hasStamp }

// Err returns the *SyntaxError that ended the scan, nil if it was the end of the
// page. What was scanned before an error is of a page that is damaged or cut
// off, and best forgotten.
func (s *Scanner) Err() error { return s.err }

// skipLine moves on to the line after the one that rest begins with. Its first n
// bytes are known to hold no newline.
func (s *Scanner) skipLine(rest []byte, n int) {
	i := bytes.IndexByte(rest[n:], '\n')
	if i < 0 {
		s.pos = len(s.page)
		return
	}
	s.pos += n + i + 1
}

// beginLine makes the line that rest begins with the current one. It fails if
// the page ends before the line does.
func (s *Scanner) beginLine(rest []byte, index int) bool {
	s.index = index
	s.labels, s.scratch, s.stamp, s.hasStamp = nil, s.scratch[:0], 0, false
	i := bytes.IndexByte(rest, '\n')
	if i < 0 {
		return s.fail("the page ends before the line does")
	}
	s.line = rest[:i]
	return true
}

// sample reads what follows the name in the current line, and moves on to the
// next line.
func (s *Scanner) sample(i int) bool {
	i = skipBlanks(s.line, i)
	if i < len(s.line) && s.line[i] == '{' {
		start := i + 1
		i = start
		for {
			var l label
			var problem string
			l, i, problem = nextLabel(s.line, i)
			if problem != "" {
				return s.fail(problem)
			}
			if l.value == nil && l.name != nil {
				return s.fail("expected '=' and a value after a label name")
			}
			if l.name == nil {
				break
			}
		}
		s.labels = s.line[start:i]
	}
	return s.number(i)
}

// number reads the value and the timestamp, which begin at i of the current
// line, and moves on to the next line. An exemplar is passed over.
func (s *Scanner) number(i int) bool {
	token, i := nextToken(s.line, i)
	value, ok := parseValue(token)
	if !ok {
		return s.fail(fmt.Sprintf("expected a number as value, got %q", clip(token)))
	}
	s.value = value

	token, i = nextToken(s.line, i)
	if len(token) > 0 && token[0] != '#' {
		if s.stamp, ok = parseTimestamp(token, s.OpenMetrics); !ok {
			return s.fail(fmt.Sprintf("expected a timestamp after the value, got %q", clip(token)))
		}
		s.hasStamp = true
		token, _ = nextToken(s.line, i)
	}
	if len(token) > 0 && token[0] != '#' {
		return s.fail(fmt.Sprintf("expected the end of the line, got %q", clip(token)))
	}
	s.pos += len(s.line) + 1
	return true
}

// nameInBraces reads a line such as {"vllm:num_requests_waiting",engine="0"} 3,
// whose first brace is at start. found says that it is of a wanted metric, or
// might be and cannot be read; ok is then what Next returns.
func (s *Scanner) nameInBraces(rest []byte, start int) (found, ok bool) {
	line := rest
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		line = rest[:i]
	}
	index, names := -1, 0
	for i := start + 1; ; {
		l, next, problem := nextLabel(line, i)
		if problem != "" || l.name == nil {
			// Without a name that is wanted, the line is none of our concern.
			if index < 0 {
				return false, false
			}
			if !s.beginLine(rest, index) {
				return true, false
			}
			if problem == "" && names > 1 {
				problem = "more than one metric name inside the braces"
			}
			if problem != "" {
				return true, s.fail(problem)
			}
			s.labels = s.line[start+1 : next]
			return true, s.number(next)
		}
		if l.value == nil {
			names++
			name := l.name
			if l.nameEscaped {
				name = unescape(nil, name)
			}
			if w := s.set.find(name); w >= 0 {
				index = w
			}
		}
		i = next
	}
}

func (s *Scanner) fail(problem string) bool {
	s.err = &SyntaxError{
		Line:    bytes.Count(s.page[:s.pos], []byte{'\n'}) + 1,
		Metric:  s.set.names[s.index],
		Problem: problem,
	}
	return false
}

// nameByte holds the bytes that a name outside quotes is made of.
var nameByte = func() (t [256]bool) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	t['_'], t[':'] = true, true
	return t
}()

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// skipBlanks returns the index of the first byte of b from i on that is no blank.
func skipBlanks(b []byte, i int) int {
	for i < len(b) && isBlank(b[i]) {
		i++
	}
	return i
}

// nextToken returns what stands in b from i on, up to a blank, without blanks
// before it, and the index after it. The token is empty at the end.
func nextToken(b []byte, i int) (token []byte, next int) {
	i = skipBlanks(b, i)
	start := i
	for i < len(b) && !isBlank(b[i]) {
		i++
	}
	return b[start:i], i
}

// clip bounds what an error quotes.
func clip(b []byte) []byte { return b[:min(len(b), 40)] }
