package sharing

import (
	"slices"
	"time"

	"github.com/inferpick/inferpick/types"
)

// peer is a gateway that was heard.
type peer struct {
	origin origin
	number int
	name   string
	from   string
	tick   uint64    // of its newest message
	heard  time.Time // when that came
	alive  bool
	left   bool // it said so
	rate   allowance
	counts peerCounts
	held   types.Booking // of Stats
}

type peerCounts struct {
	messages, bytes                 uint64
	old, flooded, broken, elsewhere uint64
}

// allowance bounds how much is read in a second: a token bucket.
type allowance struct {
	left float64
	at   time.Time
}

func (a *allowance) take(n int, rate float64, now time.Time) bool {
	if a.at.IsZero() {
		a.left = 2 * rate
	} else if d := now.Sub(a.at).Seconds(); d > 0 {
		a.left = min(a.left+d*rate, 2*rate)
	}
	a.at = now
	if a.left < float64(n) {
		return false
	}
	a.left -= float64(n)
	return true
}

// maxGone is how many peers that have gone are remembered, so that old messages do not bring them back.
const maxGone = 1024

// oldTicks is by how many a message may be behind the newest of its origin. What is in it that must be the newest
// is passed over anyway.
const oldTicks = 100

// peers are those who were heard. It has neither a lock nor a clock.
type peers struct {
	of      map[origin]*peer
	list    []*peer // alive ones
	numbers int
	refused uint64 // messages of those beyond the bound
	// forgotten is what was counted of those that are not in of any more.
	forgotten peerCounts
}

// meet returns the peer that a message is of; nil: there are too many.
func (p *peers) meet(o origin, most int) *peer {
	if at := p.of[o]; at != nil {
		return at
	}
	if len(p.list) >= most {
		p.refused++
		return nil
	}
	if len(p.of) >= most+maxGone {
		p.forgetOldest()
	}
	p.numbers++
	at := &peer{origin: o, number: p.numbers}
	p.of[o] = at
	return at
}

func (p *peers) forgetOldest() {
	var oldest *peer
	for _, at := range p.of {
		if !at.alive && (oldest == nil || at.heard.Before(oldest.heard)) {
			oldest = at
		}
	}
	if oldest != nil {
		p.forgotten.add(&oldest.counts)
		delete(p.of, oldest.origin)
	}
}

// hears notes a message, and reports whether it may be read and whether it is of the newest tick. A peer is alive
// from its first message on, and again if it was away.
func (p *peers) hears(at *peer, m *message, size int, rate float64, most int, now time.Time) (read, newest, came bool) {
	at.counts.messages++
	at.counts.bytes += uint64(size)
	switch {
	case !at.rate.take(size, rate, now):
		at.counts.flooded++
		return false, false, false
	case m.tick+oldTicks < at.tick, at.left:
		at.counts.old++
		return false, false, false
	case m.tick < at.tick:
		at.counts.old++
		return at.alive, false, false
	}
	if m.tick > at.tick || at.heard.IsZero() {
		if !at.alive && len(p.list) >= most {
			p.refused++
			return false, false, false
		}
		at.tick, at.heard = m.tick, now
		if !at.alive {
			at.alive, came = true, true
			p.list = append(p.list, at)
		}
	}
	return at.alive, true, came
}

// expire returns a peer that was not heard for too long, and takes it off those that are alive; nil: there is none.
func (p *peers) expire(now time.Time, ttl time.Duration) *peer {
	for i, at := range p.list {
		if at.left || now.Sub(at.heard) > ttl {
			at.alive = false
			p.list = slices.Delete(p.list, i, i+1)
			return at
		}
	}
	return nil
}
