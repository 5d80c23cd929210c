package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	natsio "github.com/nats-io/nats.go"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/internal/mailbox"
)

// Options are those of a Transport. The zero value is good for a server on this machine.
type Options struct {
	Server
	// Prefix is what all gateways that share have in common, and no others on the servers: a subject, such as
	// fleet.one. Default inferpick.
	Prefix string
	// Queue is how many messages at most wait to be sent, and as many to be handled; the oldest give
	// way. Default 64, which is 8 MiB in all of messages as long as they may be; at most 4,096.
	Queue int
	// Timeout is how long it may take to connect, to send, and to answer. Default 1 s, from 10 ms to 1 m.
	Timeout time.Duration
}

// What has arrived and is not yet in the queue is so much at most.
const (
	maxArrived      = 64 << 10
	maxArrivedBytes = 16 << 20
)

// Transport carries messages between all that use the same servers and prefix.
type Transport struct {
	connection *connection
	subject    string

	out *mailbox.Outbox
	in  *mailbox.Inbox

	subscription atomic.Pointer[natsio.Subscription]
	connected    atomic.Bool
	lost         atomic.Uint64
	denied       atomic.Pointer[error] // why the server did not take a message

	ctx       context.Context // until Close
	cancel    context.CancelFunc
	group     sync.WaitGroup
	receiving atomic.Bool
}

var _ sharing.Transport = (*Transport)(nil)

// New returns a transport. It does not wait for a server; errors are of the options.
func New(o Options) (*Transport, error) {
	c := check.Checks{Package: "nats"}
	if o.Prefix == "" {
		o.Prefix = "inferpick"
	}
	c.Want(len(o.Prefix) <= 256 && isSubject(o.Prefix), "Prefix", o.Prefix, "names with dots between, of at most 256 bytes, without blanks, * and >")
	check.Default(&c, "Queue", &o.Queue, 64, 1, 4096)
	check.Default(&c, "Timeout", &o.Timeout, time.Second, 10*time.Millisecond, time.Minute)
	if err := c.Err(); err != nil {
		return nil, err
	}
	t := &Transport{subject: o.Prefix + ".messages"}
	var err error
	if t.connection, err = o.connect(o.Timeout, o.Timeout, t.told); err != nil {
		return nil, err
	}
	t.out = mailbox.NewOutbox(o.Queue, o.Timeout, t.send)
	t.in = mailbox.NewInbox(o.Queue, sharing.MaxMessage)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.group.Go(func() { t.out.Run(t.ctx) })
	t.group.Go(t.watch)
	return t, nil
}

func isSubject(s string) bool {
	for name := range strings.SplitSeq(s, ".") {
		if name == "" || strings.ContainsAny(name, " \t\r\n\f*>") {
			return false
		}
	}
	return true
}

// watch notes whether there is a server, until Close.
func (t *Transport) watch() {
	conn, err := t.connection.get(t.ctx)
	if err != nil {
		return
	}
	changes := conn.StatusChanged()
	defer conn.RemoveStatusListener(changes)
	t.connected.Store(conn.IsConnected())
	for {
		select {
		case <-t.ctx.Done():
			return
		case status := <-changes:
			is := status == natsio.CONNECTED
			if was := t.connected.Swap(is); was && !is {
				t.lost.Add(1)
			}
		}
	}
}

// told is told what the server complains about: after a message was sent that it did not take.
func (t *Transport) told(err error) {
	if errors.Is(err, natsio.ErrPermissionViolation) && strings.Contains(strings.ToLower(err.Error()), "publish to") {
		t.denied.Store(&err)
	}
}

// Broadcast has a message of 1 to sharing.MaxMessage bytes sent to all that are subscribed. It never waits: an
// error says that the message has another length, or why no server could be reached a moment ago.
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

// send publishes messages, and waits until the server has them.
func (t *Transport) send(ctx context.Context, batch [][]byte) error {
	conn, err := t.connection.connected(ctx)
	if err != nil {
		return err
	}
	for _, msg := range batch {
		if err := conn.Publish(t.subject, msg); err != nil {
			return t.connection.explain(err)
		}
	}
	if err := conn.FlushWithContext(ctx); err != nil {
		return t.connection.explain(err)
	}
	if denied := t.denied.Swap(nil); denied != nil { // it may be of the last batch
		return t.connection.explain(*denied)
	}
	return nil
}

// Receive subscribes, and has handle called with each message, one after the other. from are the servers: who
// published a message, NATS does not say. A handle that is slow misses the oldest of what waits; one that panics
// has lost its message.
func (t *Transport) Receive(handle func(from string, msg []byte)) {
	if t.receiving.Swap(true) {
		panic("nats: Receive is called once")
	}
	t.group.Go(func() { t.in.Run(t.ctx, func(msg []byte) { handle(t.connection.name, msg) }) })
	t.group.Go(t.subscribe)
}

// subscribe is subscribed until Close.
func (t *Transport) subscribe() {
	conn, err := t.connection.get(t.ctx)
	if err != nil {
		return
	}
	subscription, err := conn.Subscribe(t.subject, func(msg *natsio.Msg) { t.in.Put(msg.Data) })
	if err != nil {
		t.connection.note(err)
		return
	}
	// What arrives is taken at once. This is for a machine that does not get to it: here the newest gives way.
	_ = subscription.SetPendingLimits(maxArrived, maxArrivedBytes) // it can only be closed
	t.subscription.Store(subscription)
	<-t.ctx.Done()
	_ = subscription.Unsubscribe() // it can only be closed
}

// Ping says whether a server can be reached and knows us. It needs no Transport that works: a program that
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
	MessagesIn, BytesIn   uint64 // that came
	Missed                uint64 // messages that came and were not handled: too many waited, or they were empty or too long
	Panics                uint64 // messages whose handle panicked
	PanicErr              error  // the last panic, and where it was
	Lost                  uint64 // how often the connection was lost: for a while nothing was heard
	Connected             bool   // there is a server
	SendErr               error  // why messages cannot be sent; nil: they can, or it was not tried yet
	ConnErr               error  // what is wrong with the connection, or what the server has complained about since there is one
}

// Stats returns them.
func (t *Transport) Stats() Stats {
	out, in := t.out.Stats(), t.in.Stats()
	if subscription := t.subscription.Load(); subscription != nil {
		if behind, err := subscription.Dropped(); err == nil {
			in.Missed += uint64(behind)
		}
	}
	return Stats{
		MessagesOut: out.Messages, BytesOut: out.Bytes, Dropped: out.Dropped,
		MessagesIn: in.Messages, BytesIn: in.Bytes, Missed: in.Missed, Panics: in.Panics, PanicErr: in.PanicErr,
		Lost: t.lost.Load(), Connected: t.connected.Load(), SendErr: out.Err, ConnErr: t.connection.problem(),
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
