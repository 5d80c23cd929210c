package mailbox

import "sync/atomic"

// queue holds messages. Its methods may be called from any goroutine.
type queue struct {
	messages chan []byte // never closed
	lost     atomic.Uint64
}

// newQueue returns a queue of at most max messages, 1 or more.
func newQueue(max int) *queue { return &queue{messages: make(chan []byte, max)} }

// put puts a message in, which is the queue's from now on. If the queue is full, the oldest gives way.
func (q *queue) put(msg []byte) {
	for {
		select {
		case q.messages <- msg:
			return
		default:
		}
		select {
		case <-q.messages:
			q.lost.Add(1)
		default: // somebody has just taken it
		}
	}
}

// clear forgets all messages.
func (q *queue) clear() {
	for {
		select {
		case <-q.messages:
			q.lost.Add(1)
		default:
			return
		}
	}
}
