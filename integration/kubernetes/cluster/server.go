package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/integration/engines/process"
)

// Server is an API server with its data.
type Server struct {
	// Dynamic is the client of the administrator, without a limit on its rate.
	Dynamic dynamic.Interface

	dir       string
	port      int
	arguments []string // further ones
	config    *rest.Config

	mu      sync.Mutex
	process *process.Process // nil: killed

	resources  *resources
	namespaces atomic.Int64 // made so far
	pods       atomic.Int64
}

// Start starts a server, which ends with the test; arguments are further ones of the program. The
// test is skipped where the program is not there.
func Start(t testing.TB, arguments ...string) *Server {
	t.Helper()
	if _, err := program(); err != nil {
		t.Skip(err)
	}
	s, err := start(arguments...)
	require.NoError(t, err)
	t.Cleanup(s.close)
	return s
}

var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Shared returns the server that the tests of a package share. The test is skipped where the
// program is not there. The package's TestMain must call Run.
func Shared(t testing.TB) *Server {
	t.Helper()
	if _, err := program(); err != nil {
		t.Skip(err)
	}
	shared.once.Do(func() { shared.server, shared.err = start() })
	require.NoError(t, shared.err)
	return shared.server
}

// Run runs the tests of a package, stops the server that they shared, and returns the exit
// status.
func Run(m *testing.M) int {
	defer func() {
		if shared.server != nil {
			shared.server.close()
		}
	}()
	return m.Run()
}

// start starts a server in a new folder. Another process may take the port meanwhile, so it is
// tried several times.
func start(arguments ...string) (*Server, error) {
	// The name is short as there are sockets in it, whose paths have at most 108 characters.
	dir, err := os.MkdirTemp("", "apiserver")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, arguments: arguments}
	for range 3 {
		if s.port, err = freePort(); err != nil {
			break
		}
		if s.config, err = s.run(); err == nil {
			break
		}
	}
	if err == nil {
		s.Dynamic, err = dynamic.NewForConfig(s.config)
	}
	if err == nil {
		s.resources, err = newResources(s.config, s.Dynamic)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// freePort finds one that the kernel does not give to outgoing connections, so that it is
// still free when a server that was killed comes back.
func freePort() (int, error) {
	for range 100 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("cluster: no port of 20000 to 29999 is free")
}

// Kill ends the server at once, as a crash would. Restart brings it back.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		require.NoError(t, s.process.Kill())
		s.process = nil
	}
}

// Restart starts a server that was killed at the port it had, with the data it had, and waits
// until it is ready.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill(t)
	_, err := s.run()
	require.NoError(t, err)
}

// run starts the process, waits until it is ready, and returns its administrator.
func (s *Server) run() (*rest.Config, error) {
	path, err := program()
	if err != nil {
		return nil, err
	}
	log := filepath.Join(s.dir, "log")
	// A quarter less to compute until it is ready, for 100 MB.
	arguments := append([]string{"-dir", s.dir, "-port", strconv.Itoa(s.port)}, s.arguments...)
	p, err := process.Start(log, []string{"GOGC=400"}, path, arguments...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 3*time.Minute, errors.New("cluster: the API server is not ready after 3 minutes"))
	defer cancel()
	config, err := s.ready(ctx, p.Ended())
	if err != nil {
		_ = p.Kill()
		out, _ := os.ReadFile(log)
		return nil, fmt.Errorf("%w; its log ends with:\n%s", err, out[max(0, len(out)-2000):])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = p
	return config, nil
}

// ready returns when the server says that it is ready.
func (s *Server) ready(ctx context.Context, ended <-chan struct{}) (*rest.Config, error) {
	for {
		if config, err := s.connect(ctx); err == nil {
			return config, nil
		}
		select {
		case <-ended:
			return nil, errors.New("cluster: the API server has ended")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// connect asks the server as its administrator whether it is ready.
func (s *Server) connect(ctx context.Context) (*rest.Config, error) {
	token, err := os.ReadFile(filepath.Join(s.dir, "token"))
	if err != nil {
		return nil, err
	}
	config := &rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", s.port),
		BearerToken:     string(token),
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(s.dir, "certificates", "apiserver.crt")},
		QPS:             -1, // no limit
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/readyz", nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("cluster: the API server is not ready: %s", response.Status)
	}
	return config, nil
}

func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		_ = s.process.Kill() // nothing of its data is wanted any more
		s.process = nil
	}
	_ = os.RemoveAll(s.dir)
}
