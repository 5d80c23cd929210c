package mailbox

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/internal/guard"
)

// Inbox holds messages that have come until they are handled. Its methods may be called from any goroutine, Run
// from one.
type Inbox struct {
	queue           *queue
	limit           int
	messages, bytes atomic.Uint64
	unfit, panics   atomic.Uint64

	mu  sync.Mutex
	err error // of the last panic
}

// NewInbox returns an inbox in which at most max messages wait, of 1 to limit bytes.
func NewInbox(max, limit int) *Inbox { return &Inbox{queue: newQueue(max), limit: limit} }

// Put puts a message in, which is the inbox's from now on. It never waits: the oldest gives way.
func (b *Inbox) Put(msg []byte) {
	b.messages.Add(1)
	b.bytes.Add(uint64(len(msg)))
	if len(msg) == 0 || len(msg) > b.limit {
		b.unfit.Add(1)
		return
	}
	b.queue.put(msg)
}

// Run calls handle with each message, one after the other, until ctx ends. A handle that panics has lost its
// message.
func (b *Inbox) Run(ctx context.Context, handle func(msg []byte)) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-b.queue.messages:
			if ctx.Err() == nil { // of two that are ready, either may be chosen
				b.handle(handle, msg)
			}
		}
	}
}

func (b *Inbox) handle(handle func(msg []byte), msg []byte) {
	if p := guard.Call("", func() { handle(msg) }); p != nil {
		b.panics.Add(1)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.err = fmt.Errorf("a message made its handle panic: %v\n%s", p.Value, p.Stack)
	}
}

// InStats is what an Inbox has had since it was made.
type InStats struct {
	Messages, Bytes uint64 // that came
	Missed          uint64 // messages that gave way, or were empty or too long
	Panics          uint64 // messages whose handle panicked
	PanicErr        error  // the last panic, and where it was; nil: there was none
}

// Stats returns them.
func (b *Inbox) Stats() InStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return InStats{
		Messages: b.messages.Load(), Bytes: b.bytes.Load(), Missed: b.queue.lost.Load() + b.unfit.Load(),
		Panics: b.panics.Load(), PanicErr: b.err,
	}
}
