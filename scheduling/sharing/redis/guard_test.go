package redis

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stream is a connection from which is read what is in it, in pieces of random sizes.
type stream struct {
	net.Conn
	rest   []byte
	rand   *rand.Rand
	closed bool
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+s.rand.IntN(10))], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stream) Close() error {
	s.closed = true
	return nil
}

// through reads all through a guard.
func through(text string, seed uint64) ([]byte, *stream, error) {
	s := &stream{rest: []byte(text), rand: rand.New(rand.NewPCG(seed, 0))}
	b, err := io.ReadAll(&guard{Conn: s, max: 100})
	return b, s, err
}

func TestGuard(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"status", "+OK\r\n", ""},
		{"error", "-ERR no\r\n", ""},
		{"strings", "$3\r\na\r\n\r\n$0\r\n\r\n$-1\r\n", ""},
		{"the longest", "$100\r\n" + strings.Repeat("x", 100) + "\r\n+OK\r\n", ""},
		{"what looks like a length is in a string", "$9\r\n$999999\r\n\r\n", ""},
		{"message", "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$3\r\nabc\r\n", ""},
		{"nested", "*2\r\n*2\r\n:1\r\n:2\r\n%1\r\n+a\r\n_\r\n:3\r\n", ""},
		{"push", ">2\r\n+a\r\n#t\r\n", ""},
		{"many answers", strings.Repeat("*2\r\n:1\r\n:2\r\n", 2000), ""},
		{"too long", "$101\r\n", "an answer has the length 101, at most 100 is allowed"},
		{"much too long", "$99999999999999999999\r\n", `the length "$99999999999999999999"`},
		{"below none", "$-2\r\n", `the length "$-2"`},
		{"in pieces of unknown number", "$?\r\n;1\r\n", `the length "$?"`},
		{"not a number", "*x\r\n", `the length "*x"`},
		{"too many", "*1025\r\n", "an answer has the length 1025, at most 1024 is allowed"},
		{"too many pairs", "%1000\r\n", "an answer has more than 1024 values"},
		{"too many in all", "*600\r\n" + strings.Repeat("*1\r\n:1\r\n", 599), "an answer has more than 1024 values"},
		{"too deep", strings.Repeat("*1\r\n", 2000), "an answer has more than 1024 values"},
		{"too deep, with something in between", strings.Repeat("*2\r\n:1\r\n", 2000), "an answer has more than 1024 values"},
		{"another protocol", "HTTP/1.1 400 Bad Request\r\n", `not an answer of Redis: "HTTP/1.1 400 Bad Request"`},
		{"empty line", "\r\n", "an empty line"},
		{"a line without end", "+" + strings.Repeat("x", 5000), "an answer has a line of more than 4096 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(20) {
				got, s, err := through(tt.text, seed)
				if tt.want == "" {
					require.NoError(t, err)
					require.Equal(t, tt.text, string(got))
					require.False(t, s.closed)
					continue
				}
				require.ErrorContains(t, err, tt.want)
				require.True(t, s.closed)
			}
		})
	}
}

// A guard comes to the same conclusion however what comes is cut, and lets no large answer through.
func FuzzGuard(f *testing.F) {
	f.Add("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$3\r\nabc\r\n", uint64(1))
	f.Add("%1\r\n+a\r\n$-1\r\n", uint64(2))
	f.Add("*1\r\n*1\r\n$1000\r\n", uint64(3))
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		whole := &guard{Conn: &stream{}, max: 100}
		want := whole.look([]byte(text))
		_, s, err := through(text, seed)
		require.Equal(t, fmt.Sprint(want), fmt.Sprint(err))
		require.Equal(t, want != nil, s.closed)
		if want == nil {
			require.LessOrEqual(t, whole.due+whole.values, maxValues)
		}
	})
}

// A server that answers nonsense is an error, and takes no memory.
func TestTrapServerAnswersNonsense(t *testing.T) {
	for _, answer := range []string{
		":1\r\n:2\r\n", "$-5\r\n", "*-7\r\n", "*99999999999\r\n", "$999999999999\r\n", "%99999999999999\r\n", "$100000\r\n",
		"*0\r\n", "*1\r\n$7\r\nmessage\r\n", "*3\r\n:1\r\n:2\r\n:3\r\n", "*2\r\n$9\r\nsubscribe\r\n*0\r\n", "*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n",
		"*4\r\n$8\r\npmessage\r\n_\r\n_\r\n_\r\n", "*2\r\n$4\r\npong\r\n*0\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "\r\n", "", "-\r\n", "+\r\n",
		strings.Repeat("*1\r\n", 100_000),
	} {
		t.Run(fmt.Sprintf("%.20q", answer), func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			go answerAll(l, answer)
			transport, err := New(Options{Server: Server{Address: l.Addr().String()}, Timeout: 100 * time.Millisecond})
			require.NoError(t, err)
			transport.Receive(func(string, []byte) { t.Error("nothing has been told") })
			require.Eventually(t, func() bool {
				_ = transport.Broadcast(t.Context(), []byte("x"))
				stats := transport.Stats()
				return stats.ReceiveErr != nil && (stats.SendErr != nil || stats.MessagesOut > 0)
			}, 20*time.Second, time.Millisecond)
			require.NoError(t, transport.Close())
			store, err := NewStore(StoreOptions{Server: Server{Address: l.Addr().String()}, Timeout: 100 * time.Millisecond, MaxBytes: 1000})
			require.NoError(t, err)
			_, _ = store.Load(t.Context(), "x") // ":1" may be one
			require.NoError(t, store.Close())
		})
	}
}

// answerAll shakes hands as Redis does, and then has one answer to all.
func answerAll(l net.Listener, answer string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buffer := make([]byte, 128<<10)
			for {
				n, err := conn.Read(buffer)
				if err != nil {
					return
				}
				text := answer
				if bytes.Contains(bytes.ToLower(buffer[:n]), []byte("hello")) {
					text = "%1\r\n+proto\r\n:2\r\n"
				}
				if _, err := io.WriteString(conn, text); err != nil {
					return
				}
			}
		}()
	}
}
