package httptransport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

const (
	// DefaultPrefillTimeout is the default of Transport.PrefillTimeout.
	DefaultPrefillTimeout = 3 * time.Minute
	// DefaultMaxPrefillAnswer is the default of Transport.MaxPrefillAnswer.
	DefaultMaxPrefillAnswer = 16 << 20
	// DefaultLinger is the default of Transport.Linger.
	DefaultLinger = 250 * time.Millisecond

	// abortTime is how long an engine has to take what Legs.Abort returns.
	abortTime = 5 * time.Second
)

// Why a leg was ended.
var (
	errPrefillLeg     = errors.New("httptransport: the prompt was not computed")
	errDecodeLeg      = errors.New("httptransport: the leg that answers has failed")
	errPrefillTimeout = fmt.Errorf("httptransport: the prompt was not computed within Transport.PrefillTimeout: %w", context.DeadlineExceeded)
	errLongPrefill    = errors.New("httptransport: the answer is longer than Transport.MaxPrefillAnswer")
)

// pair is the two legs of an attempt. A nil one is of an attempt at one endpoint.
type pair struct {
	*director.Legs
	*attempt
	prefill, decode parcel

	prefillCtx context.Context
	endPrefill context.CancelCauseFunc
	detach     func() bool   // the prefill leg from the client
	over       chan struct{} // closed when the prefill leg has ended
	served     chan struct{} // closed when something of the decode leg's answer goes to the client

	// Set before over is closed.
	answer  *director.Answer // for the client, in place of one of the decode leg's
	failure error            // why there is no prompt

	mu     sync.Mutex
	course course
	begun  bool      // served is closed
	aborts bool      // the decode leg's engine is to be told when the connection is closed, lest it answers
	idle   *patience // with the decode leg, to begin when the prompt is computed
}

// runApart is run for an attempt at two endpoints.
func (a *attempt) runApart(legs *director.Legs) (*http.Response, error) {
	p := &pair{Legs: legs, attempt: a, over: make(chan struct{}), served: make(chan struct{})}
	a.legs = p
	a.ctx, a.cancel = context.WithCancelCause(context.WithoutCancel(a.exchange.ctx))
	ep, leg := legs.Prefill()
	p.prefill = parcelOf(ep, leg, a.in.Path)
	if err := a.hold(len(leg.Body)); err != nil {
		p.PrefillFailed(err, true)
		return nil, err
	}
	p.prefillCtx, p.endPrefill = context.WithCancelCause(context.WithoutCancel(a.exchange.ctx))
	p.on(prefillSent)
	p.detach = context.AfterFunc(a.exchange.ctx, func() { _ = guard.Call("", func() { p.on(clientLeft) }) })
	if p.AtOnce() {
		p.prefill.of = a.req.Clone(p.prefillCtx)
		go p.runPrefill()
	} else if p.runPrefill(); p.failure != nil || p.answer != nil {
		return p.instead()
	}
	return p.runDecode()
}

// instead returns what there is in place of an answer of the decode leg's.
func (p *pair) instead() (*http.Response, error) {
	if p.answer == nil {
		return nil, fmt.Errorf("prompt at %s: %w", p.prefill.endpoint.ID, p.failure)
	}
	p.FromPrefill()
	p.route.ResponseHeader(p.answer.Status, p.answer.Header)
	body := append([]byte(nil), p.route.Data(p.answer.Body)...)
	body = append(body, p.route.End()...)
	resp := respond(p.req, p.answer.Status, p.answer.Header, body)
	p.endpoint = p.prefill.endpoint
	p.name(resp)
	p.cancel(nil)
	p.end(nil)
	return resp, nil
}

// runDecode sends the decode leg.
func (p *pair) runDecode() (*http.Response, error) {
	leg := p.Decode()
	p.decode, p.untouched = parcelOf(p.endpoint, leg, p.in.Path), true
	err := p.hold(len(leg.Body))
	p.on(decodeSent)
	if err == nil {
		p.linger()
		var resp *http.Response
		if resp, err = p.run(); err == nil {
			return resp, nil
		}
	}
	if p.exchange.ctx.Err() != nil {
		p.on(clientLeft)
	} else {
		p.on(decodeFailed)
	}
	<-p.over
	p.mu.Lock()
	aborts := p.aborts
	p.mu.Unlock()
	if aborts {
		p.abort(p.endpoint)
	}
	if p.answer != nil || p.prefillFailed() {
		return p.instead()
	}
	return nil, err
}

// linger lets the decode leg outlive the client for Transport.Linger, as long as nothing of its answer
// has come.
func (p *pair) linger() {
	context.AfterFunc(p.exchange.ctx, func() {
		timer := time.NewTimer(p.t.linger())
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.served:
		case <-p.ctx.Done():
		}
		p.cancel(context.Cause(p.exchange.ctx))
	})
}

// on does what is to be done when something happens to a leg. It may be called from any goroutine.
func (p *pair) on(e event) {
	if p == nil {
		return
	}
	awaited := e == prefillFailed && p.Awaited()
	p.mu.Lock()
	do := p.course.on(e, awaited)
	idle, begun := p.idle, p.begun
	p.aborts = p.aborts || do&abortDecode != 0 && !begun
	p.mu.Unlock()
	switch {
	case e == prefillServed:
		idle.begin()
	case e == decodeEnded:
		p.detach()
	}
	if do&endPrefill != 0 {
		if e == clientLeft && !p.AtOnce() { // its answer may be on its way: without that nobody can free what it keeps
			time.AfterFunc(p.t.linger(), func() { p.endPrefill(errDecodeLeg) })
		} else {
			p.endPrefill(errDecodeLeg)
		}
	}
	if do&endDecode != 0 && e != clientLeft { // see linger
		p.cancel(errPrefillLeg)
	}
	switch {
	case do&abortDecode != 0 && begun:
		p.abort(p.endpoint)
	case do&abortPrefill != 0:
		p.abort(p.prefill.endpoint)
	}
}

// serves reports whether the decode leg's answer, of which something has come, may go to the
// client: the prefill leg has not ended it meanwhile.
func (p *pair) serves() bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.course.fault == prefillFailed && p.course.decode == endedLeg {
		return false
	}
	if !p.begun {
		p.course.on(decodeServed, false)
		p.begun = true
		close(p.served)
	}
	return true
}

// keepsBack reports whether what has come of the decode leg's answer, so many bytes, is kept back
// while the prefill leg may fail.
func (p *pair) keepsBack(size int) bool {
	const most = 64 << 10
	if p == nil || size > most || !p.KeepBack() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.course.prefill == runningLeg
}

// prefillFailed reports whether the attempt failed because the prompt was not computed.
func (p *pair) prefillFailed() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.course.fault == prefillFailed
}

// waits reports whether the decode leg waits for the prefill leg, so that its patience begins with
// that one's end.
func (p *pair) waits(clock *patience) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = clock
	return p.course.prefill == runningLeg
}

// runPrefill sends the prefill leg and accounts how it ended.
func (p *pair) runPrefill() {
	defer close(p.over)
	defer p.detach()
	defer p.endPrefill(nil)
	defer func() {
		if v := recover(); v != nil {
			p.failure = &scheduling.PanicError{Value: v, Stack: debug.Stack()}
			p.PrefillCancelled()
			p.on(prefillFailed)
		}
	}()
	if p.failure = p.fetch(); p.failure != nil || p.answer != nil {
		p.on(prefillFailed)
	} else {
		p.on(prefillServed)
	}
}

// fetch returns why the prefill leg failed, if it did.
func (p *pair) fetch() error {
	ctx, stop := context.WithTimeoutCause(p.prefillCtx, p.t.prefillTimeout(), errPrefillTimeout)
	defer stop()
	clock := newPatience(p.Legs.Patience(), p.endPrefill)
	clock.begin()
	defer clock.stop()
	resp, seen, err := p.deliver(ctx, p.prefill, !p.AtOnce())
	if err != nil {
		return p.lost(ctx, err, unsent(err, seen))
	}
	defer resp.Body.Close()
	if !director.IsAnswer(resp.StatusCode) { // a connection that was upgraded ends with no context
		return p.lost(ctx, noAnswer(resp.StatusCode), false)
	}
	body := held{t: p.t}
	defer func() { body.release(false) }()
	switch err := p.readPrefill(resp, &body, clock); {
	case errors.Is(err, errLongPrefill) && p.AtOnce():
		body.release(false) // it says nothing that is needed
	case err != nil:
		_, ours := errors.AsType[*director.Error](err)
		return p.lost(ctx, err, ours)
	}
	clock.stop()
	p.answer, err = p.PrefillAnswer(resp.StatusCode, resp.Header, body.data)
	return err
}

// lost accounts a prefill leg without an answer.
func (p *pair) lost(ctx context.Context, err error, unsent bool) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errPatience):
		// Which of two engines that wait for each other does not answer, there is no telling
		// if it happens again.
		err, unsent = cause, p.AtOnce() && p.hung
		p.hung = true
	case errors.Is(cause, errPrefillTimeout):
		err = cause
	case cause != nil:
		p.PrefillCancelled()
		return cause
	}
	p.PrefillFailed(err, unsent)
	return err
}

// readPrefill reads the prefill leg's answer, all of it even if it is too long to be kept.
func (p *pair) readPrefill(resp *http.Response, body *held, clock *patience) error {
	most := p.t.maxPrefillAnswer()
	err := body.fill(resp.Body, resp.ContentLength, most, clock)
	switch {
	case !errors.Is(err, errLong):
		return err
	case p.AtOnce():
		return discard(resp, body.data[:cap(body.data)], clock)
	}
	return fmt.Errorf("%w, %d bytes", errLongPrefill, most)
}

// discard reads the rest of an answer that is too long to be kept, by way of room, so that its engine is not cut off. It
// returns errLongPrefill if the answer came to its end.
func discard(resp *http.Response, room []byte, clock *patience) error {
	for {
		n, err := resp.Body.Read(room)
		if n > 0 {
			clock.alive()
		}
		switch err {
		case nil:
		case io.EOF:
			return errLongPrefill
		default:
			return &readError{err}
		}
	}
}

func (t *Transport) prefillTimeout() time.Duration {
	if t.PrefillTimeout > 0 {
		return t.PrefillTimeout
	}
	return DefaultPrefillTimeout
}

func (t *Transport) linger() time.Duration {
	if t.Linger > 0 {
		return t.Linger
	}
	return DefaultLinger
}

func (t *Transport) maxPrefillAnswer() int64 {
	if t.MaxPrefillAnswer > 0 {
		return t.MaxPrefillAnswer
	}
	return DefaultMaxPrefillAnswer
}
