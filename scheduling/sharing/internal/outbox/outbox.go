// Package outbox is what transports of messages have in common that are state, of which the newest counts:
// who has a message never waits, few wait to be sent or to be handled, and the oldest of them give way. What
// cannot be sent is forgotten, and who has more is told why.
package outbox

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Queue holds messages; NewQueue makes one. Its methods may be called from any goroutine.
type Queue struct {
	messages chan []byte
	lost     atomic.Uint64
}

// NewQueue returns a queue of at most max messages, 1 or more.
func NewQueue(max int) *Queue { return &Queue{messages: make(chan []byte, max)} }

// Put puts a message in, which is the queue's from now on. If the queue is full, the oldest gives way.
func (q *Queue) Put(msg []byte) {
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

// Messages is where the messages come out, oldest first. It is never closed.
func (q *Queue) Messages() <-chan []byte { return q.messages }

// Clear forgets all messages.
func (q *Queue) Clear() {
	for {
		select {
		case <-q.messages:
			q.lost.Add(1)
		default:
			return
		}
	}
}

// Lost returns how many messages have given way or were forgotten.
func (q *Queue) Lost() uint64 { return q.lost.Load() }

// maxBatch is how many messages are sent at a time at most.
const maxBatch = 16

// Sender sends what is put in, in the background. Its methods may be called from any goroutine, Run from one.
type Sender struct {
	send    func(ctx context.Context, batch [][]byte) error
	timeout time.Duration
	queue   *Queue

	sent, bytes, refused, failed atomic.Uint64

	mu      sync.Mutex
	err     error // of the last attempt
	waiting bool  // for the next attempt: what comes meanwhile is refused
}

// NewSender returns a sender that calls send with some messages, oldest first, which are valid during the call
// only. send has to end soon after its ctx, which lasts for timeout. At most max messages wait meanwhile.
func NewSender(max int, timeout time.Duration, send func(ctx context.Context, batch [][]byte) error) *Sender {
	return &Sender{send: send, timeout: timeout, queue: NewQueue(max)}
}

// Put has a copy of msg sent. It never waits. An error says why messages could not be sent a moment ago, and
// that this one will not be.
func (s *Sender) Put(msg []byte) error {
	s.mu.Lock()
	waiting, err := s.waiting, s.err
	s.mu.Unlock()
	if waiting {
		s.refused.Add(1)
		return fmt.Errorf("not sent: %w", err)
	}
	s.queue.Put(bytes.Clone(msg))
	return nil
}

// Run sends until ctx ends.
func (s *Sender) Run(ctx context.Context) {
	for failures := 0; ; {
		batch := s.take(ctx)
		if batch == nil {
			return
		}
		err := s.try(ctx, batch)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures = 0
			s.set(nil, false)
			continue
		}
		s.set(err, true)
		s.queue.Clear()
		Sleep(ctx, Backoff(failures))
		failures++
		s.set(err, false)
	}
}

// take waits for a message and returns it, and those that wait too; nil: ctx has ended.
func (s *Sender) take(ctx context.Context) [][]byte {
	var batch [][]byte
	select {
	case <-ctx.Done():
		return nil
	case msg := <-s.queue.messages:
		batch = append(batch, msg)
	}
	for len(batch) < maxBatch {
		select {
		case msg := <-s.queue.messages:
			batch = append(batch, msg)
		default:
			return batch
		}
	}
	return batch
}

func (s *Sender) try(ctx context.Context, batch [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.send(ctx, batch); err != nil {
		s.failed.Add(uint64(len(batch)))
		return err
	}
	s.sent.Add(uint64(len(batch)))
	for _, msg := range batch {
		s.bytes.Add(uint64(len(msg)))
	}
	return nil
}

func (s *Sender) set(err error, waiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.waiting = err, waiting
}

// Stats is what a Sender has done since it was made.
type Stats struct {
	Sent, Bytes uint64
	Dropped     uint64 // messages that gave way, were refused, or failed
	Err         error  // of the last attempt; nil: it went well
}

// Stats returns them.
func (s *Sender) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Sent: s.sent.Load(), Bytes: s.bytes.Load(),
		Dropped: s.queue.Lost() + s.refused.Load() + s.failed.Load(),
		Err:     s.err,
	}
}

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

// Backoff is how long to wait after a failure that so many came before in a row: 50 ms to 1 s, and up to a
// quarter less, so that many that failed together do not come back together.
func Backoff(failures int) time.Duration {
	wait := maxBackoff
	if failures < 5 {
		wait = min(wait, minBackoff<<failures)
	}
	return wait - rand.N(wait/4)
}

// Sleep waits, until ctx ends at the latest.
func Sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
