package zmtp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
)

// greetingSize is that of ZMTP 3: a signature of 10 bytes, a version of 2, the name of the
// security mechanism in 20, whether it is its server, and filling.
const greetingSize = 64

const mechanism = "NULL"

// New greets the peer at the other end of conn and agrees with it on the types of socket. It
// blocks until then: set a deadline before, and clear it after. It does not close conn.
func New(conn net.Conn, o Options) (*Conn, error) {
	if o.MaxMessage <= 0 {
		o.MaxMessage = defaultMaxMessage
	}
	c := &Conn{conn: conn, in: bufio.NewReaderSize(conn, readBuffer), max: o.MaxMessage}
	c.out = append(append(c.out, greeting()...), ready(o.Socket)...)
	// All at once, without waiting for the peer's version: we speak no other.
	if err := c.flush(); err != nil {
		return nil, err
	}
	if err := c.readGreeting(); err != nil {
		return nil, err
	}
	return c, c.readReady(o)
}

func greeting() []byte {
	g := make([]byte, greetingSize)
	g[0], g[9] = 0xff, 0x7f
	g[10] = 3
	copy(g[12:], mechanism)
	return g
}

// ready returns the command that says what socket we are.
func ready(socket string) []byte {
	data := appendProperty(nil, "Socket-Type", socket)
	if socket == "DEALER" {
		data = appendProperty(data, "Identity", "")
	}
	return appendCommand(nil, "READY", data)
}

func appendProperty(b []byte, name, value string) []byte {
	b = append(append(b, byte(len(name))), name...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

func (c *Conn) readGreeting() error {
	// Byte by byte: what is no greeting may end anywhere, and its beginning tells what it is.
	first, err := c.in.Peek(1)
	if err != nil {
		return closed(err)
	}
	if first[0] != 0xff {
		start, _ := c.in.Peek(c.in.Buffered())
		return violation("the peer does not speak ZMTP: what it sends begins with %.40q", start)
	}
	g := make([]byte, greetingSize)
	if _, err := io.ReadFull(c.in, g[:12]); err != nil {
		return closed(err)
	}
	if g[9] != 0x7f {
		return violation("the peer does not speak ZMTP 2 or later: its greeting begins with %x", g[:10])
	}
	if g[10] < 3 {
		return violation("the peer speaks ZMTP %d, want 3", g[10])
	}
	if _, err := io.ReadFull(c.in, g[12:]); err != nil {
		return closed(err)
	}
	if name := string(bytes.TrimRight(g[12:32], "\x00")); name != mechanism {
		return violation("the peer wants security %q, which is not spoken here: want %s", name, mechanism)
	}
	return nil
}

func (c *Conn) readReady(o Options) error {
	flags, size, err := c.head()
	if err != nil {
		return err
	}
	if flags&flagCommand == 0 {
		return violation("a message comes before the peer is READY")
	}
	name, data, err := c.readCommand(size)
	switch {
	case err != nil:
		return err
	case name == "ERROR":
		return violation("the peer refuses us: %.200q", trimLength(data))
	case name != "READY":
		return violation("the command %.40q comes before the peer is READY", name)
	}
	socket, err := property(data, "Socket-Type")
	if err != nil {
		return err
	}
	if !slices.Contains(o.Peers, socket) {
		return violation("the peer is a %.40q socket, want %s for our %s: is it the right port?", socket, strings.Join(o.Peers, " or "), o.Socket)
	}
	return nil
}

// property returns the value of a property of a READY command.
func property(data []byte, want string) (string, error) {
	for len(data) > 0 {
		n := 1 + int(data[0])
		if len(data) < n+4 {
			break
		}
		size := binary.BigEndian.Uint32(data[n:])
		if uint64(size) > uint64(len(data)-n-4) {
			break
		}
		value := data[n+4:][:size]
		if strings.EqualFold(string(data[1:n]), want) {
			return string(value), nil
		}
		data = data[n+4+int(size):]
	}
	return "", violation("the peer's READY has no %s that can be read", want)
}
