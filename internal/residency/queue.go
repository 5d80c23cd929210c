package residency

// queue is first in, first out.
type queue struct {
	items []uint32
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(v uint32) {
	if q.head > 1024 && q.head > len(q.items)/2 {
		q.items = q.items[:copy(q.items, q.items[q.head:])]
		q.head = 0
	}
	q.items = append(q.items, v)
}

// pop takes the first, of which there must be one.
func (q *queue) pop() uint32 {
	q.head++
	return q.items[q.head-1]
}

func (q *queue) bytes() int64 { return int64(cap(q.items)) * 4 }
