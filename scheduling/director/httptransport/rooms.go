package httptransport

import (
	"bytes"
	"errors"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"
)

// rooms lends the memory of large bodies: it need not be cleared for each, is warm in the
// cache, and is no work for the collector.
var rooms lender

// lender has memory by size: powers of two from smallestRoom on.
type lender [largestRoom - smallestRoom + 1]sync.Pool // of *[]byte

const (
	smallestRoom = 16 // 64 KiB, as a power of two
	largestRoom  = 23 // 8 MiB
)

// lend returns memory of at least so many bytes, nil if so few, or so many, are not lent.
// What is in it is of others.
func (l *lender) lend(size int) *[]byte {
	class := bits.Len(uint(size - 1))
	if size <= 1<<(smallestRoom-1) || class > largestRoom {
		return nil
	}
	class = max(class, smallestRoom)
	if b, ok := l[class-smallestRoom].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 1<<class)
	return &b
}

// takeBack takes back what was lent, if anything was.
func (l *lender) takeBack(b *[]byte) {
	if b != nil {
		l[bits.Len(uint(len(*b)-1))-smallestRoom].Put(b)
	}
}

// outgoing are the bodies of one request on their way to servers, which may be read after
// the request has ended.
type outgoing struct{ open atomic.Int32 }

// read returns what reads body.
func (o *outgoing) read(body []byte) io.ReadCloser {
	o.open.Add(1)
	return &outgoingBody{of: o, rest: bytes.NewReader(body)}
}

// idle reports whether all were read to their ends, or closed: they are read no more.
func (o *outgoing) idle() bool { return o.open.Load() == 0 }

// outgoingBody is one of them. It may be closed while it is being read.
type outgoingBody struct {
	of   *outgoing
	mu   sync.Mutex
	rest *bytes.Reader // nil: it was closed, or read to its end
	err  error         // then
}

var errClosed = errors.New("httptransport: read of a body that was closed")

// Read implements io.Reader.
func (b *outgoingBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest == nil {
		return 0, b.err
	}
	n, err := b.rest.Read(p)
	if b.rest.Len() == 0 {
		b.endLocked(io.EOF)
	}
	return n, err
}

// Close implements io.Closer.
func (b *outgoingBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLocked(errClosed)
	return nil
}

func (b *outgoingBody) endLocked(err error) {
	if b.rest != nil {
		b.rest, b.err = nil, err
		b.of.open.Add(-1)
	}
}
