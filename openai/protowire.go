package openai

import "encoding/binary"

// This is the wire format of protocol buffers as far as it takes to read a few fields of
// known messages in place. Whatever is not well formed ends the reading.

// wireField is one field of a message.
type wireField struct {
	number     int
	kind       int    // wireVarint, wireBytes or another
	value      uint64 // of a varint
	start, end int    // of bytes, without their length
	at         int    // where the field begins, with its tag
}

// Wire types.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// wire reads the fields of the message data[pos:end].
type wire struct {
	data     []byte
	pos, end int
}

func wireOf(data []byte, start, end int) wire { return wire{data, start, end} }

// next reads the next field, and reports false at the end or if what comes is none.
func (w *wire) next() (f wireField, ok bool) {
	if w.pos >= w.end {
		return f, false
	}
	f.at = w.pos
	tag, ok := w.varint()
	if !ok {
		return f, false
	}
	f.number, f.kind = int(tag>>3), int(tag&7)
	switch f.kind {
	case wireVarint:
		f.value, ok = w.varint()
		return f, ok
	case wireFixed64:
		return f, w.skip(8)
	case wireFixed32:
		return f, w.skip(4)
	case wireBytes:
		n, ok := w.varint()
		f.start = w.pos
		if !ok || n > uint64(w.end-w.pos) || !w.skip(int(n)) {
			return f, false
		}
		f.end = w.pos
		return f, true
	}
	return f, false
}

func (w *wire) varint() (uint64, bool) {
	v, n := binary.Uvarint(w.data[w.pos:w.end])
	return v, n > 0 && w.skip(n)
}

func (w *wire) skip(n int) bool {
	if n > w.end-w.pos {
		w.pos = w.end
		return false
	}
	w.pos += n
	return true
}

// varintsIn counts the varints of a packed field.
func varintsIn(data []byte) (n int) {
	for _, b := range data {
		if b < 0x80 {
			n++
		}
	}
	return n
}
