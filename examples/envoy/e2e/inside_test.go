package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/e2e/testmodule/control"
	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	_ "github.com/inferpick/inferpick/examples/envoy/module/instance" // so that results are not kept when the module changes
)

// modules are folders of modules that were built, once, by the folder of their source.
var modules struct {
	folder string // of all
	test   func() (string, error)
	ours   func() (string, error)
}

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "modules")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	modules.folder = folder
	modules.test = buildOnce("testmodule", "test")
	modules.ours = buildOnce("../module", "ours")
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// buildOnce returns a function that builds a module the first time, and returns its folder.
func buildOnce(source, name string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		into := filepath.Join(modules.folder, name)
		return into, envoyproxy.BuildModule(context.Background(), source, into)
	})
}

// needCompiler skips the test where modules cannot be built.
func needCompiler(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skipf("skipped: there are no modules for Envoy on %s", runtime.GOOS)
	}
	out, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		t.Skipf("skipped: a module cannot be built without the go command: %v", err)
	}
	if cc := strings.Fields(string(out)); len(cc) > 0 {
		if _, err := exec.LookPath(cc[0]); err != nil {
			t.Skipf("skipped: a module cannot be built without a C compiler: %v", err)
		}
	}
}

// inner is a picker inside of Envoy.
type inner struct {
	t      *testing.T
	client *control.Client
}

// filterName is that of the module's filter, and its picker's.
const filterName = "inferpick"

// inside has Envoy start with a module.
func (r *rig) inside(o *envoyproxy.StartOptions) {
	r.t.Helper()
	needCompiler(r.t)
	fields := map[string]any{"config": r.folder, "explain": nil, "metrics-addr": "127.0.0.1:0"}
	build := modules.test
	if r.options.shipped {
		build = modules.ours
		fields["metrics-addr"] = unused(r.t)
	}
	for name, value := range r.options.flags {
		fields[name] = value
	}
	require.NoError(r.t, o.Bootstrap.Module(fields))
	var err error
	o.Modules, err = build()
	require.NoError(r.t, err)
	if r.options.shipped {
		r.observed = &metered{r.t, fields["metrics-addr"].(string)}
		return
	}
	folder, err := os.MkdirTemp("", "control") // the path of a socket has to be short
	require.NoError(r.t, err)
	r.t.Cleanup(func() { os.RemoveAll(folder) })
	path := filepath.Join(folder, "socket")
	o.Env = append(o.Env, control.Env+"="+path)
	in := &inner{r.t, control.NewClient(path)}
	r.t.Cleanup(in.client.Close)
	r.observed = in
}

// asking bounds how long a question to the module may take.
func asking() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 20*time.Second)
}

func (i *inner) view(session string) control.View {
	i.t.Helper()
	ctx, cancel := asking()
	defer cancel()
	v, err := i.client.View(ctx, session)
	i.check(err)
	return v
}

func (i *inner) views() map[string]control.View {
	i.t.Helper()
	ctx, cancel := asking()
	defer cancel()
	v, err := i.client.Views(ctx)
	i.check(err)
	return v
}

func (i *inner) resetViews() {
	i.t.Helper()
	ctx, cancel := asking()
	defer cancel()
	i.check(i.client.Reset(ctx))
}

func (i *inner) state(heap bool) control.State {
	i.t.Helper()
	return i.stateOf(filterName, heap)
}

func (i *inner) stateOf(picker string, heap bool) control.State {
	i.t.Helper()
	ctx, cancel := asking()
	defer cancel()
	s, err := i.client.State(ctx, picker, heap)
	i.check(err)
	return s
}

func (i *inner) arm(name string, on bool) {
	i.t.Helper()
	ctx, cancel := asking()
	defer cancel()
	i.check(i.client.Arm(ctx, name, on))
}

func (i *inner) check(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Errorf("the module does not answer: %v", err)
	}
}

// metered is a picker of which only its metrics are known.
type metered struct {
	t       *testing.T
	address string
}

func (m *metered) view(string) control.View {
	m.t.Fatal("there are no views of the module as it is shipped")
	return control.View{}
}

func (m *metered) views() map[string]control.View { return map[string]control.View{"": m.view("")} }
func (m *metered) resetViews()                    {}

func (m *metered) state(bool) control.State {
	return control.State{Running: true, Metrics: m.address}
}
