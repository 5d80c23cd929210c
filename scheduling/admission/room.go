package admission

import "fmt"

// makeRoom sees to it that there is room for one more in the queue: of a tenant that
// has more in it, or of a lower band, the last one loses its place. It returns why
// there is none.
func (c *Controller) makeRoom(t *Ticket) *Refusal {
	b := t.band
	requests, bytes := c.bounds(b)
	if t.bytes > bytes || t.bytes > c.o.MaxBytes {
		return c.refusal(t, QueueFull, fmt.Sprintf("its body of %d bytes is larger than the queue", t.bytes))
	}
	for b.queued >= requests || b.bytes+t.bytes > bytes {
		victim := b.hog()
		if victim == nil || victim.flow.queued <= t.flow.queued+1 {
			return c.refusal(t, QueueFull, fmt.Sprintf("%d requests of %d bytes wait at priority %d, of at most %d and %d", b.queued, b.bytes, b.priority, requests, bytes))
		}
		c.refuseWaiting(victim, Displaced, "a tenant with fewer in the queue took its place")
	}
	for c.queued >= c.o.MaxRequests || c.bytes+t.bytes > c.o.MaxBytes {
		victim := c.lowestBelow(t)
		if victim == nil {
			return c.refusal(t, QueueFull, fmt.Sprintf("%d requests of %d bytes wait, of at most %d and %d", c.queued, c.bytes, c.o.MaxRequests, c.o.MaxBytes))
		}
		c.refuseWaiting(victim, Displaced, "another request took its place")
	}
	return nil
}

// lowestBelow returns the request that loses its place to t when all bands together are
// full: one of a lower band, if t's may displace those, or of its own, if another tenant
// has more there.
func (c *Controller) lowestBelow(t *Ticket) *Ticket {
	b := t.band
	if b.Displace {
		for i := len(c.bands) - 1; i >= 0 && c.bands[i].priority < b.priority; i-- {
			if victim := c.bands[i].hog(); victim != nil {
				return victim
			}
		}
	}
	if victim := b.hog(); victim != nil && victim.flow.queued > t.flow.queued+1 {
		return victim
	}
	return nil
}

// bounds are those of what waits in a band.
func (c *Controller) bounds(b *band) (requests int, bytes int64) {
	requests, bytes = b.MaxRequests, b.MaxBytes
	if requests <= 0 {
		requests = c.o.MaxRequests
	}
	if bytes == 0 {
		bytes = c.o.MaxBytes
	}
	return requests, bytes
}

// fits reports whether there is room for one more in the queue, or would be.
func (c *Controller) fits(t *Ticket) bool {
	b := t.band
	requests, bytes := c.bounds(b)
	inBand := b.queued < requests && b.bytes+t.bytes <= bytes
	inAll := c.queued < c.o.MaxRequests && c.bytes+t.bytes <= c.o.MaxBytes
	hog := b.hog()
	ownGives := hog != nil && hog.flow.queued > t.flow.queued+1
	return (inBand || ownGives) && (inAll || c.lowestBelow(t) != nil) && t.bytes <= min(bytes, c.o.MaxBytes)
}
