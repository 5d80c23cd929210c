package engine

import (
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

// state says where in the engine a sequence is.
type state uint8

const (
	arriving state = iota // in the inbox: the step under way does not know it
	waiting
	receiving // holds the blocks of its prompt, whose content is on its way
	ready     // the content has come: waits for its place in the batch
	running
	pinned // ended, and keeps its blocks until its lease ends
	held   // the same without a lease
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
	passed int // media that are computed
	held   int // and beyond these, those that it needs of the encoder
	cached int // tokens found in the prefix cache at the first admission; -1: not admitted yet

	lease time.Duration // when it ends, while pinned

	inQueue list.Node[sequence] // its place in the queue of its state
}

// apart reports whether it consists of inputs that have nothing to do with each other.
func (s *sequence) apart() bool { return s.Items > 1 }

// keeps is how many tokens have blocks once n more than the first from of s are scheduled.
func (s *sequence) keeps(from, n int) int {
	if s.apart() {
		return n
	}
	return from + n
}

// items is how many of its inputs are in n tokens: at least 1.
func (s *sequence) items(n int) int {
	if !s.apart() {
		return 1
	}
	return max(1, (n*s.Items+s.Prompt-1)/s.Prompt)
}

// total is the number of tokens known so far.
func (s *sequence) total() int { return s.Prompt + s.generated }

// decoding reports whether all but the newest token is computed.
func (s *sequence) decoding() bool { return s.generated > 0 && s.computed == s.total()-1 }

// queue is a line: first come first served, with a place at the head for those
// that were thrown out of the batch, and removal from the middle for those that
// are cancelled or overtake a blocked adapter.
type queue struct {
	list.List[sequence]
	len int
}

func (q *queue) pushBack(s *sequence) {
	q.Push(s, &s.inQueue)
	q.len++
}

func (q *queue) pushFront(s *sequence) {
	q.PushFront(s, &s.inQueue)
	q.len++
}

func (q *queue) remove(s *sequence) {
	q.Remove(&s.inQueue)
	q.len--
}
