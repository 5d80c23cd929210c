package mesh

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
)

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "not yet: %s", what)
	}
}

func begin(t *testing.T, o Options) *Transport {
	o.Listen, o.Key, o.IdleTimeout, o.MinBackoff, o.MaxBackoff = "127.0.0.1:0", secretKey, 200*time.Millisecond, 5*time.Millisecond, 20*time.Millisecond
	m, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// Peers that have the key may still send what they must not: the connection is closed, and counted if it was no
// accident of the network.
func TestPeersThatViolate(t *testing.T) {
	large := bytes.Repeat([]byte("x"), sharing.MaxMessage+1)
	for name, tt := range map[string]struct {
		send    func(key []byte) []byte
		heard   int
		refused uint64
	}{
		"huge frame":   {func(key []byte) []byte { return frames(key, []byte("one"), large) }, 1, 1},
		"no tags":      {func([]byte) []byte { return frames(nil, large[:1000], large[:1000]) }, 0, 1},
		"a wrong tag":  {func(key []byte) []byte { return append(frames(key, []byte("one")), frames(key, []byte("one"))...) }, 1, 1},
		"half a frame": {func(key []byte) []byte { return frames(key, []byte("one"), large[:100])[:50] }, 1, 0},
		"silence":      {func(key []byte) []byte { return nil }, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := begin(t, Options{})
			heard := make(chan int, 10)
			m.Receive(func(_ string, msg []byte) { heard <- len(msg) })
			c, err := net.Dial("tcp", m.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			s, err := (&party{id: newIdentity(), keys: [][]byte{secretKey}}).dial(c, nil)
			require.NoError(t, err)
			go c.Write(tt.send(s.to))
			require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
			_, err = io.Copy(io.Discard, c)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection stays open")
			until(t, "it is gone", func() bool { return m.Stats().Incoming == 0 && m.Stats().Refused == tt.refused })
			require.Len(t, heard, tt.heard)
		})
	}
}

// Those that are connected to may do no better.
func TestPeersThatAnswerWrongly(t *testing.T) {
	for name, tt := range map[string]struct {
		does func(c net.Conn, s session)
		want string
	}{
		"message":  {func(c net.Conn, s session) { c.Write(frames(s.back, []byte("one"))) }, "a frame of 3 bytes, want 0 at most"},
		"no tag":   {func(c net.Conn, s session) { c.Write(bytes.Repeat(frames(nil, nil), 10)) }, "a wrong tag"},
		"silence":  {func(c net.Conn, _ session) { io.Copy(io.Discard, c) }, "it does not answer"},
		"deafness": {func(c net.Conn, _ session) { time.Sleep(time.Second) }, "it does not"},
		"leaving":  {func(net.Conn, session) {}, "it has closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					if s, err := (&party{id: newIdentity(), keys: [][]byte{secretKey}}).accept(c, nil, admitAll); err == nil {
						tt.does(c, s)
					}
					c.Close()
				}
			}()
			m := begin(t, Options{Peers: []string{l.Addr().String()}})
			until(t, tt.want, func() bool {
				p := m.Stats().Peers[0]
				return p.Err != nil && bytes.Contains([]byte(p.Err.Error()), []byte(tt.want))
			})
			until(t, "it is tried again", func() bool { return m.Stats().Lost > 1 })
			require.NoError(t, m.Close())
			l.Close()
			<-done
		})
	}
}
