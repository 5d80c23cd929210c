package admission

import "math"

// key is what tenants are ordered by: with a quantum, those within the same one are
// alike.
func (f *flow) key() float64 {
	if q := f.band.quantum; q > 0 {
		return math.Floor(f.counter / q)
	}
	return f.counter
}

// turn is the share's place in the order of its queue.
func (s *share) turn() item[share] {
	return item[share]{ordered(s.flow.key()), s.first().seq, &s.index, s}
}

// before reports whether s is to be served before o.
func (s *share) before(o *share) bool {
	a, b := s.turn(), o.turn()
	return a.before(&b)
}

// fix restores the order after the share's turn changed, if anything of it waits.
func (q *queue) fix(s *share) {
	if s.index >= 0 {
		q.heap.fix(s.index, s.turn())
	}
}
