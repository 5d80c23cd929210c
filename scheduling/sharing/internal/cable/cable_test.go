package cable_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing/internal/cable"
)

func TestCable(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer echo.Close()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	c := cable.New(t, echo.Addr().String())
	conn, err := net.Dial("tcp", c.Address())
	require.NoError(t, err)
	defer conn.Close()
	say := func(s string) {
		_, err := io.WriteString(conn, s)
		require.NoError(t, err)
	}
	hear := func(s string) {
		got := make([]byte, len(s))
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		_, err := io.ReadFull(conn, got)
		require.NoError(t, err)
		require.Equal(t, s, string(got))
	}
	say("a")
	hear("a")

	c.Cut()
	say("b")
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorContains(t, err, "i/o timeout")
	another, err := net.Dial("tcp", c.Address())
	require.NoError(t, err)
	require.NoError(t, another.Close())

	c.Heal()
	say("c")
	hear("bc")
}
