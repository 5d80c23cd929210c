package fair

import (
	"math"
	"time"

	"github.com/inferpick/inferpick/internal/heap"
	"github.com/inferpick/inferpick/internal/list"
)

// Item is a request. Of, Lane, Priority, Bytes, Arrived and Deadline are the caller's to
// set before it is added; the rest says what Queues made of it.
type Item struct {
	Of       any // what it stands for
	Lane     *Lane
	Priority int
	Bytes    int64
	Arrived  time.Duration
	Deadline time.Duration // to be let in by

	Seq    uint64  // by arrival, from 1; 0: it never waited
	Charge float64 // weighted tokens that its tenant was charged
	Output float64 // tokens of output that are expected
	Beside float64 // weighted tokens of what it asks for beside a prompt and output
	Modest bool    // its tenant asks for less than its share

	band  *Band
	flow  *flow
	share *share // while it waits
	// Nil while its tenant has named no program; line is that of the share.
	program *program
	line    *line
	prefix  uint64
	group   *group

	inShare, inGroup, inLine list.Node[Item]
	place                    int // in share.byDeadline
	due                      int // in Queues.deadlines
}

// Band returns the band that the item belongs to, nil before Assign.
func (it *Item) Band() *Band { return it.band }

// Tenant returns the name of the flow that the item counts for.
func (it *Item) Tenant() string { return it.flow.name }

// Assigned reports whether the item has a tenant.
func (it *Item) Assigned() bool { return it.flow != nil }

// Counter returns the weighted tokens that the item's tenant was served.
func (it *Item) Counter() float64 { return it.flow.counter }

// Waits reports whether the item is in a queue.
func (it *Item) Waits() bool { return it.share != nil }

// share is a tenant's part of a queue.
type share struct {
	flow  *flow
	queue *queue
	n     int
	// All its requests in order of arrival.
	list.List[Item]
	byDeadline heap.Heap[Item] // if the order is EarliestDeadline
	lines      heap.Heap[line] // by program, if its tenant has named any
	// How many were let in since it was the turn of the one that waited the longest.
	sinceOldest int
	groups      map[uint64]*group // by how prompts begin, with prefix locality
	group       *group            // that was served last
	left        float64           // weighted tokens until it is another group's turn
	index       int               // in queue.heap; -1: nothing waits
}

// group is requests of a share whose prompts begin alike, in order of arrival.
type group struct {
	list.List[Item]
	key uint64
}

// add puts an item into its place in the share.
func (s *share) add(it *Item, c *Config) {
	inOrder(&s.List, it, &it.inShare)
	if c.EarliestDeadline {
		s.byDeadline.Push(heap.Item[Item]{Key: int64(it.Deadline), Seq: it.Seq, At: &it.place, Of: it})
	}
	if c.Prefix != nil {
		s.insertGroup(it)
	}
	if it.program != nil {
		s.enter(it, c)
	}
	s.n++
}

// remove takes an item out of the share.
func (s *share) remove(it *Item, c *Config) {
	s.List.Remove(&it.inShare)
	if c.EarliestDeadline {
		s.byDeadline.Remove(it.place)
	}
	if c.Prefix != nil {
		s.removeGroup(it)
	}
	if it.line != nil {
		s.leave(it, c)
	}
	s.n--
}

// first returns the request that is next, not regarding groups.
func (s *share) first() *Item {
	if len(s.byDeadline) > 0 {
		return s.byDeadline[0].Of
	}
	if len(s.lines) > 0 {
		return s.byProgram()
	}
	return s.Head.Of
}

// next returns the request that is next.
func (s *share) next() *Item {
	if g := s.group; g != nil && g.Head != nil && s.left > 0 {
		return g.Head.Of
	}
	return s.first()
}

// follow notes which group the share goes on with.
func (s *share) follow(it *Item, quantum float64) {
	if s.group != it.group {
		s.group, s.left = it.group, quantum
	}
	s.left -= it.Charge
}

func (s *share) insertGroup(it *Item) {
	g := s.groups[it.prefix]
	if g == nil {
		if s.groups == nil {
			s.groups = map[uint64]*group{}
		}
		g = &group{key: it.prefix}
		s.groups[it.prefix] = g
	}
	it.group = g
	inOrder(&g.List, it, &it.inGroup)
}

func (s *share) removeGroup(it *Item) {
	g := it.group
	g.List.Remove(&it.inGroup)
	it.group = nil
	if g.Head == nil {
		delete(s.groups, g.key)
		if s.group == g {
			s.group = nil
		}
	}
}

// turn is the share's place in the order of its queue: by what its tenant was served. With
// a quantum, tenants within the same one are equal.
func (s *share) turn(quantum float64) heap.Item[share] {
	key := s.flow.at()
	if quantum > 0 {
		key = math.Floor(key / quantum)
	}
	return heap.Item[share]{Key: heap.Ordered(key), Seq: s.first().Seq, At: &s.index, Of: s}
}

// inOrder inserts an item by its number. Items come in that order, but for those whose
// priority was changed.
func inOrder(l *list.List[Item], it *Item, n *list.Node[Item]) {
	before := l.Tail
	for before != nil && before.Of.Seq > it.Seq {
		before = before.Prev
	}
	l.Insert(it, n, before)
}
