package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/inferpick/inferpick/integration/engines/process"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// patience bounds what is waited for. A busy machine needs it.
const patience = time.Minute

var built struct {
	once sync.Once
	dir  string
	err  error
}

// program builds the picker once, and returns its path.
func program(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "epp"); built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", built.dir, "./cmd/epp")
		cmd.Dir = filepath.Join(root, "examples", "envoy")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	require.NoError(t, built.err)
	return filepath.Join(built.dir, "epp")
}

// picker is a picker that runs as the pod of a rendered Deployment would run it: with its
// arguments, its environment, its ConfigMap and its service account.
type picker struct {
	*process.Process
	logFile               string
	grpc, health, metrics string // see listens
}

// startPicker starts it on loopback and does not wait. More arguments come after those of the
// Deployment.
func startPicker(t *testing.T, s *cluster.Server, account *rest.Config, objects []object, more ...string) *picker {
	t.Helper()
	deployment := find(t, objects, "Deployment")
	container := deployment.at("spec", "template", "spec", "containers").([]any)[0].(map[string]any)
	config := t.TempDir()
	for name, text := range find(t, objects, "ConfigMap")["data"].(map[string]any) {
		require.NoError(t, os.WriteFile(filepath.Join(config, name), []byte(text.(string)), 0o600))
	}
	in := strings.NewReplacer("$(NAMESPACE)", deployment.text("metadata", "namespace"), "=/config/", "="+config+"/")
	var args []string
	for _, arg := range container["args"].([]any) {
		args = append(args, in.Replace(arg.(string)))
	}
	args = append(args, "-kubeconfig="+s.Kubeconfig(t, account), "-grpc-addr=127.0.0.1:0", "-health-addr=127.0.0.1:0", "-metrics-addr=127.0.0.1:0")
	p := &picker{logFile: filepath.Join(t.TempDir(), "log")}
	var err error
	env := []string{"NAMESPACE=" + deployment.text("metadata", "namespace"), "POD_NAME=" + t.Name()}
	p.Process, err = process.Start(p.logFile, env, program(t), append(args, more...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = p.Kill()
		if t.Failed() {
			t.Logf("log of the picker:\n%s", p.log())
		}
	})
	return p
}

func (p *picker) log() string {
	text, _ := os.ReadFile(p.logFile)
	return string(text)
}

// listens waits until the picker has read the cluster and says where it listens.
func (p *picker) listens(t *testing.T) {
	t.Helper()
	cluster.Eventually(t, patience, func() error {
		for line := range strings.Lines(p.log()) {
			var said struct{ Msg, GRPC, Health, Metrics string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "serving" {
				p.grpc, p.health, p.metrics = said.GRPC, said.Health, said.Metrics
				return nil
			}
		}
		select {
		case <-p.Ended():
			require.FailNow(t, "the picker has ended", p.log())
		default:
		}
		return fmt.Errorf("it does not serve:\n%s", p.log())
	})
}

// says waits for a text in the log.
func (p *picker) says(t *testing.T, text string) {
	t.Helper()
	cluster.Eventually(t, patience, func() error {
		if strings.Contains(p.log(), text) {
			return nil
		}
		return fmt.Errorf("want %q in the log:\n%s", text, p.log())
	})
}

// install creates rendered objects; all, or those of some kinds.
func install(t *testing.T, s *cluster.Server, objects []object, kinds ...string) {
	t.Helper()
	for _, o := range objects {
		if len(kinds) > 0 && !slices.Contains(kinds, o.text("kind")) {
			continue
		}
		text, err := yaml.Marshal(o)
		require.NoError(t, err)
		s.Apply(t, o.text("metadata", "namespace"), string(text))
	}
}
