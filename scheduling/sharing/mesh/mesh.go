package mesh

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/scheduling/sharing"
)

// Transport is a sharing.Transport over TCP. Create one with New. All methods may be called by any goroutine, but
// Close not by handle, for which it waits.
type Transport struct {
	panics   *guard.Teller
	opt      Options
	targets  []target
	party    party
	listener net.Listener
	handle   atomic.Pointer[func(from string, msg []byte)]
	counts   counts
	told     quiet
	running  sync.WaitGroup
	once     sync.Once // Close

	live     context.Context // done when Close begins
	stopLive context.CancelFunc
	hard     context.Context // done when Close ends
	stopHard context.CancelFunc

	mu sync.Mutex // held for moments, never over I/O
	// guarded by mu
	closed  bool
	found   [][]netip.AddrPort // of targets
	peers   map[netip.AddrPort]*peer
	claims  map[identity]*peer // which of our connections goes to whom
	conns   map[net.Conn]bool  // that others have made; true: they have said who they are
	known   int                // of conns
	waiting []net.Conn         // the rest of conns, the oldest first
}

// New returns a transport that listens and connects to its peers until Close. The error lists all that is wrong with
// the options.
func New(o Options) (*Transport, error) {
	o, targets, err := o.prepare()
	if err != nil {
		return nil, err
	}
	if o.Listener == nil {
		if o.Listener, err = net.Listen("tcp", o.Listen); err != nil {
			return nil, fmt.Errorf("mesh: Listen: %w", err)
		}
	}
	t := &Transport{
		panics: guardlog.Teller(o.Logger, "mesh"), opt: o, targets: targets, listener: o.Listener,
		party: party{id: newIdentity(), keys: keysOf(o)},
		found: make([][]netip.AddrPort, len(targets)), peers: map[netip.AddrPort]*peer{}, claims: map[identity]*peer{}, conns: map[net.Conn]bool{},
	}
	t.live, t.stopLive = context.WithCancel(context.Background())
	t.hard, t.stopHard = context.WithCancel(context.Background())
	t.running.Go(func() { t.panics.Loop(t.live, "the listener", t.listen) })
	for i, target := range targets {
		if target.addr.IsValid() {
			t.find(i, []netip.Addr{target.addr})
		} else {
			t.running.Go(func() { t.panics.Loop(t.live, "lookups", func() { t.follow(i) }) })
		}
	}
	return t, nil
}

func keysOf(o Options) [][]byte {
	if len(o.Key) == 0 {
		return nil
	}
	return append([][]byte{o.Key}, o.MoreKeys...)
}

// Addr returns where peers connect to.
func (t *Transport) Addr() net.Addr { return t.listener.Addr() }

// Receive says who is called with each message that comes from now on; those that came before are lost. from is the
// address of the connection. A handle that panics loses that message; Stats counts it. Receive panics if it is called
// again.
func (t *Transport) Receive(handle func(from string, msg []byte)) {
	if !t.handle.CompareAndSwap(nil, &handle) {
		panic("mesh: Receive is called twice")
	}
}

var errClosed = errors.New("mesh: the transport is closed")

// Broadcast queues a message of 1 to sharing.MaxMessage bytes for all peers that are connected, and does not wait until
// it is sent. That there are none is no error.
func (t *Transport) Broadcast(ctx context.Context, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mesh: not sent: %w", err)
	}
	if n := len(msg); n == 0 || n > sharing.MaxMessage {
		return fmt.Errorf("mesh: a message has %d bytes, want 1 to %d", n, sharing.MaxMessage)
	}
	own := bytes.Clone(msg) // of all queues
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errClosed
	}
	for _, p := range t.peers {
		t.counts.dropped.Add(uint64(p.queue.push(own)))
	}
	return nil
}

// Close sends what has been broadcast, for at most Options.CloseTimeout, and ends everything. It always returns nil.
func (t *Transport) Close() error {
	t.once.Do(func() {
		t.mu.Lock()
		t.closed = true
		conns := t.conns
		t.conns, t.waiting = nil, nil
		t.mu.Unlock()
		t.stopLive()
		guard.Close(t.listener)
		for c := range conns {
			guard.Close(c)
		}
		late := time.AfterFunc(t.opt.CloseTimeout, t.stopHard)
		t.running.Wait()
		late.Stop()
		t.stopHard()
	})
	return nil
}

// deliver calls handle.
func (t *Transport) deliver(from string, msg []byte) {
	t.counts.messagesIn.Add(1)
	t.counts.bytesIn.Add(uint64(len(msg)))
	handle := t.handle.Load()
	if handle == nil {
		return
	}
	if p := guard.Call("", func() { (*handle)(from, msg) }); p != nil {
		t.counts.panics.Add(1)
		t.tell(slog.LevelError, "a message made its handle panic", from, fmt.Errorf("panic: %v\n%s", p.Value, p.Stack))
	}
}

// overTLS returns a connection after the TLS handshake, and what proofs over it are bound to: conn itself and nothing
// if there is no TLS. host is what a client connects to; empty: this is the server. The caller sets deadlines.
func (t *Transport) overTLS(conn net.Conn, host string) (_ net.Conn, binding []byte, err error) {
	if t.opt.TLS == nil {
		return conn, nil, nil
	}
	c := tls.Server(conn, t.opt.TLS)
	if host != "" {
		config := t.opt.TLS.Clone()
		if config.ServerName == "" {
			config.ServerName = host
		}
		c = tls.Client(conn, config)
	}
	if err := c.Handshake(); err != nil {
		return nil, nil, err
	}
	if len(t.party.keys) == 0 {
		return c, nil, nil
	}
	state := c.ConnectionState()
	binding, err = state.ExportKeyingMaterial("EXPERIMENTAL inferpick mesh", nil, 32)
	return c, binding, err
}

// sleep waits, and reports whether ctx is not done meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

var _ sharing.Transport = (*Transport)(nil)
