package scheduling

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// This file is what a Decision does if another endpoint than the one that answers computes the prompt.

// ErrNoPrefill is wrapped by the error of Decision.Alone.
var ErrNoPrefill = errors.New("scheduling: no endpoint can compute the prompt")

// leg is where the prompt of a decision is computed for the endpoint that answers.
type leg struct {
	at     *types.Endpoint // nil: at that endpoint itself
	since  time.Time       // when it was decided
	booked types.Booking   // what remains to be released there
	open   bool            // the request for it has not ended
	failed [maxPrefills]*types.Load
	fails  int
}

// Prefill returns the endpoint that is to compute the prompt and to hand its KV cache over to Current. Nil:
// Current serves all of the request, as always without types.Request.Split.
func (d *Decision) Prefill() *types.Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leg.at
}

// PrefillDone reports how the request to Prefill ended: what was booked there is released, but for the KV
// cache if out.Served(), which waits to be fetched until the first token of the answer. Duration and TTFT are
// set. Only the first call for an endpoint counts, and none after Done or Retry. After a failure Prefill
// returns nil; PrefillAgain or Alone is to be called.
func (d *Decision) PrefillDone(out types.Outcome) {
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	if d.done || !d.leg.open {
		d.mu.Unlock()
		return
	}
	d.scheduler.renew(d, now)
	d.tell(d.endLeg(out, now))
}

// endLeg ends the request for the prompt, which is open, and returns the event. Caller must hold d.mu.
func (d *Decision) endLeg(out types.Outcome, now time.Time) event {
	l := &d.leg
	e := event{kind: prefilled, at: now, Event: d.event(d.current)}
	e.Outcome = out
	e.Outcome.Duration, e.Outcome.TTFT = now.Sub(l.since), 0
	l.open = false
	if out.Served() && !d.first {
		l.release(types.Booking{Requests: l.booked.Requests, Prefilling: l.booked.Prefilling, PrefillTokens: l.booked.PrefillTokens})
		return e
	}
	l.release(l.booked)
	if !out.Served() {
		l.fail()
	}
	return e
}

// fail notes that the endpoint of l failed.
func (l *leg) fail() {
	if l.fails < maxPrefills {
		l.failed[l.fails] = l.at.Load
		l.fails++
	}
	l.at = nil
}

// hasFailed reports whether ep was tried before.
func (l *leg) hasFailed(ep *types.Endpoint) bool {
	for _, load := range l.failed[:l.fails] {
		if load == ep.Load {
			return true
		}
	}
	return false
}

// release releases b at the endpoint of l.
func (l *leg) release(b types.Booking) {
	l.at.Load.Release(b)
	l.booked.Requests -= b.Requests
	l.booked.Prefilling -= b.Prefilling
	l.booked.PrefillTokens -= b.PrefillTokens
	l.booked.ContextTokens -= b.ContextTokens
	l.booked.Denoise -= b.Denoise
}

// dropLeg ends whatever l has, since the request ends or moves on, and reports whether e is to be told.
// Caller must hold d.mu.
func (d *Decision) dropLeg(now time.Time) (e event, tell bool) {
	l := &d.leg
	if l.at == nil {
		return event{}, false
	}
	if tell = l.open; tell {
		e = d.endLeg(types.Outcome{Cancelled: true}, now)
	} else {
		l.release(l.booked)
	}
	l.at = nil
	return e, tell
}

// PrefillAgain chooses another endpoint of eps to compute the prompt, after the one before failed, and books
// it there; at most twice for one endpoint that answers. It returns nil if there is none: then call Alone. It
// must not be called by plugins and hooks.
func (d *Decision) PrefillAgain(ctx context.Context, eps []*types.Endpoint) *types.Endpoint {
	if !d.own() {
		return nil
	}
	defer d.told()
	d.mu.Lock()
	answer, l := d.current, d.leg
	d.mu.Unlock()
	if l.at != nil || l.fails >= maxPrefills {
		return nil
	}
	ep := d.scheduler.prefillFor(ctx, d.Request, answer, eps, &l, true)
	if ep == nil {
		return nil
	}
	now := d.scheduler.profile.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done || d.current != answer || d.first {
		return nil
	}
	d.scheduler.renew(d, now)
	d.leg.at, d.leg.since, d.leg.open = ep, now, true
	d.pending = append([]event{{kind: prefillPicked, at: now, Event: d.event(answer)}}, d.pending...)
	return ep
}

// RetryApart is Retry for a data plane that can have the prompt computed by another endpoint: one of eps,
// where that is better. Prefill says whom, or that ep does all. The error, which wraps ErrNoPrefill, says that ep
// may not, and nobody else can: then the booking stays where it is. It must not be called by plugins and hooks.
func (d *Decision) RetryApart(ctx context.Context, ep *types.Endpoint, left types.Outcome, eps []*types.Endpoint) error {
	if ep == nil || !d.own() {
		return nil
	}
	d.mu.Lock()
	l := d.leg
	d.mu.Unlock()
	must := ep.Roles.Has(types.RoleNotAlone)
	prefill := func() *types.Endpoint {
		defer d.told() // also if a plugin ends the goroutine
		return d.scheduler.prefillFor(ctx, d.Request, ep, eps, &l, must)
	}()
	if must && prefill == nil {
		return notAlone(ep)
	}
	d.retry(ep, prefill, left)
	return nil
}

func notAlone(ep *types.Endpoint) error {
	return fmt.Errorf("%w: %s answers only where another does, by its role %s", ErrNoPrefill, ep.ID, ep.Roles)
}

// Alone has Current compute the prompt itself, after those failed that were to do it and PrefillAgain knows
// no other. left says how the attempt of before ended there: with Unsent if nothing was sent to it. eps are
// the endpoints of the pool. The error, which wraps ErrNoPrefill, says that Profile.Alone does not allow it.
// It must not be called by plugins and hooks.
func (d *Decision) Alone(left types.Outcome, eps []*types.Endpoint) error {
	if !d.own() {
		return nil
	}
	ep := d.Current()
	err := func() error {
		defer d.told() // also if a plugin ends the goroutine
		return d.scheduler.mayBeAlone(d, ep, eps)
	}()
	if err == nil {
		d.retry(ep, nil, left)
	}
	return err
}

// mayBeAlone counts a request that ep is to serve alone, if Profile.Alone allows it.
func (s *Scheduler) mayBeAlone(d *Decision, ep *types.Endpoint, eps []*types.Endpoint) error {
	if ep.Roles == 0 || ep.Roles.Has(types.RolePrefill) {
		return nil // it computes prompts anyway
	}
	if ep.Roles.Has(types.RoleNotAlone) {
		return notAlone(ep)
	}
	limits := &s.profile.Alone
	if takes, known := s.prefillTime(d.Request, ep); known && takes > limits.Prefill {
		return fmt.Errorf("%w: %s would take %v for it itself, and Profile.Alone.Prefill is %v", ErrNoPrefill, ep.ID, takes.Round(time.Millisecond), limits.Prefill)
	}
	answering := 0
	for _, ep := range eps {
		if ep.Roles.Answers() {
			answering++
		}
	}
	most := int64(max(1, math.Floor(limits.Share*float64(answering))))
	if s.alone.Add(1) > most {
		s.alone.Add(-1)
		return fmt.Errorf("%w: as many as Profile.Alone.Share allows of the %d that answer, %d, do that already", ErrNoPrefill, answering, most)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done || d.alone {
		s.alone.Add(-1)
		return nil
	}
	d.alone = true
	return nil
}

// notAlone takes back what mayBeAlone counted. Caller must hold d.mu.
func (d *Decision) notAlone() {
	if d.alone {
		d.alone = false
		d.scheduler.alone.Add(-1)
	}
}

// prefillFor asks who of eps is to compute the prompt for one that answers; nil: nobody else. must is that of
// Splitter.
func (s *Scheduler) prefillFor(ctx context.Context, req *types.Request, answer *types.Endpoint, eps []*types.Endpoint, l *leg, must bool) *types.Endpoint {
	sc := getScratch(len(eps))
	defer sc.free()
	p := s.pipelineOf(req)
	sc.look(eps)
	helpers := s.helpers(ctx, p, req, sc)
	left := rest(helpers, func(ep *types.Endpoint) bool { return ep.Load != nil && ep.Load != answer.Load && !l.hasFailed(ep) })
	if len(left) == 0 {
		return nil
	}
	by, gains := [1]int32{-1}, [1]float64{}
	if err := s.runSplitter(ctx, p, req, []*types.Endpoint{answer}, left, must, by[:], gains[:]); err != nil {
		s.failed(req, err)
		return nil
	}
	if k := by[0]; k >= 0 && int(k) < len(left) {
		return left[k]
	}
	return nil
}

// own makes the caller the one who delivers events, so that nobody else calls plugins for d meanwhile; told
// ends that. It reports false if d has ended.
func (d *Decision) own() bool {
	for {
		d.mu.Lock()
		switch {
		case d.done:
			d.mu.Unlock()
			return false
		case !d.telling:
			d.telling = true
			d.mu.Unlock()
			return true
		}
		if d.idle == nil {
			d.idle = make(chan struct{})
		}
		idle := d.idle
		d.mu.Unlock()
		<-idle
	}
}

// enterLeg books the prompt at the endpoint that computes it, unless that has ended meanwhile.
func (d *Decision) enterLeg(ep *types.Endpoint) {
	b := d.scheduler.legBooking(d.Request, ep)
	d.mu.Lock()
	defer d.mu.Unlock()
	l := &d.leg
	if d.done || l.at != ep || !l.open || l.booked != (types.Booking{}) {
		return
	}
	l.booked = b
	ep.Load.Book(b)
}
