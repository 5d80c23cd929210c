package rollout

import (
	"math/bits"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Counts are those of one target.
type Counts struct {
	Requests int // as Window says, and only those of which SampleOf is true
	Errors   int // of Requests
	Refused  int // beside Requests: what was Sample.Refused
	Busy     int // beside both: what was Sample.Busy
	// Unreadable is how many answers were.
	Unreadable int
	Told       int // answers of which it is known whether they are Empty
	Empty      int
	// Blind is how many first tokens came from servers that did not say how much of the prompt was cached.
	Blind int
	// BlindWhole is how many answers that were not streamed have long prompts of which servers did not say how much was
	// cached.
	BlindWhole int
	// Finish is how many answers ended in each way, by types.Finish.
	Finish [finishes]int

	// recent are the last ends of requests, whenever they were sent: 1 has failed. recents is how many there are. Those
	// of the canary are without failures at times when the stable target was in trouble too.
	recent  uint64
	recents int

	ttft   strata
	tpot   strata // has one stratum
	length strata // the same, of counts
	whole  strata // those of whole.go
}

// finishes is how many ways there are in which an answer ends.
const finishes = int(types.FinishOther) + 1

// recentMost is how many of the last ends are remembered.
const recentMost = 64

// answered returns how many requests there are, with those that were refused.
func (c *Counts) answered() int { return c.Requests + c.Refused }

// ended takes note of the end of a request.
func (c *Counts) ended(failed bool) {
	c.recent <<= 1
	if failed {
		c.recent |= 1
	}
	c.recents = min(c.recents+1, recentMost)
}

// troubled reports whether a quarter of the last requests has failed.
func (c *Counts) troubled() bool {
	const last = 16
	n := min(c.recents, last)
	return n > 0 && 4*bits.OnesCount64(c.recent&(1<<n-1)) >= n
}

func (c *Counts) observe(s *Sample, old bool) {
	if old && !s.Failed {
		return
	}
	if s.Busy {
		c.Busy++
		return
	}
	if s.Refused {
		c.Refused++
		return
	}
	c.Requests++
	if s.Failed {
		c.Errors++
		return
	}
	if s.Unreadable {
		c.Unreadable++
	}
	if s.Told {
		c.Told++
		if s.Empty {
			c.Empty++
		}
	}
	if int(s.Finish) < finishes {
		c.Finish[s.Finish]++
	}
	if s.Tokens > 0 {
		c.length.count(0, bucketOfCount(s.Tokens))
	}
	if s.TTFT > 0 {
		if !s.CacheTold {
			c.Blind++
		}
		c.ttft.count(stratumOf(s.Uncached), bucketOf(s.TTFT))
	}
	if s.TPOT > 0 {
		c.tpot.count(0, bucketOf(s.TPOT))
	}
	if s.Whole > 0 {
		c.countWhole(s)
	}
}

// recently returns how many of the last ends were failures, and of how many.
func (c *Counts) recently() (failed, of int) { return bits.OnesCount64(c.recent), c.recents }

// TTFTs returns how many first tokens there are.
func (c *Counts) TTFTs() int { return c.ttft.len() }

// TPOTs returns of how many answers the time between tokens is known.
func (c *Counts) TPOTs() int { return c.tpot.len() }

// Wholes returns of how many answers that were not streamed the time is known.
func (c *Counts) Wholes() int { return c.whole.len() }

// Lengths returns of how many answers the length is known.
func (c *Counts) Lengths() int { return c.length.len() }

// merge adds what another gateway has seen.
func (c *Counts) merge(o *Counts) {
	c.Requests += o.Requests
	c.Errors += o.Errors
	c.Refused += o.Refused
	c.Busy += o.Busy
	c.Unreadable += o.Unreadable
	c.Told += o.Told
	c.Empty += o.Empty
	c.Blind += o.Blind
	c.BlindWhole += o.BlindWhole
	for i, n := range o.Finish {
		c.Finish[i] += n
	}
	c.ttft.merge(&o.ttft)
	c.tpot.merge(&o.tpot)
	c.length.merge(&o.length)
	c.whole.merge(&o.whole)
}

// Window is what one gateway saw of both targets since an epoch began. Gateways that do not write keep one of their
// own, tell it as a whole to the one that writes (AppendBinary), which replaces what it had from them (Machine.Hear).
// It is for one goroutine.
type Window struct {
	Epoch  uint64    // State.Epoch
	Began  time.Time // on the clock of this gateway
	Stable Counts
	Canary Counts

	stable, canary string
}

// NewWindow returns an empty window of a plan, for the epoch of a state that was seen at now.
func NewWindow(p *Plan, epoch uint64, now time.Time) *Window {
	return &Window{Epoch: epoch, Began: now, stable: p.Stable, canary: p.Canary}
}

// Observe counts a sample, if it is of one of both targets. It allocates nothing once each kind was seen.
func (w *Window) Observe(s Sample) { w.observe(&s) }

func (w *Window) observe(s *Sample) *Counts {
	var c *Counts
	switch s.Target {
	case w.stable:
		c = &w.Stable
		if !s.Refused && !s.Busy {
			c.ended(s.Failed)
		}
	case w.canary:
		c = &w.Canary
		if !s.Refused && !s.Busy && (!s.Failed || !w.Stable.troubled()) {
			c.ended(s.Failed)
		}
	default:
		return nil
	}
	c.observe(s, s.Sent.Before(w.Began))
	return c
}

// hard reports whether the canary is to be stopped at once: of its last ends at least 5, and more than half, are
// failures at times when the stable target was well.
func (w *Window) hard() bool {
	k, n := w.Canary.recently()
	return k >= hardErrors && 2*k > n
}

// hardErrors is how many failures a hard stop takes.
const hardErrors = 5
