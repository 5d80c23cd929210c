package httptransport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// attempt is a request at one endpoint, until there is something of an answer to pass on.
type attempt struct {
	*exchange
	endpoint *types.Endpoint
	body     [][]byte // what to send, if it answers alone, in pieces
	feed     *feed    // the same, as it comes in; nil: it is all there
	last     bool     // there is no fallback left
	head     int      // status of the answer

	ctx    context.Context
	cancel context.CancelCauseFunc
	clock  *patience

	legs   *pair // if another endpoint computes the prompt
	unsent bool  // nothing was sent to the endpoint, as far as is known

	untouched bool // the decode leg was certainly not sent

	refusal *http.Response // set if the server is busy: its answer, for a client that gets no other
}

// errBusy is why an answer was not taken although there was one.
var errBusy = errors.New("answered")

// run returns the endpoint's answer, when there is something of it to pass on: the end of
// the request is its body's then. With an error the client has had nothing, and what is
// known of the attempt is with the route.
func (a *attempt) run() (*http.Response, error) {
	if a.feed == nil {
		if a.legs == nil {
			a.ctx, a.cancel = context.WithCancelCause(a.exchange.ctx)
		}
		a.clock = a.startPatience()
	}
	defer a.clock.stop()
	resp, err := a.roundTrip()
	if err != nil {
		return nil, err
	}
	if err := a.feed.settled(); err != nil { // until then the request may change
		resp.Body.Close()
		return nil, err
	}
	if a.session && resp.StatusCode == http.StatusSwitchingProtocols {
		if err = a.converse(resp); err == nil {
			return resp, nil
		}
	} else {
		b := newBody(a, resp)
		if err = a.take(resp, b); err == nil {
			a.commit(resp, b)
			return resp, nil
		}
		a.keepStatus(resp)
	}
	a.cancel(nil)
	resp.Body.Close()
	return nil, err
}

// take takes the answer, or returns why not.
func (a *attempt) take(resp *http.Response, b *routedBody) error {
	a.head = resp.StatusCode
	a.route.ResponseHeader(resp.StatusCode, resp.Header)
	if !director.IsAnswer(resp.StatusCode) {
		return a.failed(noAnswer(resp.StatusCode))
	}
	if a.passesOver() {
		a.keepRefusal(resp)
		return fmt.Errorf("%w %d", errBusy, a.route.Status())
	}
	return b.begin()
}

// passesOver reports whether the answer so far is worth asking another server: also if it began
// well, and then says in place of a first token that the server failed. One that was to get a
// prompt from another may have failed for want of it, whatever the status.
func (a *attempt) passesOver() bool {
	status := a.route.Status()
	return !a.last && (director.Retryable(status) || status >= 500 && (a.head < 300 || a.legs != nil))
}

// noAnswer is why there is none where a status is not one.
func noAnswer(status int) error { return fmt.Errorf("answered with status %d, which is none", status) }

// failed tells the route why there was no answer, for which the server is to blame.
func (a *attempt) failed(err error) error {
	if cause := context.Cause(a.ctx); errors.Is(cause, errPatience) {
		err = cause
	}
	a.route.Failed(err, false)
	return err
}

// roundTrip sends the request and returns the head of the answer.
func (a *attempt) roundTrip() (*http.Response, error) {
	p, resend := parcel{endpoint: a.endpoint, body: a.body, feed: a.feed, session: a.session}, true
	if a.session {
		p.path = a.route.RequestPath()
	}
	if a.legs != nil {
		p, resend = a.legs.decode, false // the cache is fetched but once
	}
	resp, seen, err := a.deliver(a.ctx, p, resend)
	a.untouched = seen.traced && !seen.wrote
	if err == nil {
		return resp, nil
	}
	if cause := context.Cause(a.ctx); errors.Is(cause, errPatience) {
		return nil, a.failed(cause)
	}
	a.unsent = !seen.wrote
	waited := seen.connected && a.feed.isOpen() // for the client, until it was enough
	a.route.Failed(err, waited || unsent(err, seen))
	return nil, err
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
	if a.route.Status() >= 400 {
		a.legs.on(decodeFailed)
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
