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

// held is a body in memory, of a request or of the answer to a leg. It counts against MaxBodies until it is released.
type held struct {
	t    *Transport
	data []byte
	lent *[]byte // what data is a part of, if it was lent by rooms

	came   func() error // is called when more has come; nil: nobody waits for it
	pinned bool         // others read what has come so far, so that its memory is kept
	kept   int          // memory that was left behind for them,
	behind []*[]byte    // and what of it was lent
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
	err := h.fill(req.Body, req.ContentLength, most, nil)
	if broken, ok := errors.AsType[*readError](err); ok {
		return unreadable(broken.error)
	}
	if errors.Is(err, errLong) {
		return tooLarge(most)
	}
	return err
}

// fill reads all of src, of which so many bytes were promised, but no more than most and one more. clock, which may
// be nil, is given a sign of life with each piece. Errors are errLong, a *readError, and what grow returns.
func (h *held) fill(src io.Reader, promised, most int64, clock *patience) error {
	for {
		if len(h.data) == cap(h.data) {
			room := nextRoom(cap(h.data), promised, most)
			if h.pinned && promised < 2*int64(room) {
				room = int(promised) + 1 // what it has is left behind: not twice for a small rest
			}
			if err := h.grow(room); err != nil {
				return err
			}
		}
		n, err := src.Read(h.data[len(h.data):cap(h.data)])
		h.data = h.data[:len(h.data)+n]
		if n > 0 {
			clock.alive()
		}
		if int64(len(h.data)) > most {
			return fmt.Errorf("%w: more than %d bytes", errLong, most)
		}
		if n > 0 && h.came != nil {
			if err := h.came(); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return &readError{err}
		}
	}
}

var errLong = errors.New("httptransport: the answer is too long") // of a request nobody sees it

// readError is an error of who was to send a body.
type readError struct{ error }

// Error says that the body is not whole.
func (e *readError) Error() string { return "broke off: " + e.error.Error() }

// Unwrap returns the error of the reader.
func (e *readError) Unwrap() error { return e.error }

func (t *Transport) maxBody() int64 {
	if t.MaxBody > 0 {
		return t.MaxBody
	}
	return t.Director.MaxBody()
}

// nextRoom returns how much memory a body is given that has filled what it has: twice as
// much, and four times if it says that it needs it, but no more than it can need, with one
// byte for seeing its end.
func nextRoom(have int, length, most int64) int {
	need, more := most+1, 2*int64(have)
	if length >= 0 {
		need, more = min(need, length+1), 4*int64(have)
	}
	return int(min(max(more, min(need, firstRoom)), max(need, int64(have)+1)))
}

// charge counts memory that a body is given, if there is so much left for all.
func (h *held) charge(size int) error {
	most := h.t.MaxBodies
	if most <= 0 {
		most = DefaultMaxBodies
	}
	if h.t.held.Add(int64(size)) > most {
		h.t.held.Add(-int64(size))
		return &director.Error{Status: 503, Code: CodeBodies, RetryAfter: time.Second,
			Message: "the gateway holds as many request bodies as it can, try again later"}
	}
	return nil
}

// grow gives the body more memory. What it had nobody else has seen.
func (h *held) grow(size int) error {
	if size >= leastLent && size <= mostLent {
		size, _ = roomOf(size)
	}
	back, kept := cap(h.data), 0
	if h.pinned {
		back, kept = 0, back
	}
	if err := h.charge(size - back); err != nil {
		return err
	}
	h.kept += kept
	lent := rooms.lend(size)
	var next []byte
	if lent != nil {
		next = (*lent)[:len(h.data)]
	} else {
		next = make([]byte, len(h.data), size)
	}
	copy(next, h.data)
	if h.pinned {
		h.behind = append(h.behind, h.lent)
	} else {
		rooms.takeBack(h.lent)
	}
	h.data, h.lent = next, lent
	return nil
}

// release gives the memory back. again says that nobody reads it any more, so that it may
// be lent again; else the data may still be read by who has it.
func (h *held) release(again bool) {
	h.t.held.Add(-int64(cap(h.data) + h.kept))
	if again {
		rooms.takeBack(h.lent)
		for _, lent := range h.behind {
			rooms.takeBack(lent)
		}
	}
	h.data, h.lent, h.kept, h.behind = nil, nil, 0, nil
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
