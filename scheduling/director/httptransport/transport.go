// Package httptransport makes a Director an http.RoundTripper: a
// httputil.ReverseProxy with this Transport is an inference gateway, and a
// http.Client with it schedules its own requests.
package httptransport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// HeaderEndpoint is the response header that names the endpoint that served the
// request, if Transport.NameEndpoint is set.
const HeaderEndpoint = "X-Inferpick-Endpoint"

// DefaultMaxBodies is the default of Transport.MaxBodies.
const DefaultMaxBodies = 256 << 20

// Transport is an http.RoundTripper that sends each request to the endpoint that
// a Director chooses. Neither host nor scheme of the request's URL matter.
//
// It reads the request body whole, asks the director, sends the body with the
// target model's name in it, and goes on to the fallbacks while the client has had no byte:
// after an error, a status or a first event that says that the server has too much to do or
// is not there (429, 502, 503, 504), something that is no answer, or a response that breaks
// off. If all servers say so, the client gets what the last one said; if none answers, a
// 502. Response bodies stream, comments that keep a connection alive included; what was used is
// accounted when the body is read to its end or closed. To be able to retry, it returns a
// response only when there is something to pass on.
//
// A connection that the server closed while it was idle is no failure: the request is sent once
// more on a fresh one. From an endpoint that may not answer (director.Route.Patience) the
// request goes on to a fallback after a while.
//
// A request that admission control revokes is ended at its server, and gets the refusal
// as its response, or, if it has had bytes of another, an *director.Error from the body.
//
// A request that the director refuses gets a response with the error in the form
// of the API, not an error of RoundTrip. GET /v1/models and /v1/models/{name} are answered from
// the store. Headers that no client may set are removed. Of upgrades, websockets are
// refused, and others, which a server may ignore, are not offered to it.
//
// How long a client may take to send its body is for the http.Server to say (ReadTimeout).
//
// All methods may be called from any goroutine; the fields must not change after
// the first use.
type Transport struct {
	// Director decides. Required.
	Director *director.Director
	// Base sends the requests. Default: a http.Transport fit for model servers, of which one is
	// made for each Transport by New.
	Base http.RoundTripper
	// Scheme is that of all endpoints, http or https. Default http.
	Scheme string
	// MaxBody bounds request bodies in bytes. Default: the largest that director.Options.Limits
	// accept.
	MaxBody int64
	// MaxBodies bounds the bytes of all request bodies under way, from when they are read to the end
	// of their requests; what is beyond gets a 503. Default DefaultMaxBodies.
	MaxBodies int64
	// NameEndpoint adds HeaderEndpoint to responses.
	NameEndpoint bool
	// Explain keeps the explanation of each decision in its Route.
	Explain bool
	// Pool is the pool of every request. Zero: the one that serves the model.
	Pool types.NamespacedName
	// Describe adds what the gateway knows of a request, such as its tenant, before it is routed.
	// Optional.
	Describe func(*http.Request, *director.Incoming)
	// OnRoute is told of each request that was routed, before it is sent, for
	// those who want to follow it. Optional; it must be quick.
	OnRoute func(*http.Request, *director.Route)

	held atomic.Int64 // bytes of bodies
}

// New returns a Transport for d with a connection pool fit for model servers:
// many connections a host, no compression, no proxy, no limit to how long a response may
// take. It is a clone of http.DefaultTransport as far as that is a *http.Transport.
func New(d *director.Director) *Transport {
	base, ok := http.DefaultTransport.(*http.Transport)
	if ok {
		base = base.Clone()
	} else {
		base = &http.Transport{ForceAttemptHTTP2: true}
	}
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
	body, release, err := t.readBody(req)
	handedOn := false
	defer func() {
		if !handedOn {
			release()
		}
	}()
	if err != nil {
		return t.refuse(req, t.Director.Refuse(req.URL.Path, director.AsError(err)))
	}
	if status, models, ok := t.Director.ModelAnswer(req.Method, req.URL.EscapedPath(), t.Pool); ok {
		return respond(req, status, http.Header{"Content-Type": {"application/json"}}, models), nil
	}
	if strings.EqualFold(req.Header.Get("Upgrade"), "websocket") {
		return t.refuse(req, t.Director.Refuse(req.URL.Path, &director.Error{
			Status: 501, Code: "unsupported", Param: "Upgrade", Message: "connections that are upgraded cannot be scheduled",
		}))
	}
	in := director.Incoming{
		Method: req.Method, Path: req.URL.Path, Header: req.Header, Body: body, Pool: t.Pool, Explain: t.Explain,
	}
	if t.Describe != nil {
		t.Describe(req, &in)
	}
	route, err := t.Director.Route(req.Context(), in)
	if err != nil {
		return t.refuse(req, err)
	}
	defer func() {
		if !handedOn { // also if OnRoute or Base panics
			route.Done(context.Canceled)
		}
	}()
	if t.OnRoute != nil {
		t.OnRoute(req, route)
	}
	x := newExchange(t, req, route, release)
	defer func() {
		if !handedOn {
			x.end(nil)
		}
	}()
	resp, err := x.run()
	handedOn = err == nil && x.answered
	return resp, err
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
	if req.Method == http.MethodHead {
		resp.Body = http.NoBody
	}
	return resp
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}
