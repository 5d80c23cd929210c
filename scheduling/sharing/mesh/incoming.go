package mesh

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/scheduling/sharing"
)

// listen accepts connections until Close.
func (t *Transport) listen() {
	failures := 0
	for {
		conn, err := t.listener.Accept()
		switch {
		case t.live.Err() != nil:
			if err == nil {
				guard.Close(conn)
			}
			return
		case err != nil: // there are too many open files, for example
			failures++
			t.tell(slog.LevelWarn, "no connection can be accepted", t.listener.Addr().String(), err)
			if !sleep(t.live, backoff(failures, 5*time.Millisecond, time.Second, 0)) {
				return
			}
		default:
			failures = 0
			t.enter(conn)
		}
	}
}

// enter begins with a connection, in place of the oldest that has not said who it is if there are too many.
func (t *Transport) enter(conn net.Conn) {
	var oldest net.Conn
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		guard.Close(conn)
		return
	}
	t.conns[conn] = false
	t.waiting = append(t.waiting, conn)
	if len(t.waiting) > t.opt.MaxHandshakes {
		oldest = t.waiting[0]
		t.waiting = t.waiting[1:]
	}
	t.running.Go(func() { t.panics.Call("a connection", func() { t.serve(conn) }) })
	t.mu.Unlock()
	if oldest != nil {
		guard.Close(oldest)
	}
}

// serve reads from a connection until it ends.
func (t *Transport) serve(conn net.Conn) {
	defer t.leave(conn)
	from := conn.RemoteAddr().String()
	in, err := t.greet(conn)
	if err == nil {
		err = t.read(conn, in, from)
	}
	bad := violation("")
	switch {
	case t.live.Err() != nil, errors.Is(err, errSelf):
	case errors.Is(err, io.EOF): // it leaves, or has only looked whether somebody is there
	case in == nil, errors.As(err, &bad):
		if errors.Is(err, net.ErrClosed) {
			err = errors.New("it has not said who it is, and gives way to newer ones")
		}
		t.counts.refused.Add(1)
		t.tell(slog.LevelWarn, "a connection is refused", host(from), err)
	default:
		t.tell(slog.LevelWarn, "a peer is not heard any more", host(from), err)
	}
}

// host returns the address of a connection without its port, which is another one each time.
func host(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// leave ends a connection.
func (t *Transport) leave(conn net.Conn) {
	guard.Close(conn)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns[conn] {
		t.known--
	}
	delete(t.conns, conn)
	t.waitNoMoreLocked(conn)
}

// admit notes that a connection is that of a peer, if there is room.
func (t *Transport) admit(conn net.Conn) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.known >= t.opt.MaxConns {
		return full
	}
	t.conns[conn] = true
	t.known++
	t.waitNoMoreLocked(conn)
	return welcome
}

func (t *Transport) waitNoMoreLocked(conn net.Conn) {
	t.waiting = slices.DeleteFunc(t.waiting, func(c net.Conn) bool { return c == conn })
}

// incoming is a connection of a peer that has said who it is.
type incoming struct {
	frames *frameReader
	pongs  *frameWriter
}

// greet has who connects say who it is.
func (t *Transport) greet(raw net.Conn) (*incoming, error) {
	if err := raw.SetDeadline(time.Now().Add(t.opt.HandshakeTimeout)); err != nil {
		return nil, err
	}
	conn, binding, err := t.overTLS(raw, "")
	if err != nil {
		return nil, err
	}
	s, err := t.party.accept(conn, binding, func() verdict { return t.admit(raw) })
	if err != nil {
		return nil, err
	}
	return &incoming{newFrameReader(conn, s.to, sharing.MaxMessage), newFrameWriter(conn, s.back)}, nil
}

// read delivers what a peer sends, no faster than it may, and answers its pings. It returns why that ends.
func (t *Transport) read(raw net.Conn, in *incoming, from string) error {
	left := budget{rate: float64(t.opt.MaxRate), left: float64(t.opt.MaxRate), at: time.Now()}
	for {
		now := time.Now()
		if err := raw.SetDeadline(now.Add(t.opt.IdleTimeout)); err != nil {
			return err
		}
		msg, err := in.frames.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("it is silent: %w", err)
		}
		if err != nil {
			return err
		}
		if wait := left.take(time.Now(), len(msg)+frameCost); wait > 0 {
			t.counts.throttled.Add(1)
			t.tell(slog.LevelWarn, "a peer sends more than Options.MaxRate", host(from), nil)
			if !sleep(t.live, wait) {
				return errClosed
			}
		}
		if len(msg) > 0 {
			t.deliver(from, msg)
			continue
		}
		if err := in.pong(); err != nil {
			return err
		}
	}
}

// pong answers a ping.
func (in *incoming) pong() error {
	if err := in.pongs.write(nil); err != nil {
		return err
	}
	return in.pongs.flush()
}

// frameCost is what a frame counts beside its message, in bytes.
const frameCost = 256

// budget is what may still be read from a connection: a second's worth at once.
type budget struct {
	rate float64 // a second
	left float64
	at   time.Time
}

// take takes n, and returns how long to wait until there was so much.
func (b *budget) take(now time.Time, n int) time.Duration {
	b.left = min(b.rate, b.left+b.rate*now.Sub(b.at).Seconds()) - float64(n)
	b.at = now
	return time.Duration(max(0, -b.left/b.rate*float64(time.Second)))
}
