package mailbox

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
)

// maxBatch is how many messages are sent at a time at most.
const maxBatch = 16

// Outbox sends what is put in, in the background. Its methods may be called from any goroutine, Run from one.
type Outbox struct {
	send    func(ctx context.Context, batch [][]byte) error
	timeout time.Duration
	queue   *queue

	messages, bytes, refused, failed atomic.Uint64

	mu      sync.Mutex
	err     error // of the last attempt
	waiting bool  // for the next attempt: what comes meanwhile is refused
}

// NewOutbox returns an outbox that calls send with some messages, oldest first, which are valid during the call
// only. send has to end soon after its ctx, which lasts for timeout. At most max messages wait meanwhile. A send that
// panics has failed.
func NewOutbox(max int, timeout time.Duration, send func(ctx context.Context, batch [][]byte) error) *Outbox {
	return &Outbox{send: send, timeout: timeout, queue: newQueue(max)}
}

// Put has a copy of msg sent. It never waits. An error says why messages could not be sent a moment ago, and
// that this one will not be.
func (b *Outbox) Put(msg []byte) error {
	b.mu.Lock()
	waiting, err := b.waiting, b.err
	b.mu.Unlock()
	if waiting {
		b.refused.Add(1)
		return fmt.Errorf("not sent: %w", err)
	}
	b.queue.put(bytes.Clone(msg))
	return nil
}

// Run sends until ctx ends, and then what waits, for at most one timeout, unless the last attempt has failed.
func (b *Outbox) Run(ctx context.Context) {
	for failures := 0; ; {
		batch := b.take(ctx)
		if batch == nil {
			b.finish(context.WithoutCancel(ctx))
			return
		}
		err := b.try(context.WithoutCancel(ctx), batch)
		if err == nil {
			failures = 0
			b.set(nil, false)
			continue
		}
		b.set(err, true)
		b.queue.clear()
		Sleep(ctx, Backoff(failures))
		failures++
		b.set(err, false)
	}
}

// take waits for a message and returns it, and those that wait too; nil: ctx has ended.
func (b *Outbox) take(ctx context.Context) [][]byte {
	if ctx.Err() != nil { // of two that are ready, either may be chosen
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case msg := <-b.queue.messages:
		return b.more([][]byte{msg})
	}
}

// more adds messages that wait to a batch, until it is full.
func (b *Outbox) more(batch [][]byte) [][]byte {
	for len(batch) < maxBatch {
		select {
		case msg := <-b.queue.messages:
			batch = append(batch, msg)
		default:
			return batch
		}
	}
	return batch
}

func (b *Outbox) try(ctx context.Context, batch [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	if err := guard.Try("sending", func() error { return b.send(ctx, batch) }); err != nil {
		b.failed.Add(uint64(len(batch)))
		return err
	}
	b.messages.Add(uint64(len(batch)))
	for _, msg := range batch {
		b.bytes.Add(uint64(len(msg)))
	}
	return nil
}

// finish sends what waits.
func (b *Outbox) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	for b.Stats().Err == nil && ctx.Err() == nil {
		batch := b.more(nil)
		if batch == nil {
			return
		}
		b.set(b.try(ctx, batch), false)
	}
}

func (b *Outbox) set(err error, waiting bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.waiting = err, waiting
}

// OutStats is what an Outbox has done since it was made.
type OutStats struct {
	Messages, Bytes uint64 // that were sent
	Dropped         uint64 // messages that gave way, were refused, or failed
	Err             error  // of the last attempt; nil: it went well
}

// Stats returns them.
func (b *Outbox) Stats() OutStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return OutStats{
		Messages: b.messages.Load(), Bytes: b.bytes.Load(),
		Dropped: b.queue.lost.Load() + b.refused.Load() + b.failed.Load(),
		Err:     b.err,
	}
}
