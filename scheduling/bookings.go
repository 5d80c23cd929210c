package scheduling

import (
	"sync/atomic"
	"time"
)

// bookings is the list of the decisions that are not done, linked through the
// decisions themselves so that adding and removing cost no allocation. All have
// the same time to live and are added at the back, so the front expires first
// (to within the jitter of a clock read before the lock).
type bookings struct {
	front, back *Decision
	n           int

	// next is before when nobody expires, in Unix nanoseconds: read without the lock.
	next atomic.Int64
}

func (b *bookings) add(d *Decision, expires time.Time) {
	d.listed, d.expires = true, expires
	d.prev, d.next = b.back, nil
	if b.back != nil {
		b.back.next = d
	} else {
		b.front = d
	}
	b.back = d
	b.n++
}

// remove takes d out, if it is in.
func (b *bookings) remove(d *Decision) {
	if !d.listed {
		return
	}
	if d.prev != nil {
		d.prev.next = d.next
	} else {
		b.front = d.next
	}
	if d.next != nil {
		d.next.prev = d.prev
	} else {
		b.back = d.prev
	}
	d.listed, d.prev, d.next = false, nil, nil
	b.n--
}

// popExpired takes out the first whose time is over, or returns nil. One that gave a sign of
// life since it was looked at last has another time to live.
func (b *bookings) popExpired(now time.Time, ttl time.Duration) *Decision {
	for d := b.front; d != nil && !now.Before(d.expires); d = b.front {
		b.remove(d)
		if !d.alive.Swap(false) {
			return d
		}
		b.add(d, now.Add(ttl))
	}
	next := now.Add(ttl) // of those that are added later
	if b.front != nil {
		next = b.front.expires
	}
	b.next.Store(next.UnixNano())
	return nil
}
