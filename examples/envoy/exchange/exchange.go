package exchange

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/inferpick/inferpick/scheduling/director"
)

// Exchange is one HTTP exchange. It is for one goroutine at a time; a function of the embedder's that
// panics does so out of its methods, and Close is to be called nevertheless.
type Exchange struct {
	ctx    context.Context
	h      *Handler
	o      *Options // of h
	wishes Wishes
	span   Span

	id    string // the request's, for logs
	named bool   // it was given here
	// tunnel says that the request is an upgrade or a CONNECT: it has no body that would
	// end before a response begins, and bytes pass as they come, both ways.
	tunnel bool
	in     director.Incoming // until Begin
	// core is the exchange as the director has it. nil: nothing has begun. Without a route
	// what comes passes as it is: Envoy may answer a request itself before it was complete.
	core     *director.Exchange
	reported bool // Options.Report was asked
	apart    Apart
	closed   bool
}

// Request is what is known of a request before its body.
type Request struct {
	// Fields are its headers.
	Fields Fields
	// End says that neither body nor trailers follow.
	End bool
	// Unseen says that its body, if there is one, passes elsewhere.
	Unseen bool
	// KeepBody and Pieces are those of director.Incoming: the pieces of the body have memory of their own, and
	// what Pieces returns may be several.
	KeepBody, Pieces bool
}

// Answer goes to the client in place of a server's. Its Err may be that the request is given up,
// then nobody waits for it, see Canceled.
type Answer struct {
	Status int
	Header map[string][]string // to set
	Body   []byte              // none after HEAD
	// Details are for Envoy's access log.
	Details string
	// Err is why; nil: the answer is no error, but a list of models, say.
	Err *director.Error
}

// Fields are the headers to set, with names in lower case.
func (a *Answer) Fields() Fields {
	return func(yield func(name, value string) bool) {
		for name, values := range a.Header {
			for _, value := range values {
				if !yield(lower(name), value) {
					return
				}
			}
		}
	}
}

// Canceled reports whether the request was given up.
func (a *Answer) Canceled() bool { return a.Err != nil && errors.Is(a.Err, context.Canceled) }

// ID returns the id of the request, empty if its headers have not come.
func (x *Exchange) ID() string { return x.id }

// Tunnel reports whether the request is an upgrade or a CONNECT: bytes pass as they come, both ways.
func (x *Exchange) Tunnel() bool { return x.tunnel }

// HeadersOnly reports whether the request is decided on its headers.
func (x *Exchange) HeadersOnly() bool { return x.in.HeadersOnly }

// Request takes the headers of the request. It does not wait.
func (x *Exchange) Request(r Request) {
	in := readRequest(r.Fields)
	x.ctx, x.span = x.o.Tracer.Start(x.ctx, in.Method, in.Path, in.Header)
	if x.id = first(in.Header, director.HeaderRequestID); x.id == "" {
		x.id, x.named = newID(), true
		in.Header[director.HeaderRequestID] = []string{x.id}
	}
	x.tunnel = !r.End && tunnels(&in)
	in.Pool = x.wishes.Pool
	in.HeadersOnly = r.End || x.tunnel || r.Unseen
	in.MaxBody, in.KeepBody, in.Pieces = int64(x.o.MaxBody), r.KeepBody, r.Pieces
	in.Split = Splits(in.Path)
	in.HasSubset, in.Subset = x.in.HasSubset, x.in.Subset
	x.in = in
}

// Subset restricts the choice to endpoints: strings, of which each may be a list with commas. It may be
// called until the request is complete; the last hint counts, and one of nobody, as one that cannot be read, allows
// nobody: it must not be ignored.
func (x *Exchange) Subset(hints []string) {
	hint := make([]string, 0, len(hints))
	for _, h := range hints {
		hint = append(hint, strings.Split(h, ",")...)
	}
	in := &x.in
	if x.core != nil {
		in = &x.core.Incoming
	}
	in.HasSubset, in.Subset = true, hint
}

// Begin begins the exchange with the director, and with HeadersOnly decides the request: then it may
// wait until there is room for it, or the context is done. An answer that is not nil goes to the client.
func (x *Exchange) Begin() *Answer {
	var a *director.Answer
	x.core, a = x.o.Director.Begin(x.ctx, x.in)
	if a == nil && !x.in.HeadersOnly {
		return nil
	}
	return x.decided(a)
}

// Body takes a piece of the request's body. With the last one, which may be empty, the request is decided:
// then it may wait, as Begin may.
func (x *Exchange) Body(piece []byte, last bool) *Answer {
	if a := x.core.Body(piece, last); a != nil || last {
		return x.decided(a)
	}
	return nil
}

// decided goes on with a request that is complete: with the answer that the director has in
// place of a server's, or with its route.
func (x *Exchange) decided(a *director.Answer) *Answer {
	if a != nil {
		return x.answer(a)
	}
	route := x.core.Route()
	if x.o.Apart != nil {
		x.apart = x.o.Apart(x.ctx, &x.core.Incoming, route)
	}
	x.span.Routed(route)
	if x.o.OnRoute != nil {
		x.o.OnRoute(route)
	}
	if x.o.Logger.Enabled(x.ctx, slog.LevelDebug) {
		x.o.Logger.LogAttrs(x.ctx, slog.LevelDebug, "routed", slog.String("id", x.id), slog.String("model", route.Request.Model),
			slog.String("pool", route.Pool.String()), slog.String("endpoint", route.Endpoint().ID), slog.Duration("waited", route.Waited))
	}
	return nil
}

func (x *Exchange) answer(from *director.Answer) *Answer {
	a := &Answer{Status: from.Status, Header: from.Header, Body: from.Body, Details: "inferpick_models", Err: from.Err}
	if x.core.Incoming.Method == "HEAD" {
		a.Body = nil
	}
	if e := a.Err; e != nil {
		a.Details = detailsOf(e)
		x.span.Refused(e)
		if !a.Canceled() && x.o.Logger.Enabled(x.ctx, slog.LevelDebug) {
			x.o.Logger.LogAttrs(x.ctx, slog.LevelDebug, "refused", slog.String("id", x.id), slog.Int("status", e.Status), slog.Any("error", e))
		}
	}
	return a
}

// detailsOf is why a request was refused, for access logs.
func detailsOf(e *director.Error) string { return "inferpick_" + e.Code }

// Refuse refuses the request, whose headers have come, for what only the adapter knows. One that was
// answered keeps its answer.
func (x *Exchange) Refuse(e *director.Error) *Answer { return x.answer(x.core.Refuse(e)) }

// Route returns where the request goes: nil if it was answered in another way, or is not complete.
func (x *Exchange) Route() *director.Route {
	if x.core == nil {
		return nil
	}
	return x.core.Route()
}

// Pieces returns the body to send, in order. It has a route. They must not be changed.
func (x *Exchange) Pieces() [][]byte { return x.core.Route().Pieces() }

// Response takes the headers of the response, which may be one of Envoy's own, or to a request of which
// nothing was heard. served is the address that Envoy says served it, empty if it says nothing. keepModel says
// that nothing could be added where the body ends, so that nothing may be held back in it. restores reports
// that the length of the body may change: the public name of the model is put back.
func (x *Exchange) Response(fields Fields, served string, keepModel bool) (restores bool) {
	if x.core == nil {
		x.core = new(director.Exchange) // of a request that nobody has heard of
	}
	route := x.core.Route()
	if route == nil {
		return false
	}
	status, header := readResponse(fields)
	if served = strings.TrimSpace(served); served != "" && served != x.atPrimary() {
		route.Served(served)
	}
	x.prefilled(status)
	x.encoded()
	if keepModel {
		route.KeepModel()
	}
	route.ResponseHeader(status, header)
	x.span.Response(status, route.Endpoint())
	if x.o.OnServed != nil {
		x.o.OnServed(route, route.Endpoint().Address)
	}
	return route.RestoresModel()
}

// ResponseBody is that of director.Exchange: it returns what is to be passed on in place of piece.
func (x *Exchange) ResponseBody(piece []byte, last bool) []byte {
	return x.core.ResponseBody(piece, last)
}

// ResponseTrailers ends a response's body with its trailers, and returns what was held back of it.
func (x *Exchange) ResponseTrailers(fields Fields) (rest []byte) {
	if route := x.core.Route(); route != nil {
		_, header := readResponse(fields)
		route.ResponseTrailer(header)
	}
	return x.core.ResponseBody(nil, true)
}

// Report returns what Envoy is told of the usage, once, when the response has ended: values by name, by
// namespace of dynamic metadata.
func (x *Exchange) Report() map[string]map[string]any {
	route := x.Route()
	if x.o.Report == nil || route == nil || x.reported {
		return nil
	}
	x.reported = true
	return x.o.Report(route.Pool, route.Usage())
}

// Close ends the exchange, however far it came, and releases what is still booked. err is why: nil if all
// has come that could. It may be called more than once, and the first time counts.
func (x *Exchange) Close(err error) {
	if x.closed {
		return
	}
	x.closed = true
	defer x.h.open.Add(-1)
	defer x.span.End()
	if x.core == nil {
		return
	}
	defer x.encoded()
	x.core.Close(err)
}
