// Package httptransport makes a Director an http.RoundTripper: a
// httputil.ReverseProxy with this Transport is an inference gateway, and a
// http.Client with it schedules its own requests.
package httptransport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// HeaderEndpoint is the response header that names the endpoint that served the
// request, if Transport.NameEndpoint is set.
const HeaderEndpoint = "X-Inferpick-Endpoint"

// DefaultMaxBody is the default of Transport.MaxBody: the largest that the
// default limits of package openai accept.
const DefaultMaxBody = 32 << 20

// Transport is an http.RoundTripper that sends each request to the endpoint that
// a Director chooses. The host of the request's URL does not matter.
//
// It reads the request body whole, asks the director, sends the body with the
// target model's name in it, and goes on to the fallbacks while no byte of a
// response body has arrived: after a connection error, a status of 502, 503 or
// 504, or a response that breaks off before its first byte. Response bodies
// stream; what was used is accounted when the body is read to its end or closed.
// To be able to retry, it returns a response only when its first byte is there.
//
// A request that admission control revokes is ended at its server, and gets the refusal
// as its response, or, if it has had bytes of another, an *director.Error from the body.
//
// A request that the director refuses gets a response with the error in the form
// of the API, not an error of RoundTrip. GET /v1/models is answered from the
// store. Headers that no client may set are removed. Upgrades (websockets) are
// refused.
//
// All methods may be called from any goroutine; the fields must not change after
// the first use.
type Transport struct {
	// Director decides. Required.
	Director *director.Director
	// Base sends the requests. Default: a clone of http.DefaultTransport without
	// transparent compression, of which one is made for each Transport by New.
	Base http.RoundTripper
	// MaxBody bounds request bodies in bytes. Default DefaultMaxBody.
	MaxBody int64
	// NameEndpoint adds HeaderEndpoint to responses.
	NameEndpoint bool
	// Explain keeps the explanation of each decision in its Route.
	Explain bool
	// Pool is the pool of every request. Zero: the one that serves the model.
	Pool types.NamespacedName
	// OnRoute is told of each request that was routed, before it is sent, for
	// those who want to follow it. Optional; it must be quick.
	OnRoute func(*http.Request, *director.Route)
}

// New returns a Transport for d with a connection pool fit for model servers:
// many connections a host, no compression, no limit to how long a response may
// take.
func New(d *director.Director) *Transport {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConns = 0
	base.MaxIdleConnsPerHost = 256
	base.DisableCompression = true
	base.Proxy = nil
	return &Transport{Director: d, Base: base}
}

// CloseIdleConnections closes the idle connections of Base.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.Base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := t.readBody(req)
	if err != nil {
		return t.refuse(req, t.Director.Refuse(req.URL.Path, director.AsError(err)))
	}
	if models, ok := t.Director.ModelList(req.Method, req.URL.Path); ok {
		return respond(req, http.StatusOK, http.Header{"Content-Type": {"application/json"}}, models), nil
	}
	if req.Header.Get("Upgrade") != "" {
		return t.refuse(req, t.Director.Refuse(req.URL.Path, &director.Error{
			Status: 501, Code: "unsupported", Param: "Upgrade", Message: "connections that are upgraded cannot be scheduled",
		}))
	}
	route, err := t.Director.Route(req.Context(), director.Incoming{
		Path: req.URL.Path, Header: req.Header, Body: body, Pool: t.Pool, Explain: t.Explain,
	})
	if err != nil {
		return t.refuse(req, err)
	}
	if t.OnRoute != nil {
		t.OnRoute(req, route)
	}
	return t.send(req, route)
}

// readBody returns the whole body and closes it.
func (t *Transport) readBody(req *http.Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	defer req.Body.Close()
	most := t.MaxBody
	if most == 0 {
		most = DefaultMaxBody
	}
	tooLarge := &director.Error{Status: 413, Code: openai.CodeTooLarge, Message: fmt.Sprintf("request body is larger than %d bytes", most)}
	if req.ContentLength > most {
		return nil, tooLarge
	}
	var buf bytes.Buffer
	if n := req.ContentLength; n > 0 {
		buf.Grow(int(min(n, 1<<20)) + bytes.MinRead) // no more on a mere promise
	}
	n, err := buf.ReadFrom(io.LimitReader(req.Body, most+1))
	if err != nil {
		return nil, &director.Error{Status: 400, Code: "incomplete_body", Message: "request body could not be read: " + err.Error(), Err: err}
	}
	if n > most {
		return nil, tooLarge
	}
	return buf.Bytes(), nil
}

// send tries the endpoints in order and returns the first answer.
func (t *Transport) send(req *http.Request, route *director.Route) (*http.Response, error) {
	var failed []string
	ctx, cancel := context.WithCancelCause(req.Context())
	route.OnRevoke(func(why *director.Error) {
		cancel(why)
		route.Done(why) // now, for nobody may be reading the body
	})
	for ep := route.Endpoint(); ; {
		resp, err := t.try(ctx, cancel, req, route, ep)
		if err == nil {
			return resp, nil
		}
		if why := revoked(ctx); why != nil {
			return t.refuse(req, why)
		}
		if ctxErr := req.Context().Err(); ctxErr != nil {
			cancel(nil)
			route.Done(ctxErr)
			return nil, ctxErr
		}
		next := route.Next()
		if next == nil {
			err = fmt.Errorf("no endpoint answered: %s: %w", strings.Join(append(failed, ep.ID), "; "), err)
			cancel(nil)
			route.Done(err)
			return t.refuse(req, &director.Error{Status: 502, Code: director.CodeUpstream, API: route.API(), Err: err,
				Message: "no server answered"})
		}
		failed = append(failed, fmt.Sprintf("%s: %v", ep.ID, err))
		ep = next
	}
}

// revoked returns why a request was revoked, nil if it was not.
func revoked(ctx context.Context) *director.Error {
	if ctx.Err() == nil {
		return nil
	}
	why, _ := context.Cause(ctx).(*director.Error)
	return why
}

// errRetry is why an answer was not taken although there was one.
var errRetry = errors.New("answered")

// try sends the request to one endpoint. With an error the next may be tried, unless ctx is
// done; without one end is called when the response has ended.
func (t *Transport) try(ctx context.Context, end context.CancelCauseFunc, req *http.Request, route *director.Route, ep *types.Endpoint) (*http.Response, error) {
	one, cancel := context.WithCancel(ctx)
	out := req.Clone(one)
	out.URL.Host, out.Host = ep.Address, ""
	if out.URL.Scheme == "" {
		out.URL.Scheme = "http"
	}
	out.Body, out.ContentLength = http.NoBody, 0
	if len(route.Body) > 0 {
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(route.Body)), int64(len(route.Body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(route.Body)), nil }
	}
	out.TransferEncoding = nil
	out.Header.Del("Accept-Encoding") // usage and model name are read from the response
	director.StripControlHeaders(out.Header)

	resp, err := t.base().RoundTrip(out)
	if err != nil {
		cancel()
		return nil, err
	}
	if retryable(resp.StatusCode) && len(route.Fallbacks()) > 0 {
		resp.Body.Close()
		cancel()
		return nil, fmt.Errorf("%w %d", errRetry, resp.StatusCode)
	}
	body := &routedBody{src: resp.Body, route: route, ctx: ctx, cancel: func() { cancel(); end(nil) }}
	route.Response(resp.StatusCode, resp.Header.Get("Content-Type"))
	err = body.waitFirst()
	if why := revoked(ctx); why != nil && body.err != io.EOF {
		err = why // the client has had nothing of what came
	} else if len(route.Fallbacks()) == 0 {
		err = nil
	}
	if err != nil {
		resp.Body.Close()
		cancel()
		return nil, fmt.Errorf("broke off before the first byte: %w", err)
	}
	resp.Body = body
	resp.Request = req
	if route.RestoresModel() {
		resp.ContentLength = -1
		resp.Header.Del("Content-Length")
	}
	if t.NameEndpoint {
		resp.Header.Set(HeaderEndpoint, ep.ID)
	}
	return resp, nil
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

func retryable(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// refuse answers in place of a server.
func (t *Transport) refuse(req *http.Request, err error) (*http.Response, error) {
	if ctxErr := req.Context().Err(); ctxErr != nil {
		return nil, ctxErr
	}
	e := director.AsError(err)
	return respond(req, e.Status, e.Header(), e.Body()), nil
}

func respond(req *http.Request, status int, h http.Header, body []byte) *http.Response {
	return &http.Response{
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
}
