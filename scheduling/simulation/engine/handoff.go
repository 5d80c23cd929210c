package engine

import "time"

// scheduleReady lets those into the batch whose prompts have been received. They
// have their blocks, and were admitted before anyone who waits.
func (e *Engine) scheduleReady(b *batch) {
	for at := e.ready.Head; at != nil && b.budget > 0 && len(e.running) < e.cfg.MaxSeqs; {
		s := at.Of
		at = at.Next
		if !e.adapters.fits(s.adapter) || e.encodable(s, s.Prompt-1, 1, b) == 0 {
			continue
		}
		e.ready.remove(s)
		e.adapters.wait(s.adapter, -1)
		// Something has to produce the first token of the output: the last token of the
		// prompt is computed again.
		s.computed = s.Prompt - 1
		e.join(s, 1, b)
	}
}

// receive gives a sequence that left the queue the blocks for the rest of its prompt,
// to be filled from elsewhere. They can be hit once it is in the batch.
func (e *Engine) receive(s *sequence) {
	lacks := s.Prompt - s.computed
	e.grow(s, lacks)
	s.state = receiving
	s.Remote = false // if it is preempted, all is computed here
	e.receiving++
	e.adapters.wait(s.adapter, 1)
	e.admitted = append(e.admitted, Admission{ID: s.ID, Cached: s.computed, Lacks: lacks})
}

// Received tells that what a request in Step.Admitted lacked has come. The next Step
// sees it. It reports false if no such request is being received.
func (e *Engine) Received(id uint64) bool {
	s := e.byID[id]
	if s == nil || s.state != receiving {
		return false
	}
	e.receiving--
	e.counters.ReceivedTokens += uint64(s.Prompt - s.computed)
	s.state = ready
	e.ready.pushBack(s)
	return true
}

// pin keeps the blocks of a sequence that has ended.
func (e *Engine) pin(s *sequence) {
	e.adapters.leave(s.adapter, e.counters.Steps)
	for _, i := range s.blocks {
		e.pool.pin(i)
	}
	e.kept++
	s.state = pinned
	s.lease = e.end + e.cfg.KVLease
	e.leased.pushBack(s)
}

// Hold keeps the lease of a pinned request from ending, as the heartbeats of the engine
// do that has its decode leg: Release, and nothing else, then gives its blocks back. It
// reports false if no such request is pinned, as when its lease has ended.
func (e *Engine) Hold(id uint64) bool {
	s := e.byID[id]
	if s == nil || s.state != pinned && s.state != held {
		return false
	}
	if s.state == pinned {
		e.leased.remove(s)
		s.state = held
	}
	return true
}

// Unhold is what the end of those heartbeats does, as when that engine has died: the lease begins
// anew at now. It reports false if no such request is held.
func (e *Engine) Unhold(id uint64, now time.Duration) bool {
	s := e.byID[id]
	if s == nil || s.state != held {
		return false
	}
	s.state = pinned
	s.lease = max(now, e.end) + e.cfg.KVLease
	e.leased.pushBack(s)
	return true
}

// Release gives the blocks of a pinned request back. It reports false if no such
// request is pinned.
func (e *Engine) Release(id uint64) bool {
	s := e.byID[id]
	if s == nil || s.state != pinned && s.state != held {
		return false
	}
	if s.state == pinned {
		e.leased.remove(s)
	}
	for _, i := range s.blocks {
		e.pool.unpin(i)
	}
	e.free(s)
	e.kept--
	e.drop(s)
	return true
}

// LeaseEnds returns when the next lease ends, and whether there is one. The blocks are
// given back by the first Step from then on, which the caller of an idle engine makes.
func (e *Engine) LeaseEnds() (time.Duration, bool) {
	if e.leased.Head == nil {
		return 0, false
	}
	return e.leased.Head.Of.lease, true
}

// endLeases releases those whose lease ended by now.
func (e *Engine) endLeases(now time.Duration) {
	for e.leased.Head != nil && e.leased.Head.Of.lease <= now {
		e.counters.LeasesEnded++
		e.Release(e.leased.Head.Of.ID)
	}
}
