package httptransport

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// routedBody is a response body that passes through its Route. It owns the end of the
// request once it was begun.
type routedBody struct {
	*attempt
	resp *http.Response // whose trailers come with the end of the body
	src  io.ReadCloser
	left int64 // bytes that are to come by Content-Length; below 0: not known

	ready []byte // to be read before anything else; own memory
	err   error  // what to return after ready

	took time.Time // when the last piece was taken
}

func newBody(a *attempt, resp *http.Response) *routedBody {
	b := &routedBody{attempt: a, resp: resp, src: resp.Body, left: -1}
	if resp.ContentLength > 0 && a.req.Method != http.MethodHead && bodyAllowed(resp.StatusCode) {
		b.left = resp.ContentLength
	}
	return b
}

// begin reads until there is something to pass on, or the end. With an error there is
// not: the body broke off before, or says something that is worth asking another server.
func (b *routedBody) begin() error {
	buf := make([]byte, 4096)
	for (len(b.ready) == 0 || b.legs.keepsBack(len(b.ready))) && b.err == nil {
		n, err := b.read(buf)
		if n > 0 {
			b.clock.alive()
		}
		b.ready = append(b.ready, b.route.Data(buf[:n])...)
		switch err {
		case nil:
		case io.EOF:
			b.ready = append(b.ready, b.route.Rest()...)
		default:
			return b.failed(fmt.Errorf("broke off before the first byte: %w", err))
		}
		if b.passesOver() {
			return fmt.Errorf("%w %d", errBusy, b.route.Status())
		}
		b.err = err
	}
	if !b.clock.stop() && b.err != io.EOF {
		return b.failed(errPatience)
	}
	if why := revoked(b.exchange.ctx); why != nil && b.err != io.EOF {
		return why // the client has had nothing of what came
	}
	if !b.legs.serves() {
		return errPrefillLeg
	}
	if b.err == io.EOF {
		b.finish()
	}
	return nil
}

// read reads from the server. The end of a body of known length is seen with its last byte.
func (b *routedBody) read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	if b.left > 0 {
		if b.left -= int64(n); b.left <= 0 && err == nil {
			err = io.EOF
		}
	}
	return n, err
}

// Read implements io.Reader.
func (b *routedBody) Read(p []byte) (int, error) {
	for len(b.ready) == 0 && b.err == nil && len(p) > 0 {
		n, err := b.readTimed(p)
		out := b.route.Data(p[:n])
		if err == nil && len(out) == n && n > 0 && &out[0] == &p[0] {
			return n, nil // the usual case: it passes as it is
		}
		b.ready = append(b.ready[:0], out...)
		b.close(err)
	}
	if len(b.ready) > 0 {
		n := copy(p, b.ready)
		b.ready = b.ready[n:]
		return n, nil
	}
	if b.err != nil {
		b.end(b.err)
	}
	return 0, b.err
}

// readTimed reads, and tells the route of the time in which nobody did although the next
// piece was there already.
func (b *routedBody) readTimed(p []byte) (int, error) {
	before := time.Now()
	n, err := b.read(p)
	after := time.Now()
	if gap := before.Sub(b.took); !b.took.IsZero() && after.Sub(before) < gap {
		b.route.Stalled(gap)
	}
	b.took = after
	return n, err
}

// finish ends the route, and returns what it still held back.
func (b *routedBody) finish() []byte {
	b.legs.on(decodeEnded)
	b.route.ResponseTrailer(b.resp.Trailer)
	return b.route.End()
}

// close takes the end of the server's body.
func (b *routedBody) close(err error) {
	if err == io.EOF && !b.legs.serves() {
		err = errPrefillLeg // the end is that of an abort
	}
	switch why := revoked(b.exchange.ctx); {
	case err == nil:
		return
	case err == io.EOF:
		b.ready = append(b.ready, b.finish()...)
	case why != nil:
		err = why
		b.legs.on(clientLeft)
	case b.req.Context().Err() != nil:
		b.route.Done(context.Canceled)
		b.legs.on(clientLeft)
	default:
		b.ready = append(b.ready, b.route.Break(err)...)
		b.legs.on(decodeFailed)
	}
	b.err = err
}

// Close implements io.Closer. Closing before the end means that the client has gone.
func (b *routedBody) Close() error {
	b.end(context.Canceled)
	b.cancel(nil)
	return b.src.Close()
}
