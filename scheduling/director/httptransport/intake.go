package httptransport

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
)

// CodeBodies is the code of the error with which a request is refused because of
// Transport.MaxBodies.
const CodeBodies = "request_bodies_full" // 503

// firstRoom is how much memory a body gets on its mere promise.
const firstRoom = 64 << 10

// held is a request body in memory. It counts against MaxBodies until it is released.
type held struct {
	t    *Transport
	data []byte
}

// read takes the whole body of a request and closes it. The memory is to be released also
// after an error.
func (h *held) read(req *http.Request) error {
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	defer req.Body.Close()
	most := h.t.maxBody()
	if req.ContentLength > most {
		return tooLarge(most)
	}
	for {
		if len(h.data) == cap(h.data) {
			if err := h.grow(nextRoom(cap(h.data), req.ContentLength, most)); err != nil {
				return err
			}
		}
		n, err := req.Body.Read(h.data[len(h.data):cap(h.data)])
		h.data = h.data[:len(h.data)+n]
		switch {
		case int64(len(h.data)) > most:
			return tooLarge(most)
		case err == io.EOF:
			return nil
		case err != nil:
			return unreadable(err)
		}
	}
}

func (t *Transport) maxBody() int64 {
	if t.MaxBody > 0 {
		return t.MaxBody
	}
	return t.Director.MaxBody()
}

// nextRoom returns how much memory a body is given that has filled what it has: twice as
// much, but no more than it can need, with one byte for seeing its end.
func nextRoom(have int, length, most int64) int {
	need := most + 1
	if length >= 0 {
		need = min(need, length+1)
	}
	return int(min(max(2*int64(have), min(need, firstRoom)), max(need, int64(have)+1)))
}

// grow gives the body more memory, if there is so much left for all.
func (h *held) grow(size int) error {
	more := int64(size - cap(h.data))
	most := h.t.MaxBodies
	if most <= 0 {
		most = DefaultMaxBodies
	}
	if h.t.held.Add(more) > most {
		h.t.held.Add(-more)
		return &director.Error{Status: 503, Code: CodeBodies, RetryAfter: time.Second,
			Message: "the gateway holds as many request bodies as it can, try again later"}
	}
	next := make([]byte, len(h.data), size)
	copy(next, h.data)
	h.data = next
	return nil
}

// release gives the memory back. The data may still be read by who has it.
func (h *held) release() {
	h.t.held.Add(-int64(cap(h.data)))
	h.data = nil
}

func tooLarge(most int64) error {
	return &director.Error{Status: 413, Code: openai.CodeTooLarge, Message: fmt.Sprintf("request body is larger than %d bytes", most)}
}

// unreadable makes an Error of that of a request body.
func unreadable(err error) error {
	if limit, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(limit.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &director.Error{Status: 408, Code: "request_timeout", Message: "the request body did not come in time", Err: err}
	}
	return &director.Error{Status: 400, Code: "incomplete_body", Message: "request body could not be read", Err: err}
}
