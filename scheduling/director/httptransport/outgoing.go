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

// read returns what reads body, which is not empty.
func (o *outgoing) read(body []byte) io.ReadCloser {
	o.open.Add(1)
	return &outgoingBody{of: o, rest: body}
}

// idle reports whether all were read to their ends, or closed: they are read no more.
func (o *outgoing) idle() bool { return o.open.Load() == 0 }

// outgoingBody is one of them. It may be closed while it is being read or written.
type outgoingBody struct {
	of   *outgoing
	mu   sync.Mutex
	rest []byte // nil: it was closed, or read to its end
	err  error  // then
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
	rest, err := b.rest, b.err
	b.mu.Unlock()
	if err == io.EOF {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	wrote, err := w.Write(rest[:min(n, int64(len(rest)))])
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tookLocked(wrote)
	return int64(wrote), err
}

func (b *outgoingBody) tookLocked(n int) {
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
		b.rest, b.err = nil, err
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
