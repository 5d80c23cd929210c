package fair

import "fmt"

// Victim returns which item loses its place in the queue for one that is to be added: the
// last one of a tenant that has more in it, or of a lower class; nil if there is room. why
// is told to its owner; full is why nothing can be done, "" otherwise.
func (q *Queues) Victim(it *Item) (victim *Item, why, full string) {
	b := it.band
	requests, bytes := q.bounds(b)
	switch {
	case it.Bytes > min(bytes, q.c.MaxBytes):
		return nil, "", fmt.Sprintf("its body of %d bytes is larger than the queue", it.Bytes)
	case b.Queued >= requests || b.Bytes+it.Bytes > bytes:
		if victim = b.hog(); victim == nil || victim.flow.queued <= it.flow.queued+1 {
			if victim = it.otherProgram(); victim != nil {
				return victim, "a program of its tenant with fewer in the queue took its place", ""
			}
			return nil, "", fmt.Sprintf("%d requests of %d bytes wait at priority %d, of at most %d and %d", b.Queued, b.Bytes, b.Priority, requests, bytes)
		}
		return victim, "a tenant with fewer in the queue took its place", ""
	case q.queued >= q.c.MaxRequests || q.bytes+it.Bytes > q.c.MaxBytes:
		if victim = q.lowest(it); victim == nil {
			return nil, "", fmt.Sprintf("%d requests of %d bytes wait, of at most %d and %d", q.queued, q.bytes, q.c.MaxRequests, q.c.MaxBytes)
		}
		return victim, "another request took its place", ""
	}
	return nil, "", ""
}

// lowest returns the item that loses its place when all bands together are full: one of a
// lower band, if those may be displaced, or of the same one, if another tenant has more
// there.
func (q *Queues) lowest(it *Item) *Item {
	b := it.band
	if q.c.Classes[b.Class].Displace {
		for i := len(q.bands) - 1; i >= 0 && q.bands[i].Priority < b.Priority; i-- {
			if victim := q.bands[i].hog(); victim != nil {
				return victim
			}
		}
	}
	if victim := b.hog(); victim != nil && victim.flow.queued > it.flow.queued+1 {
		return victim
	}
	return it.otherProgram()
}

// otherProgram returns the request that came last of the program of the item's tenant that has the most in the queue, if
// the item's own has fewer.
func (it *Item) otherProgram() *Item {
	if it.program == nil {
		return nil
	}
	victim, queued := it.flow.hog()
	if victim == nil || queued <= it.program.queued+1 {
		return nil
	}
	return victim
}

// bounds are those of what waits in a band.
func (q *Queues) bounds(b *Band) (requests int, bytes int64) {
	class := &q.c.Classes[b.Class]
	requests, bytes = class.MaxRequests, class.MaxBytes
	if requests <= 0 {
		requests = q.c.MaxRequests
	}
	if bytes == 0 {
		bytes = q.c.MaxBytes
	}
	return requests, bytes
}
