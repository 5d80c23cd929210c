package scheduling

import (
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

// bookings is the list of the decisions that are not done. All have the same time to live
// and are added at the back, so the front expires first (to within the jitter of a clock read
// before the lock).
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

// remove takes d out, if it is in.
func (b *bookings) remove(d *Decision) {
	if d.listed.Of == nil {
		return
	}
	b.all.Remove(&d.listed)
	b.n--
}

// popExpired takes out the first whose time is over, or returns nil. One that gave a sign of
// life since it was looked at last has another time to live.
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
