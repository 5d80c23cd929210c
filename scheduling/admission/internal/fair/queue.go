package fair

import "github.com/inferpick/inferpick/internal/heap"

// Lane is the requests that the same servers may serve. The zero value is empty.
type Lane struct {
	Of     any // what it stands for
	Queued int
	queues []*queue // that have had work; by priority, highest first
}

// QueuedFrom returns how many wait in the lane at a priority or a higher one.
func (l *Lane) QueuedFrom(priority int) (n int) {
	if l.Queued == 0 {
		return 0
	}
	for _, q := range l.queues {
		if q.band.Priority < priority {
			break
		}
		n += q.queued
	}
	return n
}

// queue is the requests of one priority and one lane: a heap of tenants.
type queue struct {
	lane    *Lane
	band    *Band
	quantum float64 // with prefix locality
	queued  int
	heap    heap.Heap[share]
	last    *share // that was served last
	shares  int    // that point here
}

// top returns the share to be served next, nil if nothing waits.
func (q *queue) top() *share {
	if len(q.heap) == 0 {
		return nil
	}
	top := &q.heap[0]
	if q.quantum > 0 && q.last != nil && q.last.index >= 0 && q.last.turn(q.quantum).Key <= top.Key {
		return q.last
	}
	return top.Of
}

// fix restores the order after the share's turn changed, if anything of it waits.
func (q *queue) fix(s *share) {
	if s.index >= 0 {
		q.heap.Fix(s.index, s.turn(q.quantum))
	}
}

// before reports whether a is to be served before b, of another queue of the same band.
func before(a, b *share) bool {
	x, y := a.turn(a.queue.quantum), b.turn(b.queue.quantum)
	return x.Before(&y)
}
