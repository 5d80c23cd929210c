// Package picker tests the endpoint picker's program with real API servers and with pods that are
// simulated model servers, the tests playing Envoy.
package picker

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("not in short: the picker is a program of its own, and the tests wait for leases to expire")
		return
	}
	os.Exit(cluster.Run(m))
}

// patience is how long tests wait for what should take milliseconds.
const patience = 60 * time.Second

// program builds the picker once.
var program = sync.OnceValues(func() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	dir, err := os.MkdirTemp("", "picker-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "epp")
	build := exec.Command("go", "build", "-o", path, "./cmd/epp")
	build.Dir = filepath.Join(filepath.Dir(here), "..", "..", "..", "examples", "envoy")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// picker is a picker that runs.
type picker struct {
	*envoy
	t       *testing.T
	name    string
	metrics string
	log     *output
	cmd     *exec.Cmd
	once    sync.Once
}

// output is what a process has written.
type output struct {
	mu   sync.Mutex
	text strings.Builder
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

var addresses = regexp.MustCompile(`msg="listening, .*" grpc=(\S+) health=\S* metrics=(\S+)`)

// start starts a picker, which ends with the test, and waits until it listens.
func start(t *testing.T, name, kubeconfig, namespace string, args ...string) *picker {
	t.Helper()
	path, err := program()
	require.NoError(t, err)
	p := &picker{t: t, name: name, log: new(output)}
	args = append([]string{
		"-kubernetes", "-kubeconfig", kubeconfig, "-namespaces", namespace, "-lease", namespace + "/epp", "-tls", "off",
		"-grpc-addr", "127.0.0.1:0", "-health-addr", "-", "-metrics-addr", "127.0.0.1:0", "-drain-timeout", "2s",
	}, args...)
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(os.Environ(), "NAMESPACE="+namespace)
	p.cmd.Stderr = p.log
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.log)
		}
	})
	var at []string
	cluster.Eventually(t, patience, func() error {
		if at = addresses.FindStringSubmatch(p.log.String()); at == nil {
			return fmt.Errorf("%s does not listen:\n%s", name, p.log)
		}
		return nil
	})
	p.envoy, err = newEnvoy(at[1])
	require.NoError(t, err)
	p.metrics = "http://" + at[2] + "/metrics"
	return p
}

// kill ends it as a crash would.
func (p *picker) kill() {
	p.once.Do(func() {
		if p.envoy != nil {
			p.close()
		}
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}

func (p *picker) ready() {
	p.t.Helper()
	cluster.Eventually(p.t, patience, func() error { return p.serving(context.Background()) })
}

// metric reports whether its metrics have a line.
func (p *picker) metric(line string) error {
	resp, err := http.Get(p.metrics)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if !strings.Contains("\n"+string(text), "\n"+line+"\n") {
		var near []string
		for l := range strings.Lines(string(text)) {
			if strings.HasPrefix(l, "inferpick_kubernetes") {
				near = append(near, l)
			}
		}
		return fmt.Errorf("%s has no %s, but\n%s", p.name, line, strings.Join(near, ""))
	}
	return nil
}
