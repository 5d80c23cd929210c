package director

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/inferpick/inferpick/openai"
)

// Exchange is one request and its response, for data planes that meet their headers and
// bodies in different places: filters and modules of Envoy, nginx, HAProxy and the like.
//
//	x, answer := d.Begin(ctx, in)     // the request's headers; in.HeadersOnly if that is all
//	answer = x.Body(piece, last)      // each piece of its body
//	// answer is not nil: it goes to the client, and no server is asked
//	route := x.Route()                // once the request is complete: where to send what
//	x.ResponseHeader(status, header)  // of the server
//	piece = x.ResponseBody(piece, last)
//	x.Close(nil)                      // in any case, at last
//
// Where a plane answers a request itself, the response has no Route and passes as it is: also
// that of the zero Exchange, for a request of which the plane was told nothing.
// It is for one goroutine at a time; Close may be called from any once the request is complete.
type Exchange struct {
	// Incoming is what Begin was given. What the gateway knows of the request may be
	// changed until its last piece has come. Body is set then.
	Incoming Incoming

	director *Director
	ctx      context.Context
	body     body // as far as it came
	decided  bool
	answer   *Answer
	route    *Route // nil: there is none, or not yet
}

// Begin begins an exchange with a request's headers. The body comes by Exchange.Body,
// in.Body is not read. With in.HeadersOnly none will come, and the request is decided at
// once. An answer that is not nil goes to the client in place of a server's: also because
// it is clear from the headers that the request will be refused.
func (d *Director) Begin(ctx context.Context, in Incoming) (*Exchange, *Answer) {
	in.Body = nil
	x := &Exchange{Incoming: in, director: d, ctx: ctx}
	if in.HeadersOnly {
		return x, x.decide()
	}
	x.body.keep = in.KeepBody
	if n, err := strconv.ParseInt(get(in.Header, "Content-Length"), 10, 64); err == nil && n > 0 {
		if n > x.most() {
			return x, x.tooLarge()
		}
		x.body.promised = n
	}
	return x, nil
}

// most returns how many bytes the body may have.
func (x *Exchange) most() int64 {
	most := x.director.MaxBody()
	if n := x.Incoming.MaxBody; n > 0 {
		most = min(most, n)
	}
	return most
}

// Body takes the next piece of the request's body. With the last one, which may be empty,
// the request is decided: Body waits for as long as admission control has it wait, or until
// the context is done. A body that comes in one piece is not copied, and must not be
// changed until Close; others may be, but for Incoming.KeepBody. After an answer was given, or
// the last piece has come, it does nothing but return the answer again.
func (x *Exchange) Body(piece []byte, last bool) *Answer {
	if x.decided {
		return x.answer
	}
	if x.body.length+int64(len(piece)) > x.most() {
		return x.tooLarge()
	}
	x.body.add(piece, last)
	if !last {
		return nil
	}
	return x.decide()
}

// decide routes the request, or returns the answer to it.
func (x *Exchange) decide() *Answer {
	in := x.Incoming
	in.Body = x.body.take()
	in.HeadersOnly = len(in.Body) == 0
	x.Incoming, x.decided = in, true
	if a, ok := x.director.Answer(in); ok {
		x.answer = new(a)
		return x.answer
	}
	route, err := x.director.Route(x.ctx, in)
	if err != nil {
		return x.refused(AsError(err))
	}
	x.route = route
	return nil
}

func (x *Exchange) tooLarge() *Answer {
	return x.Refuse(&Error{Status: 413, Code: openai.CodeTooLarge, Message: fmt.Sprintf("request body is larger than %d bytes", x.most())})
}

// Refuse refuses a request for what only the data plane knows, and returns the answer: see
// Director.Refuse. One that was routed stays so until Close; one that was answered already
// keeps its answer.
func (x *Exchange) Refuse(e *Error) *Answer {
	if x.answer != nil {
		return x.answer
	}
	return x.refused(x.director.Refuse(x.Incoming.Path, e))
}

func (x *Exchange) refused(e *Error) *Answer {
	x.decided, x.body, x.answer = true, body{}, new(e.answer())
	return x.answer
}

// Route returns where the request goes: nil if it was answered in another way, or is not
// complete.
func (x *Exchange) Route() *Route { return x.route }

// ResponseHeader begins a response: see Route.ResponseHeader.
func (x *Exchange) ResponseHeader(status int, h map[string][]string) {
	if x.route != nil {
		x.route.ResponseHeader(status, h)
	}
}

// ResponseBody takes the next piece of a response and returns what is to be passed on in
// its place, which is valid until the next call and may be part of piece. With the last
// one, which may be empty, the outcome is accounted, and everything that was held back
// is returned.
func (x *Exchange) ResponseBody(piece []byte, last bool) []byte {
	if x.route == nil {
		return piece
	}
	if len(piece) > 0 {
		piece = x.route.Data(piece)
	}
	if !last {
		return piece
	}
	held := slices.Clone(piece) // it is valid until End
	return append(held, x.route.End()...)
}

// Close ends the exchange, however far it came; what has ended already stays as it is. err
// says why it ends: see Route.Done.
func (x *Exchange) Close(err error) {
	if x.route != nil {
		x.route.Done(err)
	}
}
