package flags

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
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

// onLoopback are arguments of what the tests start.
func onLoopback(args ...string) []string {
	return append([]string{"-grpc-addr", "127.0.0.1:0", "-health-addr", "127.0.0.1:0", "-metrics-addr", "127.0.0.1:0",
		"-reload-interval", "1h", "-drain-timeout", "1s"}, args...)
}

// serve runs the App of a command line until stop is called.
func serve(t *testing.T, args ...string) (log *logbuffer.Buffer, stop func()) {
	t.Helper()
	log = new(logbuffer.Buffer)
	f, err := Parse(onLoopback(args...), new(bytes.Buffer))
	require.NoError(t, err)
	app, closeRest, err := f.App(t.Context(), slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(2 * patience):
			t.Error("the App does not end")
		}
		closeRest()
	})
	t.Cleanup(stop)
	return log, stop
}

// failing is the error of an App that cannot be made.
func failing(t *testing.T, args ...string) error {
	t.Helper()
	f, err := Parse(onLoopback(args...), new(bytes.Buffer))
	require.NoError(t, err)
	app, closeRest, err := f.App(t.Context(), slog.New(slog.DiscardHandler))
	require.Error(t, err)
	require.Nil(t, app)
	require.Nil(t, closeRest)
	return err
}

// TestRefusedAppLeavesNothing: whatever an App could not be made for, what was begun for it has ended.
func TestRefusedAppLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	path := filepath.Join(t.TempDir(), "pool.yaml")
	write(t, path, configuration)
	peers := freeAddress(t)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-metrics-addr", "nonsense"}, "epp: metrics address: "},
		{[]string{"-allow-path", "no-slash"}, "epp: Options.AllowPaths"},
		{[]string{"-rollouts", "-rollout-key-file", path + ".gone"}, "-rollout-key-file: "},
		{[]string{"-autoscale-peers", "nowhere"}, "want host:port"},
	} {
		err := failing(t, append([]string{"-config", path, "-config-text", "# nothing", "-otlp-endpoint", "127.0.0.1:1",
			"-peers", "127.0.0.1:1", "-peers-insecure", "-peers-addr", peers}, tt.args...)...)
		require.ErrorContains(t, err, tt.want)
		free, err := net.Listen("tcp", peers)
		require.NoError(t, err, "%v: nobody listens to peers", tt.args)
		free.Close()
		left, err := os.ReadDir(os.TempDir())
		require.NoError(t, err)
		require.Empty(t, left, "%v: the file of -config-text is removed", tt.args)
	}
}

// freeAddress is one at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}
