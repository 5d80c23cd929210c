package redis

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	panics "github.com/inferpick/inferpick/internal/guard" // a guard is another thing here
	"github.com/inferpick/inferpick/scheduling/sharing/internal/mailbox"
)

// Receive subscribes, and has handle called with each message, one after the other. from is the server: who
// published a message, Redis does not say. A handle that is slow misses the oldest of what waits; one that panics
// has lost its message.
func (t *Transport) Receive(handle func(from string, msg []byte)) {
	if t.receiving.Swap(true) {
		panic("redis: Receive is called once")
	}
	t.group.Go(func() { t.in.Run(t.ctx, func(msg []byte) { handle(t.connection.name, msg) }) })
	t.group.Go(t.subscribe)
}

// subscribe is subscribed, and if that is lost subscribes anew, until Close.
func (t *Transport) subscribe() {
	for failures := 0; t.ctx.Err() == nil; failures++ {
		err := t.connection.explain(t.listen())
		t.mu.Lock()
		if t.subscribed {
			t.lost.Add(1)
			failures = 0
		}
		t.subscribed, t.err = false, err
		t.mu.Unlock()
		mailbox.Sleep(t.ctx, mailbox.Backoff(failures))
	}
}

// listen subscribes and takes messages until that fails, or nothing is heard: the server may be gone without
// a word.
func (t *Transport) listen() (err error) {
	defer func() {
		if p := recover(); p != nil { // the library takes for granted what an answer is made of
			err = fmt.Errorf("not an answer of Redis: %v", p)
		}
	}()
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	subscription := t.connection.Subscribe(ctx)
	defer panics.Close(subscription) // it says at most that it was closed before
	defer context.AfterFunc(ctx, func() { panics.Close(subscription) })()

	// From here on something has to come from time to time, and first that we are subscribed.
	silence := time.AfterFunc(3*t.timeout, cancel)
	defer silence.Stop()
	if err = subscription.Subscribe(ctx, t.channel); err != nil {
		return err
	}
	var heard atomic.Bool
	t.group.Go(func() { t.ask(ctx, subscription, &heard) })
	for {
		came, err := subscription.Receive(ctx)
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("no answer for %v", 3*t.timeout)
		}
		if err != nil {
			return err
		}
		heard.Store(true)
		if t.take(came) {
			silence.Reset(3 * t.timeout)
		}
	}
}

// ask asks for a sign of life when nothing else comes.
func (t *Transport) ask(ctx context.Context, subscription *goredis.PubSub, heard *atomic.Bool) {
	for {
		mailbox.Sleep(ctx, t.timeout)
		if ctx.Err() != nil {
			return
		}
		if !heard.Swap(false) {
			_ = panics.Try("Ping", func() error { return subscription.Ping(ctx) }) // if it fails, nothing comes
		}
	}
}

// take takes what came with a subscription, and says whether we are subscribed.
func (t *Transport) take(came any) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch came := came.(type) {
	case *goredis.Subscription:
		t.subscribed, t.err = true, nil
	case *goredis.Message:
		t.in.Put([]byte(came.Payload))
	}
	return t.subscribed
}
