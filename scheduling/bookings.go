package scheduling

import (
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

// bookings is the list of decisions that are not done. All have the same time to live and are added at
// the back, so the front expires first, apart from the jitter of a clock that is read before the lock.
type bookings struct {
	all list.List[Decision]
	n   int

	// next is before when nobody expires, in Unix nanoseconds: read without the lock.
	next atomic.Int64
}

func (b *bookings) add(d *Decision, expires time.Time) {
	d.expires = expires
	b.all.Push(d, &d.listed)
	b.n++
}

// remove removes d, if it is in the list.
func (b *bookings) remove(d *Decision) {
	if d.listed.Of == nil {
		return
	}
	b.all.Remove(&d.listed)
	b.n--
}

// popExpired removes and returns the first expired decision, or returns nil. It renews those on which
// Alive was called since the last check.
func (b *bookings) popExpired(now time.Time, ttl time.Duration) *Decision {
	for n := b.all.Head; n != nil && !now.Before(n.Of.expires); n = b.all.Head {
		d := n.Of
		b.remove(d)
		if !d.alive.Swap(false) {
			return d
		}
		b.add(d, now.Add(ttl))
	}
	next := now.Add(ttl) // of those that are added later
	if n := b.all.Head; n != nil {
		next = n.Of.expires
	}
	b.next.Store(next.UnixNano())
	return nil
}
