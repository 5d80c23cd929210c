package directortest

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Framing is how the end of a body is marked.
type Framing uint8

// The framings of HTTP/1.
const (
	Length     Framing = iota // Content-Length
	Chunked                   // Transfer-Encoding: chunked, one chunk per part
	UntilClose                // the connection is closed at the end
	Bare                      // no framing and no body: 204, 304, HEAD
)

// Answer is a response as a server sends it. The zero value is a 200 with an empty body and no
// content type.
type Answer struct {
	Proto  string   // default HTTP/1.1
	Status int      // default 200; sent unchecked
	Line   string   // replaces the status line if not empty
	Header []string // lines such as "Content-Type: text/plain"
	// Parts make up the body: the chunks if it is chunked, the events if it is a stream.
	Parts   [][]byte
	Framing Framing
	// First is the time before the head and the first part, Each the time before each later part.
	First, Each time.Duration
}

// JSON returns an answer with a JSON body.
func JSON(status int, body string) Answer {
	return Answer{Status: status, Header: []string{"Content-Type: application/json"}, Parts: [][]byte{[]byte(body)}}
}

// Events returns a stream of server-sent events with the given data.
func Events(data ...string) Answer {
	a := Answer{Header: []string{"Content-Type: text/event-stream", "Cache-Control: no-cache"}, Framing: Chunked}
	for _, d := range data {
		a.Parts = append(a.Parts, []byte("data: "+d+"\n\n"))
	}
	return a
}

// With returns a with header lines added.
func (a Answer) With(lines ...string) Answer {
	a.Header = append(a.Header[:len(a.Header):len(a.Header)], lines...)
	return a
}

// Body returns the body that a client should receive.
func (a Answer) Body() []byte { return bytes.Join(a.Parts, nil) }

// Code returns the status that a client should receive.
func (a Answer) Code() int { return cmp.Or(a.Status, http.StatusOK) }

// A Point is a point in the course of a request.
type Point uint8

// The points, in the order in which a request passes them.
const (
	AtAccept      Point = iota // the connection was accepted, nothing was read
	AtRequestHead              // the head of the request was read
	AtRequestBody              // the body of the request was read
	AtStatusLine               // the status line was sent
	AtHead                     // the head of the answer was sent
	AtFirstByte                // the first byte of the body was sent
	AtMiddle                   // the middle of an event, or of a JSON body, was sent
	AtLastChunk                // all but the end of a chunked body, or the last byte of another, was sent
	AtEnd                      // all was sent
)

// String returns the name as used in names of subtests.
func (p Point) String() string {
	names := [...]string{"accept", "request_head", "request_body", "status_line", "head", "first_byte", "middle", "last_chunk", "end"}
	if int(p) < len(names) {
		return names[p]
	}
	return "point_" + strconv.Itoa(int(p))
}

// Sent reports whether a byte of the body has been sent at p.
func (p Point) Sent() bool { return p >= AtFirstByte }

// wire is the encoding of an answer.
type wire struct {
	bytes []byte
	parts []int          // offsets of parts
	marks [AtEnd + 1]int // offsets of points
}

func (a Answer) wire() wire {
	var w wire
	b := make([]byte, 0, 1024)
	if a.Line != "" {
		b = append(b, a.Line...)
	} else {
		b = fmt.Appendf(b, "%s %03d %s", cmp.Or(a.Proto, "HTTP/1.1"), a.Code(), http.StatusText(a.Code()))
	}
	b = append(b, "\r\n"...)
	w.marks[AtStatusLine] = len(b)
	for _, line := range a.Header {
		b = append(append(b, line...), "\r\n"...)
	}
	switch a.Framing {
	case Length:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(a.Body())), 10), "\r\n"...)
	case Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case UntilClose:
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "\r\n"...)
	head := len(b)
	w.marks[AtHead], w.marks[AtFirstByte], w.marks[AtMiddle] = head, head, head
	for i, p := range a.Parts {
		w.parts = append(w.parts, len(b))
		if a.Framing == Chunked {
			b = append(strconv.AppendInt(b, int64(len(p)), 16), "\r\n"...)
		}
		if i == 0 {
			w.marks[AtFirstByte] = len(b) + min(1, len(p))
		}
		if i == len(a.Parts)/2 {
			w.marks[AtMiddle] = len(b) + (len(p)+1)/2
		}
		b = append(b, p...)
		if a.Framing == Chunked {
			b = append(b, "\r\n"...)
		}
	}
	w.marks[AtLastChunk] = max(len(b)-1, head)
	if a.Framing == Chunked {
		w.marks[AtLastChunk] = len(b)
		b = append(b, "0\r\n\r\n"...)
	}
	w.marks[AtEnd] = len(b)
	w.bytes = b
	return w
}
