package httptransport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// exchange is one request under way. It owns the end of the request until there is a
// response, whose body owns it then.
type exchange struct {
	t      *Transport
	req    *http.Request
	body   held
	sent   outgoing
	in     director.Incoming
	route  *director.Route
	ctx    context.Context // of all attempts; its cause says whether the request was revoked
	cancel context.CancelCauseFunc

	session bool            // it asks for a websocket
	arrived bool            // in says what came in
	lost    *director.Route // of the first part of the body; nil: there was none, or it is route

	room int  // of MaxBodies, beside the body
	hung bool // a pair of engines that were asked at once did not answer

	handedOver bool // to the response
	once       sync.Once
}

// arrive says what came in: of the body, as much as there is.
func (x *exchange) arrive(body []byte) (err error) {
	if x.arrived {
		x.in.Body = body
		return nil
	}
	x.arrived = true
	defer recoverAs(&err, "Transport.Incoming")
	x.in = director.Incoming{
		Method: x.req.Method, Path: x.req.URL.EscapedPath(), Header: x.req.Header, Body: body,
		Pool: x.t.Pool, Explain: x.t.Explain, Split: x.t.Director.HandsOver(),
		Pieces: x.t.OnRoute == nil, // it may look at Route.Body
	}
	if x.session { // its query names the model
		x.in.Path, x.in.HeadersOnly, x.in.Split = x.req.URL.RequestURI(), true, false
	}
	if x.t.Incoming != nil {
		x.t.Incoming(x.req, &x.in)
		x.in.Split = x.in.Split && x.t.Director.HandsOver() // legs run here, or nowhere
	}
	return nil
}

// book has the director decide.
func (x *exchange) book() error {
	route, err := x.t.Director.Route(x.req.Context(), x.in)
	if err != nil {
		return err
	}
	x.routed(route)
	return nil
}

// routed takes the director's decision.
func (x *exchange) routed(route *director.Route) {
	x.route = route
	x.ctx, x.cancel = context.WithCancelCause(x.req.Context())
	x.route.HoldFirst()
	x.route.OnRevoke(func(why *director.Error) {
		x.cancel(why)
		x.route.Done(why) // now, for nobody may be reading the body
	})
}

// tell tells of the route.
func (x *exchange) tell() (err error) {
	defer recoverAs(&err, "Transport.OnRoute")
	if x.t.OnRoute != nil {
		x.t.OnRoute(x.req, x.route)
	}
	return nil
}

// recoverAs makes an error of a panic in a function of the embedder's.
func recoverAs(err *error, function string) {
	if v := recover(); v != nil {
		*err = &director.Error{Status: 500, Code: director.CodeInternal, Message: "the request could not be processed",
			Err: fmt.Errorf("%s: %w", function, &scheduling.PanicError{Value: v, Stack: debug.Stack()})}
	}
}

// abandon ends the request if no response does.
func (x *exchange) abandon() {
	if !x.handedOver {
		x.end(context.Canceled)
	}
}

// end accounts the end of the request, unless that was done, and gives back what it held.
func (x *exchange) end(err error) {
	x.once.Do(func() {
		defer func() {
			x.t.held.Add(-int64(x.room))
			x.body.release(x.unread())
		}()
		if x.route != nil {
			defer x.cancel(nil)
			x.route.Done(err)
		}
	})
}

// unread reports whether nobody reads the request's body any more.
func (x *exchange) unread() bool {
	return x.sent.idle() && x.route != nil && x.route.Settled() && (x.lost == nil || x.lost.Settled())
}

// hold counts memory against MaxBodies until the request ends.
func (x *exchange) hold(size int) error {
	if err := x.body.charge(size); err != nil {
		return err
	}
	x.room += size
	return nil
}

// send tries the endpoints in order and returns the first answer that is fit for the
// client. b, which may be nil, is the first attempt, if that is under way.
func (x *exchange) send(b *bet) (*http.Response, error) {
	if resp, err := x.encode(); resp != nil || err != nil {
		return resp, err
	}
	var tried []string
	var busy *http.Response // the last answer of a server that has too much to do
	for {
		legs, err := x.route.Legs(x.ctx)
		if err != nil {
			return x.giveUp(err)
		}
		ep := x.route.Endpoint()
		a := &attempt{exchange: x, endpoint: ep, last: len(x.route.Fallbacks()) == 0}
		var resp *http.Response
		if b != nil {
			a, resp, err = b.result()
			b = nil
		} else if legs == nil {
			a.body = x.bodyAlone()
			resp, err = a.run()
		} else {
			resp, err = a.runApart(legs)
		}
		if err == nil {
			x.handedOver = true
			return resp, nil
		}
		a.cancel(nil)
		if why := revoked(x.ctx); why != nil {
			a.legs.free(ep)
			return x.refuse(why)
		}
		if ctxErr := x.req.Context().Err(); ctxErr != nil {
			a.legs.free(ep)
			return nil, ctxErr // and abandon
		}
		if fatal := ownFault(err); fatal != nil {
			a.legs.free(ep)
			x.route.Failed(err, true)
			return x.giveUp(fatal)
		}
		if a.legs.prefillFailed() {
			tried = append(tried, fmt.Sprintf("%s: %v", ep.ID, err))
			continue
		}
		if a.refusal != nil {
			busy = a.refusal
		}
		var next *types.Endpoint
		if a.unsent || errors.Is(err, errBusy) || x.route.Repeatable() {
			next = x.route.Next()
		}
		if next == nil {
			a.legs.free(ep)
			err = fmt.Errorf("no endpoint answered: %s: %w", strings.Join(append(tried, ep.ID), "; "), err)
			x.end(err)
			if busy != nil {
				return busy, nil
			}
			return x.refuse(&director.Error{Status: 502, Code: director.CodeUpstream, Err: err, Message: "no server answered"})
		}
		tried = append(tried, fmt.Sprintf("%s: %v", ep.ID, err))
		a.legs.free(next)
	}
}

// giveUp answers a request that no server can.
func (x *exchange) giveUp(err error) (*http.Response, error) {
	if why := revoked(x.ctx); why != nil {
		return x.refuse(why)
	}
	x.end(err)
	return x.refuse(err)
}

// ownFault returns the answer to a request that failed by a fault of the gateway's, nil if it did
// not.
func ownFault(err error) *director.Error {
	if e, ok := errors.AsType[*director.Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[*scheduling.PanicError](err); ok {
		return &director.Error{Status: 500, Code: director.CodeInternal, Message: "the request could not be processed", Err: err}
	}
	return nil
}

// revoked returns why a request was revoked, nil if it was not.
func revoked(ctx context.Context) *director.Error {
	if ctx.Err() == nil {
		return nil
	}
	why, _ := context.Cause(ctx).(*director.Error)
	return why
}

// refuse answers in place of a server.
func (x *exchange) refuse(err error) (*http.Response, error) {
	if ctxErr := x.req.Context().Err(); ctxErr != nil {
		return nil, ctxErr
	}
	e := director.AsError(err)
	if e.Path == "" {
		e.Path = x.in.Path
	}
	return respond(x.req, e.Status, e.Header(), e.Body()), nil
}

// refuse answers in place of a server what was not routed, and tells of it.
func (t *Transport) refuse(req *http.Request, err error) (*http.Response, error) {
	if ctxErr := req.Context().Err(); ctxErr != nil {
		return nil, ctxErr
	}
	e := t.Director.Refuse(req.URL.EscapedPath(), director.AsError(err))
	return respond(req, e.Status, e.Header(), e.Body()), nil
}

// respond makes a response of a whole body. The header is its own.
func respond(req *http.Request, status int, h http.Header, body []byte) *http.Response {
	resp := &http.Response{
		Status:        fmt.Sprintf("%d %s", status, http.StatusText(status)),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        h,
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       req,
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if req.Method == http.MethodHead {
		resp.Body = http.NoBody
	}
	return resp
}
