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

// lender has memory by size, from 36 KiB to 8 MiB: each size is an eighth of an octave
// above the one before.
type lender [8 * (largestShift - smallestShift + 1)]sync.Pool // of *[]byte

const (
	smallestShift = 12 // the sizes up to 64 KiB differ by 4 KiB,
	largestShift  = 19 // and those up to 8 MiB by 512 KiB
	leastLent     = 8<<smallestShift + 1
	mostLent      = 16 << largestShift
)

// roomOf returns how much memory is lent for a size that is, and the place of such.
func roomOf(size int) (room, place int) {
	shift := bits.Len(uint(size-1)) - 4
	n := (size + 1<<shift - 1) >> shift // 9 to 16
	return n << shift, 8*(shift-smallestShift) + n - 9
}

// lend returns memory of at least size bytes; what is in it is of others. Nil: so little, or
// so much, is not lent.
func (l *lender) lend(size int) *[]byte {
	if size < leastLent || size > mostLent {
		return nil
	}
	room, place := roomOf(size)
	if b, ok := l[place].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, room)
	return &b
}

// takeBack takes back what was lent, if anything was.
func (l *lender) takeBack(b *[]byte) {
	if b != nil {
		_, place := roomOf(len(*b))
		l[place].Put(b)
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
