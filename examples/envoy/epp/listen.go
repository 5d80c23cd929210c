package epp

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// nowhere is the address of what is not to be served.
const nowhere = "-"

func (a *App) listen() (err error) {
	if a.o.GRPCAddr != nowhere {
		if a.listeners.grpc, err = listen("gRPC", a.o.GRPCAddr); err != nil {
			return err
		}
	}
	if a.o.HealthAddr != nowhere {
		if a.listeners.health, err = listen("health", a.o.HealthAddr); err != nil {
			return err
		}
		a.probes = grpc.NewServer()
		healthpb.RegisterHealthServer(a.probes, a.health)
	}
	if a.scaling != nil {
		if err = a.scaling.listen(a.o, a.grpc); err != nil {
			return err
		}
	}
	if a.o.MetricsAddr != nowhere {
		return a.listenMetrics()
	}
	return nil
}

func (a *App) listenMetrics() (err error) {
	pages := a.pages()
	if file := a.o.MetricsTokenFile; file != "" {
		token, err := newToken(file, a.o.Logger)
		if err != nil {
			return err
		}
		pages = withToken(token, pages, a.o.Logger)
	} else if k := a.o.Kubernetes; k != nil && k.MetricsAuth {
		if pages, err = newReviewer(k.API, pages, a.o.Logger); err != nil {
			return err
		}
	}
	encryption := a.o.MetricsTLS
	encryption.Off = encryption.CertFile == "" && encryption.KeyFile == ""
	if a.listeners.metrics, err = listen("metrics", a.o.MetricsAddr); err != nil {
		return err
	}
	if a.listeners.metrics, err = encryption.listener(a.listeners.metrics, a.o.Logger); err != nil {
		return err
	}
	a.metrics = &http.Server{
		Handler: pages, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(a.o.Logger.Handler(), slog.LevelWarn),
	}
	return nil
}

// unixPrefix is that of the path of a Unix domain socket in place of host and port.
const unixPrefix = "unix:"

func listen(what, address string) (net.Listener, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		network, address = "unix", path
		removeStale(path)
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("epp: %s address: %w", what, err)
	}
	return ln, nil
}

// removeStale removes a socket that a process left which did not end well.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close() // somebody listens
		return
	}
	os.Remove(path)
}

// Address returns where Envoy finds the picker, empty if requests come in this process.
func (a *App) Address() string { return addressOf(a.listeners.grpc) }

// HealthAddress returns where health is served, empty if nowhere.
func (a *App) HealthAddress() string { return addressOf(a.listeners.health) }

// MetricsAddress returns where metrics are served, empty if nowhere.
func (a *App) MetricsAddress() string { return addressOf(a.listeners.metrics) }

// addresses are for the log.
func (a *App) addresses() []slog.Attr {
	all := []slog.Attr{slog.String("grpc", a.Address()), slog.String("health", a.HealthAddress()), slog.String("metrics", a.MetricsAddress())}
	for _, one := range []slog.Attr{slog.String("keda", a.KEDAAddress()), slog.String("externalMetrics", a.ExternalMetricsAddress())} {
		if one.Value.String() != "" {
			all = append(all, one)
		}
	}
	return all
}

func addressOf(ln net.Listener) string {
	if ln == nil {
		return ""
	}
	if ln.Addr().Network() == "unix" {
		return unixPrefix + ln.Addr().String()
	}
	return ln.Addr().String()
}
