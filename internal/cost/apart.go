package cost

import "math"

// This file is what it costs that one server computes a prompt and another answers.

// Answer fills in what it costs that a server answers a request whose prompt another one computes, and
// returns the sum in weighted seconds: without what it costs there, and without the transfer. p.Hit is what the
// server holds of the prompt itself, which need not be transferred.
func (m *Model) Answer(q *Query, f *Figures, p *Place, t *Terms) Seconds {
	lacks := q.Prompt - p.Hit
	if lacks < 1 {
		lacks = 1
	}
	// When it comes is not known: half of the step under way is left, and its own follows. The KV cache
	// is filled by all that it lacks.
	step := float64(f.Step)
	wait := Seconds(step*1.5) + p.Backlog
	if short := float64(f.KV) + float64(lacks)*float64(f.PerKV) - 1; short > 0 && f.KV > 0 && f.PerKV > 0 {
		wait += Seconds(min(short/float64(f.KV), 1) * float64(q.Output) * step)
	}
	*t = Terms{Wait: wait, Output: m.output(q, f, &p.Claimed), KV: m.pressure(q, f, lacks), First: wait}
	if p.Special {
		m.special(q, f, p, t)
	}
	return m.sum(t)
}

// AnswerWait is how long a prompt that is there waits for its first token, where a step takes so long: when it comes is
// not known, so that half of the step under way is left, and its own follows.
func AnswerWait(step Seconds) Seconds { return step * 1.5 }

// Elsewhere is by how much more a prefill at a server costs where another could compute all of the prompt: it
// holds up all that decodes there, and need not. Model.Terms counts as far as another holds the prompt.
func (m *Model) Elsewhere(q *Query, f *Figures, hit Tokens) Seconds {
	all := *q
	all.Best, all.Else, all.Share = q.Prompt-1, 0, 1
	return elsewhereWorth*m.disturb(&all, f, hit, 0) - m.disturb(q, f, hit, 0)
}

// PrefillFor fills in what it costs that a server computes a prompt for another one, and returns the sum in weighted
// seconds. That it holds up those that decode there counts as much as Elsewhere has it.
func (m *Model) PrefillFor(q *Query, f *Figures, p *Place, t *Terms) Seconds {
	sum := m.Terms(q, f, p, t) + (elsewhereWorth-1)*t.Disturb
	t.Disturb *= elsewhereWorth
	return sum
}

// Hop is what it takes to hand a prompt over: the second request, the setup of the transfer, and for each token
// that is lacking. By how far two servers are apart there are several.
type Hop struct{ Setup, Token Seconds }

// Takes returns how long it takes for so many tokens.
func (h Hop) Takes(lacks Tokens) Seconds { return h.Setup + h.Token*Seconds(lacks) }

// Hops learns how long it takes to hand prompts over, by class of distance: class 0 is the nearest. It is guarded
// by its owner's lock. Make it with NewHops.
type Hops struct{ classes []hops }

// hops are the sums of a regression over what was seen of one class, in which what is older counts less.
type hops struct {
	n, tokens, squares, took, product float64
	now                               Hop
}

// NewHops returns Hops for so many classes that believes in start until it is shown better.
func NewHops(classes int, start Hop) *Hops {
	h := &Hops{make([]hops, classes)}
	for i := range h.classes {
		c := &h.classes[i]
		c.add(0, start.Takes(0), hopPrior)
		c.add(hopPriorTokens, start.Takes(hopPriorTokens), hopPrior)
		c.solve()
	}
	return h
}

// Of returns what is believed of a class: nobody is taken to be slower to reach than who is farther.
func (h *Hops) Of(class int) Hop {
	hop := h.classes[class].now
	for _, farther := range h.classes[class+1:] {
		hop.Setup, hop.Token = min(hop.Setup, farther.now.Setup), min(hop.Token, farther.now.Token)
	}
	return hop
}

// Learn learns from a prompt that was handed over: so many tokens in so much time.
func (h *Hops) Learn(class int, lacks Tokens, took Seconds) {
	c := &h.classes[class]
	expected := c.now.Takes(lacks)
	if !(lacks >= 0 && lacks <= mostTokens) || math.IsNaN(float64(took)) {
		return
	}
	// The first time that two engines meet they may take seconds to get to know each other.
	took = min(max(took, 0), hopOutlier*expected)
	c.fade()
	c.add(lacks, took, 1)
	c.solve()
}

func (c *hops) fade() {
	const keep = 1 - 1./hopMemory
	c.n *= keep
	c.tokens *= keep
	c.squares *= keep
	c.took *= keep
	c.product *= keep
}

func (c *hops) add(lacks Tokens, took Seconds, weight float64) {
	x, y := float64(lacks), float64(took)
	c.n += weight
	c.tokens += weight * x
	c.squares += weight * x * x
	c.took += weight * y
	c.product += weight * x * y
}

// solve finds the line through what was seen. If all prompts were about as long, how much of the time is by the
// token stays as it was.
func (c *hops) solve() {
	spread := c.n*c.squares - c.tokens*c.tokens
	if slope := (c.n*c.product - c.tokens*c.took) / spread; spread > hopSpread*c.tokens*c.tokens {
		c.now.Token = Seconds(max(slope, 0))
	}
	c.now.Setup = Seconds((c.took - float64(c.now.Token)*c.tokens) / c.n)
	if c.now.Setup < 0 {
		c.now.Setup = 0
		c.now.Token = Seconds(c.product / max(c.squares, 1))
	}
}

// Best finds, in groups of servers that can reach each other, who computes a prompt at the least cost. The zero
// value is empty. For one goroutine.
type Best struct {
	slots []bestSlot
	mask  uint64
	round uint32
}

// bestSlot has the two best of a group, since one of them may be who answers.
type bestSlot struct {
	group uint64
	round uint32 // in which it was filled
	at    [2]int32
	cost  [2]Seconds
}

// Reset empties it, for up to n entries.
func (b *Best) Reset(n int) {
	if size := 2 << bitsFor(n); len(b.slots) < size {
		b.slots, b.mask = make([]bestSlot, size), uint64(size-1)
		b.round = 0
	}
	b.round++
	if b.round == 0 { // after four billion rounds
		clear(b.slots)
		b.round = 1
	}
}

func bitsFor(n int) (bits int) {
	for 1<<bits < n {
		bits++
	}
	return bits
}

// slot returns that of a group, or the free one where it would be.
func (b *Best) slot(group uint64) *bestSlot {
	for i := group * 0x9e3779b97f4a7c15 >> 20; ; i++ {
		if s := &b.slots[i&b.mask]; s.round != b.round || s.group == group {
			return s
		}
	}
}

// Add enters a server, by its place in the caller's list, into a group, which is not 0.
func (b *Best) Add(group uint64, at int32, cost Seconds) {
	s := b.slot(group)
	switch {
	case s.round != b.round:
		*s = bestSlot{group: group, round: b.round, at: [2]int32{at, -1}, cost: [2]Seconds{cost, Seconds(math.Inf(1))}}
	case cost < s.cost[0]:
		s.at[1], s.cost[1] = s.at[0], s.cost[0]
		s.at[0], s.cost[0] = at, cost
	case cost < s.cost[1]:
		s.at[1], s.cost[1] = at, cost
	}
}

// Find returns the two best of a group; -1: there is none.
func (b *Best) Find(group uint64) (at [2]int32, cost [2]Seconds) {
	s := b.slot(group)
	if s.round != b.round {
		return [2]int32{-1, -1}, cost
	}
	return s.at, s.cost
}
