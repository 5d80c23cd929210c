package director

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

// Legs are the two requests by which two endpoints serve one: Prefill computes the prompt, and
// the Route's Endpoint answers with the KV cache that it gets from there. They are one attempt;
// Route.Legs makes them.
//
// Nothing of the prefill leg goes to the client, but for what PrefillAnswer returns. The decode
// leg is sent in place of Route.Body, and what comes of it is the Route's, as ever. All methods
// may be called from any goroutine.
type Legs struct {
	route    *Route
	endpoint *types.Endpoint
	atOnce   bool
	prefill  disagg.Leg

	mu       sync.Mutex // held during calls of handover, which is for one goroutine
	handover disagg.Handover
	decode   disagg.Leg
	over     bool // the prefill leg
}

// Legs returns how the request is served at Endpoint, to be asked before each attempt: with nil
// and no error by that one, which gets Body; else by two. It is to be asked again if a prefill leg
// has failed: then it finds another endpoint to compute the prompt, or lets Endpoint do so if it
// may (scheduling.Profile.Alone), or goes on to a fallback that computes prompts anyway. The error,
// an *Error, says that there is none, or that ctx is done; the Route is yet to be ended by Done.
//
// A data plane that does not ask must not set Incoming.Split.
func (r *Route) Legs(ctx context.Context) (*Legs, error) {
	if !r.handsOver() {
		return nil, nil
	}
	r.ctx = ctx
	for {
		p := r.decision.Prefill()
		if p == nil {
			again, begun := r.prefillFailed()
			if !again {
				return nil, nil
			}
			eps := r.within()
			if begun && !r.redone {
				r.redone = true // by chance, and not for ever
				if r.redo(ctx, eps) {
					continue
				}
			}
			if p = r.decision.PrefillAgain(ctx, eps); p == nil {
				return nil, r.alone(eps)
			}
		}
		l, err := r.handOver(ctx, p)
		switch {
		case l != nil:
			return l, nil
		case err == nil, errors.Is(err, disagg.ErrUnsupported):
			return nil, r.whole(err)
		case errors.Is(err, disagg.ErrPrefill):
			r.director.warn(ctx, "no hand-over", p, err)
			r.prefillDone(nil, types.Outcome{Err: err})
		default:
			return nil, r.unsent(err)
		}
	}
}

// handsOver reports whether the data plane may be asked to run two legs.
func (r *Route) handsOver() bool { return r.Request.Split && r.director.o.Handover != nil }

// Prefill returns the endpoint that is to compute the prompt for Endpoint; nil: Endpoint does.
// It is for data planes in which something before the engine runs the legs, to which they name
// it; others ask Legs.
func (r *Route) Prefill() *types.Endpoint { return r.decision.Prefill() }

// within returns the endpoints of the pool that the request may go to.
func (r *Route) within() []*types.Endpoint {
	return r.subset.of(endpointsOf(r.director.o.Store.Snapshot(), r.Pool))
}

// handOver begins a hand-over between p and the endpoint. Nil and no error: there is no protocol.
func (r *Route) handOver(ctx context.Context, p *types.Endpoint) (l *Legs, err error) {
	defer func() {
		if v := recover(); v != nil {
			l, err = nil, &scheduling.PanicError{Value: v, Stack: debug.Stack()}
			r.director.log(ctx, "Options.Handover, or its protocol, panicked", panicAttrs(v)...)
		}
	}()
	answer := r.Endpoint()
	protocol := r.director.o.Handover(p, answer)
	if protocol == nil {
		return nil, nil
	}
	h, err := protocol.Begin(ctx, disagg.Request{
		API: r.parsed.API, Path: r.sent, Body: r.joined(), ID: attemptID(r.Request.ID), Prefill: p, Decode: answer,
		Encoded: r.encoded(p),
	})
	if err != nil {
		return nil, err
	}
	l = &Legs{route: r, endpoint: p, handover: h, atOnce: h.AtOnce(), prefill: h.Prefill()}
	if l.atOnce {
		decode, err := h.Decode(nil)
		if err != nil {
			return nil, err
		}
		l.decode = decode.Leg
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked()
	r.apart, r.legs, r.cachedLater = true, l, l.atOnce
	return l, nil
}

// begun says that the request was decided anew.
func (r *Route) begun() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apart = r.decision.Prefill() != nil
}

// attemptID returns a request id that was never used, which begins with that of the client.
func attemptID(client string) string {
	const most = 64
	id := make([]byte, 0, most+1+16)
	for i := 0; i < len(client) && len(id) < most; i++ {
		switch c := client[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
			id = append(id, c)
		}
	}
	if len(id) > 0 {
		id = append(id, '-')
	}
	return string(append(id, crand.Text()[:16]...))
}

// whole has the endpoint serve the request without the other one, because they cannot hand it
// over: why is nil if there is no protocol.
func (r *Route) whole(why error) error {
	ep := r.Endpoint()
	if ep.Roles.Has(types.RoleNotAlone) {
		return r.goOn(fmt.Errorf("%w: %s does not answer alone: %w", scheduling.ErrNoPrefill, ep.ID, cmp.Or(why, errNoProtocol)))
	}
	r.decision.Retry(ep, types.Outcome{Unsent: true})
	r.forget()
	return nil
}

var errNoProtocol = errors.New("Options.Handover has no protocol for it")

// forget forgets what is known of the attempt.
func (r *Route) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked()
}

func (r *Route) forgetLocked() {
	r.attempt = attempt{}
	r.apart, r.legs, r.again, r.elsewhere, r.cached, r.cachedLater = false, nil, false, false, types.Gauge{}, false
}

// alone has an endpoint serve the request, after those failed that were to compute the prompt.
func (r *Route) alone(eps []*types.Endpoint) error {
	if err := r.decision.Alone(types.Outcome{Unsent: true}, eps); err != nil {
		return r.goOn(err)
	}
	r.forget()
	return nil
}

// goOn goes on to a fallback that computes prompts anyway, or returns the error for the client.
func (r *Route) goOn(why error) error {
	for i, ep := range r.Fallbacks() {
		if ep.Roles == 0 || ep.Roles.Has(types.RolePrefill) {
			r.tried += i + 1
			r.decision.Retry(ep, types.Outcome{Unsent: true})
			r.forget()
			r.booked(ep)
			return nil
		}
	}
	r.director.warn(r.ctx, "no endpoint could compute the prompt", r.Endpoint(), why)
	return r.unsent(why)
}

// unsent returns the error for a request that cannot be sent, for which Endpoint is not to blame.
func (r *Route) unsent(err error) error {
	r.forget()
	r.Failed(err, true)
	return r.director.translate(err, r)
}

// prefillFailed reports whether the prompt is to be computed by yet another endpoint, and whether
// the decode leg had a token at the very moment at which it was ended for want of it.
func (r *Route) prefillFailed() (again, begun bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.again, r.attempt.first
}

// redo has the endpoint begin anew, after a first token that is thrown away.
func (r *Route) redo(ctx context.Context, eps []*types.Endpoint) bool {
	if r.decision.RetryApart(ctx, r.Endpoint(), types.Outcome{Cancelled: true}, eps) != nil {
		return false
	}
	r.forget()
	r.begun()
	return true
}

// prefillDone accounts the end of a prefill leg: that of l, unless the request has moved on.
func (r *Route) prefillDone(l *Legs, out types.Outcome) {
	r.mu.Lock()
	if l != nil && r.legs != l {
		r.mu.Unlock()
		return
	}
	r.again = !out.Served() && !out.Cancelled
	r.mu.Unlock()
	r.decision.PrefillDone(out)
}

// AtOnce reports whether both legs are to be sent at the same time. Then the prefill leg
//   - must go on when the decode leg has ended well, and be ended if that has failed;
//   - ends the decode leg if it fails: at once, for the engine may wait long for what does not come;
//     once that has had its first token it needs the other no more.
//
// Otherwise the decode leg is made of the prefill leg's whole answer.
func (l *Legs) AtOnce() bool { return l.atOnce }

// Prefill returns the endpoint that computes the prompt, and what to send to it: a POST, with
// the request's own headers and those of the leg.
func (l *Legs) Prefill() (*types.Endpoint, disagg.Leg) { return l.endpoint, l.prefill }

// Decode returns what to send to the Route's Endpoint: if AtOnce at any time, else after
// PrefillAnswer has returned neither an answer nor an error.
func (l *Legs) Decode() disagg.Leg {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.decode
}

// Patience returns for how long to wait for the prefill leg's answer before it is given up: see
// scheduling.Impatient. 0: for as long as it takes.
func (l *Legs) Patience() time.Duration { return l.route.decision.PrefillPatience() }

// Awaited reports whether the decode leg needs the prefill leg yet, if AtOnce: nothing of the
// answer has come that says that the prompt is computed.
func (l *Legs) Awaited() bool {
	r := l.route
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &r.attempt
	return !(a.first || a.size > 0 && !a.events)
}

// KeepBack reports whether what has come of the decode leg's answer had better not go to the client
// yet, if AtOnce: it has begun, without a token, and may yet have to be thrown away.
func (l *Legs) KeepBack() bool {
	r := l.route
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.atOnce && r.attempt.events && !r.attempt.first && r.attempt.status < 300 && r.stream.Begun()
}

// PrefillFailed says that the prefill leg has failed: err is why, and unsent that nothing was
// sent, or that the endpoint is not to blame for another reason. End the decode leg and ask
// Route.Legs how to go on.
func (l *Legs) PrefillFailed(err error, unsent bool) {
	if l.end() {
		l.route.prefillDone(l, types.Outcome{Err: err, Unsent: unsent})
	}
}

// PrefillCancelled says that the prefill leg was ended because nobody needs it any more.
func (l *Legs) PrefillCancelled() {
	if l.end() {
		l.route.prefillDone(l, types.Outcome{Cancelled: true})
	}
}

// end reports whether the prefill leg ends by this.
func (l *Legs) end() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.over
	l.over = true
	return !was
}

// PrefillAnswer takes the prefill leg's answer: its status, headers in the form of net/http, and
// the whole body; if AtOnce, a long one may be left out. An error says that the leg has failed:
// end the decode leg, and ask Route.Legs how to go on. An answer that is not nil is for the
// client: the request is at fault, or needs no decode leg. Call FromPrefill, and pass it through
// the Route. With neither it is, or has been, Decode's turn.
func (l *Legs) PrefillAnswer(status int, h map[string][]string, body []byte) (answer *Answer, err error) {
	if !l.end() {
		return nil, nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = &scheduling.PanicError{Value: v, Stack: debug.Stack()}
			l.route.director.log(context.Background(), "a hand-over panicked", panicAttrs(v)...)
			l.route.prefillDone(l, types.Outcome{Cancelled: true}) // nobody is to blame
		}
	}()
	out := l.route.readWhole(status, h, body)
	switch {
	case out.Status >= 400 && out.Status < 500 && !Retryable(out.Status):
		l.route.prefillDone(l, out)
		return &Answer{Status: out.Status, Header: plain(h), Body: body}, nil // a stream that ends with 200 would be an answer without text
	case out.Status != 200:
		if out.Err == nil {
			out.Err = fmt.Errorf("%w answered with status %d", disagg.ErrPrefill, out.Status)
		}
		l.route.prefillDone(l, out)
		return nil, out.Err
	case l.atOnce:
		l.served(out)
		return nil, nil
	}
	return l.made(out, body)
}

// readWhole judges a leg's whole answer as that of a request.
func (r *Route) readWhole(status int, h map[string][]string, body []byte) types.Outcome {
	a := attempt{status: status, retryAfter: retryAfter(get(h, "Retry-After"))}
	s := openai.NewStream(openai.StreamOptions{
		API: r.parsed.API, ContentType: get(h, "Content-Type"), ContentEncoding: get(h, "Content-Encoding"),
		MaxEventBytes: len(body) + 1, MaxBodyBytes: len(body) + 1,
	})
	s.Feed(body)
	s.Close()
	out := judge(&a, s, accepted, nil)
	return types.Outcome{ // of what it generated nothing counts
		Status: out.Status, ModelMissing: out.ModelMissing, Err: out.Err, RetryAfter: out.RetryAfter,
		ResponseBytes: int64(len(body)),
		Usage:         types.Usage{PromptTokens: out.Usage.PromptTokens, CachedTokens: out.Usage.CachedTokens},
	}
}

// made makes the decode leg of the prefill leg's answer.
func (l *Legs) made(out types.Outcome, body []byte) (*Answer, error) {
	l.mu.Lock()
	decode, err := func() (disagg.Decode, error) {
		defer l.mu.Unlock()
		decode, err := l.handover.Decode(body)
		l.decode = decode.Leg
		return decode, err
	}()
	if err == nil && decode.Ignored {
		l.route.director.ignored(l.route, l.endpoint)
		if l.route.Endpoint().Roles.Has(types.RoleNotAlone) {
			err = fmt.Errorf("%w ignores hand-overs", disagg.ErrPrefill)
		}
	}
	if err != nil {
		out.Err = err
		l.route.prefillDone(l, out)
		return nil, err
	}
	if decode.Cached.IsKnown() {
		out.Usage.CachedTokens = decode.Cached
	}
	l.served(out)
	switch {
	case decode.Complete != nil:
		return &Answer{Status: 200, Header: map[string][]string{"Content-Type": {decode.ContentType}}, Body: decode.Complete}, nil
	case decode.Ignored:
		_ = l.route.whole(nil) // it may be alone
	}
	return nil, nil
}

// served accounts that the prompt is computed.
func (l *Legs) served(out types.Outcome) {
	r := l.route
	r.mu.Lock()
	if r.apart {
		r.cached = out.Usage.CachedTokens
		r.stream.SetCachedTokens(r.cached)
	}
	r.mu.Unlock()
	r.prefillDone(l, out)
}

// plain returns the headers of an answer that is all there, without those of the connection on which it came.
func plain(h map[string][]string) map[string][]string {
	h = maps.Clone(h)
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	for _, name := range []string{"Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Trailer", "Transfer-Encoding", "Upgrade"} {
		delete(h, name)
	}
	return h
}

// FromPrefill says that the client gets the answer that PrefillAnswer has returned: the booking
// moves to the endpoint that gave it. Call it when the decode leg, if there was one, has ended,
// and before ResponseHeader.
func (l *Legs) FromPrefill() {
	r := l.route
	r.decision.Retry(l.endpoint, types.Outcome{Unsent: true})
	r.forget()
	r.mu.Lock()
	r.elsewhere = true
	r.mu.Unlock()
	r.booked(l.endpoint)
}

// Abort returns what, if true, ends what an engine does for the request, when one leg has failed:
// send it to the other's endpoint, beside closing the connection. Its answer does not matter.
func (l *Legs) Abort() (leg disagg.Leg, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.route.director.recovered("Handover.Abort", func() { ok = false })
	return l.handover.Abort()
}

// booked tells the ticket where the request is.
func (r *Route) booked(ep *types.Endpoint) {
	if r.ticket != nil {
		r.ticket.Booked(ep)
	}
}
