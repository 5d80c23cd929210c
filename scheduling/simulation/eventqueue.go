package simulation

import "time"

// event is something that will happen.
type event struct {
	at      time.Duration
	seq     uint64 // events of one moment happen in the order in which they were planned
	kind    eventKind
	a, b    int32 // replica and gateway, by kind
	live    *live
	reading reading // scrapeDone
	timer   *timerFunc
}

type eventKind uint8

const (
	arrive     eventKind = iota // live comes to a gateway
	submit                      // live comes to the engine of replica a
	stepEnds                    // of replica a; b is the incarnation of its engine
	scrapeNow                   // gateway b reads replica a
	scrapeDone                  // the reading is there
	giveUp                      // live's client gives up if it has no token
	admitted                    // live was let in, or refused, after it waited
	timer                       // of gateway b
	fault                       // number a
	resume                      // replica a goes on; b is the incarnation of its engine
	sample
)

// eventQueue is a binary heap by time. It is written out, because container/heap
// would allocate for each event.
type eventQueue struct {
	heap []event
	seq  uint64
}

func (q *eventQueue) push(e event) {
	q.seq++
	e.seq = q.seq
	q.heap = append(q.heap, e)
	h := q.heap
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// pop returns the next event. The queue must not be empty.
func (q *eventQueue) pop() event {
	h := q.heap
	top := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h[last] = event{}
	h = h[:last]
	q.heap = h
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if least == i {
			return top
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.seq < o.seq
}
