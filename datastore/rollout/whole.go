package rollout

import (
	"math/bits"
	"time"
)

// This file is about answers that are not streamed, of which only the whole time is known. It has waiting and the
// prompt in it, so that it is compared among requests that have as much of both for each token of the answer.

const (
	// wholeLengths is into how many classes answers fall by their tokens, from 1, 4, 16, 64 and 256 on.
	wholeLengths = 5
	// wholePrompts is into how many classes they fall by how many tokens of the prompt had to be computed for each of
	// the answer: up to promptHeavy, up to 16 times as many, and more.
	wholePrompts = 3
	// wholeSizes is into how many classes answers fall of which no tokens are known, by their bytes: below 512, below
	// 2 KiB, and so on to 1/2 MiB and more. They have the strata after those of the others.
	wholeSizes = maxStrata - wholeLengths*wholePrompts
	// promptHeavy is how many tokens of a prompt take about as long as a seventh of a token of the answer, or less:
	// servers compute those of a prompt some 200 times as fast. Up to that it matters little what was cached.
	promptHeavy = 32
)

// countWhole counts the time of an answer that was not streamed: for each of its tokens, or where those are not known,
// in all.
func (c *Counts) countWhole(s *Sample) {
	if s.Tokens <= 0 {
		size := min(max(bits.Len(uint(s.Bytes))-8, 0)/2, wholeSizes-1)
		c.whole.count(wholeLengths*wholePrompts+size, bucketOf(s.Whole))
		return
	}
	length := min((bits.Len(uint(s.Tokens))-1)/2, wholeLengths-1)
	prompt := 0
	if heavy := s.Uncached / s.Tokens; heavy >= promptHeavy {
		prompt = 1
		if heavy >= 16*promptHeavy {
			prompt = 2
		}
		if !s.CacheTold {
			c.BlindWhole++
		}
	}
	c.whole.count(length*wholePrompts+prompt, bucketOf(s.Whole/time.Duration(s.Tokens)))
}
