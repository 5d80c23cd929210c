package envoyproxy_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

// shipped are the bootstrap files of this module.
var shipped = []string{"../envoy.yaml", "../envoy-original-dst.yaml"}

// find returns Envoy, or skips the test where there is none.
func find(t *testing.T) string {
	t.Helper()
	bin, err := envoyproxy.Find("..")
	if errors.Is(err, envoyproxy.ErrNotFound) {
		t.Skipf("skipped: %v", err)
	}
	require.NoError(t, err)
	return bin
}

// TestShippedFilesAreValid by the rules of the API, and by Envoy itself.
func TestShippedFilesAreValid(t *testing.T) {
	for _, path := range shipped {
		if _, err := envoyproxy.ReadBootstrap(path); err != nil {
			t.Error(err)
		}
	}
	bin := find(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, path := range shipped {
		require.NoError(t, envoyproxy.Validate(ctx, bin, path))
	}
}

// TestShippedFilesDifferInTheClusterAlone: the listener is the same in both, but for
// the retries, which need a list of endpoints, and that they ask for it.
func TestShippedFilesDifferInTheClusterAlone(t *testing.T) {
	a, errA := envoyproxy.ReadBootstrap(shipped[0])
	b, errB := envoyproxy.ReadBootstrap(shipped[1])
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	for _, x := range []*envoyproxy.Bootstrap{a, b} {
		clearRetries(t, x)
	}
	for i, l := range a.Proto.StaticResources.Listeners {
		if !proto.Equal(l, b.Proto.StaticResources.Listeners[i]) {
			t.Errorf("listener %d differs:\n%v\n%v", i, l, b.Proto.StaticResources.Listeners[i])
		}
	}
	require.True(t, proto.Equal(a.Cluster("endpoint_picker"), b.Cluster("endpoint_picker")), "the picker's cluster differs")
	if a.MaxDestinations() != 0 || b.MaxDestinations() != 1 {
		t.Errorf("MaxDestinations are %d and %d, want 0 and 1", a.MaxDestinations(), b.MaxDestinations())
	}
}

func TestBadBootstraps(t *testing.T) {
	good, err := os.ReadFile(shipped[0])
	require.NoError(t, err)
	for name, tt := range map[string]struct{ old, new, want string }{
		"unknown field":        {"failure_mode_allow:", "failure_mode_alow:", "failure_mode_alow"},
		"unknown type":         {"filters.http.router.v3.Router", "filters.http.router.v3.Ruter", "Ruter"},
		"a required field":     {"stat_prefix: inference", "stat_prefix: ''", "StatPrefix"},
		"a field twice":        {"stat_prefix: inference", "stat_prefix: inference\n          stat_prefix: x", "already set"},
		"a number that is not": {"port_value: 8081", "port_value: many", "port"},
	} {
		text := strings.Replace(string(good), tt.old, tt.new, 1)
		if text == string(good) {
			t.Fatalf("%s: %q is not in the file", name, tt.old)
		}
		path := filepath.Join(t.TempDir(), "envoy.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := envoyproxy.ReadBootstrap(path); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want the path and %q in it", name, err, tt.want)
		}
	}
	b, err := envoyproxy.ReadBootstrap(shipped[0])
	require.NoError(t, err)
	if err := b.Picker("localhost:9002"); err == nil || !strings.Contains(err.Error(), `"localhost:9002": want ip:port`) {
		t.Errorf("an address that is a name: %v", err)
	}
}

// TestStart starts Envoy on free ports, asks it something, and stops it.
func TestStart(t *testing.T) {
	bin := find(t)
	b, err := envoyproxy.ReadBootstrap(shipped[0])
	require.NoError(t, err)
	for _, err := range []error{b.Listen("127.0.0.1:0", "127.0.0.1:0"), b.WithoutPicker(), b.Servers("127.0.0.1:1")} {
		require.NoError(t, err)
	}
	p, err := envoyproxy.Start(context.Background(), envoyproxy.StartOptions{Bin: bin, Bootstrap: b, Concurrency: 1})
	require.NoError(t, err)
	defer p.Stop()
	resp, err := http.Get(p.URL())
	require.NoError(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("with a server that is not there: %s", resp.Status)
	}
	if stats, err := p.Admin(context.Background(), "/stats?filter=downstream_rq_5xx"); err != nil || !strings.Contains(string(stats), "downstream_rq_5xx: 1") {
		t.Errorf("stats are %s: %v", stats, err)
	}
	p.Stop()
	select {
	case <-p.Done():
	default:
		t.Error("it is not done after Stop")
	}
}

// TestStartFails tells what Envoy wrote.
func TestStartFails(t *testing.T) {
	bin := find(t)
	b, err := envoyproxy.ReadBootstrap(shipped[0])
	require.NoError(t, err)
	// Only Envoy itself knows this rule.
	err = b.ExtProc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.RequestTrailerMode = extprocv3.ProcessingMode_SKIP
	})
	require.NoError(t, err)
	if p, err := envoyproxy.Start(context.Background(), envoyproxy.StartOptions{Bin: bin, Bootstrap: b}); err == nil {
		p.Stop()
		t.Error("it started with full duplex and without trailers")
	} else if !strings.Contains(err.Error(), "railer") {
		t.Errorf("Start: %v, want Envoy's own words in it", err)
	}
}

func TestFind(t *testing.T) {
	t.Setenv("ENVOY_BIN", "/nowhere/envoy")
	if _, err := envoyproxy.Find(); err == nil || errors.Is(err, envoyproxy.ErrNotFound) || !strings.Contains(err.Error(), "ENVOY_BIN") {
		t.Errorf("ENVOY_BIN that is not there: %v", err)
	}
	t.Setenv("ENVOY_BIN", "")
	t.Setenv("PATH", t.TempDir())
	if _, err := envoyproxy.Find(t.TempDir()); !errors.Is(err, envoyproxy.ErrNotFound) {
		t.Errorf("none at all: %v", err)
	}
	folder := t.TempDir()
	path := filepath.Join(folder, ".venv", "bin", "envoy")
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700))
	if got, err := envoyproxy.Find(folder); err != nil || got != path {
		t.Errorf("Find = %s, %v, want %s", got, err, path)
	}
}

// TestModulesNeedACompiler and say so before anything is built.
func TestModulesNeedACompiler(t *testing.T) {
	t.Setenv("CC", "/nowhere/cc -m64")
	err := envoyproxy.BuildModule(t.Context(), "../module", t.TempDir())
	if !errors.Is(err, envoyproxy.ErrNoCompiler) || !strings.Contains(err.Error(), "/nowhere/cc") {
		t.Errorf("BuildModule: %v, want what is missing", err)
	}
}
