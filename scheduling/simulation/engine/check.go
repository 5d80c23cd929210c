package engine

import (
	"fmt"
	"time"
)

// Check walks the whole engine and returns an error if its books do not
// balance. It takes time in proportion to the KV cache and is meant for tests,
// after each step.
func (e *Engine) Check() error {
	for _, check := range []func() error{
		e.checkRequests, e.checkHandoff, e.checkBlocks, e.checkFreeList, e.checkCache, e.checkAdapters, e.checkEncoder, e.checkBatch,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkRequests: each request is in one place, and ended once or is there.
func (e *Engine) checkRequests() error {
	here := len(e.inbox) + e.waiting.len + e.receiving + e.ready.len + len(e.running)
	if here+e.kept != len(e.byID) {
		return fmt.Errorf("engine: %d requests on their way through and %d kept, %d by ID", here, e.kept, len(e.byID))
	}
	if ended := e.counters.Finished + e.counters.Cancelled; e.submitted != ended+uint64(here) {
		return fmt.Errorf("engine: %d requests submitted, %d ended and %d here", e.submitted, ended, here)
	}
	n := 0
	for at := e.waiting.Head; at != nil; at = at.Next {
		s := at.Of
		n++
		if s.state != waiting || s.computed != 0 && !s.apart() || len(s.blocks) != 0 {
			return fmt.Errorf("engine: waiting request %d: state %d, %d tokens computed, %d blocks", s.ID, s.state, s.computed, len(s.blocks))
		}
	}
	if n != e.waiting.len {
		return fmt.Errorf("engine: the queue has %d requests and says %d", n, e.waiting.len)
	}
	for _, s := range e.running {
		switch {
		case s.state != running:
			return fmt.Errorf("engine: running request %d: state %d", s.ID, s.state)
		case s.computed >= s.total():
			return fmt.Errorf("engine: running request %d: all of %d tokens computed", s.ID, s.total())
		case s.generated >= max(s.Output, 1):
			return fmt.Errorf("engine: running request %d: all of %d output tokens produced", s.ID, s.Output)
		case len(s.blocks) != blocksFor(s.keeps(s.computed, 0)):
			return fmt.Errorf("engine: running request %d: %d blocks for %d tokens", s.ID, len(s.blocks), s.computed)
		}
	}
	return nil
}

// checkHandoff: each request between two engines is in one place, with its blocks.
func (e *Engine) checkHandoff() error {
	in := map[state]int{}
	for _, s := range e.byID {
		in[s.state]++
		switch s.state {
		case receiving, ready:
			if s.generated != 0 || s.computed >= s.Prompt || len(s.blocks) != blocksFor(s.Prompt) {
				return fmt.Errorf("engine: request %d is being received with %d tokens here, %d blocks and %d tokens produced", s.ID, s.computed, len(s.blocks), s.generated)
			}
		case pinned, held:
			if !s.Pin || s.generated != s.Output || len(s.blocks) != blocksFor(s.total()-1) {
				return fmt.Errorf("engine: request %d is pinned with %d of %d tokens produced and %d blocks", s.ID, s.generated, s.Output, len(s.blocks))
			}
		}
	}
	if in[receiving] != e.receiving || in[ready] != e.ready.len || in[pinned] != e.leased.len || in[pinned]+in[held] != e.kept {
		return fmt.Errorf("engine: %d requests receiving, %d ready, %d pinned and %d held; counted %d, %d, %d and %d kept",
			in[receiving], in[ready], in[pinned], in[held], e.receiving, e.ready.len, e.leased.len, e.kept)
	}
	before := time.Duration(0)
	for at := e.leased.Head; at != nil; at = at.Next {
		if s := at.Of; s.state != pinned || s.lease < before {
			return fmt.Errorf("engine: the lease of request %d, in state %d, ends at %v, behind one that ends at %v", s.ID, s.state, s.lease, before)
		}
		before = at.Of.lease
	}
	return nil
}

// checkBlocks: the references of each block are those of the sequences that hold
// it, and its pins those of the pinned.
func (e *Engine) checkBlocks() error {
	refs, pins := make([]int32, e.pool.total()), make([]int32, e.pool.total())
	for _, s := range e.byID {
		for _, i := range s.blocks {
			refs[i]++
			if s.state == pinned || s.state == held {
				pins[i]++
			}
		}
	}
	free, pinned := 0, 0
	for i, want := range refs {
		if got := e.pool.blocks[i].pins; got != pins[i] {
			return fmt.Errorf("engine: block %d has %d pins, %d pinned sequences hold it", i, got, pins[i])
		}
		if pins[i] > 0 {
			pinned++
		}
		if got := e.pool.blocks[i].refs; got != want {
			return fmt.Errorf("engine: block %d has %d references, %d sequences hold it", i, got, want)
		}
		if want == 0 {
			free++
		}
	}
	if free != e.pool.free || pinned != e.pool.pinned {
		return fmt.Errorf("engine: %d blocks are free and %d pinned, the pool says %d and %d", free, pinned, e.pool.free, e.pool.pinned)
	}
	return nil
}

// checkFreeList: it holds each free block once.
func (e *Engine) checkFreeList() error {
	n, before := 0, e.pool.sentinel()
	for i := e.pool.blocks[before].next; i != e.pool.sentinel(); i = e.pool.blocks[i].next {
		b := &e.pool.blocks[i]
		if n++; n > e.pool.free {
			return fmt.Errorf("engine: the free list has more than %d blocks", e.pool.free)
		}
		if b.refs != 0 || b.prev != before {
			return fmt.Errorf("engine: block %d on the free list: %d references, linked to %d, reached from %d", i, b.refs, b.prev, before)
		}
		before = i
	}
	if n != e.pool.free {
		return fmt.Errorf("engine: the free list has %d blocks, the pool says %d", n, e.pool.free)
	}
	return nil
}

// checkCache: every key leads to the block that carries it, and back.
func (e *Engine) checkCache() error {
	named := 0
	for i := range e.pool.total() {
		key := e.pool.blocks[i].key
		if key == 0 {
			continue
		}
		named++
		if found, ok := e.pool.cached[key]; !ok || int(found) != i {
			return fmt.Errorf("engine: block %d holds %x, which leads to block %d", i, key, found)
		}
	}
	if named != len(e.pool.cached) {
		return fmt.Errorf("engine: %d blocks with a key, %d keys", named, len(e.pool.cached))
	}
	return nil
}

// checkAdapters: the counts are those of the sequences, and who runs has a slot.
func (e *Engine) checkAdapters() error {
	runs, waits := make(map[uint32]int), make(map[uint32]int)
	for _, s := range e.running {
		runs[s.Adapter]++
	}
	for at := e.waiting.Head; at != nil; at = at.Next {
		waits[at.Of.Adapter]++
	}
	for _, s := range e.byID {
		if s.state == receiving || s.state == ready {
			waits[s.Adapter]++
		}
	}
	slots, host, active := 0, 0, 0
	for _, a := range e.adapters.all {
		if a.running != runs[a.id] || a.waiting != waits[a.id] {
			return fmt.Errorf("engine: adapter %d: %d running and %d waiting, counted %d and %d", a.id, a.running, a.waiting, runs[a.id], waits[a.id])
		}
		if a.running > 0 {
			active++
		}
		if a.running > 0 && !a.gpu || a.gpu && !a.host {
			return fmt.Errorf("engine: adapter %d: %d running, in a slot: %t, in host memory: %t", a.id, a.running, a.gpu, a.host)
		}
		if a.gpu {
			slots++
		}
		if a.host {
			host++
		}
	}
	if active != e.adapters.active || active > slots || slots > e.cfg.MaxLoRAs || host > e.cfg.MaxHostLoRAs {
		return fmt.Errorf("engine: %d adapters active (counted %d), %d of %d slots, %d of %d in host memory",
			e.adapters.active, active, slots, e.cfg.MaxLoRAs, host, e.cfg.MaxHostLoRAs)
	}
	return nil
}

// checkBatch: the last step kept to its limits.
func (e *Engine) checkBatch() error {
	b := e.last
	if b.tokens > e.cfg.MaxBatchedTokens || b.sequences > e.cfg.MaxSeqs || len(e.running) > e.cfg.MaxSeqs || b.adapters > e.cfg.MaxLoRAs || b.encoded > e.cfg.EncoderBudget {
		return fmt.Errorf("engine: a step of %d tokens, %d sequences and %d adapters", b.tokens, b.sequences, b.adapters)
	}
	return nil
}
