package director

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
)

// This file is the stage in which others encode the media of a request before its prompt is computed.
// It is experimental.

// Encoding is how images, audio and videos of chat requests are encoded by endpoints that are there for
// that. Who computes the prompt can do it, too, so that what goes wrong here fails no request. It is
// experimental, and may change in any release.
type Encoding struct {
	// Encoder says how what encoder makes gets to prompt, which computes the prompt. Nil: it does not, and
	// so encoder is not asked. It must be quick, and may be called from any goroutine. Required.
	Encoder func(encoder, prompt *types.Endpoint) disagg.Encoder
	// Scheduler chooses who encodes an item, and books it there. It should be no other's: an encoder takes
	// other times than a server that answers. To it each item is a request of its own, whose prompt is the
	// item, so that who has encoded it before may be preferred; plugins.Default is a profile that does.
	// Required.
	Scheduler *scheduling.Scheduler

	// MaxItems bounds the items of a request, and MaxBytes the bodies of all their legs together. What is
	// beyond them is left to the one that computes the prompt. Defaults: 32, 64 MiB.
	MaxItems, MaxBytes int
	// AtOnce is how many items of a request are encoded at the same time. Default: 8.
	AtOnce int
	// MaxAnswer bounds the answer of an encoder, and MaxParams what all of them give to the one that
	// computes the prompt, in bytes. What is beyond that is encoded again there. Defaults: 4 MiB, 1 MiB.
	MaxAnswer, MaxParams int
	// Timeout bounds how long a request waits for encoders; then it goes on without. Default: 30 s.
	Timeout time.Duration

	// OnDone is told of each request of which items were sent to encoders, when all that can come of that
	// has. It must be quick. Optional.
	OnDone func(r *Route, s EncodeStats)
}

// EncodeStats is what became of the items of a request. Experimental.
type EncodeStats struct {
	Items   int // distinct ones that encoders may take
	Encoded int // encoded for the one that computes the prompt
	Ignored int // encoded in vain: the encoder answered as one does that knows nothing of others
	Legs    int // requests that were sent to encoders, or tried to be
	// Err is why items were not encoded, nil if all were, or were ignored.
	Err error
}

func (e Encoding) withDefaults() (*Encoding, error) {
	switch {
	case e.Encoder == nil:
		return nil, errors.New("director: Options.Encode.Encoder is required")
	case e.Scheduler == nil:
		return nil, errors.New("director: Options.Encode.Scheduler is required")
	case e.Timeout < 0:
		return nil, fmt.Errorf("director: Options.Encode.Timeout is %v, want more than 0, or 0 for the default of 30s", e.Timeout)
	}
	for _, bound := range [...]struct {
		name  string
		field *int
		value int
	}{
		{"MaxItems", &e.MaxItems, 32}, {"MaxBytes", &e.MaxBytes, 64 << 20}, {"AtOnce", &e.AtOnce, 8},
		{"MaxAnswer", &e.MaxAnswer, 4 << 20}, {"MaxParams", &e.MaxParams, 1 << 20},
	} {
		if *bound.field < 0 {
			return nil, fmt.Errorf("director: Options.Encode.%s is %d, want more than 0, or 0 for the default of %d", bound.name, *bound.field, bound.value)
		}
		*bound.field = cmp.Or(*bound.field, bound.value)
	}
	e.Timeout = cmp.Or(e.Timeout, 30*time.Second)
	return &e, nil
}

// Encodes is the encode stage of a request: its items, each of which is sent to an encoder by legs from
// Begin, several at the same time. It is experimental. All methods may be called from any goroutine.
type Encodes struct {
	route  *Route
	o      *Encoding
	prompt *types.Endpoint
	media  *disagg.Media
	able   []*types.Endpoint // may encode; they have no roles, since here it is they that answer

	mu     sync.Mutex
	items  []encoding
	legs   []*EncodeLeg // that were begun
	stats  EncodeStats
	over   bool
	merged []byte // for prompt, until it gets it
}

// encoding is what is known of an item.
type encoding struct {
	tried  [encodeTries]*types.Load
	tries  int
	params []byte // nil: none
	tokens int    // of the prompt; 0: unknown
}

// encodeTries is how many encoders are asked for one item.
const encodeTries = 2

// Encodes returns the stage in which others encode the media of the request, nil if there is nothing to be
// done: most requests have no media, most pools no encoders, and an endpoint that may encode does so for the
// prompts that it computes. It is to be asked once, before Legs and the first attempt: an attempt after
// that goes without what the encoders have made, for that may be why the one before has failed.
// Experimental.
//
// Send the legs of all items, see Encodes.Begin, and call Encodes.Done in any case. Then Legs has what is to
// go to the endpoint that computes the prompt; if that answers alone, send EncodedBody in place of Body.
func (r *Route) Encodes() *Encodes {
	o, p := r.director.o.Encode, &r.Request.Prompt
	if o == nil || r.parsed.API != openai.ChatCompletions || r.opaque || p.Images+p.Audio+p.Other == 0 || r.encodes != nil {
		return nil
	}
	prompt := cmp.Or(r.decision.Prefill(), r.Endpoint())
	if prompt.Roles.Has(types.RoleEncode) {
		return nil
	}
	e := &Encodes{route: r, o: o, prompt: prompt}
	if e.able = e.encoders(); len(e.able) == 0 {
		return nil
	}
	var err error
	e.media, err = disagg.FindMedia(disagg.Request{API: r.parsed.API, Path: r.sent, Body: r.joined(), ID: attemptID(r.Request.ID)},
		disagg.MediaLimits{Items: o.MaxItems, Bytes: o.MaxBytes})
	if err != nil || len(e.media.Items()) == 0 {
		return nil
	}
	e.items = make([]encoding, len(e.media.Items()))
	e.weigh()
	e.stats.Items = len(e.items)
	r.encodes = e
	return e
}

// weigh finds the items among the media of the request's prompt, which has them in the same order, but has equal ones more
// than once, and may end before.
func (e *Encodes) weigh() {
	req := &e.route.Request
	rest, data := req.Prompt.Media, req.PromptData()
	for i, item := range e.media.Items() {
		at := slices.IndexFunc(rest, func(m types.Media) bool {
			return m.Kind == kindOf(item.Kind) && m.Span.Start >= 0 && m.Span.Start <= m.Span.End && m.Span.End <= len(data) &&
				alike(data[m.Span.Start:m.Span.End], item.Source)
		})
		if at >= 0 {
			e.items[i].tokens = rest[at].Tokens
			rest = rest[at+1:]
		}
	}
}

// alike reports whether media weigh the same, as equal ones do: that is in their beginning and their length.
func alike(a, b []byte) bool {
	n := min(len(a), len(b), 256)
	return len(a) == len(b) && bytes.Equal(a[:n], b[:n]) && bytes.Equal(a[len(a)-n:], b[len(b)-n:])
}

func kindOf(kind disagg.Kind) types.MediaKind {
	switch kind {
	case disagg.Image:
		return types.Image
	case disagg.Audio:
		return types.Audio
	}
	return types.Video
}

// encoders returns those that may encode for the one that computes the prompt.
func (e *Encodes) encoders() (able []*types.Endpoint) {
	for _, ep := range e.route.within() {
		if ep.Roles.Has(types.RoleEncode) && e.encoder(ep) != nil {
			one := *ep
			one.Roles = 0
			able = append(able, &one)
		}
	}
	return able
}

// encoder asks Encoding.Encoder.
func (e *Encodes) encoder(ep *types.Endpoint) (encoder disagg.Encoder) {
	defer e.route.director.recovered("Options.Encode.Encoder", func() { encoder = nil })
	return e.o.Encoder(ep, e.prompt)
}

// Len returns the number of items.
func (e *Encodes) Len() int { return len(e.items) }

// AtOnce returns how many items are to be encoded at the same time.
func (e *Encodes) AtOnce() int { return min(e.o.AtOnce, len(e.items)) }

// Timeout returns how long the stage may take.
func (e *Encodes) Timeout() time.Duration { return e.o.Timeout }

// MaxAnswer returns how many bytes the answer of an encoder may have.
func (e *Encodes) MaxAnswer() int { return e.o.MaxAnswer }

// Begin chooses an encoder for item i, and books it there. If its leg fails, Begin is to be called once
// more, for another encoder. Nil: there is none, or two have failed; then end the legs of all items: who
// computes the prompt has to encode anyway. Of each leg one of its methods that say how it ended must be
// called, whatever happens.
func (e *Encodes) Begin(ctx context.Context, i int) *EncodeLeg {
	if i < 0 || i >= len(e.items) {
		return nil
	}
	e.mu.Lock()
	item := e.items[i]
	over := e.over
	e.mu.Unlock()
	if over || item.tries >= encodeTries {
		return nil
	}
	able := e.able
	if item.tries > 0 {
		able = nil
		for _, ep := range e.able {
			if ep.Load != item.tried[0] {
				able = append(able, ep)
			}
		}
	}
	d, err := e.o.Scheduler.Schedule(ctx, e.request(i), able)
	if err != nil {
		e.failed(nil, err)
		return nil
	}
	l := &EncodeLeg{of: e, item: i, decision: d, leg: e.media.Leg(i)}
	if !e.keep(l, item.tries) {
		l.Cancelled()
		return nil
	}
	return l
}

// keep notes a leg, unless the stage is over meanwhile.
func (e *Encodes) keep(l *EncodeLeg, try int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return false
	}
	item := &e.items[l.item]
	item.tried[try], item.tries = l.Endpoint().Load, try+1
	e.legs = append(e.legs, l)
	e.stats.Legs++
	return true
}

// abandon ends legs that nobody has ended, and begins no more.
func (e *Encodes) abandon() (was bool) {
	e.mu.Lock()
	was, e.over = e.over, true
	legs := e.legs
	e.mu.Unlock()
	for _, l := range legs {
		l.Cancelled()
	}
	return was
}

// request is item i as a request of its own.
func (e *Encodes) request(i int) *types.Request {
	of, item := &e.route.Request, e.media.Items()[i]
	req := &types.Request{
		ID: of.ID, Model: of.Model, TargetModel: of.TargetModel, Header: of.Header, Priority: of.Priority, Admitted: true,
		FairnessID: of.FairnessID, CacheSalt: of.CacheSalt, MaxTokens: 1,
		Prompt: types.Prompt{Data: item.Part, Spans: []types.Span{{End: len(item.Part)}}, Bytes: len(item.Part)},
	}
	switch p := &req.Prompt; item.Kind {
	case disagg.Image:
		p.Tokens, p.Images = openai.ImageTokens, 1
	case disagg.Audio:
		p.Tokens, p.Audio = openai.AudioTokens, 1
	default:
		p.Tokens, p.Other = openai.VideoTokens, 1
	}
	req.Prompt.Tokens = cmp.Or(e.items[i].tokens, req.Prompt.Tokens)
	return req
}

// failed keeps why an item was not encoded, the first of several; l is nil if nobody was asked.
func (e *Encodes) failed(l *EncodeLeg, err error) {
	if l == nil {
		err = fmt.Errorf("no encoder: %w", err)
	} else {
		err = fmt.Errorf("%s: %w", l.Endpoint().ID, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over && e.stats.Err == nil {
		e.stats.Err = err
	}
}

// Done ends the stage, and its legs if any has not ended: what the encoders have given is put together. The
// clock of the attempt begins now.
func (e *Encodes) Done() {
	if e.abandon() {
		return
	}
	r := e.route
	e.mu.Lock()
	params := make([][]byte, 0, len(e.items))
	for _, item := range e.items {
		if item.params != nil {
			params = append(params, item.params)
		}
	}
	var used int
	if e.merged, used = disagg.MergeEncoded(e.o.MaxParams, params...); used < len(params) {
		e.stats.Encoded -= len(params) - used
		e.stats.Err = cmp.Or(e.stats.Err, error(errParams))
	}
	if e.stats.Encoded+e.stats.Ignored == e.stats.Items {
		e.stats.Err = nil // of encoders that failed others have done the work
	} else if e.stats.Err == nil {
		e.stats.Err = context.Canceled
	}
	stats := e.stats
	e.mu.Unlock()
	r.decision.Postponed()
	if stats.Err != nil && !errors.Is(stats.Err, context.Canceled) {
		r.director.warn(context.Background(), "media of a request were not encoded before", e.prompt, stats.Err)
	}
	if r.director.o.Encode.OnDone != nil {
		defer r.director.recovered("Options.Encode.OnDone", nil)
		r.director.o.Encode.OnDone(r, stats)
	}
}

var errParams = errors.New("director: what encoders gave is longer than Options.Encode.MaxParams")

// encoded returns what there is for an endpoint that computes the prompt; nil: nothing, or not any more.
func (r *Route) encoded(ep *types.Endpoint) []byte {
	e := r.encodes
	if e == nil || ep.Load != e.prompt.Load {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	merged := e.merged
	e.merged = nil
	return merged
}

// EncodedBody returns what to send in place of Body to Endpoint, if that computes the prompt and answers:
// the body with what encoders have made. Nil: there is nothing of that for this attempt. To be called
// after Legs has returned nil. Experimental.
func (r *Route) EncodedBody() []byte {
	merged := r.encoded(r.Endpoint())
	if merged == nil {
		return nil
	}
	body, err := disagg.WithEncoded(r.joined(), merged)
	if err != nil {
		return nil // Encodes has read it
	}
	return body
}

// EncodeLeg is a request by which an encoder encodes an item: one attempt at it. Experimental.
type EncodeLeg struct {
	of       *Encodes
	item     int
	decision *scheduling.Decision
	leg      disagg.Leg

	ended atomic.Bool
}

// Endpoint returns the encoder.
func (l *EncodeLeg) Endpoint() *types.Endpoint { return l.decision.Endpoint }

// Leg returns what to send to Endpoint: a POST, with the request's own headers and those of the leg.
func (l *EncodeLeg) Leg() disagg.Leg { return l.leg }

// Patience returns for how long to wait for a sign of life, see scheduling.Impatient. 0: for as long as it
// takes.
func (l *EncodeLeg) Patience() time.Duration { return l.decision.Patience() }

// Failed says that the leg has failed: err is why, and unsent that nothing was sent, or that the encoder is
// not to blame for another reason.
func (l *EncodeLeg) Failed(err error, unsent bool) {
	if l.ends() {
		l.of.failed(l, err)
		l.decision.Done(types.Outcome{Err: err, Unsent: unsent})
	}
}

// Cancelled says that the leg was ended because nobody needs it any more.
func (l *EncodeLeg) Cancelled() {
	if l.ends() {
		l.decision.Done(types.Outcome{Cancelled: true})
	}
}

// ends reports whether the leg ends by this.
func (l *EncodeLeg) ends() bool { return l.ended.CompareAndSwap(false, true) }

// Answer takes the encoder's answer: its status, headers in the form of net/http, and the whole body. An
// error says that the leg has failed. An answer that is not nil is for the client, whose request is at fault:
// end the legs of all items, call Done, then FromEncoder, and pass it through the Route.
func (l *EncodeLeg) Answer(status int, h map[string][]string, body []byte) (answer *Answer, err error) {
	if !l.ends() {
		return nil, nil
	}
	out := types.Outcome{Cancelled: true} // nobody is to blame for a panic
	defer func() {
		if v := recover(); v != nil {
			err = &scheduling.PanicError{Value: v, Stack: debug.Stack()}
			l.of.route.director.log(context.Background(), "an encoder of Options.Encode panicked", panicAttrs(v)...)
		}
		if err != nil {
			l.of.failed(l, err)
		}
		l.decision.Done(out)
	}()
	out, answer, err = l.judge(status, h, body)
	return answer, err
}

// judge says what an answer comes to.
func (l *EncodeLeg) judge(status int, h map[string][]string, body []byte) (out types.Outcome, answer *Answer, err error) {
	out = l.of.route.readWhole(status, h, body)
	switch {
	case isClients(out.Status):
		return out, &Answer{Status: status, Header: plain(h), Body: body}, nil
	case out.Status != 200:
		if out.Err == nil {
			out.Err = fmt.Errorf("%w answered with status %d", disagg.ErrEncode, out.Status)
		}
		return out, nil, out.Err
	case out.Err != nil:
		return out, nil, out.Err
	}
	e := l.of
	encoder := e.encoder(l.Endpoint())
	if encoder == nil { // it was asked before, and has changed its mind
		encoder = disagg.EncoderStorage()
	}
	made, err := encoder.Encoded(body)
	if err != nil {
		out.Err = err
		return out, nil, err
	}
	l.decision.FirstToken() // it has one, which has just come
	if made.Ignored && e.route.director.ignorers.add(l.Endpoint()) {
		e.route.director.warn(context.Background(), "an encoder ignores that others need what it makes: media are encoded twice; is its connector configured?", l.Endpoint(), nil)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return out, nil, nil
	}
	if made.Ignored {
		e.stats.Ignored++
		return out, nil, nil
	}
	e.stats.Encoded++
	e.items[l.item].params = bytes.Clone(made.Params)
	return out, nil, nil
}

// isClients reports whether a status says that the client's request is at fault. Others, such as 401 and
// 404, may be for an encoder that is not as the rest.
func isClients(status int) bool {
	return status == 400 || status == 413 || status == 415 || status == 422
}

// FromEncoder says that the client gets the answer that Answer has returned, and that the request was
// not sent to any other endpoint. Call it before ResponseHeader.
func (l *EncodeLeg) FromEncoder() {
	r := l.of.route
	r.forget()
	r.mu.Lock()
	r.elsewhere, r.encoders = true, true
	r.mu.Unlock()
}
