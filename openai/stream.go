package openai

import (
	"bytes"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// StreamOptions says what a Stream does. The zero value reads a body that is
// JSON and changes nothing.
type StreamOptions struct {
	// ContentType is that of the response. With text/event-stream the body is
	// read event by event, with a JSON type or none as one JSON value, and with
	// any other it is passed on and not looked at. A body that is compressed must
	// be given another type, or be asked for uncompressed.
	ContentType string

	// TargetModel and Model are the name that the server knows and the public
	// one. Where the first is the value of "model" in a response, or of "model"
	// in its "response" or "message", the second is put. If either is empty or
	// both are the same, the body passes as it is.
	TargetModel, Model string

	// MaxEventBytes bounds an event. A longer one passes unread and unchanged.
	// Default: 1 MiB.
	MaxEventBytes int

	// MaxBodyBytes bounds a body that is JSON. A longer one passes unchanged, and
	// only usage near its end is read. Default: 8 MiB.
	MaxBodyBytes int
}

// Stream follows one response as it passes: it restores the public model name
// and reads when the first token came, what was used, and whether the response
// came to its end. However the body is cut into chunks, the result is the same.
//
//	s := openai.NewStream(openai.StreamOptions{ContentType: …})
//	for each chunk { w.Write(s.Feed(chunk)) }
//	w.Write(s.Close())
//
// If no name is to be restored, every chunk is passed on at once and as it is,
// without a copy. Otherwise an event is passed on as soon as it is complete, and
// the part of one that is not is held back; a JSON body is held back until it is
// complete. Restoring may change the length of the body: a Content-Length must
// be removed, or the whole be waited for.
//
// A Stream is for one goroutine. Reset makes one ready for the next response.
type Stream struct {
	target  string
	public  []byte // the public name as a JSON string; nil: nothing to restore
	event   int    // limits
	body    int
	kind    bodyKind
	closed  bool
	first   bool
	done    bool
	failure *ServerError
	usage   usage

	// What has come of an event, or of a body in JSON, and cannot be judged yet.
	// While restoring it is held back, otherwise it was passed on and this is a
	// copy.
	buf []byte
	out []byte // what Feed returns if it is not the chunk

	// Of events.
	length   int  // bytes of the current event so far
	lineTop  bool // at the start of a line
	afterCR  bool // the last byte was a carriage return that ended a line
	skipping bool // the current event is too long
	begun    bool // an event was completed: no byte order mark is expected

	// Of a body in JSON.
	settled bool   // it was read, or given up
	tail    []byte // the end of a body that was given up; nil: it was not

	scratch scratch
}

type bodyKind uint8

const (
	jsonBody bodyKind = iota
	eventStream
	opaqueBody
)

const (
	defaultMaxEventBytes = 1 << 20
	defaultMaxBodyBytes  = 8 << 20

	keptBytes = 64 << 10 // a buffer that grew beyond this is not kept
	tailBytes = 8 << 10  // of a long body, what is searched for usage
)

// NewStream returns a Stream for one response.
func NewStream(o StreamOptions) *Stream {
	s := new(Stream)
	s.Reset(o)
	return s
}

// Reset makes s ready for another response, and keeps its memory. What Feed and
// Close returned is no longer valid.
func (s *Stream) Reset(o StreamOptions) {
	if o.MaxEventBytes <= 0 {
		o.MaxEventBytes = defaultMaxEventBytes
	}
	if o.MaxBodyBytes <= 0 {
		o.MaxBodyBytes = defaultMaxBodyBytes
	}
	public := s.public[:0]
	*s = Stream{
		event: o.MaxEventBytes, body: o.MaxBodyBytes, kind: bodyKindOf(o.ContentType), lineTop: true,
		buf: kept(s.buf), out: kept(s.out),
		scratch: scratch{joined: kept(s.scratch.joined), lines: s.scratch.lines[:0], edits: s.scratch.edits[:0]},
	}
	if o.TargetModel != "" && o.Model != "" && o.TargetModel != o.Model {
		s.target, s.public = o.TargetModel, jsonscan.AppendQuote(public, o.Model)
	}
}

func kept(b []byte) []byte {
	if cap(b) > keptBytes {
		return nil
	}
	return b[:0]
}

func bodyKindOf(contentType string) bodyKind {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.TrimSpace(mediaType)
	const events, json, suffix = "text/event-stream", "application/json", "+json"
	switch {
	case strings.EqualFold(mediaType, events):
		return eventStream
	case mediaType == "", strings.EqualFold(mediaType, json):
		return jsonBody
	case len(mediaType) > len(suffix) && strings.EqualFold(mediaType[len(mediaType)-len(suffix):], suffix):
		return jsonBody
	}
	return opaqueBody
}

// Feed takes the next bytes of the body and returns those to pass on now, which
// may be none. The result is valid until the next call and may be part of chunk;
// chunk is neither changed nor kept.
func (s *Stream) Feed(chunk []byte) []byte {
	if len(chunk) == 0 || s.closed {
		return chunk
	}
	switch s.kind {
	case eventStream:
		return s.feedEvents(chunk)
	case jsonBody:
		return s.feedJSON(chunk)
	}
	s.first = true
	return chunk
}

// Close is to be called at the end of the body, however it ended, and returns
// what was held back. An event without its empty line is read like a complete
// one.
func (s *Stream) Close() []byte {
	if s.closed {
		return nil
	}
	s.closed = true
	s.out = s.out[:0]
	switch s.kind {
	case eventStream:
		if len(s.buf) == 0 {
			return nil
		}
		s.readEvent(s.buf)
	case jsonBody:
		if s.tail != nil {
			s.readTail()
		}
		if s.settled {
			return nil
		}
		s.settled = true
		s.done = s.readBody(s.buf)
	default:
		s.done = true
	}
	if s.public == nil {
		return nil
	}
	s.appendEdited(s.buf)
	return s.out
}

// FirstToken reports whether the first token was seen, which ends the prefill.
// In a stream that is the first event with something generated in it: text,
// reasoning, a tool call, or a reason to finish. A chunk that has only a role,
// an event that only announces (response.created, message_start), a ping, usage
// without choices and an error are none, because servers send them before, or
// instead of, the first token. An event of an unknown form counts, so does one
// that is too long to be read. Of other bodies it is the first byte.
func (s *Stream) FirstToken() bool { return s.first }

// Usage returns what the server reported so far, the last report of each figure.
// With Anthropic's figures PromptTokens includes what was read from the cache
// and written to it, as it does in OpenAI's.
func (s *Stream) Usage() types.Usage { return s.usage.sum() }

// Done reports whether the response came to its proper end: [DONE], or the last
// event of Responses, Messages and the media APIs; a complete value in JSON; the
// end of any other body. A stream that is not done at its end was cut off.
func (s *Stream) Done() bool { return s.done }

// Err returns the error that the server reported in the body, a *ServerError, or
// nil. A stream may carry one after a status of 200.
func (s *Stream) Err() error {
	if s.failure == nil {
		return nil
	}
	return s.failure
}

// ServerError is an error object in a response.
type ServerError struct {
	Type, Code string // as the server gave them, often empty
	Message    string // at most 1 KiB of it
}

// Error returns the server's message with its type or code.
func (e *ServerError) Error() string {
	name := e.Type
	if name == "" {
		name = e.Code
	}
	if name == "" {
		return "openai: server reported: " + e.Message
	}
	return "openai: server reported " + name + ": " + e.Message
}

// feedEvents follows server-sent events (WHATWG HTML, section 9.2). An event
// ends with an empty line; lines end with LF, CR LF or CR.
func (s *Stream) feedEvents(chunk []byte) []byte {
	s.out = s.out[:0]
	start := 0  // where the current event starts; what came earlier is in buf
	copied := 0 // what of the chunk is in out, or was replaced there
	for pos := 0; pos < len(chunk); {
		if s.afterCR && s.length == 0 && chunk[pos] == '\n' {
			// The second half of the line end that completed the event before.
			s.afterCR = false
			pos++
			start = pos
			continue
		}
		end, complete := s.scanEvent(chunk, pos)
		s.length += end - pos
		pos = end
		if !complete {
			break
		}
		switch {
		case s.skipping:
		case s.length > s.event:
			s.first = true
			if s.public != nil {
				s.out = append(s.out, s.buf...)
			}
		case len(s.buf) > 0:
			s.buf = append(s.buf, chunk[:pos]...)
			s.readEvent(s.buf)
			if s.public != nil {
				s.appendEdited(s.buf)
				copied = pos
			}
		default:
			s.readEvent(chunk[start:pos])
			for _, e := range s.scratch.edits {
				s.out = append(s.out, chunk[copied:start+e.Start]...)
				s.out = append(s.out, s.public...)
				copied = start + e.End
			}
		}
		s.buf = kept(s.buf)
		s.length, s.lineTop, s.skipping, s.begun = 0, true, false, true
		start = pos
	}

	ready := len(chunk)
	if s.length > 0 && !s.skipping {
		if s.length > s.event {
			s.skipping, s.first = true, true
			if s.public != nil {
				s.out = append(s.out, s.buf...)
			}
			s.buf = kept(s.buf)
		} else {
			s.buf = append(s.buf, chunk[start:]...)
			if s.public != nil {
				ready = start
			}
		}
	}
	if len(s.out) == 0 {
		return chunk[:ready]
	}
	s.out = append(s.out, chunk[copied:ready]...)
	return s.out
}

// scanEvent looks for the end of the current event in chunk from pos. It returns
// where it stopped, and whether the event is complete there.
func (s *Stream) scanEvent(chunk []byte, pos int) (end int, complete bool) {
	for pos < len(chunk) {
		if s.afterCR {
			s.afterCR = false
			if chunk[pos] == '\n' {
				pos++
				continue
			}
		}
		if c := chunk[pos]; s.lineTop && (c == '\n' || c == '\r') {
			s.afterCR = c == '\r'
			return pos + 1, true
		}
		s.lineTop = false
		i := lineEnd(chunk[pos:])
		if i < 0 {
			return len(chunk), false
		}
		pos += i + 1
		s.afterCR = chunk[pos-1] == '\r'
		s.lineTop = true
	}
	return pos, false
}

// lineEnd returns the offset of the first LF or CR, or -1. It goes by windows so
// that lines that end with one of the two do not cost a search of all the rest
// for the other.
func lineEnd(b []byte) int {
	const window = 1024
	for from := 0; from < len(b); from += window {
		w := b[from:min(from+window, len(b))]
		i := bytes.IndexByte(w, '\n')
		if i >= 0 {
			w = w[:i]
		}
		if j := bytes.IndexByte(w, '\r'); j >= 0 {
			return from + j
		}
		if i >= 0 {
			return from + i
		}
	}
	return -1
}

// feedJSON follows a body that is one JSON value. It is read when all of it is
// there: usually that is the first chunk, which is then not copied.
func (s *Stream) feedJSON(chunk []byte) []byte {
	s.first = true
	s.out = s.out[:0]
	if s.settled {
		if s.tail != nil {
			s.keepTail(chunk)
		}
		return chunk
	}
	if len(s.buf)+len(chunk) > s.body {
		return s.giveUp(chunk)
	}
	if len(s.buf) == 0 && endsObject(chunk) && s.readBody(chunk) {
		s.settled, s.done = true, true
		if len(s.scratch.edits) == 0 {
			return chunk
		}
		s.appendEdited(chunk)
		return s.out
	}
	s.buf = append(s.buf, chunk...)
	if s.public != nil {
		return nil
	}
	return chunk
}

// giveUp is called with the chunk that makes the body too long. If the value is
// complete within the limit, it is still read: what follows it is no part of it.
func (s *Stream) giveUp(chunk []byte) []byte {
	held := len(s.buf)
	fits := s.body - held
	s.buf = append(s.buf, chunk[:fits]...)
	s.settled = true
	if s.readBody(s.buf) {
		s.done = true
	} else {
		s.scratch.edits = s.scratch.edits[:0]
		s.tail = make([]byte, 0, 2*tailBytes)
		s.keepTail(s.buf)
		s.keepTail(chunk[fits:])
	}
	if s.public == nil {
		s.buf = nil
		return chunk
	}
	s.appendEdited(s.buf)
	s.out = append(s.out, chunk[fits:]...)
	s.buf = nil
	return s.out
}

// keepTail keeps at least the last tailBytes of what it is given, at most twice
// as many.
func (s *Stream) keepTail(b []byte) {
	if len(b) > tailBytes {
		b = b[len(b)-tailBytes:]
	}
	if len(s.tail)+len(b) > 2*tailBytes {
		s.tail = append(s.tail[:0], s.tail[len(s.tail)-tailBytes:]...)
	}
	s.tail = append(s.tail, b...)
}

func endsObject(b []byte) bool {
	b = bytes.TrimRight(b, " \t\r\n")
	return len(b) > 0 && b[len(b)-1] == '}'
}

// appendEdited appends b to out with the public name in the places that the last
// read found.
func (s *Stream) appendEdited(b []byte) {
	from := 0
	for _, e := range s.scratch.edits {
		s.out = append(s.out, b[from:e.Start]...)
		s.out = append(s.out, s.public...)
		from = e.End
	}
	s.out = append(s.out, b[from:]...)
}
