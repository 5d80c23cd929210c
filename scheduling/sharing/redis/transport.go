package redis

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/internal/mailbox"
)

// Options are those of a Transport. The zero value is good for a server on this machine.
type Options struct {
	Server
	// Prefix is what all gateways that share have in common, and no others on the server. Default inferpick.
	Prefix string
	// Queue is how many messages at most wait to be sent, and as many to be handled; the oldest give
	// way. Default 64, which is 8 MiB in all of messages as long as they may be; at most 4,096.
	Queue int
	// Timeout is how long it may take to connect, to send, and to answer. Default 1 s, from 10 ms to 1 m.
	Timeout time.Duration
}

// Transport carries messages between all that use the same server and prefix, itself included.
type Transport struct {
	connection *connection
	channel    string
	timeout    time.Duration

	out *mailbox.Outbox
	in  *mailbox.Inbox

	lost atomic.Uint64 // subscriptions

	mu         sync.Mutex
	subscribed bool
	err        error // of the subscription

	ctx       context.Context // until Close
	cancel    context.CancelFunc
	group     sync.WaitGroup
	receiving atomic.Bool
}

var _ sharing.Transport = (*Transport)(nil)

// New returns a transport. It does not wait for the server; errors are of the options.
func New(o Options) (*Transport, error) {
	c := check.Checks{Package: "redis"}
	checkPrefix(&c, &o.Prefix)
	check.Default(&c, "Queue", &o.Queue, 64, 1, 4096)
	check.Default(&c, "Timeout", &o.Timeout, time.Second, 10*time.Millisecond, time.Minute)
	if err := c.Err(); err != nil {
		return nil, err
	}
	connection, err := o.connect(o.Timeout, 1, sharing.MaxMessage)
	if err != nil {
		return nil, err
	}
	t := &Transport{connection: connection, channel: o.Prefix + ":messages", timeout: o.Timeout}
	t.out = mailbox.NewOutbox(o.Queue, o.Timeout, t.send)
	t.in = mailbox.NewInbox(o.Queue, sharing.MaxMessage)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.group.Go(func() { t.out.Run(t.ctx) })
	return t, nil
}

func checkPrefix(c *check.Checks, prefix *string) {
	if *prefix == "" {
		*prefix = "inferpick"
	}
	c.Want(len(*prefix) <= 256, "Prefix", *prefix, "at most 256 bytes")
}

// Broadcast has a message of 1 to sharing.MaxMessage bytes sent to all that are subscribed. It never waits: an
// error says that the message has another length, or why the server could not be reached a moment ago.
func (t *Transport) Broadcast(ctx context.Context, msg []byte) error {
	switch {
	case t.ctx.Err() != nil:
		return t.closed()
	case ctx.Err() != nil:
		return fmt.Errorf("%s: not sent: %w", t.connection.name, ctx.Err())
	case len(msg) == 0 || len(msg) > sharing.MaxMessage:
		return fmt.Errorf("%s: a message has %d bytes, want 1 to %d", t.connection.name, len(msg), sharing.MaxMessage)
	}
	return t.out.Put(msg)
}

func (t *Transport) closed() error { return fmt.Errorf("%s: %w", t.connection.name, net.ErrClosed) }

// send publishes messages, all in one go.
func (t *Transport) send(ctx context.Context, batch [][]byte) error {
	_, err := t.connection.Pipelined(ctx, func(p goredis.Pipeliner) error {
		for _, msg := range batch {
			p.Publish(ctx, t.channel, msg)
		}
		return nil
	})
	return t.connection.explain(err)
}

// Ping says whether the server can be reached and knows us. It needs no Transport that works: a program that
// wants to fail at its start asks it.
func (t *Transport) Ping(ctx context.Context) error {
	if t.ctx.Err() != nil {
		return t.closed()
	}
	return t.connection.ping(ctx)
}

// Stats is what a Transport has done since New.
type Stats struct {
	MessagesOut, BytesOut uint64 // that the server took
	Dropped               uint64 // messages that it did not: it could not be reached, or too many waited
	MessagesIn, BytesIn   uint64 // that came, our own among them
	Missed                uint64 // messages that came and were not handled: too many waited, or they were empty or too long
	Panics                uint64 // messages whose handle panicked
	PanicErr              error  // the last panic, and where it was
	Lost                  uint64 // how often a subscription ended: for a while nothing was heard
	Subscribed            bool   // messages come
	SendErr, ReceiveErr   error  // why messages cannot be sent, or do not come; nil: they can, or it was not tried yet
}

// Stats returns them.
func (t *Transport) Stats() Stats {
	out, in := t.out.Stats(), t.in.Stats()
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{
		MessagesOut: out.Messages, BytesOut: out.Bytes, Dropped: out.Dropped,
		MessagesIn: in.Messages, BytesIn: in.Bytes, Missed: in.Missed, Panics: in.Panics, PanicErr: in.PanicErr,
		Lost: t.lost.Load(), Subscribed: t.subscribed, SendErr: out.Err, ReceiveErr: t.err,
	}
}

// Close sends what waits to be sent, and ends the transport. It takes at most about three times Options.Timeout,
// and what handle takes.
func (t *Transport) Close() error {
	t.cancel()
	t.group.Wait()
	t.connection.close()
	return nil
}
