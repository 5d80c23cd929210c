package nats_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	natsio "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/internal/cable"
	"github.com/inferpick/inferpick/scheduling/sharing/nats"
)

func TestTellsAll(t *testing.T) {
	s := start(t)
	o := nats.Options{Server: nats.Server{URL: s.url()}}
	a, b, c := open(t, o), open(t, o), open(t, o)
	o.Prefix = "another.fleet"
	other := open(t, o)
	reaches(t, a, "hello", b, c)
	reaches(t, b, "hello, too", a, c)
	reaches(t, c, "hello from me", a, b)
	require.NoError(t, a.Ping(t.Context()))
	before := a.Stats()

	whole := strings.Repeat("x", sharing.MaxMessage)
	require.NoError(t, a.Broadcast(t.Context(), []byte(whole)))
	require.NoError(t, b.Broadcast(t.Context(), []byte{0, '\r', '\n', 0xff}))
	require.ErrorContains(t, b.Broadcast(t.Context(), nil), "a message has 0 bytes, want 1 to 65536")
	eventually(t, func() bool { return b.has(whole) && c.has(whole) })
	eventually(t, func() bool { return a.has("\x00\r\n\xff") && c.has("\x00\r\n\xff") })
	require.Empty(t, other.heard)
	require.Zero(t, a.heard[whole], "a gateway does not hear itself")

	eventually(t, func() bool { return a.Stats().MessagesOut > before.MessagesOut })
	stats := a.Stats()
	require.NoError(t, stats.SendErr)
	require.NoError(t, stats.ConnErr)
	require.True(t, stats.Connected)
	require.GreaterOrEqual(t, stats.BytesOut, before.BytesOut+uint64(len(whole))) // some that were told before may come, too
	require.GreaterOrEqual(t, stats.MessagesIn, before.MessagesIn+1)
	require.GreaterOrEqual(t, stats.BytesIn, before.BytesIn+4)
	require.Zero(t, stats.Dropped+stats.Missed+stats.Lost)

	require.ErrorContains(t, a.Broadcast(t.Context(), make([]byte, sharing.MaxMessage+1)),
		"nats "+strings.TrimPrefix(s.url(), "nats://")+": a message has 65537 bytes, want 1 to 65536")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.Broadcast(ended, []byte("x")), context.Canceled)
}

// A server that is stopped and started again is found again; meanwhile nothing piles up, and who tells
// something is told why it is not sent.
func TestServerRestarts(t *testing.T) {
	s := start(t)
	o := nats.Options{Server: nats.Server{URL: s.url()}}
	a, b := open(t, o), open(t, o)
	reaches(t, a, "before", b)

	s.stop()
	eventually(t, func() bool { return a.Broadcast(t.Context(), []byte("lost")) != nil })
	eventually(t, func() bool { return !b.Stats().Connected })
	before, goroutines := heap(), runtime.NumGoroutine()
	msg := bytes.Repeat([]byte("x"), sharing.MaxMessage)
	for range 20_000 { // 1.2 GiB
		_ = a.Broadcast(t.Context(), msg)
	}
	require.Less(t, heap()-before, int64(64*sharing.MaxMessage+2<<20))
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+2)
	eventually(t, func() bool {
		err := a.Broadcast(t.Context(), msg)
		return err != nil && strings.HasPrefix(err.Error(), "not sent: nats "+strings.TrimPrefix(s.url(), "nats://")+": dial tcp") &&
			strings.Contains(err.Error(), "connection refused")
	})
	require.Error(t, a.Stats().SendErr)
	require.ErrorContains(t, a.Ping(t.Context()), "connection refused")

	s.run()
	again := time.Now()
	reaches(t, a, "after", b)
	reaches(t, b, "after, too", a)
	t.Logf("told again %v after the server was back", time.Since(again))
	require.Less(t, time.Since(again), 5*time.Second)
	require.False(t, b.has("lost"), "nothing old is sent")
	eventually(t, func() bool { return b.Stats().ConnErr == nil })
	require.EqualValues(t, 1, b.Stats().Lost)
	require.Greater(t, a.Stats().Dropped, uint64(10_000))
}

// A server that does not answer makes nobody wait, is noticed, and is used again when it answers.
func TestServerHangs(t *testing.T) {
	s := start(t)
	wire := cable.New(t, strings.TrimPrefix(s.url(), "nats://"))
	o := nats.Options{Server: nats.Server{URL: wire.Address()}, Timeout: 200 * time.Millisecond}
	a, b := open(t, o), open(t, o)
	reaches(t, a, "before", b)

	wire.Cut()
	before := heap()
	msg := bytes.Repeat([]byte("x"), sharing.MaxMessage)
	var longest time.Duration
	for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(time.Millisecond) {
		at := time.Now()
		_ = a.Broadcast(t.Context(), msg)
		longest = max(longest, time.Since(at))
	}
	t.Logf("a call of Broadcast took at most %v", longest)
	require.Less(t, longest, 500*time.Millisecond) // microseconds, but for what else the machine does
	require.Less(t, heap()-before, int64((64+2*16)*sharing.MaxMessage+4<<20))
	require.Error(t, a.Stats().SendErr)
	eventually(t, func() bool { return !b.Stats().Connected && b.Stats().ConnErr != nil })
	require.Error(t, a.Ping(t.Context()))

	c := open(t, o)
	at := time.Now()
	require.NoError(t, c.Close())
	require.Less(t, time.Since(at), 5*time.Second)

	wire.Heal()
	reaches(t, a, "after", b)
}

// A server that is not there yet is waited for in the background.
func TestStartsWithoutServer(t *testing.T) {
	s := start(t)
	url := s.url()
	s.stop()
	at := time.Now()
	a, b := open(t, nats.Options{Server: nats.Server{URL: url}}), open(t, nats.Options{Server: nats.Server{URL: url}})
	require.Less(t, time.Since(at), time.Second)
	eventually(t, func() bool { return a.Broadcast(t.Context(), []byte("?")) != nil })
	require.Error(t, a.Ping(t.Context()))
	s.run()
	reaches(t, a, "now", b)
	require.NoError(t, a.Ping(t.Context()))
}

func TestPassword(t *testing.T) {
	s := start(t, func(o *natsserver.Options) { o.Username, o.Password = "gateway", "right" })
	host := strings.TrimPrefix(s.url(), "nats://")
	for _, tt := range []struct {
		name   string
		server nats.Server
		wrong  bool
	}{
		{"right", nats.Server{URL: host, Username: "gateway", Password: "right"}, false},
		{"in a URL", nats.Server{URL: "nats://gateway:right@" + host}, false},
		{"an option", nats.Server{URL: host, Connect: []natsio.Option{natsio.UserInfo("gateway", "right")}}, false},
		{"wrong", nats.Server{URL: host, Username: "gateway", Password: "wrong"}, true},
		{"a token", nats.Server{URL: host, Token: "right"}, true},
		{"none", nats.Server{URL: host}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := open(t, nats.Options{Server: tt.server})
			if !tt.wrong {
				eventually(t, func() bool { return g.Ping(t.Context()) == nil })
				require.NoError(t, g.Broadcast(t.Context(), []byte("?")))
				eventually(t, func() bool { return g.Stats().MessagesOut == 1 })
				return
			}
			want := "nats " + host + ": nats: authorization violation: check Server.Credentials, Username, Password and Token"
			eventually(t, func() bool {
				err := g.Broadcast(t.Context(), []byte("?"))
				return err != nil && strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want))
			})
			require.ErrorContains(t, g.Ping(t.Context()), "uthorization")
		})
	}

	lost := open(t, nats.Options{Server: nats.Server{URL: host, Credentials: "/nowhere/gateway.creds"}})
	eventually(t, func() bool {
		err := lost.Broadcast(t.Context(), []byte("?"))
		return err != nil && strings.Contains(err.Error(), "open /nowhere/gateway.creds: no such file or directory")
	})

	// Credentials that become right are tried again.
	g := open(t, nats.Options{Server: nats.Server{URL: host, Username: "gateway", Password: "new"}})
	h := open(t, nats.Options{Server: nats.Server{URL: host, Username: "gateway", Password: "new"}})
	eventually(t, func() bool { return g.Broadcast(t.Context(), []byte("?")) != nil })
	eventually(t, func() bool {
		state, err := s.running.Varz(nil)
		require.NoError(t, err)
		return state.TotalConnections > 12
	})
	s.stop()
	s.options.Password = "new"
	s.run()
	reaches(t, g, "x", h)
}

// The user of the package's documentation may do what is needed; one who may not is told.
func TestUser(t *testing.T) {
	own := &natsserver.SubjectPermission{Allow: []string{"inferpick.messages"}}
	s := start(t, func(o *natsserver.Options) {
		o.Users = []*natsserver.User{
			{Username: "gateway", Password: "secret", Permissions: &natsserver.Permissions{Publish: own, Subscribe: own}},
			{Username: "deaf", Password: "secret", Permissions: &natsserver.Permissions{Publish: own, Subscribe: &natsserver.SubjectPermission{Deny: []string{">"}}}},
			{Username: "dumb", Password: "secret", Permissions: &natsserver.Permissions{Publish: &natsserver.SubjectPermission{Deny: []string{">"}}, Subscribe: own}},
		}
	})
	as := func(user string) *gateway {
		return open(t, nats.Options{Server: nats.Server{URL: s.url(), Username: user, Password: "secret"}})
	}
	a, b, deaf, dumb := as("gateway"), as("gateway"), as("deaf"), as("dumb")
	reaches(t, a, "x", b, dumb)
	reaches(t, deaf, "y", a, b)
	eventually(t, func() bool { return deaf.Stats().ConnErr != nil })
	require.ErrorContains(t, deaf.Stats().ConnErr, `ermissions Violation for Subscription to "inferpick.messages": see the documentation of package nats`)
	require.NoError(t, deaf.Stats().SendErr)
	eventually(t, func() bool {
		err := dumb.Broadcast(t.Context(), []byte("?"))
		return err != nil && strings.Contains(err.Error(), `ermissions Violation for Publish to "inferpick.messages"`)
	})
}

// What is longer than a message may be is not handed on, and harms nothing.
func TestTooLong(t *testing.T) {
	s := start(t)
	g := open(t, nats.Options{Server: nats.Server{URL: s.url()}})
	stranger, err := natsio.Connect(s.url())
	require.NoError(t, err)
	defer stranger.Close()
	eventually(t, func() bool {
		require.NoError(t, stranger.Publish("inferpick.messages", []byte("small")))
		return g.has("small")
	})
	require.NoError(t, stranger.Publish("inferpick.messages", make([]byte, 1<<20)))
	eventually(t, func() bool { return g.Stats().Missed == 1 })
	require.NoError(t, stranger.Publish("inferpick.messages", []byte("after")))
	eventually(t, func() bool { return g.has("after") })
	require.Zero(t, g.Stats().Lost)
}

// What is heard while the handler is busy waits, the newest of it.
func TestSlowHandler(t *testing.T) {
	s := start(t)
	transport, err := nats.New(nats.Options{Server: nats.Server{URL: s.url()}, Queue: 4})
	require.NoError(t, err)
	busy, free := make(chan struct{}), make(chan struct{})
	var last atomic.Value
	var once atomic.Bool
	transport.Receive(func(from string, msg []byte) {
		if !once.Swap(true) {
			close(busy)
			<-free
		}
		last.Store(from + ": " + string(msg))
	})
	teller, err := natsio.Connect(s.url())
	require.NoError(t, err)
	defer teller.Close()
	eventually(t, func() bool {
		require.NoError(t, teller.Publish("inferpick.messages", []byte("0")))
		return once.Load()
	})
	<-busy
	for i := range 100 {
		require.NoError(t, teller.Publish("inferpick.messages", fmt.Append(nil, i+1)))
		require.NoError(t, teller.Flush())
	}
	eventually(t, func() bool { return transport.Stats().Missed >= 96 })
	close(free)
	eventually(t, func() bool { return last.Load() == "nats "+strings.TrimPrefix(s.url(), "nats://")+": 100" })
	require.NoError(t, transport.Close())
}

// What was told before Close is heard.
func TestLastWords(t *testing.T) {
	s := start(t)
	o := nats.Options{Server: nats.Server{URL: s.url()}}
	a, b := open(t, o), open(t, o)
	reaches(t, b, "x", a)
	reaches(t, a, "y", b)
	for i := range 40 {
		require.NoError(t, a.Broadcast(t.Context(), fmt.Append(nil, "word ", i)))
	}
	require.NoError(t, a.Close())
	for i := range 40 {
		require.Eventually(t, func() bool { return b.has(fmt.Sprint("word ", i)) }, 20*time.Second, time.Millisecond)
	}
}

// After Close nothing is handled, nothing runs, and what is asked fails; a connection that was given still works.
func TestClose(t *testing.T) {
	s := start(t)
	goroutines := runtime.NumGoroutine()
	given, err := natsio.Connect(s.url(), natsio.ErrorHandler(func(*natsio.Conn, *natsio.Subscription, error) {})) // it may be too slow
	require.NoError(t, err)
	teller, err := natsio.Connect(s.url())
	require.NoError(t, err)
	for _, server := range []nats.Server{{URL: s.url()}, {Conn: given}} {
		transport, err := nats.New(nats.Options{Server: server})
		require.NoError(t, err)
		var closed, handled atomic.Bool
		transport.Receive(func(string, []byte) {
			handled.Store(true)
			if closed.Load() {
				t.Error("handled after Close")
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan struct{})
		go func() {
			defer close(told)
			for ctx.Err() == nil {
				_ = teller.Publish("inferpick.messages", []byte("x"))
				_ = transport.Broadcast(ctx, []byte("y"))
			}
		}()
		eventually(t, handled.Load)
		require.NoError(t, transport.Close())
		closed.Store(true)
		require.ErrorIs(t, transport.Broadcast(t.Context(), []byte("?")), net.ErrClosed)
		require.ErrorIs(t, transport.Ping(t.Context()), net.ErrClosed)
		require.NoError(t, transport.Close())
		require.Panics(t, func() { transport.Receive(func(string, []byte) {}) })
		cancel()
		<-told
	}
	require.NoError(t, given.Flush())
	require.Zero(t, given.NumSubscriptions())
	given.Close()
	teller.Close()
	settles(t, goroutines)
}

func TestOptions(t *testing.T) {
	at := func(url string) nats.Options { return nats.Options{Server: nats.Server{URL: url}} }
	for _, tt := range []struct {
		options nats.Options
		want    string
	}{
		{nats.Options{Queue: -1}, "nats: Queue is -1, want 1 to 4096, or 0 for the default 64"},
		{nats.Options{Timeout: time.Millisecond}, "nats: Timeout is 1ms, want 10ms to 1m0s, or 0 for the default 1s"},
		{nats.Options{Prefix: "a..b"}, `nats: Prefix is "a..b", want names with dots between`},
		{nats.Options{Prefix: "a.*"}, "nats: Prefix"},
		{nats.Options{Prefix: "a b"}, "nats: Prefix"},
		{nats.Options{Prefix: strings.Repeat("x", 257)}, "of at most 256 bytes"},
		{at("http://localhost"), `nats: Server.URL is "http://localhost", want URLs of the scheme nats, tls, ws or wss`},
		{at("nats://a:1, nats://u:secret@b:x"), `nats: Server.URL is "nats://…@b:x", want URLs like nats://HOST:PORT: invalid port ":x" after host`},
		{at("nats://u:se%cret@host:1"), `"nats://…@host:1"`},
		{at("nats://"), "nats: Server.URL"},
	} {
		_, err := nats.New(tt.options)
		require.ErrorContains(t, err, tt.want)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "cret@")
	}
	for _, tt := range []struct {
		options nats.StoreOptions
		want    string
	}{
		{nats.StoreOptions{Bucket: "a.b"}, `nats: Bucket is "a.b", want letters, digits, - and _`},
		{nats.StoreOptions{TTL: time.Millisecond}, "nats: TTL is 1ms, want 1s to 720h0m0s, or 0 for the default 15m0s"},
		{nats.StoreOptions{Replicas: 6}, "nats: Replicas is 6, want 1 to 5"},
		{nats.StoreOptions{MaxBytes: -1}, "nats: MaxBytes is -1"},
		{nats.StoreOptions{Timeout: -1}, "nats: Timeout is -1ns"},
		{nats.StoreOptions{Server: nats.Server{URL: "http://x"}}, "Server.URL"},
	} {
		_, err := nats.NewStore(tt.options)
		require.ErrorContains(t, err, tt.want)
	}
}

// BenchmarkBroadcast is what a call takes, and the time until the message is handled elsewhere.
func BenchmarkBroadcast(b *testing.B) {
	s := start(b)
	o := nats.Options{Server: nats.Server{URL: s.url()}}
	from, err := nats.New(o)
	require.NoError(b, err)
	defer from.Close()
	to, err := nats.New(o)
	require.NoError(b, err)
	defer to.Close()
	heard := make(chan struct{}, 1)
	to.Receive(func(_ string, msg []byte) {
		if len(msg) > 1 {
			heard <- struct{}{}
		}
	})
	eventually(b, func() bool { return from.Broadcast(b.Context(), []byte("?")) == nil && to.Stats().MessagesIn > 0 })
	msg := make([]byte, 12<<10) // of 1,000 endpoints
	b.Run("call", func(b *testing.B) {
		o.Prefix = "nobody"
		alone, err := nats.New(o)
		require.NoError(b, err)
		defer alone.Close()
		b.ReportAllocs()
		for b.Loop() {
			_ = alone.Broadcast(b.Context(), msg)
		}
	})
	b.Run("heard", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, from.Broadcast(b.Context(), msg))
			<-heard
		}
	})
}
