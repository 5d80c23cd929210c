package mesh

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/types"
)

// peer is an address that this gateway connects to, to send. One goroutine does all that, and one more hears the
// answers while there is a connection.
type peer struct {
	t      *Transport
	host   string // of Options.Peers
	addr   netip.AddrPort
	queue  *queue
	rand   types.Rand
	ctx    context.Context // done when the address is no peer any more, or Close ends
	cancel context.CancelFunc
	live   context.Context // done when ctx is, or Close begins

	mu        sync.Mutex
	connected bool
	err       error // why there is no connection
}

// recheck is how long an address is left alone that is this gateway itself, or one that it is connected to.
const recheck = 30 * time.Second

func (t *Transport) newPeer(host string, addr netip.AddrPort) *peer {
	p := &peer{t: t, host: host, addr: addr, queue: newQueue(t.opt.Queue)}
	p.rand = types.NewRand(binary.BigEndian.Uint64(t.party.id[:])) // other gateways wait for other times
	p.ctx, p.cancel = context.WithCancel(t.hard)
	return p
}

// run connects and sends, again and again.
func (p *peer) run() {
	live, stop := context.WithCancel(p.ctx)
	defer stop()
	defer context.AfterFunc(p.t.live, stop)()
	p.live = live

	o := &p.t.opt
	for failures := 1; ; failures++ {
		var up time.Duration
		err := p.t.panics.Try("a connection", func() (err error) {
			up, err = p.connect()
			return err
		})
		if live.Err() != nil {
			p.cancel()
			return
		}
		p.note(false, err)
		if up > o.MaxBackoff {
			failures = 1
		}
		wait := backoff(failures, o.MinBackoff, o.MaxBackoff, p.rand.Float64())
		if errors.Is(err, errSelf) || errors.Is(err, errSame) {
			wait = recheck
		} else {
			p.t.counts.lost.Add(1)
			p.t.tell(slog.LevelWarn, "a peer does not get what is shared", p.addr.String(), err)
		}
		if !sleep(live, wait) {
			p.cancel()
			return
		}
	}
}

// backoff returns how long to wait after so many failures in a row: twice as long after each, and up to a quarter
// longer, by u from 0 to 1.
func backoff(failures int, low, high time.Duration, u float64) time.Duration {
	wait := low
	for i := 1; i < failures && wait < high; i++ {
		wait = min(2*wait, high)
	}
	return wait + time.Duration(u*float64(wait)/4)
}

func (p *peer) note(connected bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connected, p.err = connected, err
}

// connect connects and sends until the connection ends. It returns how long that took, 0 if there was no connection,
// and why it ended.
func (p *peer) connect() (up time.Duration, err error) {
	o := &p.t.opt
	deadline := time.Now().Add(o.HandshakeTimeout)
	ctx, cancel := context.WithDeadline(p.live, deadline)
	defer cancel()
	raw, err := o.Dial(ctx, "tcp", p.addr.String())
	if err != nil {
		return 0, err
	}
	defer guard.Close(raw)
	defer context.AfterFunc(p.ctx, func() { guard.Close(raw) })()

	unlessClosed := context.AfterFunc(p.live, func() { guard.Close(raw) })
	if err := raw.SetDeadline(deadline); err != nil {
		return 0, err
	}
	conn, s, err := p.greet(raw)
	if err == nil {
		err = p.t.claim(s.peer, p)
	}
	unlessClosed()
	if err != nil {
		return 0, fmt.Errorf("the handshake failed: %w", err)
	}
	defer p.t.release(s.peer, p)
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return 0, err
	}

	began := time.Now()
	p.note(true, nil)
	p.t.tell(slog.LevelInfo, "connected to a peer", p.addr.String(), nil)
	p.queue.start()
	defer p.queue.stop()
	err = p.send(conn, s)
	return time.Since(began), err
}

func (p *peer) greet(raw net.Conn) (net.Conn, session, error) {
	conn, binding, err := p.t.overTLS(raw, p.host)
	if err != nil {
		return nil, session{}, err
	}
	s, err := p.t.party.dial(conn, binding)
	return conn, s, err
}

// send sends what is queued, and pings, until the connection ends or Close has sent all.
func (p *peer) send(conn net.Conn, s session) error {
	o := &p.t.opt
	out := newFrameWriter(conn, s.to)
	silent := make(chan error, 1) // it ends when the connection does
	p.t.running.Go(func() { silent <- p.t.panics.Try("a connection", func() error { return p.hear(conn, s) }) })
	ping := time.NewTicker(o.IdleTimeout / 3)
	defer ping.Stop()
	for {
		var err error
		more := false
		select {
		case err := <-silent:
			return err
		case <-p.live.Done():
			return p.leave(conn, out, silent)
		case <-ping.C:
			err = p.write(conn, out, nil)
		case <-p.queue.wake:
			more, err = p.writeNext(conn, out)
		}
		if err == nil && !more {
			err = out.flush()
		}
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = fmt.Errorf("it does not read: %w", err)
			}
			return err
		}
	}
}

// writeNext writes the next message of the queue, and reports whether there are more.
func (p *peer) writeNext(conn net.Conn, out *frameWriter) (more bool, err error) {
	msg, more := p.queue.pop()
	if msg == nil {
		return false, nil
	}
	return more, p.write(conn, out, msg)
}

// write writes a frame; without a message, a ping.
func (p *peer) write(conn net.Conn, out *frameWriter, msg []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(p.t.opt.IdleTimeout)); err != nil {
		return err
	}
	if err := out.write(msg); err != nil {
		return err
	}
	if len(msg) > 0 {
		p.t.counts.messagesOut.Add(1)
		p.t.counts.bytesOut.Add(uint64(len(msg)))
	}
	return nil
}

// leave sends what is left, and waits until the peer has it and closes the connection. Where that takes too long, Close
// ends the connection.
func (p *peer) leave(conn net.Conn, out *frameWriter, silent <-chan error) error {
	for more := true; more; {
		var err error
		if more, err = p.writeNext(conn, out); err != nil {
			return err
		}
	}
	if err := out.flush(); err != nil {
		return err
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := c.CloseWrite(); err != nil {
			return err
		}
		<-silent
	}
	return errClosed
}

// hear hears the answers to pings until there are none any more.
func (p *peer) hear(conn net.Conn, s session) error {
	in := newFrameReader(conn, s.back, 0)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(p.t.opt.IdleTimeout)); err != nil {
			return err
		}
		_, err := in.read()
		switch {
		case err == io.EOF:
			return errors.New("it has closed the connection")
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("it does not answer: %w", err)
		case err != nil:
			return err
		}
	}
}

var errSame = errors.New("it is a peer that has another address, too")

// claim notes that a peer's connection goes to a gateway, unless another one does.
func (t *Transport) claim(id identity, p *peer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.claims[id]; o != nil && o.ctx.Err() == nil {
		return fmt.Errorf("%w: %v", errSame, o.addr)
	}
	t.claims[id] = p
	return nil
}

func (t *Transport) release(id identity, p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.claims[id] == p {
		delete(t.claims, id)
	}
}

func (p *peer) state() Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Peer{
		Address: p.addr.String(), Connected: p.connected, Err: p.err, Dropped: p.queue.drops(),
		Known: errors.Is(p.err, errSelf) || errors.Is(p.err, errSame),
	}
}
