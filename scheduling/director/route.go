package director

import (
	"context"
	"errors"
	"net/textproto"
	"sync"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// ErrCutOff is the Outcome.Err of a response that ended before its proper end.
var ErrCutOff = errors.New("director: the response was cut off")

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
	parsed    openai.Parsed
	decision  *scheduling.Decision
	ticket    *admission.Ticket // nil: the pool has no admission control
	subset    subset            // nil: none
	tried     int               // fallbacks gone on to

	keepModel bool // KeepModel was called

	mu sync.Mutex
	// guarded by mu, because Done may come from anywhere
	status int   // of the response; 0: none has begun
	size   int64 // of its body so far
	first  bool  // the first token was seen
	stream openai.Stream
	done   bool
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
func (r *Route) Next() *types.Endpoint {
	if r.tried >= len(r.decision.Fallbacks) {
		return nil
	}
	ep := r.decision.Fallbacks[r.tried]
	r.tried++
	r.moveTo(ep)
	r.mu.Lock()
	r.status, r.size = 0, 0
	r.mu.Unlock()
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
				r.moveTo(ep)
				return true
			}
		}
	}
	return false
}

// moveTo moves the booking.
func (r *Route) moveTo(ep *types.Endpoint) {
	r.decision.Retry(ep, types.Outcome{Err: errors.New("director: no answer")})
	if r.ticket != nil {
		r.ticket.Booked(ep)
	}
	r.mu.Lock()
	r.first = false
	r.mu.Unlock()
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

// Response begins a response of the endpoint: its HTTP status, which is not 0,
// and content type. RestoresModel tells whether its length may change.
func (r *Route) Response(status int, contentType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.size = status, 0
	o := openai.StreamOptions{ContentType: contentType}
	if r.RestoresModel() {
		o.TargetModel, o.Model = r.Request.TargetModel, r.Request.Model
	}
	r.stream.Reset(o)
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status == 0 {
		return chunk
	}
	r.size += int64(len(chunk))
	out := r.stream.Feed(chunk)
	if !r.first && r.stream.FirstToken() && r.status < 400 {
		r.first = true
		r.decision.FirstToken()
		if r.ticket != nil {
			r.ticket.FirstToken()
		}
	}
	return out
}

// End is to be called when the server's response has ended, and returns what is
// left to pass on. The outcome is accounted: a response that ends in the middle
// is a failure of the endpoint.
func (r *Route) End() []byte {
	r.mu.Lock()
	var rest []byte
	var err error
	if r.status != 0 {
		rest = r.stream.Close()
		if !r.stream.Done() && r.status < 400 {
			err = ErrCutOff
		}
	}
	r.mu.Unlock()
	r.Done(err)
	return rest
}

// Done accounts how the request ended; the first call counts, and End is one. err
// is why it failed: nil if it did not, context.Canceled if the client went away, and
// what OnRevoke gave if it was revoked: neither is a failure of the endpoint.
// A nil err before Response was called means that no answer was received.
func (r *Route) Done(err error) {
	r.mu.Lock()
	if r.done {
		r.mu.Unlock()
		return
	}
	r.done = true
	out := types.Outcome{Status: r.status, Err: err, ResponseBytes: r.size}
	if errors.Is(err, context.Canceled) || isRevoked(err) || err == nil && r.status == 0 {
		out.Cancelled, out.Err = true, nil
	}
	if r.status != 0 {
		out.Usage = r.stream.Usage()
		if e := r.stream.Err(); e != nil && out.Err == nil && r.status < 400 {
			out.Err = e
		}
	}
	r.mu.Unlock()
	r.decision.Done(out)
	if r.ticket != nil {
		r.ticket.Done(out)
	}
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
