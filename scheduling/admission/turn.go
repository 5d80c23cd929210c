package admission

import "math"

// entry is a tenant's place in a queue's heap, with what it is ordered by beside it, so
// that comparing touches no other memory.
type entry struct {
	key   float64
	seq   uint64
	share *share
}

func (e *entry) before(o *entry) bool {
	return e.key < o.key || e.key == o.key && e.seq < o.seq
}

// key is what tenants are ordered by: with a quantum, those within the same one are
// alike.
func (f *flow) key() float64 {
	if q := f.band.quantum; q > 0 {
		return math.Floor(f.counter / q)
	}
	return f.counter
}

// entry returns the share's place in the order.
func (s *share) entry() entry { return entry{s.flow.key(), s.first().seq, s} }

// before reports whether s is to be served before o.
func (s *share) before(o *share) bool {
	a, b := s.entry(), o.entry()
	return a.before(&b)
}

// fix restores the order of the heap after the share's key changed.
func (q *queue) fix(s *share) {
	if s.index < 0 {
		return
	}
	e := s.entry()
	if old := &q.heap[s.index]; e.before(old) {
		q.up(s.index, e)
	} else if old.before(&e) {
		q.down(s.index, e)
	}
}

// The heap has four children a node: half as many levels as one with two.
const heapWidth = 4

// up puts e where index i is, or further up.
func (q *queue) up(i int, e entry) {
	h := q.heap
	for i > 0 {
		parent := (i - 1) / heapWidth
		if !e.before(&h[parent]) {
			break
		}
		h[i] = h[parent]
		h[i].share.index = i
		i = parent
	}
	h[i] = e
	e.share.index = i
}

// down puts e where index i is, or further down.
func (q *queue) down(i int, e entry) {
	h := q.heap
	for {
		first := heapWidth*i + 1
		if first >= len(h) {
			break
		}
		least := first
		for child := first + 1; child < min(first+heapWidth, len(h)); child++ {
			if h[child].before(&h[least]) {
				least = child
			}
		}
		if !h[least].before(&e) {
			break
		}
		h[i] = h[least]
		h[i].share.index = i
		i = least
	}
	h[i] = e
	e.share.index = i
}

// enter adds a share in which something waits now.
func (q *queue) enter(s *share) {
	q.heap = append(q.heap, entry{})
	q.up(len(q.heap)-1, s.entry())
}

// leave takes out a share in which nothing waits any more.
func (q *queue) leave(s *share) {
	i, last := s.index, len(q.heap)-1
	moved := q.heap[last]
	q.heap[last] = entry{}
	q.heap = q.heap[:last]
	s.index = -1
	if i == last {
		return
	}
	if i > 0 && moved.before(&q.heap[(i-1)/heapWidth]) {
		q.up(i, moved)
	} else {
		q.down(i, moved)
	}
}
