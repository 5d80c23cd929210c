package guardtest

import (
	"net"
	"time"
)

// ConnDouble is the Double of a net.Conn.
func ConnDouble() Double { return DoubleOf(Conn) }

// Conn returns a connection that calls at with the name of each method that is called, and then does what inner does.
func Conn(inner net.Conn, at func(method string)) net.Conn { return &conn{inner, at} }

type conn struct {
	net.Conn
	at func(string)
}

// Wrap makes another connection one of which the same methods panic as of c, which was made by Conn.
func Wrap(c, other net.Conn) net.Conn {
	if c, ok := c.(*conn); ok && other != nil {
		return &conn{other, c.at}
	}
	return other
}

func (c *conn) Read(b []byte) (int, error) { c.at("Read"); return c.Conn.Read(b) }

func (c *conn) Write(b []byte) (int, error) { c.at("Write"); return c.Conn.Write(b) }

// Close closes the inner one before it panics, so that tests end.
func (c *conn) Close() error { err := c.Conn.Close(); c.at("Close"); return err }

func (c *conn) LocalAddr() net.Addr { c.at("LocalAddr"); return c.Conn.LocalAddr() }

func (c *conn) RemoteAddr() net.Addr { c.at("RemoteAddr"); return c.Conn.RemoteAddr() }

func (c *conn) SetDeadline(t time.Time) error { c.at("SetDeadline"); return c.Conn.SetDeadline(t) }

func (c *conn) SetReadDeadline(t time.Time) error {
	c.at("SetReadDeadline")
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.at("SetWriteDeadline")
	return c.Conn.SetWriteDeadline(t)
}
