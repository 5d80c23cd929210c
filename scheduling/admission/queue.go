package admission

import "slices"

// band is the requests of one priority: its tenants, and for each lane a queue.
type band struct {
	*Band
	label    *label
	priority int
	ceiling  int // index in Controller.ceilings, as is modest
	modest   int
	quantum  float64
	edf      bool
	locality bool

	flows   map[string]*flow
	idle    list[flow] // flows with nothing under way, the longest idle first
	byLen   []list[flow]
	longest int // the largest index of byLen that is not empty

	virtual float64 // what a tenant that comes back starts from
	credit  float64 // weighted tokens that the floor owes the band
	queued  int
	bytes   int64
	open    int // let in and not ended
	queues  []*queue

	counts BandCounts
}

// label is what a band is called. It does not change.
type label struct {
	name     string
	priority int
}

// queue is the requests of one priority and one lane: a heap of tenants.
type queue struct {
	lane   *lane
	band   *band
	queued int
	heap   heap[share]
	last   *share // that was served last
	shares int    // that point here
}

// share is a tenant's part of a queue.
type share struct {
	flow  *flow
	queue *queue
	n     int
	// All its requests in order of arrival.
	list[Ticket]
	byDeadline heap[Ticket]      // if the order is EarliestDeadline
	groups     map[uint64]*group // by how prompts begin, if fairness is PrefixLocality
	group      *group            // that was served last
	left       float64           // weighted tokens until it is another group's turn
	index      int               // in queue.heap; -1: nothing waits
}

// first returns the request that is next, not regarding groups.
func (s *share) first() *Ticket {
	if s.queue.band.edf {
		return s.byDeadline[0].of
	}
	return s.head.of
}

// next returns the request that is next.
func (s *share) next() *Ticket {
	if g := s.group; g != nil && g.head != nil && s.left > 0 {
		return g.head.of
	}
	return s.first()
}

// top returns the share to be served next, nil if nothing waits.
func (q *queue) top() *share {
	if len(q.heap) == 0 {
		return nil
	}
	top := &q.heap[0]
	if q.band.quantum > 0 && q.last != nil && q.last.index >= 0 && ordered(q.last.flow.key()) <= top.key {
		return q.last
	}
	return top.of
}

// queueFor returns the band's queue of a lane.
func (b *band) queueFor(l *lane) *queue {
	for _, q := range l.queues {
		if q.band == b {
			return q
		}
	}
	q := &queue{lane: l, band: b}
	i := 0
	for i < len(l.queues) && l.queues[i].band.priority > b.priority {
		i++
	}
	l.queues = slices.Insert(l.queues, i, q)
	b.queues = append(b.queues, q)
	return q
}

// drop takes out a queue in which nothing waits.
func (b *band) drop(q *queue) {
	b.queues = slices.DeleteFunc(b.queues, func(other *queue) bool { return other == q })
	if q.shares == 0 {
		return
	}
	for _, f := range b.flows {
		f.shares = slices.DeleteFunc(f.shares, func(s *share) bool { return s.queue == q })
		if f.first.queue == q {
			f.first = share{}
		}
	}
}

// add puts a request into its tenant's queue. Requests come in order of their numbers,
// but for those whose priority was changed.
func (b *band) add(t *Ticket) {
	s := t.share
	inOrder(&s.list, t, &t.inShare)
	if b.edf {
		s.byDeadline.push(item[Ticket]{int64(t.deadline), t.seq, &t.place, t})
	}
	if b.locality {
		s.insertGroup(t)
	}
	s.n++
	s.queue.queued++
	s.queue.lane.queued++
	b.queued++
	b.bytes += t.bytes
	b.lengthen(s.flow, 1)
	if s.index < 0 {
		s.queue.heap.push(s.turn())
	} else {
		s.queue.fix(s)
	}
}

// remove takes a request out of its tenant's queue. The tenant's place among the others is
// not put right: fix does.
func (b *band) remove(t *Ticket) {
	s := t.share
	s.list.remove(&t.inShare)
	if b.edf {
		s.byDeadline.remove(t.place)
	}
	if b.locality {
		s.removeGroup(t)
	}
	s.n--
	s.queue.queued--
	s.queue.lane.queued--
	b.queued--
	b.bytes -= t.bytes
	b.lengthen(s.flow, -1)
	if s.n == 0 {
		s.queue.heap.remove(s.index)
	}
}
