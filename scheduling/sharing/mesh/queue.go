package mesh

import "sync"

// queue has the messages that wait for one peer, while it is connected. All methods may be called by any goroutine;
// one pops.
type queue struct {
	limit int           // bytes
	wake  chan struct{} // has a value if there may be something to pop

	mu      sync.Mutex
	open    bool
	msgs    [][]byte
	head    int // of msgs
	bytes   int // of those from head on, with overhead
	dropped uint64
}

// overhead is what a message takes beside its bytes.
const overhead = 64

func newQueue(limit int) *queue { return &queue{limit: limit, wake: make(chan struct{}, 1)} }

// push adds a message, unless the queue is stopped, and drops the oldest if there is no room. It returns how many.
func (q *queue) push(msg []byte) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open {
		return 0
	}
	q.msgs = append(q.msgs, msg)
	q.bytes += len(msg) + overhead
	for q.bytes > q.limit && len(q.msgs)-q.head > 1 {
		q.takeLocked()
		dropped++
	}
	q.dropped += uint64(dropped)
	q.signal()
	return dropped
}

// pop returns the oldest message, nil if there is none, and whether there are more, in which case wake has a value.
func (q *queue) pop() (msg []byte, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head < len(q.msgs) {
		msg = q.takeLocked()
	}
	if more = q.head < len(q.msgs); more {
		q.signal()
	}
	return msg, more
}

func (q *queue) takeLocked() []byte {
	msg := q.msgs[q.head]
	q.msgs[q.head] = nil
	q.head++
	q.bytes -= len(msg) + overhead
	if q.head > len(q.msgs)/2 { // at most half of it is empty
		n := copy(q.msgs, q.msgs[q.head:])
		clear(q.msgs[n:])
		q.msgs, q.head = q.msgs[:n], 0
	}
	return msg
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// start lets messages in, stop lets none in any more and forgets those that wait.
func (q *queue) start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = true
}

func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open, q.msgs, q.head, q.bytes = false, nil, 0, 0
}

func (q *queue) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
