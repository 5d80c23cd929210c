package fair

import "cmp"

// Next returns the item that is let in next, nil if there is no room for any that waits:
// what the floors of bands owe first, then by priority. hasRoom says for which there is; with
// owed, as the highest class has it. It must not change the Queues.
func (q *Queues) Next(hasRoom func(it *Item, owed bool) bool) *Item {
	if q.queued == 0 {
		return nil
	}
	for i := len(q.bands) - 1; i >= 0; i-- {
		b := q.bands[i]
		if q.c.Classes[b.Class].Floor > 0 && b.Queued > 0 && b.owed > 0 {
			if s := b.best(hasRoom, true); s != nil && b.owed >= s.next().Charge {
				return s.next()
			}
		}
	}
	for _, b := range q.bands {
		if b.Queued > 0 {
			if s := b.best(hasRoom, false); s != nil {
				return s.next()
			}
		}
	}
	return nil
}

// best returns the share of a band that is next, among the lanes that have room for it.
func (b *Band) best(hasRoom func(*Item, bool) bool, owed bool) *share {
	var best *share
	for _, q := range b.queues {
		if s := q.top(); s != nil && hasRoom(s.next(), owed) && (best == nil || before(s, best)) {
			best = s
		}
	}
	return best
}

// payFloors gives every class with a floor that waits its part of what was let in: the
// priorities in it that wait share that.
func (q *Queues) payFloors(to *Band, tokens float64) {
	for i, end := 0, 0; i < len(q.bands); i = end {
		class, wait := q.bands[i].Class, 0
		for end = i; end < len(q.bands) && q.bands[end].Class == class; end++ {
			if q.bands[end].Queued > 0 {
				wait++
			}
		}
		floor := q.c.Classes[class].Floor
		if floor == 0 {
			continue
		}
		for _, b := range q.bands[i:end] {
			if b.Queued == 0 {
				b.owed = 0
				continue
			}
			b.owed = min(b.owed+floor*tokens/float64(wait), maxOwed)
			if b == to {
				b.owed = max(b.owed-tokens, 0)
			}
		}
	}
}

// maxOwed bounds the weighted tokens that a floor owes a band: what it could not be given,
// for there was no room where its requests may go, is not made up for all at once.
const maxOwed = 65_536

// Ahead is what is before an item.
type Ahead struct {
	Higher, OtherTenants, OwnTenant int
	OwnProgram                      int // of OwnTenant, where the tenant names programs
	// Least is the counter of the tenant whose turn it is, LeastProgram that of its program's.
	Least, LeastProgram float64
}

// Ahead counts what is before an item that waits, or would: of each other tenant those that
// would be let in before its counter has passed that of this item's turn, if they cost what
// this one does.
func (q *Queues) Ahead(it *Item) (a Ahead) {
	for _, b := range q.bands {
		if b.Priority > it.band.Priority {
			a.Higher += b.Queued
		}
	}
	if it.program != nil && !q.c.EarliestDeadline {
		it.program.before(it, &a)
	} else {
		for _, s := range it.flow.shares {
			for n := s.Head; n != nil && n.Of != it; n = n.Next {
				a.OwnTenant++
			}
		}
	}
	each := max(it.Charge, 1)
	turn := it.flow.counter + float64(a.OwnTenant)*each/it.flow.weight
	a.Least = it.flow.counter
	for _, queue := range it.band.queues {
		for _, e := range queue.heap {
			s := e.Of
			a.Least = min(a.Least, s.flow.counter)
			if s.flow == it.flow {
				continue
			}
			if n := (turn - s.flow.counter) * s.flow.weight / each; n >= 0 {
				a.OtherTenants += min(s.n, int(min(n, 1e9))+1)
			}
		}
	}
	return a
}

// ByNumber compares items by when they were added.
func ByNumber(a, b *Item) int { return cmp.Compare(a.Seq, b.Seq) }
