package engine

// scheduleRunning gives the running sequences their tokens, in the order of
// their admission, and reports whether one had to be preempted for it.
func (e *Engine) scheduleRunning(b *batch) (preempted bool) {
	for i := 0; i < len(e.running); i++ {
		s := e.running[i]
		n := e.encodable(s, s.computed, min(s.total()-s.computed, b.budget), b)
		s.scheduled = 0
		if n == 0 {
			continue // no budget left, or none of the encoder
		}
		for !e.grow(s, n) {
			// Whoever was admitted last has lost least.
			victim := e.running[len(e.running)-1]
			e.running = e.running[:len(e.running)-1]
			e.preempt(victim)
			preempted = true
			if victim == s {
				return preempted
			}
		}
		e.schedule(s, n, b)
	}
	return preempted
}

// scheduleWaiting admits sequences from the queue while there is budget, room
// in the batch and memory.
func (e *Engine) scheduleWaiting(b *batch) {
	for at := e.waiting.Head; at != nil; {
		s := at.Of
		if b.budget == 0 || len(e.running) >= e.cfg.MaxSeqs {
			return
		}
		next := at.Next
		// A blocked adapter does not hold up those behind it.
		if e.adapters.fits(s.adapter) {
			if !e.admit(s, b) {
				return // memory or the encoder does: first come, first served
			}
		}
		at = next
	}
}

// admit moves a waiting sequence into the batch if there is memory for it, and if the encoder can
// do what comes first.
func (e *Engine) admit(s *sequence, b *batch) bool {
	hits := e.lookup(s)
	from := BlockTokens * len(hits)
	if s.apart() {
		from = s.computed
	}
	n := min(s.total()-from, b.budget)
	if !s.Remote {
		n = e.encodable(s, from, n, b)
	}

	need := blocksFor(s.keeps(from, n)) - len(hits)
	if (e.cfg.WholePromptMustFit || s.Remote) && !s.apart() {
		need = blocksFor(s.total()) - len(hits)
	}
	available := e.pool.free
	for _, i := range hits {
		if e.pool.blocks[i].refs == 0 {
			available-- // about to be taken off the free list
		}
	}
	if need > available || n == 0 {
		s.blocks = s.blocks[:0]
		return false
	}

	e.unqueue(s)
	for _, i := range hits {
		e.pool.retain(i)
	}
	s.computed = from
	s.named = len(hits)
	if s.cached < 0 {
		s.cached = BlockTokens * len(hits)
		e.counters.HitTokens += uint64(s.cached)
		if !e.cfg.NoPrefixCache {
			e.counters.QueriedTokens += uint64(s.Prompt)
		}
	}
	if s.Remote {
		e.receive(s)
		return true
	}
	e.grow(s, n)
	e.join(s, n, b)
	return true
}

// join puts a sequence that has its blocks into the batch, with n tokens.
func (e *Engine) join(s *sequence, n int, b *batch) {
	b.loads += e.adapters.run(s.adapter, e.counters.Steps, &e.cfg.Calibration)
	s.state = running
	e.running = append(e.running, s)
	e.schedule(s, n, b)
}

// lookup finds the longest cached prefix, in whole blocks, and leaves it in
// s.blocks without retaining it. The last token is always computed: something
// has to produce the next one.
func (e *Engine) lookup(s *sequence) []int32 {
	s.blocks = s.blocks[:0]
	if e.cfg.NoPrefixCache {
		return s.blocks
	}
	most := min((s.total()-1)/BlockTokens, len(s.Hashes))
	for _, h := range s.Hashes[:most] {
		i, ok := e.pool.cached[blockKey(h, s.Adapter)]
		if !ok {
			break
		}
		s.blocks = append(s.blocks, i)
	}
	return s.blocks
}

// grow gives s the blocks for n more tokens, all of them or none.
func (e *Engine) grow(s *sequence, n int) bool {
	need := blocksFor(s.keeps(s.computed, n)) - len(s.blocks)
	if need > e.pool.free {
		return false
	}
	for range need {
		s.blocks = append(s.blocks, e.pool.take())
	}
	return true
}

// schedule puts n tokens of s into the batch. Blocks that this fills can be hit
// from now on, by the next sequence of the same step already.
func (e *Engine) schedule(s *sequence, n int, b *batch) {
	e.encode(s, n, b)
	s.scheduled = n
	b.budget -= n
	b.sequences++
	b.tokens += n
	switch {
	case s.decoding():
		b.context += s.total()
	case s.apart():
		b.more += s.items(n) - 1
		b.pairs += float64(n) * float64(s.Prompt) / float64(2*s.Items)
	default:
		b.pairs += float64(n) * (float64(s.computed) + float64(n)/2)
	}
	if e.cfg.NoPrefixCache {
		return
	}
	full := min((s.computed+n)/BlockTokens, len(s.Hashes))
	before := uint64(0)
	if s.named > 0 && s.named < full {
		before = blockKey(s.Hashes[s.named-1], s.Adapter)
	}
	for ; s.named < full; s.named++ {
		key := blockKey(s.Hashes[s.named], s.Adapter)
		e.pool.name(s.blocks[s.named], key, before, s.ID)
		before = key
	}
}

// commit carries the step out: it advances the scheduled sequences, emits
// their tokens and lets those go that have all of theirs.
func (e *Engine) commit() {
	kept := e.running[:0]
	for _, s := range e.running {
		s.computed += s.scheduled
		produced := s.scheduled > 0 && s.computed == s.total()
		s.scheduled = 0
		e.passMedia(s)
		if s.apart() {
			e.free(s)
		}
		if produced {
			e.emit(s)
		}
		if s.generated < max(s.Output, 1) {
			kept = append(kept, s)
			continue
		}
		e.counters.Finished++
		if s.Pin {
			e.pin(s)
			continue
		}
		e.evict(s)
		e.drop(s)
	}
	clear(e.running[len(kept):])
	e.running = kept
}

// emit counts one more token of s.
func (e *Engine) emit(s *sequence) {
	s.generated++
	if s.generated == 1 {
		e.counters.PromptTokens += uint64(s.Prompt)
	}
	if !s.Pools {
		e.counters.GeneratedTokens++
	}
	first, last := s.generated == 1, s.generated >= s.Output
	if e.cfg.Quiet && !first && !last {
		return
	}
	e.events = append(e.events, Event{
		ID:        s.ID,
		First:     first,
		Last:      last,
		Generated: min(s.generated, s.Output),
		Cached:    s.cached,
	})
}

// itemsLeft is how many inputs are not computed of the sequences that have several, but for one each.
func (e *Engine) itemsLeft() (left int) {
	if e.batches == 0 {
		return 0
	}
	for _, s := range e.running {
		left += s.items(s.Prompt-s.computed) - 1
	}
	for at := e.waiting.Head; at != nil; at = at.Next {
		left += at.Of.items(at.Of.Prompt-at.Of.computed) - 1
	}
	return left
}

// preempt sends a sequence that was taken out of the batch back to the head of
// the queue, to be computed again.
func (e *Engine) preempt(s *sequence) {
	e.evict(s)
	s.scheduled, s.named = 0, 0
	if !s.apart() { // of those, what is computed is done
		s.computed = 0
	}
	e.enqueue(s, e.waiting.pushFront)
	e.counters.Preemptions++
	e.events = append(e.events, Event{ID: s.ID, Kind: Preempted, Generated: s.generated, Cached: s.cached})
}

// evict takes blocks and adapter from a sequence that left the batch.
func (e *Engine) evict(s *sequence) {
	e.free(s)
	e.dropMedia(s)
	e.adapters.leave(s.adapter, e.counters.Steps)
}

// free takes a sequence's blocks from it. They go last one first, so that the
// tail is reused before the head that others are likelier to share.
func (e *Engine) free(s *sequence) {
	for i := len(s.blocks) - 1; i >= 0; i-- {
		e.pool.release(s.blocks[i])
	}
	s.blocks = s.blocks[:0]
}

func (e *Engine) enqueue(s *sequence, push func(*sequence)) {
	push(s)
	s.state = waiting
	e.adapters.wait(s.adapter, 1)
}

func (e *Engine) unqueue(s *sequence) {
	e.waiting.remove(s)
	e.adapters.wait(s.adapter, -1)
}
