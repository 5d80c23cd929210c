package filter

import (
	"context"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/scheduling/director"
)

// phase is how far a stream has come.
type phase uint8

const (
	idle      phase = iota // no headers have come
	collects               // the request's body is coming
	decides                // the request is complete, and another goroutine has the exchange
	routed                 // it is on its way
	responded              // the headers of the response have come
	ended                  // all of it has: what else comes passes untouched
	answered               // the request was answered here, or by Envoy: the answer passes untouched, and the request no further
	destroyed              // there is no Host any more
)

// Stream is one HTTP stream. Its methods are hooks, but for Destroy: they are for the stream's worker, one at
// a time, or one inside of another where a Host says so.
type Stream struct {
	f      *Filter
	ctx    context.Context
	cancel context.CancelFunc
	path   string
	grpc   bool // the client wants answers of gRPC

	x        *exchange.Exchange // nil: there is none
	phase    phase
	trailers bool // the request has trailers
	decision decision
}

// RequestHeaders is the hook of a request's headers; end says that nothing follows them.
func (s *Stream) RequestHeaders(h Host, end bool) (status Status) {
	defer s.recovered(h, &status)
	if s.phase != idle { // a request that is sent anew is another stream
		return StopIteration
	}
	wishes := s.f.o.Settings.Wishes
	if route := h.Route(); route != nil {
		wishes = route.over(wishes)
	}
	fields := h.Fields(RequestHeaders)
	for key, value := range fields {
		switch key {
		case ":path":
			s.path = value
		case "content-type":
			s.grpc = isGRPC(value)
		}
	}
	if s.f.o.Ready != nil && !s.f.o.Ready() {
		return s.refuse(h, &director.Error{Status: 503, Code: codeStarting, Message: "the gateway is starting, try again", RetryAfter: retryAfter})
	}
	x, err := s.f.o.Handler.Open(s.ctx, wishes)
	if err != nil {
		return s.refuse(h, &director.Error{Status: 503, Code: codeBusy, Message: "too many requests at a time, try again later", RetryAfter: retryAfter, Err: err})
	}
	s.x = x
	x.Request(exchange.Request{Fields: fields, End: end, Pieces: true})
	if x.HeadersOnly() {
		return s.decide(h, x.Begin)
	}
	s.phase = collects
	return s.goOn(h, x.Begin())
}

// RequestBody is the hook of a piece of a request's body.
func (s *Stream) RequestBody(h Host, end bool) (status Status) {
	defer s.recovered(h, &status)
	switch s.phase {
	case collects:
		if s.collect(h, ReceivedRequest) && s.collect(h, BufferedRequest) && end {
			s.decide(h, s.complete)
		}
		return StopNoBuffer
	case decides: // an upgrade whose client does not wait for the answer to it
		return StopAndWatermark
	case routed, responded:
		s.x.Route().Alive()
		return Continue
	case ended:
		return Continue
	}
	return StopNoBuffer
}

// collect takes what is in a buffer of the request's body, and reports whether there is no answer to it yet. What is
// received is as a rule all of it. Where another filter before this one has kept some, that may be the same as
// what is received, which is not there twice then, or hold the end of it.
func (s *Stream) collect(h Host, b Body) bool {
	length := 0
	for _, piece := range h.Pieces(b) {
		length += len(piece)
		if a := s.x.Body(piece, false); a != nil {
			s.respond(h, a)
			return false
		}
	}
	if length > 0 {
		h.Drain(b, length)
	}
	return true
}

// RequestTrailers is the hook of a request's trailers, which end it.
func (s *Stream) RequestTrailers(h Host) (status Status) {
	defer s.recovered(h, &status)
	switch s.phase {
	case collects:
		s.trailers = true
		if s.collect(h, BufferedRequest) {
			s.decide(h, s.complete)
		}
	case routed, responded, ended:
		return Continue
	}
	return StopIteration
}

// complete ends the body.
func (s *Stream) complete() *exchange.Answer { return s.x.Body(nil, true) }

// goOn goes on with a request that is not complete, if there is no answer to it yet.
func (s *Stream) goOn(h Host, a *exchange.Answer) Status {
	if a != nil {
		s.respond(h, a)
	}
	return StopIteration
}

// decide has another goroutine decide the request, which may wait.
func (s *Stream) decide(h Host, decide func() *exchange.Answer) Status {
	if hint, ok := h.Metadata(exchange.NamespaceSubset, exchange.KeySubset); ok {
		s.x.Subset(hint)
	}
	waker := h.Waker()
	s.phase = decides
	s.decision.start(waker, func(a **exchange.Answer) { s.f.attempt(s.path, decide, a) }, s.close)
	return StopIteration
}

// Woken is the hook that Waker.Wake calls: the request is decided.
func (s *Stream) Woken(h Host) {
	status := Continue
	defer s.recovered(h, &status)
	if s.phase != decides {
		return
	}
	if a := s.decision.result(); a != nil {
		s.respond(h, a)
		return
	}
	s.send(h)
}

// send lets the request go where it is routed to.
func (s *Stream) send(h Host) {
	pieces := s.x.Pieces()
	to := s.x.Destinations()
	body := !s.x.HeadersOnly() && !s.trailers
	changes := s.x.Changes(to, body)
	for _, name := range changes.Remove {
		h.Remove(RequestHeaders, name)
	}
	if s.trailers {
		h.Remove(RequestHeaders, "content-length") // the body goes in chunks
	}
	for i := 0; i < len(changes.Set); i += 2 {
		h.Set(RequestHeaders, changes.Set[i], changes.Set[i+1])
	}
	h.SetMetadata(exchange.NamespaceLB, exchange.KeyDestination, to.All)
	if to.Fallback != "" {
		h.SetMetadata(exchange.NamespaceLB, exchange.KeyFallback, to.Fallback)
	}
	for _, piece := range pieces {
		h.Append(BufferedRequest, piece)
	}
	s.phase = routed
	h.Go()
}

// respond answers the request in place of a server.
func (s *Stream) respond(h Host, a *exchange.Answer) {
	s.phase = answered
	if a.Canceled() {
		h.Reset()
		return
	}
	s.answer(h, a)
}

// answer answers in the client's protocol.
func (s *Stream) answer(h Host, a *exchange.Answer) {
	if s.grpc {
		a = withGRPCStatus(a)
	}
	h.Respond(a)
}

// refuse answers a request for which there is no exchange.
func (s *Stream) refuse(h Host, e *director.Error) Status {
	s.respond(h, s.f.o.Handler.Refuse(s.path, e))
	return StopIteration
}

// ResponseHeaders is the hook of a response's headers, which may be Envoy's own; end says that nothing
// follows them.
func (s *Stream) ResponseHeaders(h Host, end bool) (status Status) {
	defer s.recovered(h, &status)
	switch s.phase {
	case routed:
	case idle, collects, decides:
		s.cancel() // Envoy has answered: nobody waits for a decision any more
		s.phase = answered
		return Continue
	default:
		return Continue
	}
	var served string
	if values, _ := h.Metadata(exchange.NamespaceLB, exchange.KeyServed); len(values) == 1 {
		served = values[0]
	}
	restores := s.x.Response(h.Fields(ResponseHeaders), served, false)
	s.phase = responded
	if restores && !end {
		h.Remove(ResponseHeaders, "content-length") // it may change
	}
	if end {
		s.x.ResponseBody(nil, true)
		s.end(h)
	}
	return Continue
}

// ResponseBody is the hook of a piece of a response's body.
func (s *Stream) ResponseBody(h Host, end bool) (status Status) {
	defer s.recovered(h, &status)
	if s.phase != responded {
		return Continue
	}
	pieces := h.Pieces(ReceivedResponse)
	length, changed := 0, false
	for i, piece := range pieces {
		out := s.x.ResponseBody(piece, false)
		if !changed && !same(out, piece) {
			changed = true
			for _, before := range pieces[:i] {
				h.Append(ReceivedResponse, before)
			}
		}
		if changed {
			h.Append(ReceivedResponse, out)
		}
		length += len(piece)
	}
	var rest []byte
	if end {
		rest = s.x.ResponseBody(nil, true)
	}
	// What changed lies behind what came, which was read until here.
	h.Append(ReceivedResponse, rest)
	if changed {
		h.Drain(ReceivedResponse, length)
	}
	if end {
		s.end(h)
	}
	return Continue
}

// same reports whether two slices are one.
func same(a, b []byte) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// ResponseTrailers is the hook of a response's trailers, which end it.
func (s *Stream) ResponseTrailers(h Host) (status Status) {
	defer s.recovered(h, &status)
	if s.phase == responded {
		h.Append(BufferedResponse, s.x.ResponseTrailers(h.Fields(ResponseTrailers)))
		s.end(h)
	}
	return Continue
}

// end goes on when the response has ended.
func (s *Stream) end(h Host) {
	s.phase = ended
	for namespace, values := range s.x.Report() {
		for key, value := range values {
			h.SetMetadata(namespace, key, value)
		}
	}
}

// Destroy is what comes last, whatever came before: the stream has ended, and its Host is no more.
func (s *Stream) Destroy() {
	if s.phase == destroyed {
		return
	}
	s.phase = destroyed
	s.cancel()
	if s.decision.abandon() {
		s.close()
	}
}

// close releases what is booked.
func (s *Stream) close() {
	if s.x == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			s.f.panicked(v)
		}
	}()
	// What has ended well stays so. The rest ended early: the client went away, or the server broke off,
	// which Envoy does not tell apart.
	s.x.Close(context.Canceled)
}

// recovered makes of a panic in a hook the end of the stream.
func (s *Stream) recovered(h Host, status *Status) {
	v := recover()
	if v == nil {
		return
	}
	s.f.panicked(v)
	before := s.phase
	if before == destroyed {
		return
	}
	s.phase = answered
	*status = StopIteration
	if before < responded {
		s.answer(h, s.f.failure(s.path))
	} else {
		h.Reset()
	}
}
