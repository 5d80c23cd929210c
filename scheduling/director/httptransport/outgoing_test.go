package httptransport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// writes is a connection that keeps what is written to it, write by write.
type writes struct {
	net.Conn
	of    [][]byte
	after func(n int) (int, error) // what becomes of a write of n bytes
}

func (w *writes) Write(p []byte) (int, error) {
	w.of = append(w.of, p)
	return w.after(len(p))
}

func TestBodyIsWrittenFromWhereItLies(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	var o outgoing
	body := o.read(data)
	n, err := body.Read(make([]byte, 100)) // with the request's head
	require.NoError(t, err)
	c := &writes{after: func(n int) (int, error) { return n, nil }}
	rest := &io.LimitedReader{R: body, N: int64(len(data) - n)}
	wrote, err := wire{c}.ReadFrom(rest)
	require.NoError(t, err)
	require.EqualValues(t, len(data)-n, wrote)
	require.Zero(t, rest.N)
	require.Len(t, c.of, 1, "writes")
	require.Same(t, &data[n], &c.of[0][0], "copied")
	require.True(t, o.idle())
	_, err = body.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)

	// What is no body of ours is copied.
	wrote, err = wire{c}.ReadFrom(io.LimitReader(strings.NewReader("abc"), 2))
	require.NoError(t, err)
	require.EqualValues(t, 2, wrote)
	require.Equal(t, "ab", string(c.of[1]))
}

// A body that is closed while it is being written is not waited for, but its memory is not
// lent again before.
func TestBodyIsClosedWhileItIsWritten(t *testing.T) {
	var o outgoing
	body := o.read([]byte("0123456789"))
	broken := errors.New("connection closed")
	c := &writes{after: func(int) (int, error) {
		require.NoError(t, body.Close())
		require.False(t, o.idle(), "the body is being written")
		return 3, broken
	}}
	n, err := wire{c}.ReadFrom(io.LimitReader(body, 10))
	require.Equal(t, broken, err)
	require.EqualValues(t, 3, n)
	require.True(t, o.idle())
	_, err = wire{c}.ReadFrom(io.LimitReader(body, 10))
	require.Equal(t, errClosed, err)
	require.Len(t, c.of, 1, "writes")
}

// New's transport sends bodies by wires.
func TestNewDialsWires(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	c, err := newBase().DialContext(t.Context(), "tcp", server.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.IsType(t, wire{}, c)
	require.NoError(t, server.Close())
	_, err = newBase().DialContext(t.Context(), "tcp", server.Addr().String())
	require.Error(t, err)
}
