package httptransport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

// This file is the stage in which encoders encode the media of a request, before its first attempt.

// Why a leg to an encoder was ended.
var (
	errEncodeTimeout = fmt.Errorf("httptransport: media were not encoded within the time for it: %w", context.DeadlineExceeded)
	errEncodeEnded   = errors.New("httptransport: another item cannot be encoded")
)

// encodeStage is that of one request.
type encodeStage struct {
	*exchange
	*director.Encodes

	ctx  context.Context
	end  context.CancelCauseFunc // the legs of all items
	next atomic.Int64            // item to begin with

	mu     sync.Mutex
	answer *director.Answer // for the client
	from   *director.EncodeLeg
}

// encode has encoders do what they can, and returns when all their legs have ended. The response, or the
// error, is the client's: its request is at fault, it has left, or the request was revoked. With neither
// the request goes on, whatever the encoders have done.
func (x *exchange) encode() (*http.Response, error) {
	e := x.route.Encodes()
	if e == nil {
		return nil, nil
	}
	s := &encodeStage{exchange: x, Encodes: e}
	limited, stop := context.WithTimeoutCause(x.ctx, e.Timeout(), errEncodeTimeout)
	defer stop()
	s.ctx, s.end = context.WithCancelCause(limited)
	defer s.end(nil)
	var all sync.WaitGroup
	for range e.AtOnce() {
		all.Go(func() {
			if p := guard.Call("", s.work); p != nil {
				s.end(p)
			}
		})
	}
	all.Wait()
	e.Done()
	switch {
	case revoked(x.ctx) != nil:
		return x.refuse(revoked(x.ctx))
	case x.req.Context().Err() != nil:
		return nil, x.req.Context().Err() // and abandon
	case s.answer != nil:
		return s.instead(), nil
	}
	return nil, nil
}

// work encodes one item after the other.
func (s *encodeStage) work() {
	for s.ctx.Err() == nil {
		i := int(s.next.Add(1) - 1)
		if i >= s.Len() {
			return
		}
		s.item(i)
	}
}

// item has one encoder try, and another one if that fails.
func (s *encodeStage) item(i int) {
	for s.ctx.Err() == nil {
		leg := s.Begin(s.ctx, i)
		if leg == nil {
			s.end(errEncodeEnded)
			return
		}
		answer, err := s.ask(leg)
		if answer != nil {
			s.mu.Lock()
			if s.answer == nil {
				s.answer, s.from = answer, leg
			}
			s.mu.Unlock()
			s.end(errEncodeEnded)
		}
		if err == nil {
			return
		}
	}
}

// ask sends a leg and accounts how it ended.
func (s *encodeStage) ask(leg *director.EncodeLeg) (answer *director.Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &scheduling.PanicError{Value: v, Stack: debug.Stack()}
			leg.Failed(err, true)
		}
	}()
	ctx, end := context.WithCancelCause(s.ctx)
	defer end(nil)
	clock := newPatience(leg.Patience(), end)
	clock.begin()
	defer clock.stop()
	p := parcelOf(leg.Endpoint(), leg.Leg(), s.in.Path)
	room, body := held{t: s.t}, held{t: s.t}
	size := int(sizeOf(p.body))
	if err := room.charge(size); err != nil {
		leg.Failed(err, true)
		return nil, err
	}
	defer s.t.held.Add(-int64(size))
	resp, seen, err := s.deliver(ctx, p, true)
	if err != nil {
		return nil, lostEncode(ctx, leg, err, unsent(err, seen))
	}
	defer resp.Body.Close()
	defer func() { body.release(false) }()
	if err := body.fill(resp.Body, resp.ContentLength, int64(s.MaxAnswer()), clock); err != nil {
		_, ours := errors.AsType[*director.Error](err)
		return nil, lostEncode(ctx, leg, err, ours)
	}
	clock.stop()
	return leg.Answer(resp.StatusCode, resp.Header, body.data)
}

// lostEncode accounts a leg without an answer.
func lostEncode(ctx context.Context, leg *director.EncodeLeg, err error, unsent bool) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errPatience), errors.Is(cause, errEncodeTimeout):
		err, unsent = cause, false
	case cause != nil:
		leg.Cancelled()
		return cause
	}
	leg.Failed(err, unsent)
	return err
}

// instead is the encoder's answer in place of any other.
func (s *encodeStage) instead() *http.Response {
	s.handedOver = true
	s.from.FromEncoder()
	s.route.ResponseHeader(s.answer.Status, s.answer.Header)
	body := append([]byte(nil), s.route.Data(s.answer.Body)...)
	body = append(body, s.route.End()...)
	resp := respond(s.req, s.answer.Status, s.answer.Header, body)
	if s.t.NameEndpoint {
		resp.Header.Set(HeaderEndpoint, s.from.Endpoint().ID)
	}
	s.exchange.end(nil)
	return resp
}

// bodyAlone returns the body for an endpoint that answers alone.
func (x *exchange) bodyAlone() [][]byte {
	body := x.route.EncodedBody()
	if body == nil || x.hold(len(body)) != nil { // then it encodes itself
		return x.route.Pieces()
	}
	return whole(body)
}
