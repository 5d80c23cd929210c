// Package zmtp speaks the wire protocol of ZeroMQ, ZMTP 3.0 and 3.1 (https://rfc.zeromq.org/spec/23),
// over one connection: multi-part messages with bounds, without security, identities, queues or
// reconnects, whoever of the two has made it. That is all it takes to listen to publishers and to ask routers.
package zmtp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// ProtocolError is the error of a peer that sends what it must not, or what is out of bounds. The
// connection is of no use after it.
type ProtocolError struct{ Problem string }

// Error returns what is wrong.
func (e *ProtocolError) Error() string { return "zmtp: " + e.Problem }

func violation(format string, args ...any) error {
	return &ProtocolError{fmt.Sprintf(format, args...)}
}

// Options say what a connection is for. Socket and Peers are required.
type Options struct {
	// Socket is our type of socket, as "SUB".
	Socket string
	// Peers are the types of socket that the peer may have.
	Peers []string
	// MaxMessage bounds a message, in bytes: all its frames together. Default 64 MiB.
	MaxMessage int
}

const (
	defaultMaxMessage = 64 << 20

	maxFrames  = 64      // of a message
	maxCommand = 1 << 12 // bytes; a READY has some 30
	keepBuffer = 1 << 20 // what a connection may hold between messages
	readBuffer = 32 << 10
	firstChunk = 64 << 10
)

// Flags of a frame.
const (
	flagMore    = 1
	flagLong    = 2
	flagCommand = 4
	flagsKnown  = flagMore | flagLong | flagCommand
)

// Conn is a connection after the handshake. One goroutine may receive while another one sends,
// unless the peer pings: then the one that receives sends too. Deadlines are those of the
// net.Conn.
type Conn struct {
	conn net.Conn
	in   *bufio.Reader
	max  int
	out  []byte

	// The message received last.
	body   []byte
	ends   []int // of frames, in body
	frames [][]byte
}

// Receive returns the frames of the next message, one at least. They are valid until the next
// call. Pings are answered on the way, and other commands are ignored.
//
// Memory for a frame is taken as its bytes come in, whatever length it says it has.
func (c *Conn) Receive() ([][]byte, error) {
	c.startMessage()
	for more := true; more; {
		flags, size, err := c.head()
		if err != nil {
			return nil, err
		}
		if flags&flagCommand != 0 {
			if err := c.command(size); err != nil {
				return nil, err
			}
			continue
		}
		if size > uint64(c.max-len(c.body)) {
			return nil, violation("a message of more than %d bytes: a frame of %d follows %d of others", c.max, size, len(c.body))
		}
		if len(c.ends) == maxFrames {
			return nil, violation("a message of more than %d frames", maxFrames)
		}
		if err := c.read(int(size)); err != nil {
			return nil, err
		}
		c.ends = append(c.ends, len(c.body))
		more = flags&flagMore != 0
	}
	start := 0
	for _, end := range c.ends {
		c.frames = append(c.frames, c.body[start:end:end])
		start = end
	}
	return c.frames, nil
}

// Wait waits until there is something to receive, or until then. It reports whether there is.
// Nothing is lost if there is not. A zero time is no limit.
func (c *Conn) Wait(until time.Time) (bool, error) {
	if c.in.Buffered() > 0 {
		return true, nil
	}
	if err := c.conn.SetReadDeadline(until); err != nil {
		return false, err
	}
	_, err := c.in.Peek(1)
	if err == nil {
		return true, c.conn.SetReadDeadline(time.Time{})
	}
	if t, ok := err.(net.Error); ok && t.Timeout() {
		return false, nil
	}
	return false, closed(err)
}

// Send sends a message.
func (c *Conn) Send(frames ...[]byte) error {
	c.out = c.out[:0]
	for i, f := range frames {
		var flags byte
		if i < len(frames)-1 {
			flags = flagMore
		}
		c.out = appendFrame(c.out, flags, f)
	}
	return c.flush()
}

// Subscribe asks a publisher for the messages whose first frame begins with topic.
func (c *Conn) Subscribe(topic string) error {
	return c.Send(append([]byte{1}, topic...))
}

// Close closes the connection. It may be called at any time.
func (c *Conn) Close() error { return c.conn.Close() }

func (c *Conn) flush() error {
	_, err := c.conn.Write(c.out)
	if cap(c.out) > keepBuffer {
		c.out = nil
	}
	return err
}

func (c *Conn) startMessage() {
	clear(c.frames)
	c.frames, c.ends, c.body = c.frames[:0], c.ends[:0], c.body[:0]
	if cap(c.body) > keepBuffer {
		c.body = nil
	}
}

// head reads the flags and the size of the next frame.
func (c *Conn) head() (flags byte, size uint64, err error) {
	if flags, err = c.in.ReadByte(); err != nil {
		return 0, 0, closed(err)
	}
	if flags&^flagsKnown != 0 || flags&flagCommand != 0 && flags&flagMore != 0 {
		return 0, 0, violation("a frame begins with the byte %#02x, which are no flags", flags)
	}
	length := 1
	if flags&flagLong != 0 {
		length = 8
	}
	b, err := c.in.Peek(length)
	if err != nil {
		return 0, 0, closed(err)
	}
	if size = uint64(b[0]); length == 8 {
		size = binary.BigEndian.Uint64(b)
	}
	_, err = c.in.Discard(length)
	return flags, size, err
}

// read appends n bytes to the body.
func (c *Conn) read(n int) error {
	for n > 0 {
		chunk := min(n, max(firstChunk, len(c.body)))
		start := len(c.body)
		if cap(c.body)-start < chunk {
			grown := make([]byte, start, start+chunk)
			copy(grown, c.body)
			c.body = grown
		}
		c.body = c.body[:start+chunk]
		if _, err := io.ReadFull(c.in, c.body[start:]); err != nil {
			return closed(err)
		}
		n -= chunk
	}
	return nil
}

// command reads a command, and answers a ping.
func (c *Conn) command(size uint64) error {
	name, data, err := c.readCommand(size)
	if err != nil {
		return err
	}
	switch name {
	case "ERROR":
		return violation("the peer refuses us: %.200q", trimLength(data))
	case "PING":
		if len(data) < 2 {
			return violation("a PING of %d bytes, want 2 at least", len(data))
		}
		c.out = appendCommand(c.out[:0], "PONG", data[2:]) // without the time to live
		return c.flush()
	}
	return nil
}

// readCommand reads the body of a command frame.
func (c *Conn) readCommand(size uint64) (name string, data []byte, err error) {
	if size > maxCommand {
		return "", nil, violation("a command of %d bytes, want %d at most", size, maxCommand)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(c.in, b); err != nil {
		return "", nil, closed(err)
	}
	if len(b) == 0 || int(b[0]) > len(b)-1 {
		return "", nil, violation("a command of %d bytes has no name", size)
	}
	end := 1 + int(b[0])
	return string(b[1:end]), b[end:], nil
}

// trimLength returns the text that has its length before it.
func trimLength(b []byte) []byte {
	if len(b) > 0 {
		b = b[1:]
	}
	return b
}

// closed makes an end of the stream an error that says so wherever it comes.
func closed(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("zmtp: the peer closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return err
}

func appendFrame(b []byte, flags byte, body []byte) []byte {
	if len(body) > 255 {
		b = append(b, flags|flagLong)
		b = binary.BigEndian.AppendUint64(b, uint64(len(body)))
	} else {
		b = append(b, flags, byte(len(body)))
	}
	return append(b, body...)
}

func appendCommand(b []byte, name string, data []byte) []byte {
	body := append([]byte{byte(len(name))}, name...)
	return appendFrame(b, flagCommand, append(body, data...))
}
