package epp_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
)

var readinessNames = []string{"", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor", "inference-extension"}

func TestHealth(t *testing.T) {
	t.Parallel()
	r := start(t, base, nil)
	for _, address := range []string{r.Address(), r.HealthAddress()} {
		for _, name := range append([]string{"liveness"}, readinessNames...) {
			if s := checkHealth(t, address, name); s != serving {
				t.Errorf("health of %q at %s is %v", name, address, s)
			}
		}
	}
}

func TestNoHealthAndMetricsPorts(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) { o.HealthAddr, o.MetricsAddr = "-", "-" })
	if h, m := r.HealthAddress(), r.MetricsAddress(); h != "" || m != "" {
		t.Errorf("health at %q, metrics at %q, want nowhere", h, m)
	}
	exchanged(t, r.client(), "chat")
}

// watch follows the health of a name.
func watch(t *testing.T, conn *grpc.ClientConn, name string) (next func() healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	w, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{Service: name})
	must(t, err)
	return func() healthpb.HealthCheckResponse_ServingStatus {
		t.Helper()
		m, err := w.Recv()
		must(t, err)
		return m.Status
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) { o.DrainDelay = time.Second })
	client := r.client()
	x := open(t, client)
	x.routed("chat")
	probes := dial(t, r.HealthAddress(), nil)
	next := watch(t, probes, "readiness")
	if s := next(); s != serving {
		t.Fatalf("readiness is %v", s)
	}

	r.stop()
	if s := next(); s != notServing {
		t.Fatalf("readiness while it drains is %v", s)
	}
	for _, name := range readinessNames {
		eventually(t, "not ready: "+name, func() bool { return healthOf(t, probes, name) == notServing })
	}
	if s := healthOf(t, probes, "liveness"); s != serving {
		t.Errorf("liveness while it drains is %v", s)
	}
	exchanged(t, client, "chat") // the gateway has not noticed yet
	require.Equal(t, 1, r.Open(), "requests are open")
	// No more connections are taken after the delay, but the exchange goes on.
	eventually(t, "the port is closed", func() bool {
		conn, err := net.Dial("tcp", r.Address())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if s := healthOf(t, probes, "liveness"); s != serving {
		t.Errorf("liveness at the end is %v", s)
	}
	x.finish()
	require.NoError(t, r.ends(), "Run")
	if n := r.Open(); n != 0 {
		t.Errorf("%d requests are open", n)
	}
}

func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) { o.DrainTimeout = 50 * time.Millisecond })
	x := open(t, r.client())
	x.routed("chat")
	require.Equal(t, 1, r.Open(), "requests are open")
	r.stop()
	require.NoError(t, r.ends(), "Run")
	if m, err := x.s.Recv(); err == nil {
		t.Errorf("the exchange got %v, want an error", m)
	}
	if n := r.Open(); n != 0 {
		t.Errorf("%d requests are open", n)
	}
	require.Contains(t, r.log.String(), `msg="requests were cut off" requests=1`)
}

// TestTrapWatchedHealthHoldsDrain: who watches the health of the picker's port has a
// stream there that never ends by itself; a drain must not wait for it.
func TestTrapWatchedHealthHoldsDrain(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) { o.DrainTimeout = time.Hour })
	conn := dial(t, r.Address(), nil)
	for _, name := range []string{"readiness", "liveness", "unknown"} {
		watch(t, conn, name)()
	}
	r.stop()
	require.NoError(t, r.ends(), "Run")
}

func TestCloseWithoutRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "epp.yaml")
	put(t, path, base)
	app, err := epp.New(options(path))
	must(t, err)
	address := app.Address()
	app.Close()
	app.Close() // as often as one likes
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
}

// TestNoGoroutineIsLeft is not parallel: it counts those of the process.
func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 2 {
		r := start(t, base+roundRobin, func(o *epp.Options) { o.ReloadInterval = 10 * time.Millisecond })
		conn, err := grpc.NewClient(r.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		must(t, err)
		exchanged(t, extprocv3.NewExternalProcessorClient(conn), "chat")
		put(t, r.path, base)
		must(t, r.Reload())
		fetch(t, "GET", "http://"+r.MetricsAddress()+"/metrics", "")
		conn.Close()
		r.stop()
		must(t, r.ends())
		r = start(t, base+flowControl(1, ""), inProcess)
		route, err := r.route(t.Context())
		must(t, err)
		route.Done(nil)
		r.stop()
		must(t, r.ends())
	}
	var now int
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if now = runtime.NumGoroutine(); now <= before {
			return
		}
	}
	all := make([]byte, 1<<20)
	t.Errorf("%d goroutines, %d before\n%s", now, before, all[:runtime.Stack(all, true)])
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "epp") // short: a socket's path has about 100 bytes
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")

	// A process that was killed leaves its socket.
	stale, err := net.Listen("unix", socket)
	must(t, err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatal("the stale socket is gone: ", err)
	}
	r := start(t, base, func(o *epp.Options) { o.GRPCAddr = "unix:" + socket })
	if got := r.Address(); got != "unix:"+socket {
		t.Errorf("Address = %q", got)
	}
	exchanged(t, r.client(), "chat")

	path := filepath.Join(dir, "epp.yaml")
	put(t, path, base)
	o := options(path)
	o.GRPCAddr = "unix:" + socket
	if app, err := epp.New(o); err == nil {
		app.Close()
		t.Error("New with a socket that is in use: no error")
	} else if !strings.Contains(err.Error(), "epp: gRPC address") || !strings.Contains(err.Error(), socket) {
		t.Errorf("New with a socket that is in use: %v", err)
	}
	exchanged(t, r.client(), "chat") // it has not lost its socket

	// What is no socket is not ours to remove.
	file := filepath.Join(dir, "file")
	put(t, file, "precious")
	o.GRPCAddr = "unix:" + file
	if app, err := epp.New(o); err == nil {
		app.Close()
		t.Error("New with a file for a socket: no error")
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Errorf("the file is %q, %v", data, err)
	}
	r.stop()
	must(t, r.ends())
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there after Run: %v", err)
	}
}
