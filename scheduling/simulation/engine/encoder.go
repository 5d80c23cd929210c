package engine

import (
	"fmt"

	"github.com/inferpick/inferpick/internal/list"
)

// Medium is a picture, a film or a piece of sound in a prompt, which an encoder turns into
// tokens.
type Medium struct {
	// Key stands for the content: the encoder's cache tells media apart by it. 0: like no other.
	Key uint64
	// At is where in the prompt its tokens begin, and Tokens how many there are.
	At, Tokens int
}

// Encoder holds how long the encoder of a [Calibration] takes for a medium of t tokens:
//
//	e0 + e1·t + e2·t²
//
// Media are encoded one after the other, in the step in which their first token is scheduled, and
// all that is in the step waits for them. The zero value takes no time.
type Encoder struct {
	Fixed     float64 // e0: seconds per medium
	PerToken  float64 // e1: seconds per token
	PerToken2 float64 // e2: seconds per square of tokens: what attends to all of the picture
}

// seconds is how long a medium takes, before Calibration.Speed. Each product is rounded before it is
// added: see Calibration.stepTime.
func (c *Encoder) seconds(tokens int) float64 {
	t := float64(tokens)
	return c.Fixed + float64(c.PerToken*t) + float64(float64(c.PerToken2*t)*t)
}

// encoder is the state of the stage: the outputs that it keeps. Those that nobody needs any more stay
// until there is no room for another, the longest unused one going first.
type encoder struct {
	size  int // tokens that there is room for
	used  int
	busy  int // of these, those of media that somebody needs
	byKey map[uint64]*encoded
	idle  list.List[encoded]
}

// encoded is one output of the encoder.
type encoded struct {
	key    uint64
	tokens int
	refs   int // sequences that need it
	inIdle list.Node[encoded]
}

// retain makes somebody need the output with that key, and reports whether it is there.
func (c *encoder) retain(key uint64) bool {
	x := c.byKey[key]
	if x == nil {
		return false
	}
	if x.refs == 0 {
		c.idle.Remove(&x.inIdle)
		c.busy += x.tokens
	}
	x.refs++
	return true
}

// add keeps a new output, which somebody needs. Caller must have seen that there is room.
func (c *encoder) add(key uint64, tokens int) {
	for c.used+tokens > c.size {
		old := c.idle.Head.Of
		c.idle.Remove(&old.inIdle)
		delete(c.byKey, old.key)
		c.used -= old.tokens
	}
	c.byKey[key] = &encoded{key: key, tokens: tokens, refs: 1}
	c.used += tokens
	c.busy += tokens
}

// release takes a need back.
func (c *encoder) release(key uint64) {
	x := c.byKey[key]
	if x.refs--; x.refs == 0 {
		c.busy -= x.tokens
		c.idle.Push(x, &x.inIdle)
	}
}

// encodes reports whether s has media that are not behind it.
func (s *sequence) encodes() bool { return s.passed < len(s.Media) }

// mediumKey is that of a medium of s in the encoder's cache.
func (s *sequence) mediumKey(i int) uint64 {
	if key := s.Media[i].Key; key != 0 {
		return key
	}
	return finalize(s.ID*0x9e3779b97f4a7c15 + uint64(i) + 1)
}

// maxMedia bounds the media of one sequence in one step.
const maxMedia = 64

// encodable returns how many of the n tokens of s behind the first ones, from, can be scheduled: all,
// or those before the first medium for which this step has no budget left or the cache no room.
func (e *Engine) encodable(s *sequence, from, n int, b *batch) int {
	if !s.encodes() {
		return n
	}
	budget, room, media := e.cfg.EncoderBudget-b.encoded, e.encoder.size-e.encoder.busy, 0
	for i := s.held; i < len(s.Media); i++ {
		m := &s.Media[i]
		if m.At >= from+n {
			break
		}
		if m.At+m.Tokens <= from {
			continue
		}
		if media++; media > maxMedia {
			return max(m.At-from, 0)
		}
		x := e.encoder.byKey[s.mediumKey(i)]
		if x != nil && x.refs > 0 {
			continue
		}
		tokens := m.Tokens
		if x != nil {
			tokens = x.tokens
		} else if budget -= tokens; budget < 0 {
			return max(m.At-from, 0)
		}
		if room -= tokens; room < 0 {
			return max(m.At-from, 0)
		}
	}
	return n
}

// encode has the media encoded whose tokens begin in the next n of s and are in no cache.
func (e *Engine) encode(s *sequence, n int, b *batch) {
	if !s.encodes() {
		return
	}
	for s.passed == s.held && s.encodes() && s.behind(s.passed) { // the prefix cache had it
		s.passed++
		s.held++
	}
	first := s.held
	for s.held < len(s.Media) && s.Media[s.held].At < s.computed+n {
		s.held++
	}
	hits := uint64(0) // of those from first on, by bit: before others take their place
	for i := first; i < s.held; i++ {
		if e.encoder.retain(s.mediumKey(i)) {
			hits |= 1 << (i - first)
			e.counters.EncoderHitTokens += uint64(s.Media[i].Tokens)
		}
	}
	for i := first; i < s.held; i++ {
		key, tokens := s.mediumKey(i), s.Media[i].Tokens
		if hits>>(i-first)&1 == 1 || e.encoder.retain(key) { // the same twice
			continue
		}
		e.encoder.add(key, tokens)
		b.encoded += tokens
		b.encode += e.cfg.Calibration.Encoder.seconds(tokens)
		e.counters.EncodedTokens += uint64(tokens)
	}
}

// behind reports whether all tokens of the i-th medium are computed.
func (s *sequence) behind(i int) bool { return s.Media[i].At+s.Media[i].Tokens <= s.computed }

// passMedia gives the outputs back that s has read to their ends.
func (e *Engine) passMedia(s *sequence) {
	for s.passed < s.held && s.behind(s.passed) {
		e.encoder.release(s.mediumKey(s.passed))
		s.passed++
	}
}

// dropMedia gives all outputs back that s needs.
func (e *Engine) dropMedia(s *sequence) {
	for ; s.passed < s.held; s.passed++ {
		e.encoder.release(s.mediumKey(s.passed))
	}
	s.passed, s.held = 0, 0
}

// checkMedia reports what is wrong with the media of a request.
func (e *Engine) checkMedia(r *Request) error {
	end := 0
	for i, m := range r.Media {
		if m.Tokens < 1 || m.At < end || m.At > r.Prompt-m.Tokens {
			return fmt.Errorf("%w: Media[%d] has %d tokens from %d on: want them in order in a prompt of %d", ErrInvalid, i, m.Tokens, m.At, r.Prompt)
		}
		if most := min(e.cfg.EncoderBudget, e.cfg.EncoderCache); m.Tokens > most {
			return fmt.Errorf("%w: Media[%d] has %d tokens, the encoder takes %d", ErrTooLong, i, m.Tokens, most)
		}
		end = m.At + m.Tokens
	}
	return nil
}

// checkEncoder: what is needed is there, and all of it has room.
func (e *Engine) checkEncoder() error {
	refs := map[uint64]int{}
	for _, s := range e.byID {
		for i := s.passed; i < s.held; i++ {
			refs[s.mediumKey(i)]++
		}
	}
	used, busy := 0, 0
	for key, x := range e.encoder.byKey {
		used += x.tokens
		if x.refs > 0 {
			busy += x.tokens
		}
		if x.refs != refs[key] {
			return fmt.Errorf("engine: an output of the encoder has %d references, %d sequences need it", x.refs, refs[key])
		}
		delete(refs, key)
	}
	if len(refs) > 0 || used != e.encoder.used || busy != e.encoder.busy || used > e.encoder.size {
		return fmt.Errorf("engine: the encoder's cache lacks %d outputs and has %d tokens, %d needed; counted %d and %d of %d",
			len(refs), used, busy, e.encoder.used, e.encoder.busy, e.encoder.size)
	}
	return nil
}
