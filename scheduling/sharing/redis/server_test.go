package redis_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing/redis"
)

// journal is what the client library logs, which is nothing, whatever happens to a server: see TestMain.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Printf(_ context.Context, format string, v ...any) {
	if strings.Contains(format, "unread data") {
		return // TestTrapServerAnswersNonsense
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, v...))
}

func TestMain(m *testing.M) {
	var logged journal
	goredis.SetLogger(&logged)
	code := m.Run()
	logged.mu.Lock()
	defer logged.mu.Unlock()
	if len(logged.lines) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: the client library logged\n%s\n", strings.Join(logged.lines, "\n"))
		code = 1
	}
	os.Exit(code)
}

// program returns redis-server, or skips the test.
func program(t testing.TB) string {
	if path, err := exec.LookPath("redis-server"); err == nil {
		return path
	}
	if cache, err := os.UserCacheDir(); err == nil {
		if path, err := exec.LookPath(filepath.Join(cache, "inferpick-redis", "redis-server")); err == nil {
			return path
		}
	}
	t.Skip("there is no redis-server: ./install-redis.sh gets it")
	return ""
}

// server is a Redis server of a test.
type server struct {
	t       testing.TB
	path    string
	args    []string
	port    int
	process *exec.Cmd
	out     output
}

// output is what a program writes, which may be read while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start starts a server on a free port of the loopback interface, until the test ends.
func start(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{t: t, path: program(t), args: args}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.port = l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	s.run()
	t.Cleanup(s.kill)
	return s
}

func (s *server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// run starts it, or starts it again.
func (s *server) run() {
	s.t.Helper()
	args := append([]string{"--bind", "127.0.0.1", "--port", fmt.Sprint(s.port), "--save", "", "--appendonly", "no", "--dir", s.t.TempDir()}, s.args...)
	s.process = exec.Command(s.path, args...)
	s.process.Stdout, s.process.Stderr = &s.out, &s.out
	require.NoError(s.t, s.process.Start())
	require.Eventually(s.t, func() bool {
		conn, err := net.Dial("tcp", s.address())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 20*time.Second, 10*time.Millisecond, "redis-server does not listen")
}

// kill ends it as kill -9 does.
func (s *server) kill() {
	if s.process.ProcessState == nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		if s.t.Failed() {
			s.t.Logf("redis-server: %s", s.out.String())
		}
	}
}

func (s *server) signal(sig syscall.Signal) {
	require.NoError(s.t, s.process.Process.Signal(sig))
}

// client is one that can do all.
func (s *server) client(password string) *goredis.Client {
	c := goredis.NewClient(&goredis.Options{Addr: s.address(), Password: password, Protocol: 2})
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// gateway is a transport, and what it has heard.
type gateway struct {
	*redis.Transport
	mu    sync.Mutex
	heard map[string]int
}

func open(t testing.TB, o redis.Options) *gateway {
	t.Helper()
	transport, err := redis.New(o)
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

func (g *gateway) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.heard)
}

// subscribed waits until gateways hear.
func subscribed(t testing.TB, gateways ...*gateway) {
	t.Helper()
	for _, g := range gateways {
		if !assert.Eventually(t, func() bool { return g.Stats().Subscribed }, 20*time.Second, 5*time.Millisecond) {
			t.Fatalf("not subscribed: %+v", g.Stats())
		}
	}
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
