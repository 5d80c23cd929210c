// Package cable is a TCP connection that can be cut, for tests of what happens when nothing comes any more.
package cable

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Cable passes on what is sent to its address.
type Cable struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	heal  sync.Cond
	cut   bool
	ended bool
	conns map[net.Conn]bool
	group sync.WaitGroup
}

// New returns a cable to a TCP address, which is taken away when the test ends.
func New(t testing.TB, to string) *Cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cable{listener: l, to: to, conns: make(map[net.Conn]bool)}
	c.heal.L = &c.mu
	c.group.Go(c.accept)
	t.Cleanup(c.end)
	return c
}

// Address is where it begins.
func (c *Cable) Address() string { return c.listener.Addr().String() }

// Cut has nothing pass, in neither direction, and no word of it: connections stay, and new ones can be made, up to
// here.
func (c *Cable) Cut() { c.set(true) }

// Heal has all pass again, what was sent meanwhile first.
func (c *Cable) Heal() { c.set(false) }

func (c *Cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	c.heal.Broadcast()
}

// pass waits while the cable is cut, and reports whether it is still there.
func (c *Cable) pass() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.cut && !c.ended {
		c.heal.Wait()
	}
	return !c.ended
}

func (c *Cable) accept() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.group.Go(func() { c.connect(near) })
	}
}

func (c *Cable) connect(near net.Conn) {
	defer c.forget(near)
	if !c.keep(near) || !c.pass() {
		return
	}
	far, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer c.forget(far)
	if !c.keep(far) {
		return
	}
	c.group.Go(func() { c.copy(far, near) })
	c.copy(near, far)
}

// copy passes on what comes, and then closes both ends.
func (c *Cable) copy(to, from net.Conn) {
	_, _ = io.Copy(passing{c, to}, from) // however it ends
	_ = to.Close()
	_ = from.Close()
}

// passing writes when the cable is whole.
type passing struct {
	cable *Cable
	to    net.Conn
}

func (p passing) Write(b []byte) (int, error) {
	if !p.cable.pass() {
		return 0, net.ErrClosed
	}
	return p.to.Write(b)
}

func (c *Cable) keep(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.conns[conn] = true
	}
	return !c.ended
}

func (c *Cable) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
	_ = conn.Close()
}

func (c *Cable) end() {
	_ = c.listener.Close()
	c.mu.Lock()
	c.ended = true
	c.heal.Broadcast()
	for conn := range c.conns {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.group.Wait()
}
