package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
	"github.com/stretchr/testify/require"
)

// TestDemo runs the demo with its own configuration on free ports, does what it says
// one can do, and ends it.
func TestDemo(t *testing.T) {
	needsEnvoy(t)
	any := "127.0.0.1:0"
	tryDemo(t, settings{config: demoOnFreePorts(t), bootstrap: "envoy.yaml", listen: any, at: addresses{any, any, any, any}}, 20*time.Second)
}

// TestDemoOfTheModule is TestDemo with the picker inside of Envoy.
func TestDemoOfTheModule(t *testing.T) {
	needsEnvoy(t)
	if testing.Short() {
		t.Skip("skipped: -short, and a shared library is to be built")
	}
	if _, err := envoyproxy.FindCompiler(t.Context()); errors.Is(err, envoyproxy.ErrNoCompiler) {
		t.Skipf("skipped: %v", err)
	}
	any := "127.0.0.1:0"
	at := addresses{metrics: freePort(t), admin: any} // whose port nobody would tell
	tryDemo(t, settings{module: true, config: demoOnFreePorts(t), bootstrap: "envoy-module.yaml", listen: any, at: at}, 10*time.Minute)
}

func needsEnvoy(t *testing.T) {
	t.Helper()
	if _, err := envoyproxy.Find("."); errors.Is(err, envoyproxy.ErrNotFound) {
		t.Skipf("skipped: %v", err)
	}
}

// freePort returns an address where nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// tryDemo waits until the demo says that it has started, but not for longer than that may take.
func tryDemo(t *testing.T, s settings, starting time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, log logbuffer.Buffer
	done := make(chan error, 1)
	go func() { done <- run(ctx, s, &out, &log) }()
	for deadline := time.Now().Add(starting); !strings.Contains(out.String(), "Ctrl-C"); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-done:
			t.Fatalf("it ended: %v\n%s", err, log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("it did not start:\n%s", log.String())
		}
	}
	urls := regexp.MustCompile(`curl (?:-i )?(http://\S+)`).FindAllStringSubmatch(out.String(), -1)
	if len(urls) != 2 {
		t.Fatalf("it says:\n%s", out.String())
	}
	const request = `{"model":"chat","max_tokens":3,"messages":[{"role":"user","content":"hi"}]}`
	for i, want := range []string{`"model":"chat"`, "server-4"} {
		resp, err := http.Post(urls[i][1], "application/json", strings.NewReader(request))
		if err != nil {
			t.Fatalf("%v\n%s", err, log.String())
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s\n%s", urls[i][1], resp.Status, body)
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
}

// demoOnFreePorts copies the demo's configuration with other ports for the servers.
func demoOnFreePorts(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	files, err := filepath.Glob("demo/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		text := string(data)
		for port := 18001; port <= 18004; port++ {
			text = strings.ReplaceAll(text, fmt.Sprintf("127.0.0.1:%d", port), freePort(t))
		}
		require.NoError(t, os.WriteFile(filepath.Join(folder, filepath.Base(path)), []byte(text), 0o600))
	}
	return folder
}

func TestCommand(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-h"}, exitOK, "-envoy-config"},
		{[]string{"-nonsense"}, exitUsage, "-nonsense"},
		{[]string{"extra"}, exitUsage, `"extra"`},
		{[]string{"-envoy-config", "/nowhere.yaml"}, exitError, "nowhere.yaml"},
		{[]string{"-module", "-envoy-config", "envoy.yaml"}, exitError, "envoy.yaml has no filter of a dynamic module"},
		{[]string{"-envoy-config", "envoy-module.yaml"}, exitError, "want -module"},
	} {
		if tt.code == exitError {
			if _, err := envoyproxy.Find("."); err != nil {
				tt.want = "install-envoy.sh"
			}
		}
		var out bytes.Buffer
		if code := command(t.Context(), tt.args, &out, &out); code != tt.code || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s", tt.args, code, tt.code, tt.want, out.String())
		}
	}
}
