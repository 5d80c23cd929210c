package engine

// state says where in the engine a sequence is.
type state uint8

const (
	arriving state = iota // in the inbox: the step under way does not know it
	waiting
	running
)

// sequence is a request inside the engine.
type sequence struct {
	Request
	state   state
	adapter *adapter // nil: the base model

	generated int // tokens produced
	computed  int // tokens whose keys and values are in blocks
	scheduled int // tokens in the step that is being put together

	blocks []int32
	named  int // leading blocks that were offered to the prefix cache
	cached int // tokens found in the prefix cache at the first admission; -1: not admitted yet

	prev, next *sequence // neighbours in the waiting queue
}

// total is the number of tokens known so far.
func (s *sequence) total() int { return s.Prompt + s.generated }

// decoding reports whether all but the newest token is computed.
func (s *sequence) decoding() bool { return s.generated > 0 && s.computed == s.total()-1 }

// queue is the waiting line: first come first served, with a place at the head
// for those that were thrown out of the batch, and removal from the middle for
// those that are cancelled or overtake a blocked adapter.
type queue struct {
	head, tail *sequence
	len        int
}

func (q *queue) pushBack(s *sequence) {
	s.state, s.prev, s.next = waiting, q.tail, nil
	if q.tail != nil {
		q.tail.next = s
	} else {
		q.head = s
	}
	q.tail = s
	q.len++
}

func (q *queue) pushFront(s *sequence) {
	s.state, s.prev, s.next = waiting, nil, q.head
	if q.head != nil {
		q.head.prev = s
	} else {
		q.tail = s
	}
	q.head = s
	q.len++
}

func (q *queue) remove(s *sequence) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		q.head = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		q.tail = s.prev
	}
	s.prev, s.next = nil, nil
	q.len--
}
