package httptransport

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/internal/guard"
)

// outgoing are the bodies of one request on their way to servers, which may be read after
// the request has ended.
type outgoing struct{ open atomic.Int32 }

// read returns what reads a body of pieces. There is one, and none is empty; they are not changed.
func (o *outgoing) read(pieces [][]byte) io.ReadCloser {
	o.open.Add(1)
	return &outgoingBody{of: o, rest: pieces[0], more: pieces[1:]}
}

// idle reports whether all were read to their ends, or closed: they are read no more.
func (o *outgoing) idle() bool { return o.open.Load() == 0 }

// outgoingBody is one of them. It may be closed while it is being read or written.
type outgoingBody struct {
	of   *outgoing
	mu   sync.Mutex
	rest []byte // nil: it was closed, or read to its end
	more [][]byte
	err  error // then
}

var errClosed = errors.New("httptransport: read of a body that was closed")

// Read implements io.Reader.
func (b *outgoingBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest == nil {
		return 0, b.err
	}
	n := copy(p, b.rest)
	b.tookLocked(n)
	return n, nil
}

// write writes up to n bytes to w, from where they lie. Close does not wait for it, but the
// body is not idle before it returns.
func (b *outgoingBody) write(w io.Writer, n int64) (int64, error) {
	b.of.open.Add(1)
	defer b.of.open.Add(-1)
	b.mu.Lock()
	rest, more, err := b.rest, b.more, b.err
	b.mu.Unlock()
	if err == io.EOF {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	wrote, err := writeAll(w, rest, more, n)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tookLocked(int(wrote))
	return wrote, err
}

// writeAll writes up to n bytes of pieces: a connection takes several by one system call.
func writeAll(w io.Writer, first []byte, more [][]byte, n int64) (int64, error) {
	if len(more) == 0 || n <= int64(len(first)) {
		wrote, err := w.Write(first[:min(n, int64(len(first)))])
		return int64(wrote), err
	}
	pieces := append(net.Buffers{first}, more...)
	for i, piece := range pieces {
		if n <= int64(len(piece)) {
			pieces[i], pieces = piece[:n], pieces[:i+1]
			break
		}
		n -= int64(len(piece))
	}
	return pieces.WriteTo(w)
}

func (b *outgoingBody) tookLocked(n int) {
	for n >= len(b.rest) && len(b.more) > 0 {
		n -= len(b.rest)
		b.rest, b.more = b.more[0], b.more[1:]
	}
	if b.rest = b.rest[min(n, len(b.rest)):]; len(b.rest) == 0 {
		b.endLocked(io.EOF)
	}
}

// Close implements io.Closer.
func (b *outgoingBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLocked(errClosed)
	return nil
}

func (b *outgoingBody) endLocked(err error) {
	if b.err == nil {
		b.rest, b.more, b.err = nil, nil, err
		b.of.open.Add(-1)
	}
}

// wire is a connection to a server to which an outgoingBody is written as it is: by one
// system call, not through memory of 32 KiB.
type wire struct{ net.Conn }

// dialWire returns a dialer whose connections are wires.
func dialWire(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	if dial == nil {
		return nil
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var c net.Conn
		err := guard.Try("dialing", func() (err error) { // in a goroutine of net/http's, where a panic would be the end
			c, err = dial(ctx, network, address)
			return err
		})
		if err != nil {
			return nil, err
		}
		return wire{c}, nil
	}
}

// ReadFrom implements io.ReaderFrom.
func (w wire) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok { // as net/http has it
		if b, ok := limited.R.(interface {
			write(io.Writer, int64) (int64, error)
		}); ok {
			n, err := b.write(w.Conn, limited.N)
			limited.N -= n
			return n, err
		}
	}
	return io.Copy(w.Conn, r)
}
