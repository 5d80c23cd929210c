package director

import (
	"context"
	"errors"
	"net/textproto"
	"strconv"
	"sync"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

var (
	// ErrCutOff is the Outcome.Err of a response that ended before its proper end.
	ErrCutOff = errors.New("director: the response was cut off")
	// ErrUnsent is wrapped by the error of an attempt of which nothing was sent: it is no fault of
	// the endpoint.
	ErrUnsent = errors.New("director: nothing was sent")
	// ErrNoAnswer is the error of an attempt that ended without an answer, where no other is given.
	ErrNoAnswer = errors.New("director: no answer")
)

// Route is one request on its way: where it goes, and what came back so far. It
// is for one goroutine at a time; Done may be called from any.
type Route struct {
	// Request is what the decision depended on.
	Request types.Request
	// Body is what to send: the body that came in, with the target model's name
	// in place of the public one and every other byte as it was.
	Body []byte
	// Pool is the pool that serves the request.
	Pool types.NamespacedName
	// Resolution is by which manifests. What is in it must not be modified.
	Resolution datastore.Resolution
	// Explanation is why; set if Incoming.Explain was.
	Explanation *scheduling.Explanation
	// Waited is how long the request waited to be let in, and Admission why, set if
	// Incoming.Explain was: what there was to say when it came. Nil: its pool has no
	// admission control.
	Waited    time.Duration
	Admission *admission.Report

	director  *Director
	scheduler *scheduling.Scheduler
	path      string
	parsed    openai.Parsed
	computes  bool // a server computes something for it
	decision  *scheduling.Decision
	ticket    *admission.Ticket // nil: no admission control was asked
	subset    subset            // nil: none
	tried     int               // fallbacks gone on to

	keepModel bool // KeepModel was called
	holdFirst bool // HoldFirst was called

	mu sync.Mutex
	// guarded by mu, because Done may come from anywhere
	answer answer
	done   bool
}

// answer is what came back of one attempt.
type answer struct {
	status     int // 0: none has begun
	retryAfter time.Duration
	length     int64 // that was announced; -1: none was
	size       int64 // of the body so far
	first      bool  // the first token was seen
	reads      int   // pieces of the body from that on
	stalled    time.Duration
	stream     openai.Stream
}

// API returns what kind of request this is.
func (r *Route) API() openai.API { return r.parsed.API }

// Endpoint returns the endpoint at which the request is booked: the first choice,
// or what Next or Served moved it to.
func (r *Route) Endpoint() *types.Endpoint { return r.decision.Current() }

// Fallbacks returns the endpoints that Next will go on to, best first.
func (r *Route) Fallbacks() []*types.Endpoint { return r.decision.Fallbacks[r.tried:] }

// Next goes on to the next fallback, after the endpoint before failed to answer:
// the booking moves there. It returns nil if there is none left. Call it only
// while no byte of a response has gone to the client.
func (r *Route) Next() *types.Endpoint { return r.NextAfter(nil) }

// NextAfter is Next for those who can say how the attempt before ended: with err, which may
// wrap ErrUnsent or context.DeadlineExceeded, or, if err is nil, with the answer that Response was
// told of. It is that by which the endpoint is judged.
func (r *Route) NextAfter(err error) *types.Endpoint {
	if r.tried >= len(r.decision.Fallbacks) {
		return nil
	}
	ep := r.decision.Fallbacks[r.tried]
	r.tried++
	r.moveTo(ep, err)
	return ep
}

// Served reports the address that served the request where the data plane does
// the retrying itself. The booking moves there, if it is an endpoint of the pool:
// as a rule one of those that were named, but a data plane that has used them up
// may take another. Served reports whether the pool has it.
func (r *Route) Served(address string) bool {
	if r.decision.Current().Address == address {
		return true
	}
	for _, among := range [][]*types.Endpoint{{r.decision.Endpoint}, r.decision.Fallbacks, r.Resolution.Pool.Endpoints()} {
		for _, ep := range among {
			if ep.Address == address {
				r.moveTo(ep, nil)
				return true
			}
		}
	}
	return false
}

// moveTo moves the booking, after an attempt that ended with err or its answer.
func (r *Route) moveTo(ep *types.Endpoint, err error) {
	r.mu.Lock()
	if err == nil && r.answer.status == 0 {
		err = ErrNoAnswer
	}
	left := r.answer.outcome(err)
	r.answer = answer{stream: r.answer.stream} // which keeps its memory
	r.mu.Unlock()
	r.decision.Retry(ep, left)
	if r.ticket != nil {
		r.ticket.Booked(ep)
	}
}

// Patience returns for how long to wait for a sign of life from the endpoint before going on to
// a fallback: the first token, or the end of an answer that is not streamed. 0: for as long as it
// takes. It is not 0 for endpoints that may not answer, while there is a fallback.
func (r *Route) Patience() time.Duration {
	if len(r.Fallbacks()) == 0 {
		return 0
	}
	return r.decision.Patience()
}

// OnRevoke says how the request can be ended while it is under way, should one of a
// higher band need its place (admission.Options.Revoke): f is called at most once, from
// any goroutine but not from within a method of the Route, with the error for the client if
// it has had no byte yet. It must see to it that Done is called soon, with that error; it
// may call Done itself.
func (r *Route) OnRevoke(f func(*Error)) {
	if r.ticket != nil {
		r.ticket.OnRevoke(func(why *admission.Refusal) { f(r.director.translate(why, r)) })
	}
}

// Response begins a response of the endpoint: its HTTP status, and content type.
// RestoresModel tells whether its length may change. Answer is better where there are headers.
func (r *Route) Response(status int, contentType string) {
	r.begin(status, openai.StreamOptions{ContentType: contentType}, 0, -1)
}

// Answer begins a response of the endpoint: its HTTP status and its headers in canonical form.
// RestoresModel tells whether its length may change. It reports whether this is an answer: a
// status below 200 that nobody asked for, or above 599, is none, and the next endpoint should be
// asked.
func (r *Route) Answer(status int, header map[string][]string) bool {
	length := int64(-1)
	if n, err := strconv.ParseInt(get(header, "Content-Length"), 10, 64); err == nil && n >= 0 {
		length = n
	}
	o := openai.StreamOptions{ContentType: get(header, "Content-Type"), ContentEncoding: get(header, "Content-Encoding")}
	return r.begin(status, o, retryAfter(header), length)
}

func (r *Route) begin(status int, o openai.StreamOptions, retryAfter time.Duration, length int64) bool {
	if status < 200 || status > 599 {
		return false
	}
	o.API, o.HoldFirst = r.parsed.API, r.holdFirst
	if r.RestoresModel() {
		o.TargetModel, o.Model = r.Request.TargetModel, r.Request.Model
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &r.answer
	a.status, a.retryAfter, a.length, a.size = status, retryAfter, length, 0
	a.stream.Reset(o)
	return true
}

// HoldFirst has Data hold back the first event of a stream until it is complete, so that an
// answer that turns out to be a refusal can be left for a fallback: see Retryable. What comes
// before it, comments and blank lines, is passed on at once. Call it before Answer.
func (r *Route) HoldFirst() { r.holdFirst = true }

// Retryable reports whether another server may do better than this answer says: it is, by its
// status or by an error in a body of which nothing was generated yet, that the server has too much
// to do or cannot be reached. While nothing of it has gone to the client, it can be left.
func (r *Route) Retryable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &r.answer
	if a.status >= 400 {
		return retryable(a.status)
	}
	if a.status == 0 || a.stream.Tokens() > 0 {
		return false
	}
	e, ok := a.stream.Err().(*openai.ServerError)
	return ok && retryable(e.Status)
}

// retryable reports whether a status means that another server may answer.
func retryable(status int) bool {
	switch status {
	case 429, 502, 503, 504, 529:
		return true
	}
	return false
}

// RestoresModel reports whether the response may leave with another length than
// it came: then Content-Length must go.
func (r *Route) RestoresModel() bool {
	return r.director.o.RestoreModel && !r.keepModel && r.Request.TargetModel != r.Request.Model
}

// KeepModel leaves the target model's name in the response whatever
// Options.RestoreModel says, so that Data returns every chunk at once and as it is:
// for data planes that can neither hold bytes back nor add some at the end. Call it
// before Response.
func (r *Route) KeepModel() { r.keepModel = true }

// Data takes the next bytes of the response and returns those to pass on now,
// which may be none. The result is valid until the next call, and may be part of
// chunk. Before Response it returns chunk.
func (r *Route) Data(chunk []byte) []byte {
	r.decision.Alive()
	if r.ticket != nil {
		r.ticket.Alive()
	}
	out, first := r.feed(chunk)
	if first {
		r.decision.FirstToken()
		if r.ticket != nil {
			r.ticket.FirstToken()
		}
	}
	return out
}

// feed is Data without telling anybody. first is set for the piece with the first token.
func (r *Route) feed(chunk []byte) (out []byte, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &r.answer
	if a.status == 0 {
		return chunk, false
	}
	a.size += int64(len(chunk))
	out = a.stream.Feed(chunk)
	if !a.first && a.status < 400 && a.stream.FirstToken() {
		a.first, first = true, true
	}
	if a.first {
		a.reads++
	}
	return out, first
}

// Stalled tells for how long nobody took what the server sent, as a client that reads slowly
// makes a data plane wait: what comes later is then not the server's fault.
func (r *Route) Stalled(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answer.first {
		r.answer.stalled += d
	}
}

// Rest is to be called when the server's response has ended properly, and returns what is left
// to pass on; Retryable then tells of the whole answer. End does the same and accounts the end.
func (r *Route) Rest() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answer.status == 0 {
		return nil
	}
	return r.answer.stream.Close()
}

// End is to be called when the server's response has ended as HTTP says it should, and returns
// what is left to pass on. The outcome is accounted: the answer is complete, unless it is the
// stream of an API whose end is known, was read to the end, and the end is not there.
func (r *Route) End() []byte {
	rest := r.Rest()
	var err error
	r.mu.Lock()
	if a := &r.answer; a.status != 0 && a.status < 400 && a.stream.CutOff() {
		err = ErrCutOff
	}
	r.mu.Unlock()
	r.Done(err)
	return rest
}

// Done accounts how the request ended; the first call counts, and End is one. err
// is why it failed: nil if it did not, context.Canceled if the client went away, and
// what OnRevoke gave if it was revoked: neither is a failure of the endpoint, nor is an error
// that wraps ErrUnsent. An answer that was read to its end was served, whatever err says.
// A nil err before Response was called means that no answer was received.
func (r *Route) Done(err error) {
	r.mu.Lock()
	if r.done {
		r.mu.Unlock()
		return
	}
	r.done = true
	if err == nil && r.answer.status == 0 {
		err = context.Canceled
	}
	out := r.answer.outcome(err)
	r.mu.Unlock()
	r.decision.Done(out) // which ends the ticket
}

// abandon ends what there is of a route that is not returned.
func (r *Route) abandon() {
	switch {
	case r.decision != nil:
		r.decision.EndWith(r.ender())
		r.decision.Done(types.Outcome{Cancelled: true})
	case r.ticket != nil:
		r.ticket.Done(types.Outcome{Cancelled: true})
	}
}

func (r *Route) ender() scheduling.Ender {
	if r.ticket == nil {
		return nil
	}
	return r.ticket
}

// outcome is what an attempt came to that ended with err.
func (a *answer) outcome(err error) types.Outcome {
	out := types.Outcome{Err: err, Status: a.status, ResponseBytes: a.size, RetryAfter: a.retryAfter}
	if a.status != 0 {
		out.Usage, out.Tokens, out.Reads, out.Stalled, out.ResponseID =
			a.stream.Usage(), a.stream.Tokens(), a.reads, a.stalled, a.stream.ResponseID()
		if a.whole() && err != ErrCutOff {
			out.Err = nil // who went, or what broke, did so after the end
		}
	}
	switch {
	case errors.Is(out.Err, context.Canceled) || isRevoked(out.Err):
		out.Cancelled, out.Err = true, nil
	case errors.Is(out.Err, ErrUnsent):
		out.Unsent = true
	}
	if e, ok := a.stream.Err().(*openai.ServerError); ok && a.status != 0 && a.status < 400 {
		out.Status = e.Status
		if e.Status < 500 {
			out.Err = nil // it is the client's fault, or the server is busy: no break in the middle
		} else if out.Err == nil && !out.Cancelled {
			out.Err = e
		}
	}
	return out
}

// whole reports whether the answer was read to its end.
func (a *answer) whole() bool {
	return a.stream.Done() || a.length >= 0 && a.size >= a.length
}

func isRevoked(err error) bool {
	if err == nil {
		return false
	}
	var refused *admission.Refusal
	return errors.As(err, &refused) && refused.Reason == admission.Revoked
}

func canonical(header string) string {
	if header == "" {
		return HeaderSession
	}
	return textproto.CanonicalMIMEHeaderKey(header)
}
