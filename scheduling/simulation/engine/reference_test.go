package engine_test

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// reference schedules as the engine does, written from the rules with slices and
// maps, without adapters and without a notion of time: an oracle for which
// sequence gets how many tokens in which step.
type reference struct {
	blocks, seqs, budget int

	free    []int          // block numbers, to be reused from the front
	holds   map[int]uint64 // content of a block
	refs    map[int]int
	running []*refSequence
	waiting []*refSequence
}

type refSequence struct {
	engine.Request
	generated, computed int
	has                 []int
	named               int
}

// refEvent is an event without what a reference does not know.
type refEvent struct {
	id        uint64
	kind      engine.Kind
	generated int
}

func newReference(blocks, seqs, budget int) *reference {
	r := &reference{blocks: blocks, seqs: seqs, budget: budget, holds: map[int]uint64{}, refs: map[int]int{}}
	for b := range blocks {
		r.free = append(r.free, b)
	}
	return r
}

func (r *reference) find(content uint64) int {
	for b, c := range r.holds {
		if c == content {
			return b
		}
	}
	return -1
}

func (r *reference) retain(b int) {
	r.refs[b]++
	r.free = slices.DeleteFunc(r.free, func(x int) bool { return x == b })
}

func (r *reference) grow(s *refSequence, n int) bool {
	need := (s.computed+n+engine.BlockTokens-1)/engine.BlockTokens - len(s.has)
	if need > len(r.free) {
		return false
	}
	for range need {
		b := r.free[0]
		delete(r.holds, b)
		r.retain(b)
		s.has = append(s.has, b)
	}
	return true
}

func (r *reference) name(s *refSequence, n int) {
	for ; s.named < min((s.computed+n)/engine.BlockTokens, len(s.Hashes)); s.named++ {
		if r.find(s.Hashes[s.named]) < 0 {
			r.holds[s.has[s.named]] = s.Hashes[s.named]
		}
	}
}

func (r *reference) release(s *refSequence) {
	for _, b := range slices.Backward(s.has) {
		if r.refs[b]--; r.refs[b] == 0 {
			r.free = append(r.free, b)
		}
	}
	s.has, s.computed, s.named = nil, 0, 0
}

// step returns what one step does, and how many tokens it computes.
func (r *reference) step() (events []refEvent, tokens int) {
	left := r.budget
	planned := map[*refSequence]int{}
	preempted := false
	for i := 0; i < len(r.running); i++ {
		s := r.running[i]
		n := min(s.Prompt+s.generated-s.computed, left)
		if n == 0 {
			continue
		}
		gone := false
		for !r.grow(s, n) {
			victim := r.running[len(r.running)-1]
			r.running = r.running[:len(r.running)-1]
			r.release(victim)
			r.waiting = slices.Insert(r.waiting, 0, victim)
			events = append(events, refEvent{victim.ID, engine.Preempted, victim.generated})
			preempted = true
			if gone = victim == s; gone {
				break
			}
		}
		if gone {
			break
		}
		r.name(s, n)
		planned[s] = n
		left -= n
	}
	for !preempted && left > 0 && len(r.running) < r.seqs && len(r.waiting) > 0 {
		s := r.waiting[0]
		total := s.Prompt + s.generated
		var hits []int
		taken := 0 // hits that are on the free list
		for _, h := range s.Hashes[:min((total-1)/engine.BlockTokens, len(s.Hashes))] {
			b := r.find(h)
			if b < 0 {
				break
			}
			hits = append(hits, b)
			if r.refs[b] == 0 {
				taken++
			}
		}
		n := min(total-len(hits)*engine.BlockTokens, left)
		if (n+engine.BlockTokens-1)/engine.BlockTokens > len(r.free)-taken {
			break
		}
		for _, b := range hits {
			r.retain(b)
		}
		s.has, s.computed, s.named = hits, len(hits)*engine.BlockTokens, len(hits)
		r.waiting = r.waiting[1:]
		r.running = append(r.running, s)
		r.grow(s, n)
		r.name(s, n)
		planned[s] = n
		left -= n
	}
	var kept []*refSequence
	for _, s := range r.running {
		s.computed += planned[s]
		if planned[s] > 0 && s.computed == s.Prompt+s.generated {
			s.generated++
			events = append(events, refEvent{s.ID, engine.Token, s.generated})
		}
		if s.generated < s.Output {
			kept = append(kept, s)
		} else {
			r.release(s)
		}
	}
	r.running = kept
	return events, r.budget - left
}

// compareWithReference plays a random trace on both, step by step.
func compareWithReference(t *testing.T, seed uint64, blocks, seqs, budget int) {
	arrivals := mixed(seed, 150, 40)
	arrivals = slices.DeleteFunc(arrivals, func(a arrival) bool {
		return a.Prompt+a.Output-1 > blocks*engine.BlockTokens
	})
	e := newEngine(t, engine.Config{Blocks: blocks, MaxSeqs: seqs, MaxBatchedTokens: budget})
	r := newReference(blocks, seqs, budget)
	next := 0
	for now := time.Duration(0); ; {
		for ; next < len(arrivals) && arrivals[next].at <= now; next++ {
			q := arrivals[next].Request
			q.ID, q.Adapter = uint64(next), 0
			submit(t, e, q)
			r.waiting = append(r.waiting, &refSequence{Request: q})
		}
		step, ok := e.Step(now)
		if !ok {
			if next == len(arrivals) {
				return
			}
			now = arrivals[next].at
			continue
		}
		want, tokens := r.step()
		got := make([]refEvent, len(step.Events))
		for i, ev := range step.Events {
			got[i] = refEvent{ev.ID, ev.Kind, ev.Generated}
		}
		m := e.Metrics(now + step.Duration)
		if !slices.Equal(got, want) || step.Tokens != tokens || m.FreeBlocks != len(r.free) {
			t.Fatalf("seed %d, step at %v: %d tokens, %d blocks free, events %v; want %d, %d, %v",
				seed, now, step.Tokens, m.FreeBlocks, got, tokens, len(r.free), want)
		}
		now += step.Duration
	}
}

func TestMatchesReference(t *testing.T) {
	for seed := range uint64(8) {
		for _, c := range []struct{ blocks, seqs, budget int }{{30, 8, 64}, {60, 12, 128}, {120, 64, 2048}, {2000, 1024, 8192}} {
			compareWithReference(t, seed, c.blocks, c.seqs, c.budget)
		}
	}
}

func FuzzMatchesReference(f *testing.F) {
	f.Add(uint64(1), uint8(40), uint8(10), uint8(100))
	f.Fuzz(func(t *testing.T, seed uint64, blocks, seqs, budget uint8) {
		compareWithReference(t, seed, cmp.Or(int(blocks), 1), cmp.Or(int(seqs), 1), cmp.Or(int(budget), 1))
	})
}
