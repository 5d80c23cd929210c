package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
	"github.com/stretchr/testify/require"
)

const configuration = `
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec:
  selector: {matchLabels: {app: llama}}
  targetPorts: [{number: 8000}]
---
apiVersion: inferpick.io/v1alpha1
kind: StaticEndpoints
metadata: {name: all}
spec:
  poolRef: {name: llama}
  endpoints: [{id: a, address: "10.0.0.1:8000", metrics: {disabled: true}}]
`

const patience = 10 * time.Second

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// run runs the command on loopback until stop is called, which returns its exit code.
func run(t *testing.T, config string, args ...string) (log *logbuffer.Buffer, stop func() int) {
	t.Helper()
	all := append([]string{"-config", config, "-grpc-addr", "127.0.0.1:0", "-health-addr", "127.0.0.1:0", "-metrics-addr", "127.0.0.1:0",
		"-reload-interval", "1h", "-drain-timeout", "1s"}, args...)
	log = new(logbuffer.Buffer)
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() { code <- command(ctx, all, io.Discard, log) }()
	stop = sync.OnceValue(func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(patience):
			t.Error("the command does not end")
			return -1
		}
	})
	t.Cleanup(func() { stop() })
	return log, stop
}

// hangUp sends SIGHUP to this process; command must be serving, or it would die of it.
func hangUp(t *testing.T) {
	t.Helper()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
}

func TestCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool.yaml")
	write(t, path, configuration)
	log, stop := run(t, path, "-otlp-endpoint", "127.0.0.1:1")
	log.WaitFor(t, "msg=serving grpc=127.0.0.1:", 1)
	inForce := strings.Count(log.String(), "configuration is in force")

	hangUp(t)
	log.WaitFor(t, "configuration read again", 1)
	log.WaitFor(t, "configuration is in force", inForce+1)

	write(t, path, configuration+"---\nkind: InferenceModel\n")
	hangUp(t)
	log.WaitFor(t, "object is left out of the configuration", 1)
	require.Contains(t, log.String(), "pool.yaml:16: ")
	write(t, path, "# nothing\n")
	hangUp(t)
	log.WaitFor(t, "configuration is not in force", 1)

	write(t, path, configuration)
	hangUp(t)
	log.WaitFor(t, "configuration read again", 3)
	if code := stop(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, log)
	}
	log.WaitFor(t, "msg=draining requests=0", 1)
}

func TestCommandLogsJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool.yaml")
	write(t, path, configuration)
	log, stop := run(t, path, "-log-format", "json")
	log.WaitFor(t, `"msg":"serving"`, 1)
	if code := stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	lines := 0
	for line := range strings.Lines(log.String()) {
		var record struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &record); err != nil || record.Level == "" || record.Msg == "" {
			t.Errorf("%q: %v", line, err)
		}
		lines++
	}
	if lines < 3 {
		t.Errorf("%d lines", lines)
	}
}

func TestCommandLogLevel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool.yaml")
	write(t, path, configuration)
	log, stop := run(t, path, "-log-level", "error", "-unknown-models", "refuse")
	time.Sleep(50 * time.Millisecond)
	if code := stop(); code != exitOK || log.String() != "" {
		t.Errorf("exit code %d, log %q", code, log)
	}
}

func TestCommandRefusesToStart(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	write(t, good, configuration)
	write(t, bad, configuration+"---\napiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{type: queue-scorre}]\n")
	for _, tt := range []struct {
		name, config string
		args, want   []string
	}{
		{"bad configuration", bad, nil, []string{"epp: ", bad + ":18", "the nearest is queue-scorer"}},
		{"missing configuration", filepath.Join(dir, "missing.yaml"), nil, []string{"epp: ", filepath.Join(dir, "missing.yaml")}},
		{"TLS", good, []string{"-tls", "off", "-tls-cert", "x", "-tls-key", "y"}, []string{"epp: TLS "}},
		{"a pool that is not there", good, []string{"-pool-name", "lama"}, []string{"epp: there is no InferencePool default/lama", "default/llama"}},
		{"an endpoint of spans", good, []string{"-otlp-endpoint", "ftp://x:1"}, []string{"epp: spans: ", "ftp://x:1", "https://host:port"}},
		{"authorities of spans", good, []string{"-otlp-endpoint", "https://x:1", "-otlp-ca", good}, []string{"epp: spans: -otlp-ca", good}},
		{"key of peers", good, []string{"-peers", "x:1", "-peers-key-file", filepath.Join(dir, "missing")}, []string{"epp: peers: ", "missing"}},
		{"address of peers", good, []string{"-peers", "x:1", "-peers-insecure", "-peers-addr", "nonsense"}, []string{"epp: peers: ", "nonsense"}},
		{"address", good, []string{"-metrics-addr", "nonsense"}, []string{"epp: metrics address: ", "nonsense"}},
	} {
		log, stop := run(t, tt.config, tt.args...)
		log.WaitFor(t, "\n", 1)
		if code := stop(); code != exitError {
			t.Errorf("%s: exit code %d, want %d", tt.name, code, exitError)
		}
		for _, want := range tt.want {
			require.Contains(t, log.String(), want)
		}
	}
}

// TestUsageErrors: what is wrong with the command line has a code of its own, and says where help is.
func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{nil, {"-config", "x", "-nonsense"}, {"-config", "x", "y"}, {"-config", "x", "-max-body", "0"}} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitUsage, command(context.Background(), args, &stdout, &stderr), "%v", args)
		require.Regexp(t, `^epp: .*\nRun with -h for usage\.\n$`, stderr.String(), "%v", args)
		require.Empty(t, stdout.String(), "%v", args)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for arg, want := range map[string]string{"-h": "Usage: epp -config", "--help": "Usage: epp -config", "-version": "epp "} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitOK, command(context.Background(), []string{arg}, &stdout, &stderr), arg)
		require.Contains(t, stdout.String(), want, arg)
		require.Empty(t, stderr.String(), arg)
	}
}
