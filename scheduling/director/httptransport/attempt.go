package httptransport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// attempt is a request at one endpoint, until there is something of an answer to pass on.
type attempt struct {
	*exchange
	endpoint *types.Endpoint
	last     bool // there is no fallback left
	head     int  // status of the answer

	ctx    context.Context
	cancel context.CancelCauseFunc
	clock  *patience

	refusal *http.Response // set if the server is busy: its answer, for a client that gets no other
}

// errBusy is why an answer was not taken although there was one.
var errBusy = errors.New("answered")

// run returns the endpoint's answer, when there is something of it to pass on: the end of
// the request is its body's then. With an error the client has had nothing, and what is
// known of the attempt is with the route.
func (a *attempt) run() (*http.Response, error) {
	a.ctx, a.cancel = context.WithCancelCause(a.exchange.ctx)
	a.clock = a.startPatience()
	defer a.clock.stop()
	resp, err := a.roundTrip()
	if err != nil {
		return nil, err
	}
	b := newBody(a, resp)
	if err := a.take(resp, b); err != nil {
		a.keepStatus(resp)
		a.cancel(nil)
		resp.Body.Close()
		return nil, err
	}
	a.commit(resp, b)
	return resp, nil
}

// take takes the answer, or returns why not.
func (a *attempt) take(resp *http.Response, b *routedBody) error {
	a.head = resp.StatusCode
	a.route.ResponseHeader(resp.StatusCode, resp.Header)
	if !director.IsAnswer(resp.StatusCode) {
		return a.failed(fmt.Errorf("answered with status %d, which is none", resp.StatusCode))
	}
	if a.passesOver() {
		a.keepRefusal(resp)
		return fmt.Errorf("%w %d", errBusy, a.route.Status())
	}
	return b.begin()
}

// passesOver reports whether the answer so far is worth asking another server: also if it began
// well, and then says in place of a first token that the server failed.
func (a *attempt) passesOver() bool {
	status := a.route.Status()
	return !a.last && (director.Retryable(status) || status >= 500 && a.head < 300)
}

// failed tells the route why there was no answer, for which the server is to blame.
func (a *attempt) failed(err error) error {
	if cause := context.Cause(a.ctx); errors.Is(cause, errPatience) {
		err = cause
	}
	a.route.Failed(err, false)
	return err
}

// roundTrip sends the request and returns the head of the answer. A connection that was
// kept alive may be closed by the server at the very moment at which it is used again,
// which says nothing about the server: then the request is sent once more.
func (a *attempt) roundTrip() (*http.Response, error) {
	resp, seen, err := a.trip(a.t.base())
	if err != nil && seen.stale() && a.ctx.Err() == nil {
		resp, seen, err = a.trip(a.t.once())
	}
	if err == nil {
		return resp, nil
	}
	if cause := context.Cause(a.ctx); errors.Is(cause, errPatience) {
		return nil, a.failed(cause)
	}
	a.route.Failed(err, unsent(err, seen))
	return nil, err
}

func (a *attempt) trip(rt http.RoundTripper) (*http.Response, facts, error) {
	var tr trace
	out := a.outgoing(httptrace.WithClientTrace(a.ctx, tr.hooks()))
	_, traced := rt.(*http.Transport)
	if !traced {
		markReplayable(out.Header)
	}
	resp, err := rt.RoundTrip(out)
	if err == nil && resp.Body == nil {
		resp.Body = http.NoBody
	}
	if err == nil && resp.Header == nil {
		resp.Header = http.Header{}
	}
	return resp, tr.facts(traced), err
}

// outgoing is the request as the endpoint gets it.
func (a *attempt) outgoing(ctx context.Context) *http.Request {
	out := a.req.Clone(ctx)
	out.URL.Scheme, out.URL.Host, out.Host = "http", a.endpoint.Address, ""
	if a.t.Scheme != "" {
		out.URL.Scheme = a.t.Scheme
	}
	out.URL.User, out.URL.Opaque = nil, ""
	out.Body, out.ContentLength, out.GetBody = http.NoBody, 0, nil
	if body := a.route.Body; len(body) > 0 {
		out.Body, out.ContentLength = a.sent.read(body), int64(len(body))
		out.GetBody = func() (io.ReadCloser, error) { return a.sent.read(body), nil }
	}
	out.TransferEncoding, out.Trailer, out.Close = nil, nil, false
	if out.Header == nil {
		out.Header = http.Header{}
	}
	removeConnectionHeaders(out.Header)
	out.Header.Del("Accept-Encoding") // usage and model name are read from the response
	out.Header.Del("Expect")          // all of the body is here
	director.StripControlHeaders(out.Header)
	return out
}

// markReplayable says to an http.Transport inside of another RoundTripper, by a header that
// is not sent, that it may send the request again over another connection if one that it
// kept alive was closed.
func markReplayable(h http.Header) {
	const key = "X-Idempotency-Key"
	if _, ok := h["Idempotency-Key"]; !ok && len(h[key]) == 0 {
		h[key] = nil
	}
}

// commit makes the response the client's.
func (a *attempt) commit(resp *http.Response, b *routedBody) {
	resp.Body = b
	resp.Request = a.req
	if a.route.RestoresModel() && a.req.Method != http.MethodHead {
		resp.ContentLength = -1
		resp.Header.Del("Content-Length")
		if b.err == io.EOF && bodyAllowed(resp.StatusCode) { // all of it is there
			resp.ContentLength = int64(len(b.ready))
			resp.Header.Set("Content-Length", strconv.Itoa(len(b.ready)))
		}
	}
	a.name(resp)
}

// name names the endpoint in a response, if that is asked for.
func (a *attempt) name(resp *http.Response) {
	if a.t.NameEndpoint {
		resp.Header.Set(HeaderEndpoint, a.endpoint.ID)
	}
}

func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// refusalTime and refusalBytes bound how long the rest of the answer of a busy server is
// read, and how much, before the request goes on to another one.
const (
	refusalTime  = 500 * time.Millisecond
	refusalBytes = 64 << 10
)

// keepRefusal keeps the answer of a server that has too much to do: it is what the client
// gets if no other server answers.
func (a *attempt) keepRefusal(resp *http.Response) {
	if !(types.Outcome{Status: resp.StatusCode}).Busy() {
		return
	}
	timer := time.AfterFunc(refusalTime, func() { a.cancel(nil) })
	defer timer.Stop()
	body, err := io.ReadAll(io.LimitReader(resp.Body, refusalBytes))
	if err != nil || len(body) == refusalBytes {
		return
	}
	a.refusal = respond(a.req, resp.StatusCode, resp.Header.Clone(), body)
	a.name(a.refusal)
}

// keepStatus keeps what a busy server said in our words, if its own are not to be had: its
// body is long, slow or broken off, or was the first event of a stream.
func (a *attempt) keepStatus(resp *http.Response) {
	status := a.route.Status()
	if a.refusal != nil || !(types.Outcome{Status: status}).Busy() {
		return
	}
	e := director.Error{Status: status, Code: director.CodeSaturated, Message: "the server is busy, try again later", Path: a.in.Path}
	h := http.Header(e.Header())
	if after := resp.Header["Retry-After"]; len(after) > 0 {
		h["Retry-After"] = after[:1]
	}
	a.refusal = respond(a.req, status, h, e.Body())
	a.name(a.refusal)
}

// errPatience is the cause of the end of an attempt that gave no sign of life.
var errPatience = fmt.Errorf("no sign of life: %w", context.DeadlineExceeded)

// patience ends an attempt that gives no sign of life for too long. Nil waits for ever.
type patience struct {
	timer *time.Timer
	wait  time.Duration
}

func (a *attempt) startPatience() *patience {
	if a.last {
		return nil
	}
	wait := a.route.Patience()
	if wait <= 0 {
		return nil
	}
	return &patience{time.AfterFunc(wait, func() { a.cancel(errPatience) }), wait}
}

// alive gives the server as long again.
func (p *patience) alive() {
	if p != nil && p.timer.Stop() {
		p.timer.Reset(p.wait)
	}
}

// stop ends it, and reports whether it has not ended the attempt.
func (p *patience) stop() bool { return p == nil || p.timer.Stop() }
