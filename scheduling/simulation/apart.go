package simulation

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// This file plays jobs whose prompt one replica computes and another one answers, in two requests of
// the gateway, the second after the answer to the first: what NIXL takes.

// stage is how far a job is whose prompt is computed elsewhere.
type stage uint8

const (
	asked     stage = iota // the gateway has no answer of the one that computes the prompt
	fetching               // the other request is on its way, or waits for memory where it is
	moving                 // keys and values are being transferred
	delivered              // they are there
)

// handoff is the prompt of one job that another replica computes than the one that answers, live.at.
type handoff struct {
	from        *replica
	incarnation int32  // of from, when it was asked
	leg         uint64 // the name of the request there
	stage       stage
	computed    bool // the request there has ended, and its blocks are kept
	held        bool // by the replica that answers
	cached      int  // tokens of the prompt that it had

	sentAt, answeredAt, movingAt, deliveredAt time.Duration
}

// legBits is where in an engine's ID of a request the number of the attempt begins.
const legBits = 40

// ask sends the prompt of a job to the replica that is to compute it, if there is one.
func (s *sim) ask(l *live) bool {
	ep := l.decision.Prefill()
	if ep == nil {
		l.handoff = nil
		return false
	}
	r := s.replicas[ep.Slot]
	l.legs++
	l.handoff = &handoff{from: r, incarnation: r.incarnation, leg: l.id | uint64(l.legs)<<legBits, sentAt: s.now}
	l.planned++
	s.queue.push(event{at: s.now + s.cfg.APIIn + s.late(l), kind: submitPrompt, live: l})
	return true
}

// submitsPrompt hands a prompt to the engine that is to compute it.
func (s *sim) submitsPrompt(l *live) {
	if l.ended {
		return
	}
	h := l.handoff
	r := h.from
	if r.dead || h.incarnation != r.incarnation || !r.serves(l.job.Adapter) {
		s.promptLost(l)
		return
	}
	q := engine.Request{ID: h.leg, Prompt: l.prompt, Output: 1, Hashes: l.hashes, Adapter: l.adapter, Pin: true, Media: l.job.engineMedia()}
	if r.engine.Submit(q) != nil { // it is too long
		s.promptLost(l)
		return
	}
	if l.adapter != 0 {
		r.names[l.adapter] = l.job.Adapter
	}
	r.legs[h.leg] = l
	r.out.Prompts++
	s.step(r)
}

// promptEnded sends on its way what an engine answers that has computed a prompt.
func (s *sim) promptEnded(l *live, cached int) {
	h := l.handoff
	delete(h.from.legs, h.leg)
	h.computed, h.cached = true, cached
	h.from.out.HitTokens += cached
	l.planned++
	s.queue.push(event{at: s.now + s.cfg.APIOut + s.late(l), kind: answeredPrompt, live: l})
}

// answersPrompt is what the gateway does with it: the other request.
func (s *sim) answersPrompt(l *live) {
	if l.ended {
		return
	}
	h := l.handoff
	h.stage, h.answeredAt = fetching, s.now
	l.decision.PrefillDone(types.Outcome{Status: 200, Usage: types.Usage{
		PromptTokens:     types.Known(float64(l.prompt)),
		CompletionTokens: types.Known(1.),
		CachedTokens:     types.Known(float64(h.cached)),
	}})
	s.sendTo(l, l.at, s.cfg.Hop)
}

// promptLost asks the next one for a prompt, or the one that answers.
func (s *sim) promptLost(l *live) {
	d, eps := l.decision, l.gateway.eps
	d.PrefillDone(types.Outcome{Err: errLost})
	if d.PrefillAgain(context.Background(), eps) != nil {
		s.ask(l)
		return
	}
	l.handoff = nil
	if err := d.Alone(types.Outcome{Unsent: true}, eps); err != nil {
		s.unbook(l)
		s.end(l, failed)
		return
	}
	s.sendTo(l, l.at, 0)
}

// hold keeps what is to be fetched, and reports whether it is still there.
func (h *handoff) hold() bool {
	if h.from.dead || h.incarnation != h.from.incarnation {
		return false
	}
	h.held = h.from.engine.Hold(h.leg)
	return h.held
}

// admits begins the transfers to a replica that has made room for them, and reports whether it has to
// be asked for a step again, since some cannot be made.
func (s *sim) admits(r *replica, admitted []engine.Admission) (again bool) {
	for _, a := range admitted {
		l := r.jobs[a.ID]
		h := l.handoff
		if h.from.dead || h.incarnation != h.from.incarnation {
			s.transferLost(l)
			again = true
			continue
		}
		h.stage, h.movingAt = moving, s.now
		s.moving[a.ID] = l
		r.out.Received += a.Lacks
		s.transfers.start(a.ID, h.from.index, r.index, a.Lacks, s.now)
	}
	s.watchTransfers()
	return again
}

// watchTransfers plans when the next transfer is to be looked at.
func (s *sim) watchTransfers() {
	at, ok := s.transfers.next()
	if !ok || s.wake >= 0 && s.wake <= at {
		return
	}
	s.wake = at
	s.queue.push(event{at: at, kind: transferred})
}

// transferEnded tells those of the ends of transfers that wait for them.
func (s *sim) transferEnded() {
	if s.wake != s.now {
		return // it was planned anew
	}
	s.wake = -1
	s.done = s.transfers.ends(s.done[:0], s.now)
	for _, id := range s.done {
		l := s.moving[id]
		delete(s.moving, id)
		l.handoff.stage, l.handoff.deliveredAt = delivered, s.now
		l.at.engine.Received(id)
		s.step(l.at)
	}
	s.watchTransfers()
}

// transferLost fails a job for which the keys and values do not come.
func (s *sim) transferLost(l *live) {
	l.at.engine.Cancel(l.id)
	delete(l.at.jobs, l.id)
	s.retry(l)
}

// letGo gives up what was computed for a job at another replica. told: the one that answers lives, and
// says that it needs it no longer.
func (s *sim) letGo(l *live, told bool) {
	h := l.handoff
	if h == nil {
		return
	}
	l.handoff = nil
	if h.stage == moving {
		s.transfers.cancel(l.id, s.now)
		delete(s.moving, l.id)
	}
	r := h.from
	switch {
	case r.dead || h.incarnation != r.incarnation:
	case !h.computed:
		r.engine.Cancel(h.leg) // the connection is cut
		delete(r.legs, h.leg)
		s.step(r)
	case h.held && told:
		s.releaseAt(h)
	case h.held:
		r.engine.Unhold(h.leg, s.now)
		s.watchLeases(r)
	}
}

// releaseAt gives the blocks back that were fetched.
func (s *sim) releaseAt(h *handoff) {
	if h.held && !h.from.dead && h.incarnation == h.from.incarnation {
		h.held = false
		h.from.engine.Release(h.leg)
		s.step(h.from)
	}
}

// watchLeases plans a step for when the next lease of a replica ends: there may be no other that sees it.
func (s *sim) watchLeases(r *replica) {
	if r.legs == nil || r.watched {
		return
	}
	if at, ok := r.engine.LeaseEnds(); ok {
		r.watched = true
		s.queue.push(event{at: at, kind: leaseEnds, a: int32(r.index), b: r.incarnation})
	}
}

// dieApart is what the death of a replica does to prompts that it computes or has computed for others.
func (s *sim) dieApart(r *replica) {
	s.transfers.forget(r.index)
	r.watched = false
	legs := r.legs
	r.legs = map[uint64]*live{}
	for _, id := range slices.Sorted(maps.Keys(legs)) {
		s.promptLost(legs[id])
	}
	for _, id := range slices.Sorted(maps.Keys(s.moving)) {
		if l := s.moving[id]; l != nil && l.handoff.from == r {
			at := l.at
			s.transferLost(l)
			s.step(at)
		}
	}
}

// checkApart is what must hold at the end of every run: no memory is in use, and nothing moves.
func (s *sim) checkApart() error {
	if s.running > 0 {
		return nil
	}
	if _, more := s.transfers.next(); more || len(s.moving) > 0 {
		return fmt.Errorf("simulation: %d transfers are under way at the end", max(1, len(s.moving)))
	}
	for _, r := range s.replicas {
		if r.dead {
			continue
		}
		at := s.now
		for more := r.engine != nil; more; at, more = r.engine.LeaseEnds() {
			r.engine.Step(at)
		}
		m := r.server.Metrics(math.MaxInt64)
		if m.Running+m.Waiting+m.Receiving+m.PinnedBlocks+len(r.jobs)+len(r.legs) != 0 || m.FreeBlocks != m.Blocks {
			return fmt.Errorf("simulation: replica %s has %d running, %d waiting and %d receiving, and %d of %d blocks free, %d pinned, at the end",
				r.Name, m.Running, m.Waiting, m.Receiving, m.FreeBlocks, m.Blocks, m.PinnedBlocks)
		}
	}
	return nil
}

// apartStats gathers what an ApartReport needs.
type apartStats struct {
	jobs                     int
	prefill, wait, transfers histogram
}

// served counts a job that was served apart.
func (a *apartStats) served(l *live) {
	h := l.handoff
	a.jobs++
	a.prefill.add(h.answeredAt - h.sentAt)
	a.wait.add(h.movingAt - h.answeredAt)
	a.transfers.add(h.deliveredAt - h.movingAt)
}

func (a *apartStats) report(completed int) *ApartReport {
	r := &ApartReport{
		Jobs: a.jobs, Prefill: a.prefill.distribution(), Wait: a.wait.distribution(), Transfer: a.transfers.distribution(),
	}
	if completed > 0 {
		r.Share = float64(a.jobs) / float64(completed)
	}
	return r
}
