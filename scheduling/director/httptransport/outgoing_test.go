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
	body := o.read([][]byte{data})
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

// A body of pieces is the same, wherever reads and writes end.
func TestBodyInPieces(t *testing.T) {
	const data = "0123456789"
	for _, pieces := range [][][]byte{
		{[]byte(data)}, {[]byte("0"), []byte("123456789")}, {[]byte("012345678"), []byte("9")}, {[]byte("012"), []byte("3456"), []byte("789")},
	} {
		for read := range len(data) {
			for limit := 1; limit <= len(data)-read; limit++ {
				var o outgoing
				var got []byte
				body := o.read(pieces)
				for len(got) < read {
					buf := make([]byte, read-len(got))
					n, err := body.Read(buf)
					require.NoError(t, err)
					got = append(got, buf[:n]...)
				}
				c := &writes{after: func(n int) (int, error) { return n, nil }}
				for len(got) < len(data) {
					c.of = nil
					limited := &io.LimitedReader{R: body, N: int64(min(limit, len(data)-len(got)))}
					want := limited.N
					n, err := wire{c}.ReadFrom(limited)
					require.NoError(t, err)
					require.Equal(t, want, n)
					got = append(got, bytes.Join(c.of, nil)...)
				}
				require.Equal(t, data, string(got), "%d pieces, %d bytes read, %d written at once", len(pieces), read, limit)
				require.True(t, o.idle())
			}
		}
		require.Equal(t, data, string(bytes.Join(pieces, nil)), "they are read again")
	}
}

// A connection takes all pieces at once.
func TestPiecesAreWrittenAtOnce(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	came := make(chan string)
	go func() {
		c, err := server.Accept()
		if err != nil {
			close(came)
			return
		}
		defer c.Close()
		data, _ := io.ReadAll(c)
		came <- string(data)
	}()
	c, err := newBase().DialContext(t.Context(), "tcp", server.Addr().String())
	require.NoError(t, err)
	var o outgoing
	long := strings.Repeat("0123456789", 100_000)
	n, err := c.(wire).ReadFrom(io.LimitReader(o.read([][]byte{[]byte(long), []byte("tail")}), int64(len(long)+4)))
	require.NoError(t, err)
	require.EqualValues(t, len(long)+4, n)
	require.True(t, o.idle())
	require.NoError(t, c.Close())
	require.Equal(t, long+"tail", <-came)
}

// A body that is closed while it is being written is not waited for, but its memory is not
// lent again before.
func TestBodyIsClosedWhileItIsWritten(t *testing.T) {
	var o outgoing
	body := o.read([][]byte{[]byte("0123"), []byte("456789")})
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
