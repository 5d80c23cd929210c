package httptransport

import (
	"context"
	"io"
	"sync"
	"time"
)

// routedBody is a response body that passes through its Route.
type routedBody struct {
	src     io.ReadCloser
	attempt *attempt
	once    sync.Once // of finish

	ready []byte // to be read before anything else; own memory
	err   error  // what to return after ready
	gave  time.Time
}

// begin reads until there is something to pass on, or the body has ended. It returns an error if
// the answer can be left for another endpoint: it breaks off, or says that the server has too
// much to do, before anything of it was passed on.
func (b *routedBody) begin() error {
	route := b.attempt.route
	buf := make([]byte, 4096)
	for len(b.ready) == 0 && b.err == nil {
		n, err := b.src.Read(buf)
		b.ready = append(b.ready, route.Data(buf[:n])...)
		if err == io.EOF {
			b.ready = append(b.ready, route.Rest()...)
		}
		b.err = err
		if len(route.Fallbacks()) > 0 && route.Retryable() {
			return errRefused
		}
	}
	switch {
	case revoked(b.attempt.exchange.ctx) != nil && b.err != io.EOF:
		return b.err // the client has had nothing of what came
	case b.err == io.EOF:
		route.End()
	case len(b.ready) == 0:
		return b.err
	}
	return nil
}

// Read implements io.Reader.
func (b *routedBody) Read(p []byte) (int, error) {
	b.resume()
	for len(b.ready) == 0 && b.err == nil && len(p) > 0 {
		n, err := b.src.Read(p)
		out := b.attempt.route.Data(p[:n])
		if err == nil && len(out) == n && n > 0 && &out[0] == &p[0] {
			return b.give(n) // the usual case: it passes as it is
		}
		b.ready = append(b.ready[:0], out...)
		if err == io.EOF {
			b.ready = append(b.ready, b.attempt.route.End()...)
		} else if why := revoked(b.attempt.exchange.ctx); err != nil && why != nil {
			err = why
		}
		b.err = err
	}
	if len(b.ready) > 0 {
		n := copy(p, b.ready)
		b.ready = b.ready[n:]
		return b.give(n)
	}
	if b.err != nil {
		b.finish(b.err)
	}
	return 0, b.err
}

// resume tells for how long nobody read.
func (b *routedBody) resume() {
	if !b.gave.IsZero() {
		b.attempt.route.Stalled(time.Since(b.gave))
	}
}

func (b *routedBody) give(n int) (int, error) {
	b.gave = time.Now()
	return n, nil
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
		b.attempt.route.Done(err)
		b.attempt.silent()
		b.attempt.cancel()
		b.attempt.end(nil)
	})
}
