package httptransport

import (
	"context"
	"io"
	"sync"

	"github.com/inferpick/inferpick/scheduling/director"
)

// routedBody is a response body that passes through its Route.
type routedBody struct {
	src    io.ReadCloser
	route  *director.Route
	ctx    context.Context // says whether the request was revoked
	cancel func()
	once   sync.Once // of finish

	ready []byte // to be read before anything else; own memory
	err   error  // what to return after ready
}

// waitFirst waits for the first byte, or the end, of the body. It returns an error
// if the body breaks off before.
func (b *routedBody) waitFirst() error {
	buf := make([]byte, 4096)
	for len(b.ready) == 0 && b.err == nil {
		n, err := b.src.Read(buf)
		b.take(buf[:n], err)
		if n > 0 {
			return nil // also if the route holds it back for now
		}
	}
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// take passes what was read through the route and keeps the result.
func (b *routedBody) take(chunk []byte, err error) {
	b.ready = append(b.ready, b.route.Data(chunk)...)
	if err == io.EOF {
		b.ready = append(b.ready, b.route.End()...)
	}
	b.err = err
}

// Read implements io.Reader.
func (b *routedBody) Read(p []byte) (int, error) {
	for len(b.ready) == 0 && b.err == nil && len(p) > 0 {
		n, err := b.src.Read(p)
		out := b.route.Data(p[:n])
		if err == nil && len(out) == n && n > 0 && &out[0] == &p[0] {
			return n, nil // the usual case: it passes as it is
		}
		b.ready = append(b.ready[:0], out...)
		if err == io.EOF {
			b.ready = append(b.ready, b.route.End()...)
		} else if why := revoked(b.ctx); err != nil && why != nil {
			err = why
		}
		b.err = err
	}
	if len(b.ready) > 0 {
		n := copy(p, b.ready)
		b.ready = b.ready[n:]
		return n, nil
	}
	if b.err != nil {
		b.finish(b.err)
	}
	return 0, b.err
}

// Close implements io.Closer. Closing before the end means that the client has
// gone.
func (b *routedBody) Close() error {
	b.finish(context.Canceled)
	return b.src.Close()
}

// finish accounts the end, once. After End this does nothing more.
func (b *routedBody) finish(err error) {
	b.once.Do(func() {
		if err == io.EOF {
			err = nil
		}
		b.route.Done(err)
		b.cancel()
	})
}
