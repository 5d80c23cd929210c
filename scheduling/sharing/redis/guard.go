package redis

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
)

const (
	maxLine   = 4 << 10 // of a status, an error, or a length
	maxValues = 1 << 10 // of one answer
)

// guard is a connection that is closed when an answer is, or says that it will be, longer than it may be: the
// library makes room for whatever the server announces.
type guard struct {
	net.Conn
	max int // bytes of a string

	line   []byte // the beginning of a line that has not ended
	skip   int    // bytes of a string, and the end of its line, that have not come
	due    int    // values of the answer that have not come
	values int    // that have
	failed error
}

// Read is that of the connection.
func (g *guard) Read(p []byte) (int, error) {
	if g.failed != nil {
		return 0, g.failed
	}
	n, err := g.Conn.Read(p)
	if g.failed = g.look(p[:n]); g.failed != nil {
		_ = g.Close() // nobody waits for it any more
		return 0, g.failed
	}
	return n, err
}

// look goes through what has been read.
func (g *guard) look(b []byte) error {
	for len(b) > 0 {
		if n := min(g.skip, len(b)); n > 0 {
			g.skip -= n
			b = b[n:]
			continue
		}
		line, rest, ends := bytes.Cut(b, []byte{'\n'})
		g.line = append(g.line, line[:min(len(line), maxLine+1)]...)
		if len(g.line) > maxLine {
			return fmt.Errorf("an answer has a line of more than %d bytes", maxLine)
		}
		if b = rest; ends {
			if err := g.value(g.line); err != nil {
				return err
			}
			g.line = g.line[:0]
		}
	}
	return nil
}

// value takes the line that a value is, or begins with.
func (g *guard) value(line []byte) error {
	if g.due == 0 {
		g.due, g.values = 1, 0
	}
	g.due--
	g.values++
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if len(line) == 0 {
		return fmt.Errorf("not an answer of Redis: an empty line")
	}
	each := 1
	switch line[0] {
	case '$', '!', '=':
		n, err := length(line, g.max)
		if err == nil && n >= 0 {
			g.skip = n + len("\r\n")
		}
		return err
	case '%', '|':
		each = 2
		fallthrough
	case '*', '~', '>':
		n, err := length(line, maxValues)
		if err != nil {
			return err
		}
		if g.due += each * max(n, 0); g.values+g.due > maxValues {
			return fmt.Errorf("an answer has more than %d values", maxValues)
		}
	case '+', '-', ':', '_', ',', '#', '(':
	default:
		return fmt.Errorf("not an answer of Redis: %.40q", line)
	}
	return nil
}

// length reads the length of a string, or how many values there are; -1: there is none.
func length(line []byte, max int) (int, error) {
	n, err := strconv.Atoi(string(line[1:]))
	if err != nil || n < -1 {
		return 0, fmt.Errorf("not an answer of Redis: the length %.40q", line)
	}
	if n > max {
		return 0, fmt.Errorf("an answer has the length %d, at most %d is allowed", n, max)
	}
	return n, nil
}
