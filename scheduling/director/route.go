package director

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// Route is one request on its way: where it goes, and what came back so far. It
// is for one goroutine at a time; Done may be called from any.
type Route struct {
	// Request is what the decision depended on.
	Request types.Request
	// Body is what to send: the body that came in, with the target model's name
	// in place of the public one and every other byte as it was. With Incoming.Pieces it
	// may be nil: then Pieces says what to send.
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
	path      string // clean
	method    string
	kept      kept // what the path is about, as it came
	parsed    openai.Parsed
	generates bool // takes a place at a server, and waits for one
	modelless bool // names no model, and is for whatever its pool serves
	decision  *scheduling.Decision
	ticket    *admission.Ticket // nil: the pool has no admission control
	subset    subset            // nil: none
	tried     int               // fallbacks gone on to

	sent   string          // the path, as RequestPath says
	ctx    context.Context // of the last call of Legs
	redone bool            // see there

	encodes *Encodes // nil: nothing is encoded by others

	pieces [][]byte // what is sent, if it was not put together to Body

	early *types.Request // what the beginning of the body said; nil: all of it was there
	rest  []byte         // the whole body, if Body is only the beginning

	opaque    bool // what comes back is not looked at
	polls     bool // but for what it says of a job
	session   bool // it is a websocket
	keepModel bool // KeepModel was called
	holdFirst bool // HoldFirst was

	letGo atomic.Bool // nobody reads the body any more, although the request goes on

	mu sync.Mutex
	// guarded by mu, because Done may come from anywhere; no user code runs under it
	attempt attempt
	stream  openai.Stream
	done    bool

	// Of an attempt by two endpoints, also guarded by mu.
	apart       bool        // another endpoint computes the prompt
	legs        *Legs       // by these
	again       bool        // it has failed
	elsewhere   bool        // the answer is another endpoint's, and says nothing of when its tokens came
	encoders    bool        // it is that of one at which the request is not booked
	cached      types.Gauge // what the other one had in its prefix cache
	cachedLater bool        // it will tell while the answer passes
}

// API returns what kind of request this is.
func (r *Route) API() openai.API { return r.parsed.API }

// Endpoint returns the endpoint at which the request is booked: the first choice,
// or what Next or Served moved it to.
func (r *Route) Endpoint() *types.Endpoint { return r.decision.Current() }

// PrefillDone reports how the request to Prefill ended, for data planes in which something before
// the engine runs the legs. Only the first call counts.
func (r *Route) PrefillDone(out types.Outcome) { r.decision.PrefillDone(out) }

// Fallbacks returns the endpoints that Next will go on to, best first, in memory of the Route.
func (r *Route) Fallbacks() []*types.Endpoint { return r.decision.Fallbacks[r.tried:] }

// Patience returns for how long to wait for a sign of life from Endpoint before going on
// to a fallback, if there is one: see scheduling.Impatient. 0: for as long as it takes.
func (r *Route) Patience() time.Duration { return r.decision.Patience() }

// Settled reports whether the request has ended, or its answer has and its server goes on (see JobOptions), and plugins
// and hooks have been told: from then on the memory of its body may be used for something else.
func (r *Route) Settled() bool { return r.letGo.Load() || r.decision.Settled() }

// Failed says how the attempt at Endpoint failed, for Next or Done to account: err is
// why, and unsent that nothing was sent to it, so that it is not to blame. What came of a
// response before is accounted in any case.
func (r *Route) Failed(err error, unsent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempt.err, r.attempt.unsent = err, unsent
}

// Next goes on to the next fallback, after the endpoint before failed to answer, or its
// answer was thrown away: the booking moves there, and how the attempt ended is told
// (see Failed). It returns nil if there is none left. Call it only while no byte of a
// response has gone to the client, and see Repeatable.
func (r *Route) Next() *types.Endpoint {
	r.wholeBody()
	for r.tried < len(r.decision.Fallbacks) {
		ep := r.decision.Fallbacks[r.tried]
		r.tried++
		if r.moveTo(ep) == nil {
			return ep
		}
	}
	return nil
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
				return r.moveTo(ep) == nil
			}
		}
	}
	return false
}

// moveTo ends the attempt at one endpoint and moves the booking to another, unless that one cannot
// serve the request for want of somebody who computes its prompt.
func (r *Route) moveTo(ep *types.Endpoint) error {
	r.mu.Lock()
	a := &r.attempt
	how, err := broken, a.err
	if err == nil {
		err = errNoAnswer
		if Retryable(a.status) {
			how = ended // the answer itself says why
		}
	}
	left := judge(a, &r.stream, how, err)
	if r.apart {
		left.Usage.CachedTokens = types.Gauge{}
	}
	if !r.Request.Split {
		r.forgetLocked()
	}
	r.mu.Unlock()
	if r.Request.Split {
		ctx := r.ctx
		if ctx == nil {
			ctx = context.Background()
		}
		if err := r.decision.RetryApart(ctx, ep, left, r.within()); err != nil {
			return err
		}
		r.forget()
		r.begun()
	} else {
		r.decision.Retry(ep, left)
	}
	r.booked(ep)
	return nil
}

// OnRevoke says how the request can be ended while it is under way, should one of a
// higher band need its place (admission.Options.Revoke): f is called at most once, from
// any goroutine but not from within a method of the Route, with the error for the client if
// it has had no byte yet. It must see to it that Done is called soon, with that error; it
// may call Done itself. If it panics, Done is called.
func (r *Route) OnRevoke(f func(*Error)) {
	if r.ticket == nil {
		return
	}
	r.ticket.OnRevoke(func(refusal *admission.Refusal) {
		why := r.director.translate(refusal, r)
		defer r.director.recovered("the function of OnRevoke", func() { r.Done(why) })
		f(why)
	})
}

// Response begins a response of the endpoint, of which no more than its HTTP status,
// which is not 0, and its content type are known. ResponseHeader says more.
func (r *Route) Response(status int, contentType string) { r.begin(status, contentType, "", 0) }

// ResponseHeader begins a response of the endpoint: its HTTP status, which is not 0, and
// its headers in the form of net/http. Content-Type, Content-Encoding, Retry-After and, of
// an answer over gRPC, Grpc-Status are read. RestoresModel tells whether its length may change.
func (r *Route) ResponseHeader(status int, h map[string][]string) {
	if r.overGRPC() {
		status = grpcStatus(status, get(h, "Grpc-Status"))
	}
	r.begin(status, get(h, "Content-Type"), get(h, "Content-Encoding"), retryAfter(get(h, "Retry-After")))
}

// ResponseTrailer takes the trailers of the response, in the form of net/http, before End: an
// answer over gRPC says there, by Grpc-Status, how it ended.
func (r *Route) ResponseTrailer(h map[string][]string) {
	if !r.overGRPC() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempt.status = grpcStatus(r.attempt.status, get(h, "Grpc-Status"))
}

func (r *Route) overGRPC() bool {
	return r.parsed.API == openai.GRPCGenerate || r.parsed.API == openai.GRPCEmbed
}

func (r *Route) begin(status int, contentType, encoding string, after time.Duration) {
	r.decision.Alive()
	if r.session && status == switching {
		r.decision.Answered(types.Outcome{Status: status})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	mediaType, _, _ := strings.Cut(contentType, ";")
	r.attempt = attempt{status: status, retryAfter: after, unsent: r.encoders, events: strings.EqualFold(strings.TrimSpace(mediaType), "text/event-stream")}
	o := openai.StreamOptions{
		API: r.parsed.API, ContentType: contentType, ContentEncoding: encoding, Streamed: r.Request.Stream, Kept: r.kept.tells(),
	}
	if r.opaque && (!r.polls || r.attempt.events) {
		o.ContentType = "application/octet-stream"
	}
	if r.restores() {
		o.TargetModel, o.Model = r.Request.TargetModel, r.Request.Model
	}
	if r.corrects() {
		o.CachedTokens, o.CachedLater = r.cached, r.cachedLater
	}
	o.HoldFirst = r.holdFirst && status < 300 && len(r.Fallbacks()) > 0
	r.stream.Reset(o)
}

// RestoresModel reports whether the response may leave with another length than
// it came: then Content-Length must go. That is so if the model's name is put back, and if
// another endpoint computed the prompt: then the cached tokens in the usage are corrected to what
// that one had in its cache.
func (r *Route) RestoresModel() bool {
	if r.restores() {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.corrects()
}

// restores reports whether the model's name is put back.
func (r *Route) restores() bool {
	return r.director.o.RestoreModel && !r.keepModel && !r.opaque && r.Request.TargetModel != r.Request.Model
}

// corrects reports whether the cached tokens are corrected. Caller must hold r.mu.
func (r *Route) corrects() bool {
	return r.apart && !r.keepModel && (r.cachedLater || r.cached.IsKnown())
}

// KeepModel leaves the target model's name in the response whatever
// Options.RestoreModel says, and its usage, so that Data returns every chunk at once and as it is:
// for data planes that can neither hold bytes back nor add some at the end. Call it
// before Response.
func (r *Route) KeepModel() { r.keepModel = true }

// HoldFirst makes Data hold back the first event of a stream until it is complete, as long
// as there is a fallback: for data planes that go on to it when Status says so. What keeps
// a connection alive is not held back. Call it before Response.
func (r *Route) HoldFirst() { r.holdFirst = true }

// Status returns the HTTP status of the response so far: where its body says after a
// status below 300 that there was an error, that which the error stands for. 0: none has
// begun. As long as the client has had no byte of one that is Retryable, Next may be tried.
func (r *Route) Status() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if failure := failureOf(&r.attempt, &r.stream); failure != nil {
		return failure.Status
	}
	return r.attempt.status
}

// Usage returns what the server reported so far that the request took. If another endpoint
// computed the prompt, the cached tokens are those that it had in its prefix cache.
func (r *Route) Usage() types.Usage {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.stream.Usage()
	if r.apart && r.handsOver() { // what comes from others may be corrected already
		u.CachedTokens = r.cached
	}
	return u
}

// switching is the status of an answer after which a connection speaks another protocol.
const switching = 101

// Data takes the next bytes of the response and returns those to pass on now,
// which may be none. The result is valid until the next call, and may be part of
// chunk. Before Response it returns chunk. Each call is a sign of life, see
// scheduling.Decision.Alive.
func (r *Route) Data(chunk []byte) []byte {
	r.decision.Alive()
	if r.ticket != nil {
		r.ticket.Alive()
	}
	r.mu.Lock()
	a := &r.attempt
	if a.status == 0 {
		r.mu.Unlock()
		return chunk
	}
	a.size += int64(len(chunk))
	out := r.stream.Feed(chunk)
	before := a.first
	if len(chunk) > 0 && a.status < 400 && r.stream.FirstToken() {
		a.first = true
		a.reads++
	}
	now := a.first && !r.elsewhere
	r.mu.Unlock()
	if now && !before {
		r.decision.FirstToken()
		if r.ticket != nil {
			r.ticket.FirstToken()
		}
	}
	return out
}

// Stalled says that nobody took what the server sent for so long, before the last Data.
func (r *Route) Stalled(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.attempt.first {
		r.attempt.stalled += d
	}
}

// Rest returns what Data still holds back, once there is no more to come: then Status is
// final. End and Break, which account the request, return it too if nobody has asked.
func (r *Route) Rest() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.attempt.status == 0 {
		return nil
	}
	return r.stream.Close()
}

// End is to be called when the server's response has ended as HTTP has it, and returns
// what is left to pass on. The outcome is accounted: it is complete unless its API has a
// known end that did not come.
func (r *Route) End() []byte {
	rest := r.Rest()
	r.finish(ended, nil)
	return rest
}

// Break is to be called in place of End when the server's response broke off, by err, and
// returns what is left to pass on. The outcome is accounted: it is a failure of the
// endpoint, unless what came is the whole of a stream of events by its last one.
func (r *Route) Break(err error) []byte {
	rest := r.Rest()
	r.finish(broken, err)
	return rest
}

// Done accounts how the request ended; the first call counts, and End and Break are ones.
// err is why it failed: nil if it did not, context.Canceled if the client went away, and
// what OnRevoke gave if it was revoked. Neither is a failure of the endpoint, and a client
// that goes when it has had the last event of a stream, or the whole of a JSON value, was
// served. A nil err before Response was called means that no answer was received.
func (r *Route) Done(err error) {
	switch {
	case err == nil:
		r.finish(accepted, nil)
	case errors.Is(err, context.Canceled) || isRevoked(err):
		r.finish(gone, err)
	default:
		r.finish(broken, err)
	}
}

func (r *Route) finish(how ending, err error) {
	r.mu.Lock()
	if r.done {
		r.mu.Unlock()
		return
	}
	r.done = true
	if how <= accepted && r.attempt.status == 0 {
		how = gone
	}
	if r.again && how == broken && r.attempt.status != 0 {
		how = gone // it was ended for want of the prompt
	}
	out := judge(&r.attempt, &r.stream, how, err)
	said := r.stream.Job()
	split := r.apart
	if split {
		out.Usage.CachedTokens = types.Gauge{} // what was handed over counts as found there
	}
	r.mu.Unlock()
	if r.encodes != nil {
		r.encodes.abandon()
	}
	if split && out.Served() && r.handsOver() {
		r.decision.PrefillDone(types.Outcome{Status: 200}) // unless it is known better
	}
	if !r.goesOn(&out, said) {
		r.decision.Done(out) // and the ticket with it
	}
	r.tellsOf(&out, said)
}

// abandon gives back what a request has that does not become a Route.
func (r *Route) abandon() {
	switch {
	case r.decision != nil:
		r.decision.Done(types.Outcome{Cancelled: true, Unsent: true})
	case r.ticket != nil:
		r.ticket.Done(types.Outcome{Cancelled: true, Unsent: true})
	}
}

func isRevoked(err error) bool {
	refused, ok := errors.AsType[*admission.Refusal](err)
	return ok && refused.Reason == admission.Revoked
}
