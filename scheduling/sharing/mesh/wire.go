package mesh

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
)

// A frame is the length of a message in 4 bytes, big endian, the message, and, if there is a key, its tag. One
// without a message is a ping on the way to who accepted the connection, and its answer on the way back.
const (
	headBytes = 4
	tagBytes  = 16
)

// violation is what a peer does and must not. Its connection is of no use any more.
type violation string

func (v violation) Error() string { return string(v) }

func violates(format string, args ...any) error { return violation(fmt.Sprintf(format, args...)) }

// tagger makes the tags of the frames of one direction of a connection: a MAC of the frame's number and the frame.
type tagger struct {
	mac hash.Hash
	seq uint64
	// Kept here as they would be allocated for each frame otherwise.
	number [8]byte
	sum    [sha256.Size]byte
}

// newTagger returns the tagger of a key, nil if there is none.
func newTagger(key []byte) *tagger {
	if key == nil {
		return nil
	}
	return &tagger{mac: hmac.New(sha256.New, key)}
}

// next returns the tag of the next frame. It is valid until the next call.
func (t *tagger) next(head, msg []byte) []byte {
	t.mac.Reset()
	binary.BigEndian.PutUint64(t.number[:], t.seq)
	t.seq++
	t.mac.Write(t.number[:])
	t.mac.Write(head)
	t.mac.Write(msg)
	return t.mac.Sum(t.sum[:0])[:tagBytes]
}

// frameWriter writes frames to a connection. It is for one goroutine.
type frameWriter struct {
	out  *bufio.Writer
	tags *tagger // nil: none
	head [headBytes]byte
}

func newFrameWriter(w io.Writer, key []byte) *frameWriter {
	return &frameWriter{out: bufio.NewWriterSize(w, 16<<10), tags: newTagger(key)}
}

// write writes a frame, which may wait for flush.
func (f *frameWriter) write(msg []byte) error {
	binary.BigEndian.PutUint32(f.head[:], uint32(len(msg)))
	f.out.Write(f.head[:]) // an error stays, and is returned below
	_, err := f.out.Write(msg)
	if f.tags != nil {
		_, err = f.out.Write(f.tags.next(f.head[:], msg))
	}
	return err
}

func (f *frameWriter) flush() error { return f.out.Flush() }

// frameReader reads frames of at most max bytes from a connection. It is for one goroutine.
type frameReader struct {
	in   *bufio.Reader
	tags *tagger // nil: none
	max  int
	head [headBytes]byte
	buf  []byte // grows to what the largest frame has needed
}

func newFrameReader(r io.Reader, key []byte, most int) *frameReader {
	return &frameReader{in: bufio.NewReaderSize(r, 16<<10), tags: newTagger(key), max: most}
}

// read returns the message of the next frame, which is valid until the next call. The error is io.EOF if the
// connection ends between two frames.
func (f *frameReader) read() ([]byte, error) {
	if _, err := io.ReadFull(f.in, f.head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(f.head[:])
	if uint64(size) > uint64(f.max) {
		return nil, violates("a frame of %d bytes, want %d at most", size, f.max)
	}
	need := int(size)
	if f.tags != nil {
		need += tagBytes
	}
	if cap(f.buf) < need {
		f.buf = make([]byte, need)
	}
	body := f.buf[:need]
	if _, err := io.ReadFull(f.in, body); err != nil {
		return nil, cutOff(err)
	}
	msg := body[:size:size]
	if f.tags != nil && !hmac.Equal(body[size:], f.tags.next(f.head[:], msg)) {
		return nil, violates("a frame of %d bytes has a wrong tag: it was changed on the way", size)
	}
	return msg, nil
}

// cutOff makes an end of the stream within something an error that says so.
func cutOff(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
