package openai

import "bytes"

// byteOrderMark may stand before a body. It is no part of it.
const byteOrderMark = "\xef\xbb\xbf"

// Feed takes the next bytes of the body and returns those to pass on now, which
// may be none. The result is valid until the next call and may be part of chunk;
// chunk is neither changed nor kept.
func (s *Stream) Feed(chunk []byte) []byte {
	if len(chunk) == 0 || s.closed {
		return chunk
	}
	switch s.kind {
	case eventStream, lineStream:
		return s.feedEvents(chunk)
	case jsonBody:
		return s.feedJSON(chunk)
	case grpcStream:
		s.feedGRPC(chunk)
		return chunk
	}
	s.begun = s.begun || len(trimSpace(chunk)) > 0
	if s.sound {
		s.heard = min(s.heard+len(chunk), maxSoundHeader+1)
	}
	return chunk
}

// Close is to be called at the end of the body, however it ended, and returns
// what was held back. An event without its empty line is read like a complete
// one, if it is.
func (s *Stream) Close() []byte {
	if s.closed {
		return nil
	}
	s.closed = true
	s.out = s.out[:0]
	held := s.holds()
	switch s.kind {
	case eventStream, lineStream:
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
	}
	if !held {
		return nil
	}
	s.appendEdited(s.buf)
	return s.out
}

// holds reports whether what cannot be judged yet is held back.
func (s *Stream) holds() bool {
	return s.kind != grpcStream && (s.public != nil || s.corrects || s.holdFirst && !s.begun && s.kind != jsonBody)
}

// feedEvents follows server-sent events (WHATWG HTML, section 9.2). An event
// ends with an empty line; lines end with LF, CR LF or CR. A comment before the
// first field of an event is passed on by itself.
func (s *Stream) feedEvents(chunk []byte) []byte {
	s.out = s.out[:0]
	start := 0  // where the current event starts; what came earlier is in buf
	copied := 0 // what of the chunk is in out, or was replaced there
	for pos := 0; pos < len(chunk); {
		if s.length == 0 {
			if s.afterCR && chunk[pos] == '\n' {
				// The second half of the line end that completed what was before.
				s.afterCR = false
				pos++
				start = pos
				continue
			}
			if s.comment || chunk[pos] == ':' && s.kind == eventStream {
				pos = s.skipComment(chunk, pos)
				start = pos
				continue
			}
		}
		end, complete := s.scanEvent(chunk, pos)
		if !s.skipping {
			s.length += end - pos
		}
		pos = end
		if !complete {
			break
		}
		held := s.holds()
		switch {
		case s.skipping:
		case s.length > s.event:
			s.skip(held)
		case len(s.buf) > 0:
			s.buf = append(s.buf, chunk[:pos]...)
			s.readEvent(s.buf)
			if held {
				s.appendEdited(s.buf)
				copied = pos
			}
		default:
			s.readEvent(chunk[start:pos])
			copied = s.appendEdits(chunk, copied, start)
		}
		s.buf = kept(s.buf)
		s.length, s.lineTop, s.skipping, s.started = 0, true, false, true
		start = pos
	}

	ready := len(chunk)
	if s.length > 0 && !s.skipping {
		held := s.holds()
		if s.length > s.event {
			s.skipping = true
			s.skip(held)
			s.buf = kept(s.buf)
		} else {
			s.buf = append(s.buf, chunk[start:]...)
			if held {
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

// skip gives up an event that is too long, and passes on what was held of it.
func (s *Stream) skip(held bool) {
	s.begun, s.unread = true, true
	if held {
		s.out = append(s.out, s.buf...)
	}
}

// skipComment goes to the end of a comment, or of what there is of it.
func (s *Stream) skipComment(chunk []byte, pos int) int {
	s.afterCR, s.started = false, true
	i := lineEnd(chunk[pos:])
	if s.comment = i < 0; s.comment {
		return len(chunk)
	}
	pos += i + 1
	s.afterCR = chunk[pos-1] == '\r'
	return pos
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
		if s.kind == lineStream {
			return pos, true
		}
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
	s.out = s.out[:0]
	if s.settled {
		if s.tail != nil {
			s.keepTail(chunk)
		}
		return chunk
	}
	body := chunk
	if !s.begun {
		if body = trimSpace(chunk); len(body) == 0 {
			return chunk
		}
		s.begun = true
		if body[0] != '{' && body[0] != byteOrderMark[0] {
			s.public, s.corrects = nil, false // only in an object there is something to restore or correct
		}
	}
	space := chunk[:len(chunk)-len(body)]
	if len(s.buf)+len(body) > s.body {
		return s.giveUp(chunk, body)
	}
	if len(s.buf) == 0 && endsObject(body) && s.readBody(body) {
		s.settled, s.done = true, true
		if len(s.scratch.edits) == 0 {
			return chunk
		}
		s.out = append(s.out, space...)
		s.appendEdited(body)
		return s.out
	}
	s.buf = append(s.buf, body...)
	if s.holds() {
		return space
	}
	return chunk
}

// giveUp is called with the chunk that makes the body too long, and what of it is
// the body. If the value is complete within the limit, it is still read: what
// follows it is no part of it.
func (s *Stream) giveUp(chunk, body []byte) []byte {
	fits := s.body - len(s.buf)
	s.buf = append(s.buf, body[:fits]...)
	s.settled = true
	if s.readBody(s.buf) {
		s.done = true
	} else {
		s.scratch.edits = s.scratch.edits[:0]
		s.tail = make([]byte, 0, 2*tailBytes)
		s.keepTail(s.buf)
		s.keepTail(body[fits:])
	}
	if !s.holds() {
		s.buf = nil
		return chunk
	}
	s.out = append(s.out, chunk[:len(chunk)-len(body)]...)
	s.appendEdited(s.buf)
	s.out = append(s.out, body[fits:]...)
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

// trimSpace returns b without white space at its start.
func trimSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

func endsObject(b []byte) bool {
	b = bytes.TrimRight(b, " \t\r\n")
	return len(b) > 0 && b[len(b)-1] == '}'
}

// appendEdited appends b to out with the edits that the last read found.
func (s *Stream) appendEdited(b []byte) {
	from := s.appendEdits(b, 0, 0)
	s.out = append(s.out, b[from:]...)
}

// appendEdits is appendEdited from the offset from on, as far as the last edit; what was
// read is at the offset at. It returns where it stopped.
func (s *Stream) appendEdits(b []byte, from, at int) int {
	for _, e := range s.scratch.edits {
		s.out = append(s.out, b[from:at+e.Start]...)
		s.out = append(s.out, e.value...)
		from = at + e.End
	}
	return from
}
