package nats_test

import (
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing/nats"
)

// server is a NATS server of a test, in this process.
type server struct {
	t       testing.TB
	options natsserver.Options
	running *natsserver.Server
}

// start starts a server on a free port of the loopback interface, until the test ends.
func start(t testing.TB, with ...func(*natsserver.Options)) *server {
	t.Helper()
	s := &server{t: t, options: natsserver.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true}}
	for _, w := range with {
		w(&s.options)
	}
	s.run()
	s.options.Port = s.running.Addr().(*net.TCPAddr).Port
	t.Cleanup(s.stop)
	return s
}

func (s *server) url() string { return s.running.ClientURL() }

// run starts it, or starts it again.
func (s *server) run() {
	s.t.Helper()
	options := s.options
	running, err := natsserver.NewServer(&options)
	require.NoError(s.t, err)
	running.Start()
	require.True(s.t, running.ReadyForConnections(20*time.Second))
	s.running = running
}

func (s *server) stop() {
	s.running.Shutdown()
	s.running.WaitForShutdown()
}

// gateway is a transport, and what it has heard.
type gateway struct {
	*nats.Transport
	mu    sync.Mutex
	heard map[string]int
}

func open(t testing.TB, o nats.Options) *gateway {
	t.Helper()
	transport, err := nats.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, transport.Close()) })
	g := &gateway{Transport: transport, heard: make(map[string]int)}
	g.Receive(func(_ string, msg []byte) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.heard[string(msg)]++
	})
	return g
}

func (g *gateway) has(msg string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heard[msg] > 0
}

// reaches waits until what one gateway tells, again and again, is heard by others.
func reaches(t testing.TB, from *gateway, msg string, to ...*gateway) {
	t.Helper()
	if !assert.Eventually(t, func() bool {
		_ = from.Broadcast(t.Context(), []byte(msg))
		for _, g := range to {
			if !g.has(msg) {
				return false
			}
		}
		return true
	}, 20*time.Second, 20*time.Millisecond) {
		t.Fatalf("%.40q is not heard: %+v", msg, from.Stats())
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 20*time.Second, time.Millisecond)
}

// settles waits until there are no more goroutines than before.
func settles(t testing.TB, before int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, there were %d\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
