package rollouts

import "time"

// Bounds of the events of one object.
const (
	burst      = 20               // at once
	refill     = 30 * time.Second // for one more
	sameAgain  = 10 * time.Minute // until the same text is told once more
	maxBudgets = 4096             // objects of which is remembered what was told
)

// budget bounds the events of an object: a bucket that fills up again.
type budget struct {
	spent float64 // events, 0: none
	at    time.Time

	last   string
	lastAt time.Time
}

// allow reports whether an event may be told now, and counts it.
func (b *budget) allow(text string, now time.Time) bool {
	if text == b.last && now.Sub(b.lastAt) < sameAgain {
		return false
	}
	if passed := now.Sub(b.at); passed > 0 {
		b.spent, b.at = max(0, b.spent-float64(passed)/float64(refill)), now
	}
	if b.spent > burst-1 {
		return false
	}
	b.spent++
	b.last, b.lastAt = text, now
	return true
}

// idle reports whether nothing need be remembered of it.
func (b *budget) idle(now time.Time) bool {
	return now.Sub(b.lastAt) >= sameAgain && now.Sub(b.at) >= burst*refill
}
