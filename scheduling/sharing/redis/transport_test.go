package redis_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/redis"
)

func TestTellsAll(t *testing.T) {
	s := start(t)
	o := redis.Options{Server: redis.Server{Address: s.address()}}
	a, b, c := open(t, o), open(t, o), open(t, o)
	o.Prefix = "another"
	other := open(t, o)
	subscribed(t, a, b, c, other)
	require.NoError(t, a.Ping(t.Context()))

	whole := strings.Repeat("x", sharing.MaxMessage)
	require.NoError(t, a.Broadcast(t.Context(), []byte(whole)))
	require.NoError(t, b.Broadcast(t.Context(), []byte{0, '\r', '\n', 0xff}))
	require.ErrorContains(t, b.Broadcast(t.Context(), nil), "a message has 0 bytes, want 1 to 65536")
	for _, msg := range []string{whole, "\x00\r\n\xff"} {
		for _, g := range []*gateway{a, b, c} {
			require.Eventually(t, func() bool { return g.has(msg) }, 20*time.Second, time.Millisecond)
		}
	}
	require.Empty(t, other.heard)

	stats := a.Stats()
	require.NoError(t, stats.SendErr)
	require.NoError(t, stats.ReceiveErr)
	require.EqualValues(t, 1, stats.MessagesOut)
	require.EqualValues(t, len(whole), stats.BytesOut)
	require.EqualValues(t, 2, stats.MessagesIn)
	require.EqualValues(t, len(whole)+4, stats.BytesIn)
	require.Zero(t, stats.Dropped+stats.Missed+stats.Lost)

	require.ErrorContains(t, a.Broadcast(t.Context(), make([]byte, sharing.MaxMessage+1)),
		"redis "+s.address()+": a message has 65537 bytes, want 1 to 65536")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.Broadcast(ended, []byte("x")), context.Canceled)
}

// A server that is killed and started again is found again; meanwhile nothing piles up, and who tells
// something is told why it is not sent.
func TestServerRestarts(t *testing.T) {
	s := start(t)
	goroutines := runtime.NumGoroutine()
	o := redis.Options{Server: redis.Server{Address: s.address()}}
	a, b := open(t, o), open(t, o)
	subscribed(t, a, b)
	reaches(t, a, "before", a, b)
	atWork := runtime.NumGoroutine()

	s.kill()
	require.Eventually(t, func() bool { return a.Broadcast(t.Context(), []byte("lost")) != nil }, 20*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return !b.Stats().Subscribed }, 20*time.Second, time.Millisecond)
	before := heap()
	msg := bytes.Repeat([]byte("x"), sharing.MaxMessage)
	for range 20_000 { // 1.2 GiB
		_ = a.Broadcast(t.Context(), msg)
	}
	require.Less(t, heap()-before, int64(64*sharing.MaxMessage+1<<20))
	require.Eventually(t, func() bool {
		err := a.Broadcast(t.Context(), msg)
		return err != nil && err.Error() == "not sent: redis "+s.address()+": connect: connection refused"
	}, 20*time.Second, time.Millisecond)
	require.Error(t, a.Stats().SendErr)
	require.Eventually(t, func() bool {
		err := b.Stats().ReceiveErr
		return err != nil && strings.Contains(err.Error(), "connection refused")
	}, 20*time.Second, time.Millisecond)

	s.run()
	a.forget()
	b.forget()
	again := time.Now()
	reaches(t, a, "after", a, b)
	reaches(t, b, "after, too", a, b)
	t.Logf("told again %v after the server was back", time.Since(again))
	require.Less(t, time.Since(again), 5*time.Second)
	require.False(t, b.has("lost"), "nothing old is sent")
	stats := b.Stats()
	require.NoError(t, stats.ReceiveErr)
	require.EqualValues(t, 1, stats.Lost)
	require.Greater(t, a.Stats().Dropped, uint64(10_000))
	settles(t, atWork)

	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	settles(t, goroutines)
}

// A server that does not answer makes nobody wait, is noticed, and is used again when it answers.
func TestServerHangs(t *testing.T) {
	s := start(t)
	goroutines := runtime.NumGoroutine()
	o := redis.Options{Server: redis.Server{Address: s.address()}, Timeout: 200 * time.Millisecond}
	a, b := open(t, o), open(t, o)
	subscribed(t, a, b)
	reaches(t, a, "before", b)

	s.signal(syscall.SIGSTOP)
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
	require.Less(t, heap()-before, int64((64+16)*sharing.MaxMessage+4<<20))
	require.ErrorContains(t, a.Stats().SendErr, "redis "+s.address())
	require.Eventually(t, func() bool {
		stats := b.Stats()
		return !stats.Subscribed && stats.ReceiveErr != nil && stats.Lost == 1
	}, 20*time.Second, time.Millisecond)
	require.Error(t, a.Ping(t.Context()))

	c := open(t, o)
	at := time.Now()
	require.NoError(t, c.Close())
	require.Less(t, time.Since(at), 5*time.Second)

	s.signal(syscall.SIGCONT)
	reaches(t, a, "after", b)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	settles(t, goroutines)
}

// A server that is not there yet is waited for in the background.
func TestStartsWithoutServer(t *testing.T) {
	s := start(t)
	s.kill()
	a := open(t, redis.Options{Server: redis.Server{Address: s.address()}})
	require.ErrorContains(t, a.Ping(t.Context()), "connection refused")
	require.Eventually(t, func() bool { return a.Broadcast(t.Context(), []byte("?")) != nil }, 20*time.Second, time.Millisecond)
	s.run()
	reaches(t, a, "now", a)
	require.NoError(t, a.Ping(t.Context()))
}

func TestPassword(t *testing.T) {
	s := start(t, "--requirepass", "right")
	for _, tt := range []struct {
		name   string
		server redis.Server
		want   string // part of the error; empty: there is none
	}{
		{"right", redis.Server{Address: s.address(), Password: "right"}, ""},
		{"in a URL", redis.Server{Address: "redis://:right@" + s.address()}, ""},
		{"of Valkey", redis.Server{Address: "valkey://default:right@" + s.address() + "/3"}, ""},
		{"the field comes first", redis.Server{Address: "redis://:wrong@" + s.address(), Password: "right"}, ""},
		{"wrong", redis.Server{Address: s.address(), Password: "wrong"}, "WRONGPASS invalid username-password pair or user is disabled.: check Server.Username and Server.Password"},
		{"of another user", redis.Server{Address: s.address(), Username: "x", Password: "right"}, "WRONGPASS"},
		{"none", redis.Server{Address: s.address()}, "NOAUTH Authentication required.: check Server.Username and Server.Password"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := open(t, redis.Options{Server: tt.server})
			store, err := redis.NewStore(redis.StoreOptions{Server: tt.server})
			require.NoError(t, err)
			defer func() { require.NoError(t, store.Close()) }()
			if tt.want == "" {
				reaches(t, g, "x", g)
				require.NoError(t, g.Ping(t.Context()))
				require.NoError(t, store.Save(t.Context(), "x", []byte("y")))
				return
			}
			require.ErrorContains(t, g.Ping(t.Context()), "redis "+s.address()+": "+tt.want)
			require.Eventually(t, func() bool {
				err := g.Broadcast(t.Context(), []byte("?"))
				return err != nil && strings.Contains(err.Error(), tt.want)
			}, 20*time.Second, time.Millisecond)
			require.Eventually(t, func() bool { return g.Stats().ReceiveErr != nil }, 20*time.Second, time.Millisecond)
			require.ErrorContains(t, g.Stats().ReceiveErr, tt.want)
			require.ErrorContains(t, store.Save(t.Context(), "x", []byte("y")), tt.want)
		})
	}
}

// The user of the package's documentation may do what is needed; one who may not is told.
func TestUser(t *testing.T) {
	s := start(t, strings.Fields("--user gateway on >secret resetkeys ~inferpick:snapshot:* resetchannels &inferpick:messages"+
		" -@all +publish +subscribe +ping +set +getrange --user other on >secret resetkeys resetchannels -@all +ping")...)
	gateway := redis.Server{Address: "redis://gateway:secret@" + s.address()}
	g := open(t, redis.Options{Server: gateway})
	subscribed(t, g)
	reaches(t, g, "x", g)
	require.NoError(t, g.Ping(t.Context()))
	store, err := redis.NewStore(redis.StoreOptions{Server: gateway})
	require.NoError(t, err)
	require.NoError(t, store.Save(t.Context(), "x", []byte("y")))
	got, err := store.Load(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, "y", string(got))
	require.NoError(t, store.Close())

	other := open(t, redis.Options{Server: redis.Server{Address: "redis://other:secret@" + s.address()}})
	require.Eventually(t, func() bool { return other.Stats().ReceiveErr != nil }, 20*time.Second, time.Millisecond)
	require.ErrorContains(t, other.Stats().ReceiveErr, "the user may not do what is needed")
	require.Eventually(t, func() bool { return other.Broadcast(t.Context(), []byte("?")) != nil }, 20*time.Second, time.Millisecond)
	require.ErrorContains(t, other.Stats().SendErr, "NOPERM")
}

func TestTLS(t *testing.T) {
	cert, key, pool := certificate(t)
	s := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	s.kill()
	s.args = []string{"--tls-port", fmt.Sprint(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no"}
	s.run()
	if strings.Contains(s.out.String(), "Bad directive") {
		t.Skip("this redis-server has no TLS")
	}

	address := fmt.Sprintf("127.0.0.1:%d", port)
	g := open(t, redis.Options{Server: redis.Server{Address: address, TLS: &tls.Config{RootCAs: pool}}})
	reaches(t, g, strings.Repeat("x", sharing.MaxMessage), g)
	u := open(t, redis.Options{Server: redis.Server{Address: "rediss://" + address, TLS: &tls.Config{RootCAs: pool}}})
	reaches(t, u, "y", u, g)
	stranger := open(t, redis.Options{Server: redis.Server{Address: "rediss://" + address}, Timeout: 20 * time.Second})
	require.ErrorContains(t, stranger.Ping(t.Context()), "certificate signed by unknown authority")
}

// certificate writes a certificate for 127.0.0.1 and its key, and returns who trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	write := func(name, kind string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600))
		return path
	}
	cert, key = write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret)
	pool = x509.NewCertPool()
	text, err := os.ReadFile(cert)
	require.NoError(t, err)
	require.True(t, pool.AppendCertsFromPEM(text))
	return cert, key, pool
}

// What is longer than a message may be does not come in, whoever sends it, and hurts for a moment only.
func TestTooLong(t *testing.T) {
	s := start(t)
	own := open(t, redis.Options{Server: redis.Server{Address: s.address()}})
	given := open(t, redis.Options{Server: redis.Server{Client: s.client("")}})
	subscribed(t, own, given)
	stranger := s.client("")
	before := heap()
	require.NoError(t, stranger.Publish(t.Context(), "inferpick:messages", make([]byte, 16<<20)).Err())
	require.Eventually(t, func() bool { return own.Stats().Lost == 1 && given.Stats().Missed == 1 }, 20*time.Second, time.Millisecond)
	require.Zero(t, own.Stats().MessagesIn)
	subscribed(t, own)
	reaches(t, own, "x", own, given)
	require.Less(t, heap()-before, int64(4<<20))
}

// What is heard while the handler is busy waits, the newest of it.
func TestSlowHandler(t *testing.T) {
	s := start(t)
	o := redis.Options{Server: redis.Server{Address: s.address()}, Queue: 4}
	transport, err := redis.New(o)
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
	require.Eventually(t, func() bool { return transport.Stats().Subscribed }, 20*time.Second, time.Millisecond)
	teller := s.client("")
	tell := func(i int) {
		require.NoError(t, teller.Publish(t.Context(), "inferpick:messages", fmt.Sprint(i)).Err())
	}
	tell(0)
	<-busy
	for i := range 100 {
		tell(i + 1)
	}
	require.Eventually(t, func() bool { return transport.Stats().Missed == 96 }, 20*time.Second, time.Millisecond)
	close(free)
	require.Eventually(t, func() bool { return last.Load() == "redis "+s.address()+": 100" }, 20*time.Second, time.Millisecond)
	require.NoError(t, transport.Close())
}

// What was told before Close is heard.
func TestLastWords(t *testing.T) {
	s := start(t)
	o := redis.Options{Server: redis.Server{Address: s.address()}}
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

// After Close nothing is handled, nothing runs, and what is asked fails; a client that was given still works.
func TestClose(t *testing.T) {
	s := start(t)
	goroutines := runtime.NumGoroutine()
	client := goredis.NewClient(&goredis.Options{Addr: s.address(), ContextTimeoutEnabled: true})
	teller := goredis.NewClient(&goredis.Options{Addr: s.address()})
	for _, server := range []redis.Server{{Address: s.address()}, {Client: client}} {
		transport, err := redis.New(redis.Options{Server: server})
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
				_ = teller.Publish(ctx, "inferpick:messages", "x").Err()
				_ = transport.Broadcast(ctx, []byte("y"))
			}
		}()
		require.Eventually(t, handled.Load, 20*time.Second, time.Millisecond)
		require.NoError(t, transport.Close())
		closed.Store(true)
		require.ErrorIs(t, transport.Broadcast(t.Context(), []byte("?")), net.ErrClosed)
		require.ErrorIs(t, transport.Ping(t.Context()), net.ErrClosed)
		require.NoError(t, transport.Close())
		require.Panics(t, func() { transport.Receive(func(string, []byte) {}) })
		cancel()
		<-told
	}
	require.NoError(t, client.Ping(t.Context()).Err())
	require.NoError(t, client.Close())
	require.NoError(t, teller.Close())
	settles(t, goroutines)
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		options redis.Options
		want    string
	}{
		{redis.Options{Queue: -1}, "redis: Queue is -1, want 1 to 4096, or 0 for the default 64"},
		{redis.Options{Queue: 5000}, "redis: Queue is 5000, want 1 to 4096, or 0 for the default 64"},
		{redis.Options{Timeout: time.Millisecond}, "redis: Timeout is 1ms, want 10ms to 1m0s, or 0 for the default 1s"},
		{redis.Options{Prefix: strings.Repeat("x", 257)}, "at most 256 bytes"},
		{redis.Options{Server: redis.Server{Address: "localhost"}}, `redis: Server.Address is "localhost", want HOST:PORT or a URL like redis://HOST:PORT`},
		{redis.Options{Server: redis.Server{Address: "http://localhost"}}, `redis: Server.Address is "http://…", want a URL of the scheme redis, rediss, valkey, valkeys or unix`},
		{redis.Options{Server: redis.Server{Address: "redis://u:secret@host:x"}}, `redis: Server.Address is "redis://…@host:x", want a URL like redis://USER:PASSWORD@HOST:PORT/DATABASE: invalid port ":x" after host`},
		{redis.Options{Server: redis.Server{Address: "redis://:se%cret@host:1"}}, `"redis://…@host:1"`},
		{redis.Options{Server: redis.Server{Address: "redis://host:1/x"}}, "invalid database number"},
		{redis.Options{Server: redis.Server{Address: "redis://host:1?colour=red"}}, "colour"},
		{redis.Options{Server: redis.Server{Username: "u"}}, "Server.Password"},
	} {
		_, err := redis.New(tt.options)
		require.ErrorContains(t, err, tt.want)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "cret@")
	}
	for _, tt := range []struct {
		options redis.StoreOptions
		want    string
	}{
		{redis.StoreOptions{TTL: time.Millisecond}, "redis: TTL is 1ms, want 1s to 720h0m0s, or 0 for the default 15m0s"},
		{redis.StoreOptions{MaxBytes: -1}, "redis: MaxBytes is -1"},
		{redis.StoreOptions{Timeout: -1}, "redis: Timeout is -1ns"},
		{redis.StoreOptions{Server: redis.Server{Address: "localhost"}}, "Server.Address"},
	} {
		_, err := redis.NewStore(tt.options)
		require.ErrorContains(t, err, tt.want)
	}
}

// BenchmarkBroadcast is what a call takes, and the time until the message is handled elsewhere.
func BenchmarkBroadcast(b *testing.B) {
	s := start(b)
	o := redis.Options{Server: redis.Server{Address: s.address()}}
	from, err := redis.New(o)
	require.NoError(b, err)
	defer from.Close()
	to, err := redis.New(o)
	require.NoError(b, err)
	defer to.Close()
	heard := make(chan struct{}, 1)
	to.Receive(func(string, []byte) { heard <- struct{}{} })
	require.Eventually(b, func() bool { return to.Stats().Subscribed }, 20*time.Second, time.Millisecond)
	msg := make([]byte, 12<<10) // of 1,000 endpoints
	b.Run("call", func(b *testing.B) {
		o.Prefix = "nobody"
		alone, err := redis.New(o)
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
