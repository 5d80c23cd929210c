package httptransport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// exchange is one request on its way, over one endpoint or several.
type exchange struct {
	t       *Transport
	req     *http.Request
	route   *director.Route
	release func() // of the body's bytes

	ctx      context.Context // of all attempts
	cancel   context.CancelCauseFunc
	answered bool // a response was returned that ends the exchange by itself
}

func newExchange(t *Transport, req *http.Request, route *director.Route, release func()) *exchange {
	x := &exchange{t: t, req: req, route: route, release: release}
	x.ctx, x.cancel = context.WithCancelCause(req.Context())
	route.HoldFirst()
	route.OnRevoke(func(why *director.Error) {
		x.cancel(why)
		route.Done(why) // now, for nobody may be reading the body
	})
	return x
}

// end gives back all that the exchange holds but for the route.
func (x *exchange) end(err error) {
	x.cancel(err)
	x.release()
}

// run tries the endpoints in order and returns the first answer.
func (x *exchange) run() (*http.Response, error) {
	var failed []string
	ep := x.route.Endpoint()
	for again := false; ; {
		a := x.attempt(ep)
		resp, err := a.run()
		if err == nil {
			x.answered = true
			return resp, nil
		}
		a.close()
		if why := revoked(x.ctx); why != nil {
			return x.t.refuse(x.req, why)
		}
		if ctxErr := x.req.Context().Err(); ctxErr != nil {
			x.route.Done(ctxErr)
			return nil, ctxErr
		}
		if a.stale(err) && !again {
			again = true
			continue // at the same endpoint, on another connection
		}
		again = false
		failed = append(failed, fmt.Sprintf("%s: %v", ep.ID, err))
		if errors.Is(err, errRefused) {
			err = nil // the route knows
		}
		if ep = x.route.NextAfter(err); ep == nil {
			return x.fail(err, failed)
		}
	}
}

// fail answers where no endpoint did.
func (x *exchange) fail(err error, failed []string) (*http.Response, error) {
	err = fmt.Errorf("no endpoint answered: %s: %w", strings.Join(failed, "; "), err)
	x.route.Done(err)
	return x.t.refuse(x.req, &director.Error{
		Status: http.StatusBadGateway, Code: director.CodeUpstream, API: x.route.API(), Path: x.req.URL.Path, Err: err, Message: "no server answered",
	})
}

// revoked returns why a request was revoked, nil if it was not.
func revoked(ctx context.Context) *director.Error {
	if ctx.Err() == nil {
		return nil
	}
	why, _ := context.Cause(ctx).(*director.Error)
	return why
}

var (
	// errRefused is why an answer was not taken although there was one.
	errRefused = errors.New("httptransport: refused")
	// errSilent is why an endpoint was left that may not answer.
	errSilent = fmt.Errorf("httptransport: no sign of life: %w", context.DeadlineExceeded)
)

// attempt is the request at one endpoint.
type attempt struct {
	*exchange
	ep     *types.Endpoint
	ctx    context.Context
	cancel context.CancelFunc
	trace  trace
	silent context.CancelFunc // stops the wait for a sign of life

	resp *http.Response
	body *routedBody
}

func (x *exchange) attempt(ep *types.Endpoint) *attempt {
	a := &attempt{exchange: x, ep: ep, silent: func() {}}
	ctx, cancel := context.WithCancelCause(x.ctx)
	a.ctx, a.cancel = a.trace.with(ctx), func() { cancel(nil) }
	if wait := x.route.Patience(); wait > 0 {
		timer := time.AfterFunc(wait, func() { cancel(errSilent) })
		a.silent = func() { timer.Stop() }
	}
	return a
}

// run sends the request and returns the response when there is something to pass on. With an
// error, the next endpoint may be tried.
func (a *attempt) run() (*http.Response, error) {
	resp, err := a.t.base().RoundTrip(a.request())
	if err != nil {
		return nil, a.explain(err)
	}
	a.resp = resp
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	if !a.route.Answer(resp.StatusCode, resp.Header) {
		return nil, fmt.Errorf("httptransport: status %d is no answer", resp.StatusCode)
	}
	if len(a.route.Fallbacks()) > 0 && a.route.Retryable() {
		return nil, fmt.Errorf("%w with status %d", errRefused, resp.StatusCode)
	}
	a.body = &routedBody{src: resp.Body, attempt: a}
	if err := a.body.begin(); err != nil {
		return nil, a.explain(err)
	}
	a.silent()
	resp.Body, resp.Request = a.body, a.req
	if a.route.RestoresModel() {
		resp.ContentLength = -1
		resp.Header.Del("Content-Length")
	}
	if a.t.NameEndpoint {
		resp.Header.Set(HeaderEndpoint, a.ep.ID)
	}
	return resp, nil
}

// close ends an attempt that came to nothing.
func (a *attempt) close() {
	a.silent()
	a.cancel()
	if a.resp != nil {
		a.resp.Body.Close()
	}
}

// explain says why an attempt failed.
func (a *attempt) explain(err error) error {
	if errors.Is(err, errRefused) {
		return err
	}
	if context.Cause(a.ctx) == errSilent {
		return errSilent
	}
	if a.resp != nil {
		return fmt.Errorf("broke off before the first byte: %w", err)
	}
	if a.trace.unsent(a.t.base(), err) {
		return fmt.Errorf("%w: %w", director.ErrUnsent, err)
	}
	return err
}

// stale reports whether an attempt failed because the connection had been closed by the server
// while it was idle.
func (a *attempt) stale(err error) bool {
	return a.resp == nil && a.trace.reused.Load() && err != errSilent && !errors.Is(err, director.ErrUnsent)
}

// request makes the request for the endpoint.
func (a *attempt) request() *http.Request {
	out := a.req.Clone(a.ctx)
	out.URL.Scheme, out.URL.Host, out.Host = a.t.Scheme, a.ep.Address, ""
	if out.URL.Scheme == "" {
		out.URL.Scheme = "http"
	}
	out.Body, out.ContentLength, out.GetBody = http.NoBody, 0, nil
	if body := a.route.Body; len(body) > 0 {
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	out.TransferEncoding, out.Trailer = nil, nil
	h := out.Header
	h.Del("Accept-Encoding") // usage and model name are read from the response
	if h.Get("Upgrade") != "" {
		// An offer that a server may ignore, as h2c; what comes after an upgrade cannot be read.
		h.Del("Upgrade")
		h.Del("Connection")
		h.Del("Http2-Settings")
	}
	director.StripControlHeaders(h)
	// A connection that was closed while it was idle is then tried again by a http.Transport:
	// the key itself is not sent if it has no value.
	if _, ok := h["Idempotency-Key"]; !ok {
		h["X-Idempotency-Key"] = nil
	}
	return out
}
