package director

import (
	"context"
	"slices"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// This file is requests that are decided when only the beginning of their bodies has come.

// RouteEarly decides on the beginning of a body of size bytes, in.Body, if that says enough: for data planes
// that send the rest on as it comes. It is a bet that the rest changes nothing, which the data plane settles:
//
//	r := d.RouteEarly(ctx, in, size) // nil: not yet, or not at all
//	// send r.Body, and what follows in.Body as it comes, but for its last byte
//	r.Complete(body)                 // the whole body: true: send the last byte
//	r.Withdraw()                     // false, or it does not come: break off, and call Route when it is whole
//
// It refuses nothing, and tells nobody of what it does not route: nil is returned for whatever Route would return an
// error for. So it is for what Route has to do before and beside the choice of a server: where requests wait to
// be let in (Options.Admission), where engines have roles, Options.Handover, Encode or Tokenize, where bodies
// are not looked at, and for what openai.ParseEarly does not know. in.Body must not change as long as the Route
// is not settled.
func (d *Director) RouteEarly(ctx context.Context, in Incoming, size int64) (routed *Route) {
	if d.o.Handover != nil || d.o.Encode != nil || d.o.Tokenize != nil || in.HeadersOnly || in.Split || size <= int64(len(in.Body)) {
		return nil
	}
	r := &Route{director: d}
	defer func() {
		if routed == nil {
			_ = recover() // it panics again when the body is whole
			r.abandon()
		}
	}()
	in.size = size
	candidates, err := d.prepare(r, &in)
	if err != nil || r.early == nil || d.gate(r.Pool) != nil || slices.ContainsFunc(candidates, func(ep *types.Endpoint) bool { return ep.Roles != 0 }) {
		return nil
	}
	r.Request.Admitted = !r.generates
	if err := d.decide(ctx, r, candidates, in.Explain); err != nil {
		return nil
	}
	r.load(&in)
	return r
}

// parseEarly reads the beginning of a body.
func (d *Director) parseEarly(r *Route, in *Incoming, kind class, limits openai.Limits) error {
	parsed, ok := openai.ParseEarly(r.parsed.API, get(in.Header, "Content-Type"), in.Body, in.size, &r.Request, limits)
	if !ok {
		return errNotYet
	}
	early := r.Request
	early.Prompt.Spans = slices.Clone(early.Prompt.Spans)
	r.parsed, r.early, r.generates = parsed, &early, kind == inference
	return nil
}

var errNotYet = &Error{Status: 400, Code: openai.CodeInvalidJSON, Message: "not all of the body is here"}

// Complete takes the whole body of a request that RouteEarly routed, and reports whether the decision stands.
// Then plugins are told what is known now, as if it were sent only now, so that nobody learns from how long the
// client took; and Next has the whole body sent. With false the route must be withdrawn. body begins with the very bytes that
// RouteEarly was given, and must not change as long as the Route is not settled. Call it once.
func (r *Route) Complete(body []byte) bool {
	limits := r.director.o.Limits
	limits.ModelOptional = true
	var whole types.Request
	parsed, err := openai.Parse(r.parsed.API, get(r.Request.Header, "Content-Type"), body, &whole, limits)
	if err != nil || !r.parsed.Began(r.early, parsed, &whole) {
		return false
	}
	r.rest = body
	r.decision.Reread(func(req *types.Request) {
		req.Body, req.Prompt, req.Work = whole.Body, whole.Prompt, whole.Work
		req.MaxTokens, req.Stream = whole.MaxTokens, whole.Stream
	})
	return true
}

// wholeBody has the body be that of the whole request, once that is complete.
func (r *Route) wholeBody() {
	if r.rest == nil {
		return
	}
	r.Body, r.rest = r.parsed.Splice(r.rest, r.renamed(), r.Request.EngineSession), nil
}

// Withdraw ends a route of which all that was sent is to count for nothing: nobody is to blame for
// it, and nobody learns from it. After Done it does nothing.
func (r *Route) Withdraw() {
	r.mu.Lock()
	done := r.done
	r.done = true
	r.mu.Unlock()
	if !done {
		r.abandon()
	}
}
